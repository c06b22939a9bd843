"""The frozen backbone: a timm CNN whose levels become one standardised feature grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .errors import UserError
from .names import WEIGHTS

SMALL = "uranet-small"
OWN: dict[str, dict[str, Any]] = {
    SMALL: {
        "model_name": "resnet50",  # for its bottleneck blocks; 1, 2 and 2 of them give the channels of a ResNet-18
        "layers": (1, 2, 2, 1),
        "channels": (16, 32, 64, 16),
        "base_width": 128,
        "stem_type": "deep",
        "stem_width": 12,
    }
}
"""Backbones of our own: timm's architecture and its arguments; their weights lie in the package."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # of timm's repositories
PATIENCE = 5.0  # seconds to wait for the Hub's first answer


def create_cnn(name: str, out_indices: Sequence[int]) -> nn.Module:
    """Build a timm feature extractor, or one of our own from timm's blocks, with unset weights.

    Raises:
        UserError: timm has no such architecture, it lacks the asked levels, or it takes images of one size only.
    """
    if (weights := timms_weights(name)) and weights.fixed_input_size:
        raise UserError(
            f"backbone must be a CNN for images of any size, but {name!r} takes one size only: name another."
        )
    try:
        arguments = OWN.get(name, {"model_name": name})
        return timm.create_model(**arguments, pretrained=False, features_only=True, out_indices=tuple(out_indices))
    except (RuntimeError, ValueError, AssertionError, IndexError, KeyError) as error:
        near = get_close_matches(name, [*OWN, *timm.list_models()], 5)
        hint = f" Near names: {', '.join(near)}." if near else ""
        raise UserError(
            f"backbone must be a timm CNN with feature levels {list(out_indices)}, but got {name!r} ({error}).{hint} "
            "List the names with timm.list_models()."
        ) from error


def timms_weights(name: str) -> Any:
    """What timm knows of a CNN's weights (`mean`, `std`, `hf_hub_id`, ...); None of our own and of names it doesn't know."""
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # of an unknown tag after a known name
        return None


def own_weights(name: str) -> Path | None:
    """The package's weights of one of our own backbones, None of any other."""
    return WEIGHTS / f"{name}.safetensors" if name in OWN else None


def weights_reachable(name: str) -> bool:
    """Whether timm's weights of a CNN are in the Hub client's cache or their repository answers; asked once, without retries."""
    weights = timms_weights(name)
    repository = weights.hf_hub_id if weights else None
    if not repository:
        return False
    if any(isinstance(try_to_load_from_cache(repository, file), str) for file in HUB_FILES):
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_hf_file_metadata(hf_hub_url(repository, HUB_FILES[0]), timeout=PATIENCE)
    except HfHubHTTPError:
        return True  # it answered; what it answered is for the download to report
    except Exception:  # whatever the client's HTTP library raises where nothing answers
        return False
    return True


class Backbone(nn.Module):
    """Frozen multi-level features on one grid, standardised by the training normals' statistics.

    Each level: 3x3 average pool (stride 1), bilinear resize to G x G, concatenation over channels, then
    (F - mean) / std per channel. Always in eval mode, never a gradient.
    """

    cnn: Any
    mean: Tensor
    std: Tensor

    def __init__(self, name: str, out_indices: Sequence[int], grid_size: int) -> None:
        super().__init__()
        self.name, self.grid_size = name, grid_size
        self.cnn = create_cnn(name, out_indices)
        self.level_channels: list[int] = list(self.cnn.feature_info.channels())
        self.constants = _keep_constants(self.cnn)
        channels = sum(self.level_channels)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.freeze()

    @property
    def channels(self) -> int:
        """Channels C after concatenation."""
        return sum(self.level_channels)

    @property
    def deep_channels(self) -> list[int]:
        """Channels of every level but the shallowest; of the only one where there is one."""
        return self.level_channels[1:] or self.level_channels

    def deep(self, plain: Tensor) -> Tensor:
        """Every level but the shallowest of features as the CNN gives them: (B, C, G, G) -> (B, sum(deep_channels), G, G)."""
        return plain[:, -sum(self.deep_channels) :]

    def level(self, plain: Tensor, index: int) -> Tensor:
        """Level `index` of features as the CNN gives them, the deepest where there are fewer: (B, C, G, G) -> (B, C_l, G, G)."""
        return plain.split(self.level_channels, 1)[: index + 1][-1]

    def freeze(self) -> None:
        """Switch gradients off and stay in eval mode; needed again after a checkpoint was loaded."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode whatever is asked, so that BatchNorm statistics never move."""
        return super().train(False)

    def raw(self, pixel_values: Tensor) -> Tensor:
        """Features before standardisation: (B, 3, S, S) normalised pixels -> (B, C, G, G)."""
        side = (self.grid_size, self.grid_size)
        with torch.no_grad():
            levels = self.cnn(pixel_values.contiguous(memory_format=torch.channels_last))
            pooled = [functional.avg_pool2d(level, 3, stride=1, padding=1) for level in levels]
            return torch.cat([functional.interpolate(x, side, mode="bilinear") for x in pooled], dim=1)

    def standardize(self, raw: Tensor) -> Tensor:
        """(F - mean) / std per channel, (B, C, G, G) -> (B, C, G, G)."""
        return (raw - self.mean[:, None, None]) / self.std[:, None, None]

    def unstandardize(self, features: Tensor) -> Tensor:
        """Inverse of `standardize`: the features as the CNN gives them, (B, C, G, G) -> (B, C, G, G)."""
        return features * self.std[:, None, None] + self.mean[:, None, None]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Standardised features, (B, 3, S, S) -> (B, C, G, G)."""
        return self.standardize(self.raw(pixel_values))

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor, floor: float = 0.0) -> None:
        """Store the training normals' per-channel mean and standard deviation, each (C,).

        No deviation is stored below `floor` times its level's median one.
        """
        self.mean.copy_(mean)
        floored = [part.clamp_min(floor * float(part.median())) for part in std.split(self.level_channels)]
        self.std.copy_(torch.cat(floored).clamp_min(1e-5))

    def load_imagenet(self, weights: Path | None = None) -> None:
        """Load pretrained weights: from `weights` (safetensors, timm keys), the package's own, or through timm from the Hub.

        Raises:
            UserError: The file is missing, unreadable or of another architecture, or the Hub can't be reached.
        """
        weights = weights or own_weights(self.name)
        own = self.cnn.state_dict()
        learned = {key: value for key, value in own.items() if key not in self.constants}
        self.cnn.load_state_dict(own | dict(read_weights(weights, learned) if weights else self._fetch()))
        self.freeze()

    def _fetch(self) -> Mapping[str, Tensor]:
        try:
            if not weights_reachable(self.name):
                raise ConnectionError("nothing answers")
            levels = tuple(self.cnn.feature_info.out_indices)
            return timm.create_model(self.name, pretrained=True, features_only=True, out_indices=levels).state_dict()
        except Exception as error:
            raise UserError(
                f"the ImageNet weights of {self.name} could not be fetched from the Hugging Face Hub "
                f"({type(error).__name__}): check the network, or pass a file with --backbone-weights."
            ) from error


def _keep_constants(cnn: nn.Module) -> set[str]:
    """Put the buffers that timm computes and leaves out of files, such as blur filters, into ours; their names.

    transformers would give them back as whatever lay in memory.
    """
    left_out = {f"{place}.{name}" for place, part in cnn.named_modules() for name in part._non_persistent_buffers_set}
    for part in cnn.modules():
        part._non_persistent_buffers_set.clear()
    return left_out


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file that `expected` names.

    Raises:
        UserError: The file is missing, unreadable or of another architecture.
    """
    if not path.is_file():
        raise UserError(f"backbone weights must be a .safetensors file, but {path} does not exist: check the path.")
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}): fetch or export it again.") from error
    absent = [key for key in expected if key not in found and not key.endswith("num_batches_tracked")]
    wrong = [key for key in expected if key in found and found[key].shape != expected[key].shape]
    if absent or wrong:
        raise UserError(
            f"{path} does not fit the backbone: {len(absent)} of its {len(expected)} tensors are missing and "
            f"{len(wrong)} have another shape (first: {(absent + wrong)[0]}). Pass the weights of this architecture."
        )
    return {key: found.get(key, value) for key, value in expected.items()}
