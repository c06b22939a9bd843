"""A detector from a handful of photos in minutes on a CPU: small backbone, few steps, and an honest false-alarm rate."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.archives import Upload
from ..data.files import write_json
from ..data.folder import IMAGE_SUFFIXES
from ..data.progress import Progress, silent
from ..data.records import TRAINING
from ..model.backbone import SMALL
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from .calibration import enough_to_calibrate, expected_false_alarms
from .options import TrainingOptions
from .train import train

MIN_PHOTOS, MAX_PHOTOS = 10, 300
CONFIG: dict[str, Any] = {
    "backbone": SMALL,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "memory_tokens": 64,
    "memory_cells": 2048,
    "subspace_rank": 64,
    "perception_size": 64,
    "smoothing_sigma": 4.0,
    "false_positive_rate": 0.05,
}
"""Fields of the model, about those of the bundled demo checkpoints: 30 photos take about two minutes on two cores."""
OPTIONS: dict[str, Any] = {"steps": 300, "held_out": 0.3, "half": True}
"""Options of the training run."""


@dataclasses.dataclass(frozen=True)
class FalseAlarms:
    """What is known of the share of good parts that the detector will call anomalous, from the photos kept from training.

    Args:
        held_out: Photos kept from training; the threshold comes from their scores alone.
        asked: The rate that the threshold was set for.
        expected: Its expected value; where `is_bound`, the real one is at most that.
        low, high: Bounds that hold 95 % of it.
    """

    held_out: int
    asked: float
    expected: float
    low: float
    high: float
    is_bound: bool

    @classmethod
    def of(cls, held_out: int, rate: float) -> FalseAlarms:
        """The rate of a threshold set for `rate` on `held_out` photos."""
        expected, low, high = expected_false_alarms(held_out, rate)
        return cls(held_out, rate, expected, low, high, not enough_to_calibrate(held_out, rate))

    def sentence(self) -> str:
        """The rate in words."""
        expected = f"{'at most ' if self.is_bound else ''}{_percent(self.expected)}"
        bounds = f"{_percent(self.low)} to {_percent(self.high)}"
        return (
            f"Expect {expected} of good parts to be called anomalous, {bounds} with 95 % confidence. That is what "
            f"{self.held_out} photos kept from training can tell, for parts photographed in the same way."
        )


@dataclasses.dataclass(frozen=True)
class Taught:
    """A new checkpoint: its folder, the record of its training, and its false-alarm rate."""

    folder: Path
    record: dict[str, Any]
    false_alarms: FalseAlarms


def teach(photos: Sequence[Upload], folder: Path, progress: Progress = silent) -> Taught:
    """Train a detector on photos of good parts and save it in `folder`, which must not be there yet.

    `progress` is called with the stages of `training.train`. Nothing is left of a run that fails or is cancelled.

    Raises:
        UserError: Too few or too many photos, one that can't be read, or `folder` is there.
        Cancelled: `progress` raised it.
    """
    if not MIN_PHOTOS <= len(photos) <= MAX_PHOTOS:
        raise UserError(
            f"{MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts are needed, but got {len(photos)}: "
            f"{'add more' if len(photos) < MIN_PHOTOS else 'leave some out'}."
        )
    if folder.exists():
        raise UserError(f"{folder} is there already, but a new folder is needed: choose another name or remove it.")
    try:
        with tempfile.TemporaryDirectory(prefix="uranet-photos-") as staged:
            for index, photo in enumerate(photos):
                suffix = Path(photo.name).suffix.lower()
                link = Path(staged) / f"{index:04d}{suffix if suffix in IMAGE_SUFFIXES else '.png'}"
                link.symlink_to(photo.path.resolve())
            options = TrainingOptions(Path(staged), folder, **OPTIONS)
            record = train(options, URANetConfig(**CONFIG), progress=progress)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    record["options"] |= {"data": "photos", "output": folder.name}
    write_json(folder / TRAINING, record)
    rate = FalseAlarms.of(record["images"]["held_out"], record["thresholds"]["false_positive_rate"])
    return Taught(folder, record, rate)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0 < share < 0.095 else f"{100 * share:.0f} %"
