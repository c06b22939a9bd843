"""Sets the thresholds of a trained detector anew on other photos of good parts, and says how defective ones would fare."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..data.archives import Upload
from ..data.files import read_json, writing
from ..data.progress import Progress, silent
from ..data.records import TRAINING, shorten_paths, write_record
from ..inference import Unreadable, find
from ..model.configuration_uranet import NUMBERS, URANetConfig
from ..model.errors import UserError
from ..model.pipeline_uranet import URANetPipeline
from ..model.scoring import fixed_scale, positive
from ..model.verdicts import SLACK, limits, rate_of
from .calibration import bound, expected_false_alarms, require_spread
from .fit import set_thresholds
from .near_copies import named, near_copies
from .region import loader_within
from .report import examine, percent

FEWEST = 5  # good photos
BATCH = 8  # photos that go through the model at once
NAMED = 10  # unreadable photos that one message names
CALIBRATED = ("image_threshold", "pixel_threshold", "false_positive_rate", "false_alarms")
"""Fields of the config that photos set."""


@dataclass(frozen=True)
class Calibration:
    """What photos tell of the thresholds of a detector. Thresholds in and out are on its present scale, 0.5 the present one.

    Args:
        present: The detector's raw threshold.
        config: The detector's, with the thresholds of the asked rate.
        names: The good photos that look like the part, each shown once; their `scores` and their maps' `highest` values, (N,),
            before they are made positive.
        bad: Raw scores of the defective photos, (M,).
        unknown: Good photos that do not look like the part, which are left out.
        copies: Pairs of a good photo and the one that it shows again, whose first does not count.
    """

    present: float
    config: URANetConfig
    names: list[str]
    scores: Tensor
    highest: Tensor
    bad: Tensor
    unknown: list[str]
    copies: list[list[str]]

    @property
    def suggested(self) -> float:
        """The threshold of the asked rate."""
        assert self.config.image_threshold is not None
        return fixed_scale(self.config.image_threshold, self.present)

    def scaled(self) -> tuple[list[float], list[float]]:
        """Scores of the good and of the defective photos on the present scale."""
        good, bad = (fixed_scale(raw, self.present).tolist() for raw in (positive(self.scores), self.bad))
        return good, bad

    def at(self, threshold: float | None = None) -> dict[str, Any]:
        """What a threshold makes of the photos; None: `suggested`.

        Returns:
            `threshold` and `review`; `false_alarms`: the share of good parts to expect above it; `low` and `high`, which hold
            95 % of the real one; `alarms`: how many good photos lie above it; `misses`: how many defective ones lie below it,
            and `reviewed`: how many of these above `review`, so that somebody looks at them.

        Raises:
            UserError: It is not between 0 and 1.
        """
        present = SimpleNamespace(
            image_threshold=self.present, false_alarms=self.config.false_alarms, max_review=self.config.max_review
        )
        threshold, review = limits(present, self.suggested if threshold is None else threshold)
        rate = self._rate(threshold)
        low, high = expected_false_alarms(len(self.scores), rate)
        good, bad = (torch.tensor(scores) for scores in self.scaled())
        return {
            "threshold": threshold,
            "review": review,
            "false_alarms": rate,
            "low": low,
            "high": high,
            "alarms": int((good > threshold).sum()),
            "misses": int((bad <= threshold).sum()),
            "reviewed": int(((bad <= threshold) & (bad > review)).sum()),
        }

    def apply(self, config: Any, threshold: float | None = None) -> None:
        """Set the thresholds in a config; None: those of the asked rate."""
        for name in CALIBRATED:
            setattr(config, name, copy.deepcopy(getattr(self.config, name)))
        if threshold is not None:
            rate = self._rate(threshold)
            config.image_threshold, config.false_positive_rate = self._raw(threshold), rate
            config.pixel_threshold = float(positive(torch.tensor(bound(self.highest, rate), dtype=torch.float64)))

    def report(self, threshold: float | None = None) -> dict[str, Any]:
        """What is known of a threshold, None: of `suggested`.

        Returns:
            `examine` of the good photos; `good`: how many; `asked` rate of false alarms, `low` and `high`, which hold 95 % of the
            real one; `beyond`: in words, where the photos tell no more than that it is higher or lower; `threshold` and `review`
            on the former scale; `unknown`: photos that do not look like the part, which are left out; and where there are
            defective photos, `bad`: how many, `misses` at the threshold, and `best`, the share of false alarms at which false
            alarms and misses are fewest together, with its `misses` and `threshold`, on the former scale, too.
        """
        config = copy.deepcopy(self.config)
        self.apply(config, threshold)
        found = self.at(threshold)
        report = examine(self.names, self.scores, self.copies, config) | {
            "good": len(self.names),
            "asked": config.false_positive_rate,
            "beyond": self.beyond(config.false_positive_rate),
            **{name: found[name] for name in ("low", "high", "threshold", "review")},
            "unknown": self.unknown,
        }
        return report | (_against(self.bad, config, self.present) if len(self.bad) else {})

    def beyond(self, rate: float) -> str | None:
        """What can be said of a rate at an end of those that the photos tell something of; None within them."""
        assert self.config.false_alarms is not None
        most, least = self.config.false_alarms[0][0], self.config.false_alarms[-1][0]
        if rate >= most * (1 - SLACK):
            return f"{percent(most)} of good parts or more"
        return (
            f"{percent(least)} of good parts or less; so few photos tell no closer"
            if rate <= least * (1 + SLACK)
            else None
        )

    def _raw(self, threshold: float) -> float:
        return self.present * threshold / (1 - threshold)

    def _rate(self, threshold: float) -> float:
        """The share of good parts above a threshold, as far as the photos tell."""
        if threshold == self.suggested:
            return float(self.config.false_positive_rate)
        assert self.config.false_alarms is not None
        return float(rate_of(torch.tensor([self._raw(threshold)], dtype=torch.float64), self.config.false_alarms)[0])


def measure(
    detector: URANetPipeline,
    good: Sequence[Upload],
    bad: Sequence[Upload] = (),
    max_false_alarms: float | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Score good photos that the training did not see, and defective ones; the detector stays as it is.

    Args:
        max_false_alarms: Share of good parts that may be called anomalous; None: as the detector was calibrated.
        progress: Called with the stages ``copies`` and ``scores``.

    Raises:
        UserError: There are too few different photos, some can't be read, most good ones do not look like the part, or all good
            ones get the same score.
    """
    config = copy.deepcopy(detector.model.config)
    if not config.is_calibrated:
        raise UserError("the checkpoint has no thresholds yet: train it to its end.")
    if max_false_alarms is not None:
        low, high = NUMBERS["false_positive_rate"]
        if not low <= max_false_alarms <= high:
            raise UserError(f"max_false_alarms must lie between {low:g} and {high:g}, but got {max_false_alarms}.")
        config.false_positive_rate = max_false_alarms
    _require_enough(len(good), len(good), "of good parts are")
    load = loader_within(detector.image_processor, detector.model.uranet.region)
    same = near_copies([photo.path for photo in good], load, progress)
    _require_enough(len(good) - len(same), len(good), "that show different good parts are")
    scores, highest, strange = _look(detector, [*good, *bad], progress)
    part = [row for row in range(len(good)) if strange[row] <= 1 and row not in same]
    unknown = [photo.name for photo, one in zip(good, strange, strict=False) if one > 1]
    if 2 * len(unknown) > len(good) or len(good) - len(unknown) < FEWEST:
        raise UserError(
            f"{len(unknown)} of {len(good)} photos do not look like the part of this checkpoint: choose the checkpoint of the "
            "part, or train a new one."
        )
    _require_enough(len(part), len(good), "that show different good parts are")
    require_spread(scores[part])
    present = config.image_threshold
    set_thresholds(config, scores[part], highest[part])
    names = [photo.name for photo in good]
    known, bad_scores = [names[row] for row in part], positive(scores[len(good) :])
    return Calibration(present, config, known, scores[part], highest[part], bad_scores, unknown, named(same, names))


def save_recalibrated(
    detector: URANetPipeline,
    source: Path,
    output: Path,
    calibration: Calibration,
    threshold: float | None = None,
    left_out: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the detector with other thresholds into `output`, whole or not at all, and return the report.

    The record of training, from the folder `source`, gets the report, too, with what was `left_out` (see `as_record`). Figures of
    an evaluation are left out, as they hold for the former thresholds.

    Raises:
        UserError: `output` is there already, or can't be written.
    """
    if output.exists():
        raise UserError(f"{output} is there already: choose another folder.")
    report = calibration.report(threshold) | ({} if left_out is None else {"left_out": left_out})
    calibration.apply(detector.model.config, threshold)
    partial = output.with_name(f"{output.name}.partial")
    try:
        with writing(output):
            detector.save_pretrained(partial)
            if (source / TRAINING).is_file():
                write_record(partial / TRAINING, read_json(source / TRAINING) | {"recalibrated": report})
            partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _require_enough(count: int, came: int, which: str) -> None:
    if count < FEWEST:
        but = f"got {came}" if count == came else f"only {count} of the {came} differ"
        raise UserError(f"at least {FEWEST} photos {which} needed, better 20 or more, but {but}: add some.")


def _look(detector: URANetPipeline, photos: Sequence[Upload], progress: Progress) -> tuple[Tensor, Tensor, Tensor]:
    """Scores before they were made positive, the same of the maps' largest values, and strangeness, (N,) each."""
    scores, highest, strange, unreadable = [], [], [], []
    found = find(detector, [photo.path for photo in photos], batch_size=BATCH, fields=("anomaly_map",))
    for done, (photo, one) in enumerate(zip(photos, found, strict=True), 1):
        progress("scores", done, len(photos))
        if isinstance(one, Unreadable):
            unreadable.append(shorten_paths(str(one.error).replace(str(photo.path), photo.name)).rstrip("."))
            continue
        scores.append(one.raw_score)
        highest.append(float(one.output["anomaly_map"].max()))
        strange.append(float(one.output["strangeness"][0]) if "strangeness" in one.output else 0.0)
    if unreadable:
        more = f"; and {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        raise UserError(
            f"{len(unreadable)} of {len(photos)} photos can't be read, replace or leave them out: "
            f"{'; '.join(unreadable[:NAMED])}{more}."
        )
    return _standard(scores), _standard(highest), torch.tensor(strange)


def _standard(raw: Sequence[float]) -> Tensor:
    """Inverse of `positive`."""
    values = torch.tensor(raw, dtype=torch.float64)
    return values - 1 / values


def _against(bad: Tensor, config: Any, present: float) -> dict[str, Any]:
    """What the new thresholds make of defective photos' raw scores; `present` is the former raw threshold."""
    choices = [(rate + float((bad <= raw).double().mean()), rate, raw) for rate, raw in config.false_alarms]
    _, rate, raw = min(choices)
    best = {"false_alarms": rate, "misses": float((bad <= raw).double().mean())}
    return {
        "bad": len(bad),
        "misses": float((bad <= config.image_threshold).double().mean()),
        "best": best | {"threshold": float(fixed_scale(raw, present))},
    }
