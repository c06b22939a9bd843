"""From features and restored features to the anomaly map, the image score and the fixed 0-1 scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from .region import Region

Value = TypeVar("Value", Tensor, float)
FLOOR = 1e-4
"""Added to squared residuals: a cell whose channels differ by 1 % of their deviation from all that is normal counts as equal."""

LEAST_WEIGHT = 1e-6  # of a cell that no cell of the region is near


def log_residual(residual: Tensor, sigma: float, region: Region | None = None) -> Tensor:
    """log sqrt(R + FLOOR) of squared residuals R >= 0, smoothed before the log: (B, 1, G, G), or (B,) of images -> same, float32.

    sigma: deviation of the Gaussian in cells. Cells outside of a region have no weight in it: what they get comes from inside.
    """
    length = (residual.float() + FLOOR).sqrt()
    if length.dim() < 4:
        return length.log()
    if region is None or region.is_whole:
        return gaussian_smooth(length, sigma).log()
    weight = gaussian_smooth(region.fill(torch.ones_like(length)), sigma)
    mean = gaussian_smooth(region.fill(length), sigma) / weight.clamp_min(LEAST_WEIGHT)
    return mean.clamp_min(FLOOR**0.5).log()


def standardized(logs: Tensor, standard: Sequence[float] | None) -> Tensor:
    """z = (log - location) / spread of a view, by what unseen good images have; as it is before calibration."""
    if standard is None:
        return logs
    location, spread = standard
    return (logs - location) / spread


def positive(z: Tensor) -> Tensor:
    """exp(asinh(z / 2)) = (z + sqrt(z^2 + 4)) / 2 > 0: near z where z is large, 1 at 0; strictly increasing."""
    return (z / 2).asinh().exp()


def ordinary(logs: Tensor, region: Region) -> Tensor:
    """The log that the least strange tenth of a region's cells stays below, (B, 1, G, G) -> (B,).

    A defect leaves most of a part as it is; of another part hardly a cell is ordinary.
    """
    cells = region.fill(logs, math.inf).flatten(1)
    return cells.topk(max(1, region.count // 10), dim=1, largest=False).values[:, -1]


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
    with exactly(maps.device.type):
        return rows @ maps @ columns.T


def exactly(device_type: str) -> AbstractContextManager[Any]:
    """A context without autocast, which rounds products; a saved program can't hold one."""
    return nullcontext() if torch.compiler.is_exporting() else torch.autocast(device_type, enabled=False)


def _filter_matrix(side: int, kernel: Tensor) -> Tensor:
    """A symmetric filter (2 r + 1,) with reflected borders as a matrix (side, side), side > r.

    On CPUs its products are faster than convolutions for filters as wide as the maps' are.
    """
    radius = len(kernel) // 2
    taps = torch.arange(side, device=kernel.device)[:, None] + torch.arange(-radius, radius + 1, device=kernel.device)
    inside = (side - 1) - (side - 1 - taps.abs()).abs()
    return kernel.new_zeros(side, side).scatter_add_(1, inside, kernel.expand(side, -1))


def raw_thresholds(config: Any) -> dict[str, float | None]:
    """The raw thresholds of a model's config, as every result has them: ``image_threshold`` and ``pixel_threshold``."""
    return {name: getattr(config, name) for name in ("image_threshold", "pixel_threshold")}


def fixed_scale(raw: Value, threshold: float) -> Value:
    """Raw scores >= 0 on the fixed 0-1 scale: raw / (raw + threshold), so that 0.5 is the threshold; a number or a tensor.

    Strictly increasing, never clamped, independent of the other images of a batch.
    """
    return raw / (raw + threshold)
