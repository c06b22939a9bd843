"""Pretrained weights of a backbone: from a file, the package, or through timm from the Hugging Face Hub."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import timm
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..data.files import ASSETS
from ..data.network import UNREACHABLE
from ..model.backbone import OWN, Backbone, timms_weights
from ..model.errors import UserError

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # of timm's repositories
HUB_SECONDS = 5.0  # seconds to wait for the Hub's first answer


def load_imagenet(backbone: Backbone, weights: Path | None = None) -> None:
    """Load pretrained weights: from `weights` (safetensors, timm keys), the package's own, or through timm from the Hub.

    Raises:
        UserError: The file is missing, unreadable or of another architecture, timm has no weights, the Hub can't be reached, or
            the disk is full.
    """
    weights = weights or own_weights(backbone.name)
    own = backbone.cnn.state_dict()
    learned = {key: value for key, value in own.items() if key not in backbone.constants}
    backbone.cnn.load_state_dict(own | dict(read_weights(weights, learned) if weights else _fetch(backbone)))
    backbone.freeze()


def _fetch(backbone: Backbone) -> Mapping[str, Tensor]:
    name, levels = backbone.name, tuple(backbone.cnn.feature_info.out_indices)
    if not _repository(name):
        raise UserError(
            f"timm has no weights of {name} on the Hugging Face Hub: choose a backbone of timm.list_models(pretrained=True), or "
            "pass a file with --backbone-weights."
        )
    if constants.HF_HUB_OFFLINE and not weights_reachable(name):
        raise UserError(
            f"the ImageNet weights of {name} are not in the Hub client's cache, and HF_HUB_OFFLINE=1 forbids to fetch them: "
            "unset it, or pass a file with --backbone-weights."
        )
    try:
        if not weights_reachable(name):
            raise ConnectionError("nothing answers")
        return timm.create_model(name, pretrained=True, features_only=True, out_indices=levels).state_dict()
    except (*UNREACHABLE, HfHubHTTPError, LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"the ImageNet weights of {name} could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}): check the network, or pass a file with --backbone-weights."
        ) from error
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise UserError(
            f"the ImageNet weights of {name} could not be stored in {constants.HF_HUB_CACHE} ({reason}): "
            "mend that, or pass a file with --backbone-weights."
        ) from error


def own_weights(name: str) -> Path | None:
    """The package's weights of one of our own backbones, None of any other."""
    return ASSETS / f"{name}.safetensors" if name in OWN else None


def _repository(name: str) -> str | None:
    """Where timm's weights of a CNN lie on the Hub; None where there are none."""
    weights = timms_weights(name)
    return weights.hf_hub_id if weights else None


def weights_reachable(name: str) -> bool:
    """Whether timm's weights of a CNN are in the Hub client's cache or their repository answers; asked once, without retries."""
    repository = _repository(name)
    if not repository:
        return False
    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in HUB_FILES):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_hf_file_metadata(hf_hub_url(repository, HUB_FILES[0]), timeout=HUB_SECONDS)
    except HfHubHTTPError:
        return True  # it answered; what it answered is for the download to report
    except (*UNREACHABLE, OSError):
        return False
    return True


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file that `expected` names.

    Raises:
        UserError: The file is missing, unreadable or of another architecture.
    """
    if not path.is_file():
        raise UserError(f"backbone weights must be a .safetensors file, but {path} does not exist: check the path.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}): fetch or export it again.") from error
    absent = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    wrong = [key for key in expected if key in tensors and tensors[key].shape != expected[key].shape]
    if absent or wrong:
        raise UserError(
            f"{path} does not fit the backbone: {len(absent)} of its {len(expected)} tensors are missing and "
            f"{len(wrong)} have another shape (first: {(absent + wrong)[0]}). Pass the weights of this architecture."
        )
    return {key: tensors.get(key, value) for key, value in expected.items()}
