"""The frozen backbone: a network of timm, CNN or ViT, whose levels become one standardised feature grid."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from .defaults import IMAGE_SIZE
from .errors import UserError
from .region import Region

SMALL = "uranet-small"
LARGEST = 6e4  # feature that float16 holds
QUARTERS = 4  # levels of a ViT: so many as the stages of a CNN
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


def create_network(name: str, out_indices: Sequence[int], image_size: int = IMAGE_SIZE) -> nn.Module:
    """Build a timm feature extractor, or one of our own from timm's blocks, with unset weights.

    Raises:
        UserError: timm has no such architecture, or it lacks the asked levels.
    """
    try:
        return timm.create_model(**network_arguments(name, out_indices, image_size))
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError, AttributeError) as error:
        near = get_close_matches(name, [*OWN, *timm.list_models()], 5)
        hint = f" Near names: {', '.join(near)}." if near else ""
        raise UserError(
            f"backbone must be a timm network with feature levels {list(out_indices)}, but got {name!r} ({error}).{hint} "
            "List the names with timm.list_models()."
        ) from error


def network_arguments(name: str, out_indices: Sequence[int], image_size: int) -> dict[str, Any]:
    """What `timm.create_model` takes to build a feature extractor for images of S x S pixels.

    Raises:
        IndexError: The network has no such level; timm's own errors, where it has no such network.
    """
    arguments = OWN.get(name, {"model_name": name}) | {"features_only": True, "out_indices": tuple(out_indices)}
    if (one_size := _one_size(name)) is None:
        return arguments
    if one_size.depth is not None:
        if max(out_indices) >= QUARTERS:
            raise IndexError(f"it has the levels 0 to {QUARTERS - 1}, the ends of the quarters of its blocks")
        ends = [(level + 1) * one_size.depth // QUARTERS - 1 for level in out_indices]
        arguments["out_indices"] = tuple(ends)
    return arguments | {"feature_cls": "getter", "img_size": one_size.side(image_size)}


class OneSize(NamedTuple):
    """A network that is built for images of one size, such as a ViT."""

    stride: int
    """Side of its patches, or of what its coarsest level sees as one cell [pixels]."""
    depth: int | None
    """Blocks of a network whose blocks all have the grid of the patches; None of one with coarser and coarser levels."""

    def side(self, image_size: int) -> int:
        """The side to build it for: S, or the next multiple of the stride [pixels]."""
        return -(-image_size // self.stride) * self.stride


@cache
def _one_size(name: str) -> OneSize | None:
    """Geometry of a network for one size, found by building it without memory; None of one for any size."""
    weights = timms_weights(name)
    if weights is None or not weights.fixed_input_size:
        return None
    with torch.device("meta"):
        levels = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=(0,)).feature_info.info
    strides = [level["reduction"] for level in levels]
    return OneSize(max(strides), len(levels) if len({*strides}) == 1 else None)


def timms_weights(name: str) -> Any:
    """timm's facts about a network's weights (`mean`, `std`, `hf_hub_id`, ...); None for our own and for unknown names."""
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # of an unknown tag after a known name
        return None


class Backbone(nn.Module):
    """Frozen multi-level features on one grid, standardised by the training normals' statistics.

    Each level: 3x3 average pool (stride 1), bilinear resize to G x G, concatenation over channels, then (F - mean) / std,
    where std is that of the whole level. Always in eval mode, never a gradient. Levels of a ViT are the ends of the four quarters
    of its blocks: maps of its patches, without class and register tokens. One whose patches do not fit into S sees the image at
    the next size that they fit.
    """

    cnn: Any
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int],
        grid_size: int,
        image_size: int = IMAGE_SIZE,
        region: Region | None = None,
    ) -> None:
        super().__init__()
        self.name, self.grid_size, self.levels, self.image_size = name, grid_size, tuple(out_indices), image_size
        self.region = region or Region(None, grid_size)
        self.cnn = create_network(name, out_indices, image_size)  # the name by which checkpoints know it
        one_size = _one_size(name)
        self.only_side = one_size.side(image_size) if one_size else None
        """Side of the only images that the network takes [pixels]; None of one for any size."""
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

    def freeze(self) -> None:
        """Switch gradients off and stay in eval mode. Call it again after loading a checkpoint."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode in any case, so that BatchNorm statistics never change."""
        return super().train(False)

    def raw(self, pixel_values: Tensor) -> Tensor:
        """Features before standardisation: (B, 3, S, S) normalised pixels -> (B, C, G, G).

        Outside of the region of interest pixels count as 0, the mean colour. Features are rounded to float16, as training keeps
        them, so that all that is measured on good images holds for new ones.
        """
        side = (self.grid_size, self.grid_size)
        with torch.no_grad():
            pixel_values = self.region.fill(pixel_values)
            if self.only_side not in (None, pixel_values.shape[-1]):
                pixel_values = functional.interpolate(pixel_values, (self.only_side,) * 2, mode="bilinear")
            levels = self.cnn(pixel_values.contiguous(memory_format=torch.channels_last))
            pooled = [functional.avg_pool2d(level, 3, stride=1, padding=1) for level in levels]
            grid = torch.cat([functional.interpolate(x, side, mode="bilinear") for x in pooled], dim=1)
            return grid.clamp(-LARGEST, LARGEST).half().to(grid.dtype)

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
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store the mean of every channel of good images and what it is divided by, each (C,)."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-5))
        self.is_fitted = True

    def level_deviations(self, std: Tensor) -> Tensor:
        """The root mean square deviation of a channel's level for every channel, (C,) -> (C,): all levels count alike."""
        parts = std.split(self.level_channels)
        return torch.cat([part.square().mean().sqrt().expand(len(part)) for part in parts])


def _keep_constants(cnn: nn.Module) -> set[str]:
    """Put the buffers that timm computes and leaves out of files, such as blur filters, into ours; their names.

    transformers would give them back as whatever lay in memory.
    """
    left_out = {f"{place}.{name}" for place, part in cnn.named_modules() for name in part._non_persistent_buffers_set}
    for part in cnn.modules():
        part._non_persistent_buffers_set.clear()
    return left_out
