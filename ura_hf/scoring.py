"""From features and restored features to the anomaly map, the image score and the fixed 0-1 scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

MIN_LOG_DEVIATION = 0.05  # of normal scores, where few of them happen to agree


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


def geometric_mean(residuals: Tensor, weights: Sequence[float], side: int) -> Tensor:
    """prod_i up(R_i)^(w_i / sum w) of n residuals, (B, n, G, G) >= 0 -> (B, 1, side, side); up is bilinear.

    A pixel stands out only where all residuals do, and no residual's scale outweighs another's.
    """
    ups = functional.interpolate(residuals, (side, side), mode="bilinear").clamp_min(1e-12)
    shares = torch.tensor(weights, device=ups.device, dtype=ups.dtype) / sum(weights)
    return (ups.log() * shares[:, None, None]).sum(1, keepdim=True).exp()


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


def image_score(maps: Tensor, rule: str, topk_fraction: float) -> Tensor:
    """One raw score an image, (B, H, W) -> (B,): maximum, standard deviation or mean of the largest share."""
    flat = maps.flatten(1)
    if rule == "max":
        return flat.amax(1)
    if rule == "std":
        return flat.std(1)
    return flat.topk(max(1, round(topk_fraction * flat.shape[1])), dim=1).values.mean(1)


def fixed_scale(raw: Tensor, threshold: float) -> Tensor:
    """Raw scores >= 0 on the fixed 0-1 scale: raw / (raw + threshold), so that 0.5 is the threshold; same shape.

    Strictly increasing, never clamped, independent of the other images of a batch.
    """
    return raw / (raw + threshold)


def calibrate(raw: Tensor, false_positive_rate: float) -> float:
    """Threshold from held-out normal scores (N,): their (1 - rate) quantile by the conformal rank ceil((1 - rate) (N + 1)).

    Where N is too small for the rate (`enough_to_calibrate`), the prediction bound of a log-normal distribution,
    exp(mean + t_(N-1)(1 - rate) s sqrt(1 + 1/N)) of the log scores, but above the largest score and at most twice it.
    """
    values = raw.flatten().double().sort().values
    rank = _conformal_rank(len(values), false_positive_rate)
    if rank <= len(values):
        return max(float(values[rank - 1]), 1e-12)
    largest, logs = float(values[-1]), values.clamp_min(1e-12).log()
    deviation = max(float(logs.std()) if len(logs) > 1 else 0.0, MIN_LOG_DEVIATION)
    quantile = float(stats.t.ppf(1 - false_positive_rate, max(len(logs) - 1, 1)))
    bound = math.exp(float(logs.mean()) + quantile * deviation * math.sqrt(1 + 1 / len(logs)))
    return max(min(max(bound, 1.05 * largest), 2 * largest), 1e-12)


def enough_to_calibrate(count: int, false_positive_rate: float) -> bool:
    """Whether `count` normal scores carry a threshold for this rate without assuming a distribution."""
    return _conformal_rank(count, false_positive_rate) <= count


def _conformal_rank(count: int, rate: float) -> int:
    return math.ceil(round((1 - rate) * (count + 1), 9))  # (1 - 0.45) 100 is 55.000...01
