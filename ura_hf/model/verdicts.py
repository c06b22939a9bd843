"""From scores to verdicts: how unusual an image is among good ones, and what a user's rates make of that."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .errors import UserError
from .scoring import fixed_scale

THRESHOLD = 0.5
"""Where the fixed 0-1 scale has the calibrated threshold."""
LABELS = ("normal", "review", "anomalous", "unknown")
SLACK = 1e-4  # relative: rates are printed with a few digits
ORDINARY = 0.25  # rate above which a part is like most
Curve = Sequence[Sequence[float]]
"""Pairs (rate, raw score): this share of good images scores higher. Rates fall, scores rise."""


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_curve(pairs: Any) -> bool:
    """Whether a config's field is a `Curve` of two or more pairs."""
    if not isinstance(pairs, list) or len(pairs) < 2:
        return False
    if not all(isinstance(pair, list) and len(pair) == 2 and all(map(is_number, pair)) for pair in pairs):
        return False
    steps = list(pairwise(pairs))
    falls = all(before[0] > after[0] and before[1] < after[1] for before, after in steps)
    return falls and pairs[0][0] < 1 and pairs[-1][0] > 0 and pairs[0][1] > 0


def rate_of(raw: Tensor, curve: Curve) -> Tensor:
    """Share of good images that score at least as high as `raw`, any shape -> same, float32, within the rates of the curve."""
    rates, scores = (torch.tensor(values, dtype=torch.float64) for values in zip(*curve, strict=True))
    found = raw.detach().cpu().double().contiguous()
    return _between(found, scores, rates.log()).exp().float().to(raw.device)


def score_at(rate: float, curve: Curve) -> float:
    """Raw score that a share `rate` of good images exceeds.

    Raises:
        UserError: The rate lies outside those that the good images tell something about.
    """
    rates, scores = (torch.tensor(values, dtype=torch.float64) for values in zip(*curve, strict=True))
    if not curve[-1][0] * (1 - SLACK) <= rate <= curve[0][0] * (1 + SLACK):
        raise UserError(
            f"a share of good images must lie between {curve[-1][0]:g} and {curve[0][0]:g}, of which the good images of this "
            f"checkpoint tell something, but got {rate:g}."
        )
    return float(_between(torch.tensor([-math.log(rate)], dtype=torch.float64), -rates.log(), scores)[0])


def _between(x: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation at x of `values` over increasing `known`; constant beyond."""
    right = torch.searchsorted(known, x).clamp(1, len(known) - 1)
    low, high = known[right - 1], known[right]
    share = ((x - low) / (high - low)).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], share)


def limits(
    config: Any, threshold: float | None = None, max_false_alarms: float | None = None, max_review: float | None = None
) -> tuple[float, float]:
    """The scores, on the fixed 0-1 scale, above which an image is anomalous, and above which somebody is to look at it.

    Args:
        config: Of a calibrated model; None or one without a curve: `threshold` alone counts.
        threshold: The first one itself; None: from `max_false_alarms`.
        max_false_alarms: Share of good images that may be called anomalous; None: as calibrated.
        max_review: Share of good images that may be called ``review``; None: as configured.

    Raises:
        UserError: A value is out of range, both `threshold` and `max_false_alarms` are given, or a rate where there is no curve.
    """
    if threshold is not None and max_false_alarms is not None:
        raise UserError("threshold and max_false_alarms say the same in two ways: give one of them.")
    if threshold is not None:
        check_threshold(threshold)
    if max_review is not None and not 0 <= max_review < 1:
        raise UserError(f"max_review must be from 0 to below 1, but got {max_review}.")
    curve, limit = (None, None) if config is None else (config.false_alarms, config.image_threshold)
    if curve is None or limit is None:
        if max_false_alarms is not None or max_review:
            raise UserError("the checkpoint does not tell the false alarms of other thresholds: train it again.")
        return (threshold or THRESHOLD,) * 2
    raw = limit if max_false_alarms is None else score_at(max_false_alarms, curve)
    if threshold is not None:
        raw = limit * threshold / (1 - threshold)
    threshold, share = fixed_scale(raw, limit), config.max_review if max_review is None else max_review
    if not share:
        return threshold, threshold
    rate = max(float(rate_of(torch.tensor([raw], dtype=torch.float64), curve)[0]), curve[-1][0]) + share
    return threshold, fixed_scale(min(score_at(min(rate, curve[0][0]), curve), raw), limit)


def ranks_of(raw: Tensor, config: Any) -> list[dict[str, Any]]:
    """`rank` and `rank_words` of raw scores (B,); none without a config, None where it has no curve."""
    if config is None:
        return [{} for _ in raw]
    if config.false_alarms is None:
        return [{"rank": None, "rank_words": None} for _ in raw]
    if not raw.isfinite().all():
        raise UserError("a score is no finite number, so it has no rank.")
    rates = rate_of(raw, config.false_alarms).tolist()
    return [{"rank": 1 / rate, "rank_words": rank_words(rate, config.false_alarms)} for rate in rates]


def label(score: float, strangeness: float | None, threshold: float, review: float) -> str:
    """One of `LABELS`; `strangeness` above 1 is not the part at all."""
    if strangeness is not None and strangeness > 1:
        return "unknown"
    if score > threshold:
        return "anomalous"
    return "review" if score > review else "normal"


def check_threshold(value: float) -> None:
    """Raise UserError unless `value` can be a threshold on the fixed 0-1 scale."""
    if not 0 < value < 1:
        raise UserError(
            f"threshold must lie between 0 and 1, where {THRESHOLD} is the calibrated one, but got {value}: scores are on that "
            "scale; raw ones have the name image_score."
        )


def rank_words(rate: float, curve: Curve | None = None) -> str:
    """A rate in words: "as unusual as 1 in 300 good parts", "rarer than" at the end of the curve, or "like most good parts"."""
    if rate > ORDINARY:
        return "like most good parts"
    ends = curve is not None and rate <= curve[-1][0] * (1 + 1e-6)
    return f"{'rarer than' if ends else 'as unusual as'} 1 in {_round(1 / rate):,} good parts"


def _round(value: float) -> int:
    """A number of one or two digits and zeros."""
    zeros = max(0, math.floor(math.log10(value)) - 1)
    return round(round(value / 10**zeros) * 10**zeros)
