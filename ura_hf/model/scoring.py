"""From features and restored features to the anomaly map, the image score and the fixed 0-1 scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

Value = TypeVar("Value", Tensor, float)


def l2_distance(features: Tensor, restored: Tensor, levels: Sequence[int] | None = None) -> Tensor:
    """mean_c (F - F^)^2, two (B, C, G, G) -> (B, 1, G, G).

    With `levels`, the channels of each feature level, it is averaged within each and then over them, so that all count alike.
    """
    square = (features - restored).square()
    parts = square.split(list(levels), 1) if levels is not None else [square]
    return torch.stack([part.mean(1, keepdim=True) for part in parts]).mean(0)


def direction_distance(features: Tensor, restored: Tensor, levels: Sequence[int]) -> Tensor:
    """1 - cos(F, F^), in [0, 2], averaged over the feature levels of `levels` channels each; two (B, C, G, G) -> (B, 1, G, G)."""
    pairs = zip(features.split(list(levels), 1), restored.split(list(levels), 1), strict=True)
    cosines = torch.stack([functional.cosine_similarity(f, r, dim=1) for f, r in pairs])
    return (1 - cosines.mean(0))[:, None]


def geometric_mean(residuals: Sequence[Tensor], weights: Sequence[float | Tensor], side: int) -> Tensor:
    """prod_i up(R_i)^(w_i / sum w) of n residuals >= 0, each (B, 1, G_i, G_i) -> (B, 1, side, side), float32; up is bilinear.

    A pixel's value is high only if all residuals are high there. The scales of the residuals don't matter.
    """
    ups = [functional.interpolate(residual.float(), (side, side), mode="bilinear") for residual in residuals]
    shares = [weight / sum(weights) for weight in weights]
    logs = [up.clamp_min(1e-12).log() * share for up, share in zip(ups, shares, strict=True)]
    return torch.stack(logs).sum(0).exp()


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian filter with reflected borders, (B, 1, H, W) -> same; sigma in pixels, cut at 4 sigma.

    A map with a value that is not finite becomes not finite everywhere.
    """
    if sigma <= 0:
        return maps
    radius = min(math.ceil(4 * sigma), maps.shape[-1] - 1, maps.shape[-2] - 1)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    rows, columns = (_filter_matrix(side, kernel) for side in maps.shape[-2:])
    no_switch = torch.compiler.is_exporting()  # a saved program can't hold one
    with nullcontext() if no_switch else torch.autocast(maps.device.type, enabled=False):
        return rows @ maps @ columns.T


def _filter_matrix(side: int, kernel: Tensor) -> Tensor:
    """A symmetric filter (2 r + 1,) with reflected borders as a matrix (side, side), side > r.

    On CPUs its products are faster than convolutions for filters as wide as the maps' are.
    """
    radius = len(kernel) // 2
    taps = torch.arange(side, device=kernel.device)[:, None] + torch.arange(-radius, radius + 1, device=kernel.device)
    inside = (side - 1) - (side - 1 - taps.abs()).abs()
    return kernel.new_zeros(side, side).scatter_add_(1, inside, kernel.expand(side, -1))


def image_score(maps: Tensor, rule: str, topk_fraction: float) -> Tensor:
    """One raw score per image, (B, H, W) -> (B,): maximum, standard deviation, or mean of the largest share."""
    flat = maps.flatten(1)
    if rule == "max":
        return flat.amax(1)
    if rule == "std":
        return flat.std(1)
    return flat.topk(max(1, round(topk_fraction * flat.shape[1])), dim=1).values.mean(1)


def raw_thresholds(config: Any) -> dict[str, float | None]:
    """The raw thresholds of a model's config, as every result has them: ``image_threshold`` and ``pixel_threshold``."""
    return {name: getattr(config, name) for name in ("image_threshold", "pixel_threshold")}


def fixed_scale(raw: Value, threshold: float) -> Value:
    """Raw scores >= 0 on the fixed 0-1 scale: raw / (raw + threshold), so that 0.5 is the threshold; a number or a tensor.

    Strictly increasing, never clamped, independent of the other images of a batch.
    """
    return raw / (raw + threshold)
