"""Pretrained weights of a backbone: from a file, the package, or through timm from the Hugging Face Hub."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import timm
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..data.files import ASSETS
from ..data.network import UNREACHABLE
from ..model.backbone import OWN, Backbone, network_arguments, timms_weights
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
    backbone.cnn.load_state_dict(own | dict(read_weights(weights, learned, backbone) if weights else _fetch(backbone)))
    backbone.freeze()


def _fetch(backbone: Backbone) -> Mapping[str, Tensor]:
    name = backbone.name
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
        arguments = network_arguments(name, backbone.levels, backbone.image_size)
        return timm.create_model(**arguments, pretrained=True).state_dict()
    except (*UNREACHABLE, HfHubHTTPError, LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        way_out = "unset HF_HUB_OFFLINE, which forbids it" if constants.HF_HUB_OFFLINE else "check the network"
        raise UserError(
            f"the ImageNet weights of {name} could not be fetched from the Hugging Face Hub "
            f"({type(error).__name__}): {way_out}, or pass a file with --backbone-weights."
        ) from error
    except RuntimeError as error:  # of another size than the positions of this architecture can be fitted to
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the ImageNet weights of {name} do not fit images of {backbone.image_size} pixels ({reason}): choose another "
            f"backbone{_at_its_size(backbone)}."
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
    """Where timm's weights of a network lie on the Hub; None where there are none."""
    weights = timms_weights(name)
    return weights.hf_hub_id if weights else None


def weights_reachable(name: str) -> bool:
    """Whether timm's weights are in the Hub client's cache or their repository answers; asked once, without retries."""
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


def read_weights(path: Path, expected: Mapping[str, Tensor], backbone: Backbone | None = None) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file that `expected` names; those of a `backbone` for one size of images fitted to it.

    Raises:
        UserError: The file is missing, unreadable or of another architecture.
    """
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"backbone weights must be a .safetensors file, but {path} {problem}: check the path.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}): fetch or export it again.") from error
    tensors = _fitted(tensors, backbone)
    absent = [key for key in expected if key not in tensors and not key.endswith("num_batches_tracked")]
    wrong = [key for key in expected if key in tensors and tensors[key].shape != expected[key].shape]
    if absent or wrong:
        raise UserError(
            f"{path} does not fit the backbone: {len(absent)} of its {len(expected)} tensors are missing and "
            f"{len(wrong)} have another shape (first: {(absent + wrong)[0]}). Pass the weights of this architecture"
            f"{_at_its_size(backbone)}."
        )
    return {key: tensors.get(key, value) for key, value in expected.items()}


def _at_its_size(backbone: Backbone | None) -> str:
    """The way out of weights that fit one size of images only, where the backbone is for one size."""
    if backbone is None or backbone.only_side is None:
        return ""
    return f", or take --image-size {timms_weights(backbone.name).input_size[-1]}"


def _fitted(tensors: dict[str, Tensor], backbone: Backbone | None) -> dict[str, Tensor]:
    """Tensors of a file under the extractor's names; of a network for one size as timm fits them to that size.

    What timm can't fit is left as it is: it is of another architecture.
    """
    if backbone is None or backbone.only_side is None:
        return tensors
    network = backbone.cnn.model
    fit = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    with suppress(AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        tensors = fit(dict(tensors), network) if fit else tensors
    return {f"model.{name}": tensor for name, tensor in tensors.items()}
