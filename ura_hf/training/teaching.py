"""A detector from a handful of photos in minutes on a CPU: small backbone, few steps, and an honest false-alarm rate."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..data.archives import Upload
from ..data.folder import IMAGE_SUFFIXES
from ..data.progress import Progress, silent
from ..data.records import TRAINING, write_record
from ..model.backbone import SMALL
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from ..model.frames import Frame, all_frames, read_frame
from .options import TrainingOptions
from .report import FalseAlarms, sentences
from .train import train

MIN_PHOTOS, MAX_PHOTOS = 10, 300
CONFIG: dict[str, Any] = {
    "backbone": SMALL,
    "hidden_size": 96,
    "num_hidden_layers": 2,
    "memory_tokens": 64,
    "image_rank": 64,
    "perception_size": 64,
    "false_positive_rate": 0.05,
}
"""Fields of the model, about those of the bundled demo checkpoints: 30 photos take about two minutes on two cores."""
OPTIONS: dict[str, Any] = {"steps": 300, "half": True}
"""Options of the training run."""
EXAMINED = ("most_unusual", "outlying", "near_copies")
"""Parts of the record that name photos."""


@dataclasses.dataclass(frozen=True)
class Taught:
    """A new checkpoint: its folder, the record of its training, its false-alarm rate, and pictures of the most unusual photos."""

    folder: Path
    record: dict[str, Any]
    false_alarms: FalseAlarms
    pictures: list[Path] = dataclasses.field(default_factory=list)

    def sentences(self, named: bool = True) -> list[str]:
        """What the training found out, in words; without `named` not which photos are the most unusual."""
        found = self.record if named else {**self.record, "most_unusual": []}
        return sentences(found, self.false_alarms)


def teach(photos: Sequence[Upload], folder: Path, progress: Progress = silent, pictures: Path | None = None) -> Taught:
    """Train a detector on photos of good parts and save it in `folder`, which must not be there yet.

    `progress` is called with the stages of `training.train`. Nothing is left of a run that fails or is cancelled. The folder
    `pictures` gets those of `report.write_report`.

    Raises:
        UserError: Too few or too many photos, one that can't be read, or `folder` is there.
        Cancelled: `progress` raised it.
    """
    count = len(all_frames(photo.path for photo in photos))
    if not MIN_PHOTOS <= count <= MAX_PHOTOS:
        raise UserError(
            f"{MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts are needed, but got {count}: "
            f"{'add more' if count < MIN_PHOTOS else 'leave some out'}."
        )
    if folder.exists():
        raise UserError(f"{folder} is there already, but a new folder is needed: choose another name or remove it.")
    try:
        with tempfile.TemporaryDirectory(prefix="uranet-photos-") as staged:
            names = _stage(photos, Path(staged))
            options = TrainingOptions(Path(staged), folder, **OPTIONS)
            record = train(options, URANetConfig(**CONFIG), progress=progress, report=pictures)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    record["options"] |= {"data": "photos", "output": folder.name}
    record["sources"] = [{**one, "data": "photos"} for one in record["sources"]]
    record |= _renamed({key: record[key] for key in EXAMINED}, names)
    write_record(folder / TRAINING, record)
    rate = FalseAlarms.of_record(record)
    shown = sorted(pictures.glob("*.jpg")) if pictures is not None else []
    return Taught(folder, record, rate, shown)


def _stage(photos: Sequence[Upload], folder: Path) -> dict[str, str]:
    """Link the photos into one folder under names that differ; returns the sender's name of each.

    Pages and frames become files of their own.
    """
    names = {}
    for index, photo in enumerate(photos):
        if isinstance(photo.path, Frame):
            names[f"{index:04d}.tif"] = photo.name
            _write_page(folder / f"{index:04d}.tif", read_frame(photo.path, None))
            continue
        suffix = Path(photo.name).suffix.lower()
        link = folder / f"{index:04d}{suffix if suffix in IMAGE_SUFFIXES else '.png'}"
        link.symlink_to(photo.path.resolve())
        names[link.name] = photo.name
    return names


def _write_page(path: Path, samples: np.ndarray) -> None:
    """Save samples, (H, W) or (H, W, C), as they are."""
    count = 1 if samples.ndim == 2 else samples.shape[2]
    alpha = ["unassalpha"] if count in (2, 4) else None
    tifffile.imwrite(
        path, samples, photometric="rgb" if count > 2 else "minisblack", planarconfig="contig", extrasamples=alpha
    )


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """What the record says of files, with the sender's names of them."""
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value
