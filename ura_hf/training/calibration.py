"""Thresholds from the scores of held-out normal images."""

from __future__ import annotations

import math

import torch
from scipy import special
from torch import Tensor

MIN_LOG_DEVIATION = (
    0.05  # least deviation of log scores from which a threshold is extrapolated, as few may agree by chance
)
MIN_LOG_SPREAD = 0.01  # least deviation of log scores that is compared with another; a smaller one is rounding
MAX_MEDIAN_DEVIATIONS = 3  # a log score further from the median is taken for one at this distance
PRIOR_IMAGES = 5  # weight of the assumption that two scores spread alike, in images


def calibrate(raw: Tensor, false_positive_rate: float) -> float:
    """Threshold from held-out normal scores (N,): their (1 - rate) quantile by the conformal rank ceil((1 - rate) (N + 1)).

    Where N is too small for the rate (`enough_to_calibrate`), the prediction bound of a log-normal distribution,
    exp(mean + t_(N-1)(1 - rate) s sqrt(1 + 1/N)) of the log scores, but above the largest score and at most twice it.
    """
    values = raw.flatten().cpu().double().sort().values
    rank = _conformal_rank(len(values), false_positive_rate)
    if rank <= len(values):
        return max(float(values[rank - 1]), 1e-12)
    largest, logs = float(values[-1]), values.clamp_min(1e-12).log()
    deviation = max(float(logs.std()) if len(logs) > 1 else 0.0, MIN_LOG_DEVIATION)
    quantile = float(special.stdtrit(max(len(logs) - 1, 1), 1 - false_positive_rate))
    bound = math.exp(float(logs.mean()) + quantile * deviation * math.sqrt(1 + 1 / len(logs)))
    return max(min(max(bound, 1.05 * largest), 2 * largest), 1e-12)


def reliability(residual: Tensor) -> float:
    """How reliable a residual map is, from held-out normals (N, 1, G, G): (mean_n (max_cells log r - mean_cells log r))^-2.

    A residual that hardly peaks on good images can be trusted where it peaks; the more it does, the less it says.
    """
    logs = residual.clamp_min(1e-12).log().flatten(1)
    return float((logs.amax(1) - logs.mean(1)).mean().clamp_min(0.05)) ** -2


def spread_ratio(first: Tensor, second: Tensor) -> float:
    """How widely one score > 0 of N normal images, (N,), spreads against another: the ratio of the deviations of their logs.

    One of the images may be defective. So logs are clamped to `MAX_MEDIAN_DEVIATIONS` robust deviations (1.4826 times the median
    distance to the median) around the median, unless half of them agree. Few images say little. So both variances are drawn to
    their mean with the weight of `PRIOR_IMAGES` more images; the ratio of a single image is 1.
    """
    logs = torch.stack([score.flatten().cpu().double().clamp_min(1e-12).log() for score in (first, second)])
    middle = logs.quantile(0.5, 1, keepdim=True)
    deviation = 1.4826 * (logs - middle).abs().quantile(0.5, 1, keepdim=True)
    reach = MAX_MEDIAN_DEVIATIONS * deviation.where(deviation > MIN_LOG_SPREAD, math.inf)
    logs = logs.clamp(middle - reach, middle + reach)
    degrees = max(logs.shape[1] - 1, 1)
    variances = ((logs - logs.mean(1, keepdim=True)).square().sum(1) / degrees).clamp_min(MIN_LOG_SPREAD**2)
    drawn = degrees * variances + PRIOR_IMAGES * variances.mean()
    return float((drawn[0] / drawn[1]).sqrt())


def enough_to_calibrate(count: int, false_positive_rate: float) -> bool:
    """Whether `count` normal scores carry a threshold for this rate without assuming a distribution."""
    return _conformal_rank(count, false_positive_rate) <= count


def expected_false_alarms(
    count: int, false_positive_rate: float, confidence: float = 0.95
) -> tuple[float, float, float]:
    """False-alarm rate of a threshold that `calibrate` set from `count` normal scores: expected value, and bounds (low, high).

    Whatever the continuous distribution of the scores, the rate above the k-th smallest of N is distributed as
    Beta(N + 1 - k, k), of mean 1 - k / (N + 1); the bounds hold `confidence` of it. A threshold above the largest score has at
    most the rate of k = N: the expected value is then an upper one, low is 0 and the upper bound is one-sided.
    It holds for images taken as those that were held out were, and for scores that do not depend on these; URA-Net's do a little,
    through `reliability` and `spread_ratio`.
    """
    rank = min(_conformal_rank(count, false_positive_rate), count)
    few = not enough_to_calibrate(count, false_positive_rate)
    shares = (0.0, confidence) if few else ((1 - confidence) / 2, (1 + confidence) / 2)
    low, high = special.betaincinv(count + 1 - rank, rank, shares)
    return 1 - rank / (count + 1), float(low), float(high)


def _conformal_rank(count: int, rate: float) -> int:
    return math.ceil(round((1 - rate) * (count + 1), 9))  # (1 - 0.45) 100 is 55.000...01
