"""From features and restored features to the anomaly map, the image score and the fixed 0-1 scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

LOGIT_STEP = 4.0  # a normal image lies around 0.5 - 0.5 * tanh(...) of this many logits below the threshold


def residual_map(features: Tensor, restored: Tensor, levels: Sequence[int], kind: str, per_level: bool) -> Tensor:
    """Residual of every grid cell, >= 0: two (B, C, G, G) -> (B, 1, G, G).

    L2: mean_c (F - F^)^2. Direction: 1 - cos(F, F^), over the concatenation or averaged over `levels` (channels each).
    """
    features, restored = features.float(), restored.float()
    l2 = (features - restored).square().mean(1, keepdim=True)
    if kind == "l2":
        return l2
    parts = list(levels) if per_level else [features.shape[1]]
    cosines = [
        functional.cosine_similarity(f, r, dim=1) for f, r in zip(features.split(parts, 1), restored.split(parts, 1), strict=True)
    ]
    direction = (1 - torch.stack(cosines, 1).mean(1, keepdim=True)).clamp_min(0)
    return direction if kind == "cosine" else l2 * direction


def gaussian_smooth(maps: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian filter with reflected borders, (B, 1, H, W) -> same; sigma in pixels, cut at 4 sigma."""
    if sigma <= 0:
        return maps
    radius = min(math.ceil(4 * sigma), maps.shape[-1] - 1, maps.shape[-2] - 1)
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = functional.pad(maps, (radius, radius, radius, radius), mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def upsample_and_smooth(cells: Tensor, size: int, sigma: float) -> Tensor:
    """Bilinear to the network input's geometry, then Gaussian: (B, 1, G, G) -> (B, size, size)."""
    up = functional.interpolate(cells, (size, size), mode="bilinear", align_corners=False)
    return gaussian_smooth(up, sigma)[:, 0]


def image_score(maps: Tensor, rule: str, topk_fraction: float) -> Tensor:
    """One raw score an image, (B, H, W) -> (B,): maximum, standard deviation or mean of the largest share."""
    flat = maps.flatten(1)
    if rule == "max":
        return flat.amax(1)
    if rule == "std":
        return flat.std(1)
    return flat.topk(max(1, round(topk_fraction * flat.shape[1])), dim=1).values.mean(1)


def fixed_scale(raw: Tensor, threshold: float, scale: float) -> Tensor:
    """Raw scores on the fixed 0-1 scale: sigmoid((raw - threshold) / scale), so that 0.5 is the threshold.

    Strictly increasing, never clamped, independent of the other images of a batch; same shape as `raw`.
    """
    return torch.sigmoid((raw - threshold) / scale)


def calibrate(raw: Tensor, false_positive_rate: float) -> tuple[float, float]:
    """Threshold and scale from held-out normal scores (N,).

    The threshold is the (1 - rate) quantile, moved half the step to the next value up; where the sample is too small for
    the rate, it lies above the maximum by the spread that the sample shows. The scale puts the normal median at
    sigmoid(-LOGIT_STEP / 2).
    """
    values = raw.flatten().double().sort().values
    median = values[len(values) // 2]
    spread = (values[-1] - median).clamp_min(1e-12 + 1e-6 * values[-1].abs())
    rank = (1 - false_positive_rate) * (len(values) + 1)
    if rank > len(values):
        threshold = values[-1] + 0.25 * spread
    else:
        threshold = values[max(0, math.ceil(rank) - 1)]
    scale = ((threshold - median) / (LOGIT_STEP / 2)).clamp_min(spread * 1e-3)
    return float(threshold), float(scale)
