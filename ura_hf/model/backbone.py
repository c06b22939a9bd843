"""The frozen backbone: a timm CNN whose levels become one standardised feature grid."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import UserError

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
"""Backbones of our own: timm's architecture and its arguments."""


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
    """timm's facts about a CNN's weights (`mean`, `std`, `hf_hub_id`, ...); None for our own and for unknown names."""
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # of an unknown tag after a known name
        return None


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
        self.is_fitted = False
        """Whether the statistics are those of training images."""
        self.register_load_state_dict_post_hook(lambda module, _: module.note_fitted())
        self.freeze()

    def note_fitted(self) -> None:
        """Set `is_fitted` after a checkpoint was loaded: whether it holds statistics."""
        self.is_fitted = bool(self.mean.any())

    @property
    def channels(self) -> int:
        """Channels C after concatenation."""
        return sum(self.level_channels)

    @property
    def deep_channels(self) -> list[int]:
        """Channels of every level but the shallowest; with one level, its channels."""
        return self.level_channels[1:] or self.level_channels

    def deep(self, plain: Tensor) -> Tensor:
        """Features before standardisation without the shallowest level: (B, C, G, G) -> (B, sum(deep_channels), G, G)."""
        return plain[:, -sum(self.deep_channels) :]

    def level(self, plain: Tensor, index: int) -> Tensor:
        """Level `index` of features before standardisation, or the deepest if there are fewer: (B, C, G, G) -> (B, C_l, G, G)."""
        return plain.split(self.level_channels, 1)[: index + 1][-1]

    def freeze(self) -> None:
        """Switch gradients off and stay in eval mode. Call it again after loading a checkpoint."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode in any case, so that BatchNorm statistics never change."""
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
        """Inverse of `standardize`: features before standardisation, (B, C, G, G) -> (B, C, G, G)."""
        return features * self.std[:, None, None] + self.mean[:, None, None]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Standardised features, (B, 3, S, S) -> (B, C, G, G)."""
        return self.standardize(self.raw(pixel_values))

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor, floor: float = 0.0) -> None:
        """Store the training normals' per-channel mean and standard deviation, each (C,).

        Deviations below `floor` times the median deviation of their level are raised to that value.
        """
        self.mean.copy_(mean)
        self.is_fitted = True
        floored = [part.clamp_min(floor * float(part.median())) for part in std.split(self.level_channels)]
        self.std.copy_(torch.cat(floored).clamp_min(1e-5))


def _keep_constants(cnn: nn.Module) -> set[str]:
    """Put the buffers that timm computes and leaves out of files, such as blur filters, into ours; their names.

    transformers would give them back as whatever lay in memory.
    """
    left_out = {f"{place}.{name}" for place, part in cnn.named_modules() for name in part._non_persistent_buffers_set}
    for part in cnn.modules():
        part._non_persistent_buffers_set.clear()
    return left_out
