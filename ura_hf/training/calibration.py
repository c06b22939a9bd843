"""Standards and thresholds from the scores of good images, by views that have not seen them."""

from __future__ import annotations

import math

import torch
from scipy import special
from torch import Tensor

from ..model.errors import UserError
from ..model.scoring import FLOOR

LEAST_SPREAD = 0.02  # of a view's logs: residuals that differ by 2 % are alike
LEAST_PEAK_SPREAD = 0.25  # of the largest values of standardised views; those of different images deviate by 0.5 to 1
RATES = (0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4)
"""Of good images, for which the scores that they exceed are kept."""
OUTLYING = 6.0  # robust deviations, which hardly a good image is away
MIN_DEVIATION = 5e-3  # of scores; those of one image that is read again differ by its rounding
HALVES = 100  # random halves of the scores that tell how firm a threshold is
TRUST = 20  # N images tell something of rates down to 1 / (TRUST N)


def bound(scores: Tensor, rate: float) -> float:
    """What a share `rate` of new good images scores above, from the scores (N,) of unseen good ones.

    The prediction bound of a normal distribution, m + t_(N-1)(1 - rate) s sqrt(1 + 1/N). The deviation s is that of Gini's mean
    difference, sqrt(pi) l_2 with the second L-moment l_2 (Hosking 1990). Scores beyond `OUTLYING` robust deviations from the
    median count as lying there, so that a bad photo among the good ones moves the bound little.
    """
    count, mean, deviation = _fit(scores)
    return mean + _quantile(count, rate) * deviation


def outlying(scores: Tensor) -> list[int]:
    """Rows of the scores (N,) that `bound` takes in, as they are beyond `OUTLYING` robust deviations, the highest first."""
    values = scores.flatten().cpu().double()
    above = values > _reach(values)
    return [row for row in values.argsort(descending=True).tolist() if above[row]]


def rates_of_halves(scores: Tensor, rate: float, seed: int = 0) -> tuple[float, float]:
    """How much a threshold for `rate` rests on which images are there, told by random halves of the scores (N,), N >= 4.

    The rates, by all scores, of the thresholds that halves give; eight of ten lie between the two that are returned.
    """
    count, mean, deviation = _fit(scores)
    values, draw = scores.flatten().cpu().double(), torch.Generator().manual_seed(seed)
    bounds = [bound(values[torch.randperm(count, generator=draw)[: count // 2]], rate) for _ in range(HALVES)]
    shares = torch.tensor(bounds, dtype=torch.float64).sub(mean).div(deviation * math.sqrt(1 + 1 / count))
    low, high = special.stdtr(count - 1, -shares.quantile(torch.tensor([0.9, 0.1], dtype=torch.float64)).numpy())
    return float(low), float(high)


def require_spread(scores: Tensor) -> None:
    """Raise UserError where scores (N,) before they are made positive hardly differ: they tell nothing of other images.

    Raises:
        UserError: The standard deviation is below `MIN_DEVIATION`.
    """
    if len(scores) > 1 and float(scores.double().std()) < MIN_DEVIATION:
        raise UserError(
            f"all {len(scores)} photos of good parts get the same score, so they tell nothing of other parts: they seem to show "
            "one thing. Add photos of different parts."
        )


def _fit(scores: Tensor) -> tuple[int, float, float]:
    """Number, mean and deviation of scores as `bound` takes them."""
    values = scores.flatten().cpu().double()
    values = values.clamp_max(_reach(values)).sort().values
    count = len(values)
    weights = (2 * torch.arange(count, dtype=values.dtype) - count + 1) / max(count * (count - 1), 1)
    return count, float(values.mean()), max(math.sqrt(math.pi) * float(weights @ values), LEAST_PEAK_SPREAD)


def _reach(values: Tensor) -> float:
    """Where scores (N,) begin to be outlying."""
    middle = float(values.quantile(0.5))
    robust = max(float((values - middle).abs().quantile(0.5)) * 1.4826, LEAST_PEAK_SPREAD)
    return middle + OUTLYING * robust


def curve(scores: Tensor, asked: float) -> list[tuple[float, float]]:
    """`bound` of rates from 1/2 down to what the number of scores tells something of, `asked` among them; rates fall."""
    least = min(1 / (TRUST * len(scores)), asked)
    apart = [rate for rate in RATES if rate > least and not any(math.isclose(rate, one) for one in (asked, least))]
    rates = sorted({*apart, asked, least}, reverse=True)
    count, mean, deviation = _fit(scores)
    return [(rate, mean + _quantile(count, rate) * deviation) for rate in rates]


def standard(logs: Tensor) -> list[float]:
    """Location and spread of the logs of a view over unseen good images, any shape: mean and standard deviation.

    A spread below `LEAST_SPREAD` says that the images are copies; it is raised to that. Where hardly a residual is above the
    `FLOOR` it is raised further, so that one as small as the floor stands out by one deviation at most.
    """
    return _standard(logs, max(LEAST_SPREAD, FLOOR * math.exp(-2 * float(logs.double().mean()))))


def peak_standard(peaks: Tensor) -> list[float]:
    """Location and spread of the largest values of standardised views, (N,), over unseen good images."""
    return _standard(peaks, LEAST_PEAK_SPREAD)


def _standard(values: Tensor, least: float) -> list[float]:
    values = values.double()
    return [float(values.mean()), max(float(values.std()) if values.numel() > 1 else 0.0, least)]


def expected_false_alarms(count: int, rate: float, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of the share of good images above `bound` of `count` scores and a rate, which it is on average.

    By the delta method for normal scores: the bound, in deviations, errs by sqrt(1/N + k^2 / (2 (N - 1))). They hold
    `confidence` of the shares, for images taken as those that were scored were.
    """
    k = _quantile(count, rate)
    error = math.sqrt(1 / count + k**2 / (2 * max(count - 1, 1))) * float(special.ndtri((1 + confidence) / 2))
    return float(special.ndtr(-k - error)), float(special.ndtr(-k + error))


def _quantile(count: int, rate: float) -> float:
    """t_(N-1)(1 - rate) sqrt(1 + 1/N)."""
    return float(special.stdtrit(max(count - 1, 1), 1 - rate)) * math.sqrt(1 + 1 / count)
