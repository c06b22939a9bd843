"""The output, loading, saving and initialisation that both URA-Net models share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, logging

from .backbone import Backbone
from .carrying import CarriesCode
from .configuration_uranet import URANetConfig
from .digests import add_digest, check_digest
from .errors import UserError
from .loading import CONFIG_FILE, PROCESSOR_FILE, weight_files, weights_name, what_to_load
from .perception import PlainLinear
from .picture import ZeroConvolution
from .restoration import FeatureRestoration
from .scoring import fixed_scale

logger = logging.get_logger(__name__)


@dataclass
class URANetOutput(ModelOutput):
    """What URA-Net computes for a batch of B images, with C channels, grid side G and network input side S.

    Attributes:
        features: Standardised features F of the input, (B, C, G, G).
        restored_features: Restored features F^, (B, C, G, G), without a remainder.
        anomaly_map: Raw map, > 0, (B, S, S): the sum of the standardised views, made positive. It and all other maps are 0
            outside of the config's region of interest.
        score_map: `anomaly_map` on the fixed 0-1 scale where 0.5 is the pixel threshold; None before calibration.
        image_score: Raw image score, >= 0, (B,).
        score: `image_score` on the fixed 0-1 scale where 0.5 is the image threshold; None before calibration.
        strangeness: How far even the least strange tenth of the image is from the part, (B,): 0 as of good images, above 1 not
            the part at all; None where that was not calibrated.
        anomaly_probability: Expected probability of an anomaly, in [0, 1], (B, S, S).
        total_uncertainty: Predictive entropy H(E[p]) in nats, [0, ln 2], (B, S, S).
        aleatoric_uncertainty: Expected entropy E[H(p)] in nats, (B, S, S).
        epistemic_uncertainty: total - aleatoric, the mutual information, nats, (B, S, S).
        seen_image: A picture made from `features`, RGB in [0, 1], (B, 3, P, P); only if it is asked for.
        restored_image: The same of the part as it should look: what is suspicious is restored.
    """

    features: Tensor | None = None
    restored_features: Tensor | None = None
    anomaly_map: Tensor | None = None
    score_map: Tensor | None = None
    image_score: Tensor | None = None
    score: Tensor | None = None
    strangeness: Tensor | None = None
    anomaly_probability: Tensor | None = None
    total_uncertainty: Tensor | None = None
    aleatoric_uncertainty: Tensor | None = None
    epistemic_uncertainty: Tensor | None = None
    seen_image: Tensor | None = None
    restored_image: Tensor | None = None

    def fill_scores(self, config: URANetConfig) -> URANetOutput:
        """Set `score` and `score_map` where the config has thresholds; returns the output."""
        assert self.anomaly_map is not None and self.image_score is not None
        if config.image_threshold is not None and config.pixel_threshold is not None:
            self.score = fixed_scale(self.image_score, config.image_threshold)
            self.score_map = fixed_scale(self.anomaly_map, config.pixel_threshold)
        return self


class URANetPreTrainedModel(CarriesCode, PreTrainedModel):
    """Loading, saving and initialisation that both models share.

    `push_to_hub` uploads the model with its code, a model card, and the image processor of the folder that it was loaded from.
    """

    config: URANetConfig
    config_class = URANetConfig
    base_model_prefix = "uranet"
    main_input_name = "pixel_values"

    @property
    def backbone(self) -> Backbone:
        """The frozen feature extractor."""
        raise NotImplementedError

    def _init_weights(self, module: nn.Module) -> None:
        if getattr(module, "_uranet_frozen", False):
            return
        if isinstance(module, (PlainLinear, FeatureRestoration, ZeroConvolution)):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint as transformers does, but only if it holds exactly the model's tensors. The backbone is frozen.

        The name is a folder, a repository on the Hub or, with the package `ura_hf`, any name of a checkpoint. The other arguments
        are those of transformers. The tensors of a folder are compared with the config before memory is allocated. Weights are
        float32 unless `dtype` is given, because thresholds are calibrated in float32.

        Raises:
            UserError: The folder or a file is missing, damaged or of another model; the message names the tensors.
        """
        weights = weights_name(kwargs.get("variant"))
        place = what_to_load(pretrained_model_name_or_path, (CONFIG_FILE, weights), kwargs)
        asked = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None)
        kwargs["dtype"] = torch.float32 if asked in (None, "auto") else asked
        kwargs["use_safetensors"] = True
        info_wanted = kwargs.pop("output_loading_info", False)
        try:
            if isinstance(place, Path):
                config = kwargs.get("config") or cls.config_class.from_pretrained(place)
                files = weight_files(place, weights)
                cls._compare_tensors(config, files)
                for file in files:
                    check_digest(file)
            loaded, info = super().from_pretrained(place, *args, output_loading_info=True, **kwargs)
            _require_all_tensors(info)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{place} is not a complete URA-Net checkpoint ({' '.join(str(error).split())[:300]}): "
                "pass a folder that `uranet train` wrote, or fetch it again."
            ) from error
        loaded.backbone.freeze()
        loaded.backbone.note_fitted()
        return (loaded, info) if info_wanted else loaded

    def save_pretrained(self, save_directory: str | Path, *args: Any, **kwargs: Any) -> None:
        """As in transformers; every file of weights gets its digest, which `from_pretrained` compares."""
        super().save_pretrained(save_directory, *args, **kwargs)
        for file in weight_files(Path(save_directory), weights_name(kwargs.get("variant"))):
            add_digest(file)

    def _complete(self, folder: Path) -> None:
        processor = Path(self.name_or_path) / PROCESSOR_FILE
        if self.name_or_path and processor.is_file():  # a new model has no name, which would be the working folder
            shutil.copyfile(processor, folder / PROCESSOR_FILE)
        elif not (folder / PROCESSOR_FILE).is_file():
            logger.warning("The model was not loaded from a folder with an image processor: push that one, too.")

    @classmethod
    def _compare_tensors(cls, config: URANetConfig, files: Sequence[Path]) -> None:
        """Raise UserError unless the files hold exactly the tensors of the config; reads their headers alone."""
        prefix = f"{cls.base_model_prefix}."
        with torch.device("meta"):
            wanted = {k.removeprefix(prefix): tuple(v.shape) for k, v in cls(config).state_dict().items()}
        found: dict[str, tuple[int, ...]] = {}
        for path in files:
            with safe_open(path, "pt") as file:
                names = file.keys()
                found |= {name.removeprefix(prefix): tuple(file.get_slice(name).get_shape()) for name in names}
        _require_no_faults(
            {
                "missing": sorted(prefix + key for key in wanted.keys() - found.keys()),
                "unexpected": sorted(prefix + key for key in found.keys() - wanted.keys()),
                "of another shape": sorted(prefix + k for k in wanted.keys() & found.keys() if wanted[k] != found[k]),
            }
        )


def _require_all_tensors(info: dict[str, Any]) -> None:
    """Raise UserError unless transformers loaded exactly the tensors of the model."""
    keys = {"missing": "missing_keys", "unexpected": "unexpected_keys", "of another shape": "mismatched_keys"}
    _require_no_faults({kind: sorted(str(key) for key in info.get(name, ())) for kind, name in keys.items()})


def _require_no_faults(faults: dict[str, list[str]]) -> None:
    said = [f"{len(names)} {kind} ({', '.join(names[:5])})" for kind, names in faults.items() if names]
    if said:
        raise UserError(f"its tensors do not fit its config: {'; '.join(said)}. Fetch or train it again.")
