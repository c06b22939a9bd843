"""What both URA-Net models share: their output, and loading, saving and initialisation as transformers has them, but exact."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .backbone import Backbone
from .configuration_uranet import URANetConfig
from .download import WEIGHTS_FILE, checkpoint_folder, require_files, split_hub_arguments
from .errors import UserError
from .perception import PlainLinear, VariationalLinear
from .restoration import FeatureRestoration


@dataclass
class URANetOutput(ModelOutput):
    """What URA-Net computed of a batch. B images, C channels, grid side G, network input side S.

    Attributes:
        loss: Training loss, a scalar; only from a training forward.
        restoration_loss: Its restoration part, before weighting.
        perception_loss: Focal + dice of the perception, before weighting.
        kl_loss: KL of the variational weights over the number of cells that training shows, before weighting.
        features: Standardised features F of the input, (B, C, G, G).
        restored_features: Restored features F^, (B, C, G, G).
        anomaly_map: Raw residual map, >= 0, (B, S, S).
        score_map: `anomaly_map` on the fixed 0-1 scale where 0.5 is the pixel threshold; None before calibration.
        whole_image_residual: Mean subspace residual, >= 0, (B,); None where it has no weight.
        image_score: Raw image score, >= 0, (B,).
        score: `image_score` on the fixed 0-1 scale where 0.5 is the image threshold; None before calibration.
        anomaly_probability: Expected probability of an anomaly, in [0, 1], (B, S, S).
        total_uncertainty: Predictive entropy H(E[p]) in nats, [0, ln 2], (B, S, S).
        aleatoric_uncertainty: Expected entropy E[H(p)] in nats, (B, S, S).
        epistemic_uncertainty: total - aleatoric, the mutual information, nats, (B, S, S).
    """

    loss: Tensor | None = None
    restoration_loss: Tensor | None = None
    perception_loss: Tensor | None = None
    kl_loss: Tensor | None = None
    features: Tensor | None = None
    restored_features: Tensor | None = None
    anomaly_map: Tensor | None = None
    score_map: Tensor | None = None
    whole_image_residual: Tensor | None = None
    image_score: Tensor | None = None
    score: Tensor | None = None
    anomaly_probability: Tensor | None = None
    total_uncertainty: Tensor | None = None
    aleatoric_uncertainty: Tensor | None = None
    epistemic_uncertainty: Tensor | None = None


class URANetPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation that both models share."""

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
        if isinstance(module, (VariationalLinear, PlainLinear, FeatureRestoration)):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint as transformers does, but exactly: every tensor of the model, no other, and the backbone frozen.

        The name is a folder or one that `ura_hf.names` knows; arguments of the Hub as everywhere. The tensors are compared
        with the config before any is allocated. Weights are float32 unless `dtype` says otherwise: thresholds are for it.

        Raises:
            UserError: The folder or a file is missing, damaged or of another model; the message names the tensors.
        """
        name = checkpoint_folder(pretrained_model_name_or_path, **split_hub_arguments(kwargs))
        asked = kwargs.pop("dtype", None) or kwargs.pop("torch_dtype", None)
        kwargs["dtype"] = torch.float32 if asked in (None, "auto") else asked
        kwargs["use_safetensors"] = True
        require_files(name, ("config.json", WEIGHTS_FILE))
        try:
            config = kwargs.get("config") or cls.config_class.from_pretrained(name)
            cls._compare_tensors(config, name)
            loaded = super().from_pretrained(name, *args, **kwargs)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{name} is not a complete URA-Net checkpoint ({' '.join(str(error).split())[:300]}): "
                "pass a folder that `uranet train` wrote, or fetch it again."
            ) from error
        (loaded[0] if isinstance(loaded, tuple) else loaded).backbone.freeze()
        return loaded

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """As in transformers, but with our card in place of its automatic one; `uranet push` sends all the rest, too."""
        address = super().push_to_hub(repo_id, **kwargs)
        if find_spec("ura_hf"):  # not where this file came with a checkpoint
            revision = getattr(address, "pr_revision", None) or kwargs.get("revision")  # into the same pull request
            push_card = import_module("ura_hf.sharing").push_card
            push_card(self.config, repo_id, token=kwargs.get("token"), revision=revision)
        return address

    @classmethod
    def _compare_tensors(cls, config: URANetConfig, folder: Path) -> None:
        """Raise UserError unless the file holds exactly the tensors of the config; reads its header alone."""
        prefix = f"{cls.base_model_prefix}."
        with torch.device("meta"):
            wanted = {k.removeprefix(prefix): tuple(v.shape) for k, v in cls(config).state_dict().items()}
        with safe_open(folder / WEIGHTS_FILE, "pt") as file:
            found = {key.removeprefix(prefix): tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        faults = {
            "missing": sorted(wanted.keys() - found.keys()),
            "unexpected": sorted(found.keys() - wanted.keys()),
            "of another shape": sorted(k for k in wanted.keys() & found.keys() if wanted[k] != found[k]),
        }
        said = [
            f"{len(keys)} {kind} ({', '.join(prefix + key for key in keys[:5])})"
            for kind, keys in faults.items()
            if keys
        ]
        if said:
            raise UserError(f"its tensors do not fit its config: {'; '.join(said)}. Fetch or train it again.")
