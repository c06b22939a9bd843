"""Many images through one detector: a row each, with the reason where an image has no verdict; overlays, CSV and zip."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from ..data.archives import Gathered, Upload
from ..data.files import as_text
from ..data.records import shorten_paths
from ..inference import Finding, Unreadable, find
from ..model.errors import UserError
from ..model.frames import frames
from ..model.pipeline_uranet import URANetPipeline
from ..model.verdicts import LABELS
from .visualization import fit_within, fraction_above, overlay

OVERLAY_SIDE = 1024  # longest side of an overlay [pixels]
JPEG_QUALITY = 92
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")
COLUMNS = ("file", "label", "score", "rank", "image_score", "anomalous_fraction", "problem")


@dataclass(frozen=True)
class BatchRow:
    """One image of a batch; either `problem` says why there is no verdict, or all others are set.

    Args:
        file: The sender's name.
        label: One of `LABELS`.
        score: On the fixed 0-1 scale where 0.5 is the threshold.
        rank: 1 of so many good images scores as high; None for a checkpoint that does not tell.
        image_score: Raw score.
        anomalous_fraction: Share of the pixels above the pixel threshold, 0 to 1.
        problem: Why the image has no verdict, one sentence.
        overlay: JPEG of the image with its anomalies glowing.
    """

    file: str
    label: str | None = None
    score: float | None = None
    rank: float | None = None
    image_score: float | None = None
    anomalous_fraction: float | None = None
    problem: str | None = None
    overlay: Path | None = None

    def figures(self) -> dict[str, Any]:
        """Everything but the overlay, ready for JSON or a table."""
        return {name: value for name, value in asdict(self).items() if name in COLUMNS}


def with_frames(gathered: Gathered, most: int | None = None) -> Gathered:
    """The same with every page and frame of files with several as an image of its own, named ``file.tif#2``.

    Raises:
        UserError: These are more than `most`.
    """
    files = []
    for upload in gathered.files:
        for image in frames(upload.path):
            is_one = image is upload.path  # also a frame, of an earlier call
            files.append(upload if is_one else Upload(f"{upload.name}#{image.number}", image))
    if most is not None and len(files) > most:
        raise UserError(f"at most {most} images are taken at once, but the files hold {len(files)}: send fewer.")
    return Gathered(files, gathered.damaged)


def predict_batch(detector: URANetPipeline, gathered: Gathered, folder: Path) -> Iterator[BatchRow]:
    """Run the detector on the images of `with_frames` and yield the row of each as soon as it is there.

    Rows of files that a zip holds damaged come first.

    Overlays are written into `folder`.

    Raises:
        UserError: The detector has no calibrated thresholds.
    """
    if not detector.model.config.is_calibrated:
        raise UserError("the checkpoint has no calibrated thresholds, so there is no verdict: choose another one.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, reason in gathered.damaged:
        yield BatchRow(name, problem=reason)
    gathered = with_frames(gathered)
    paths = [upload.path for upload in gathered.files]
    results = find(detector, paths, keep=lambda image: fit_within(image, OVERLAY_SIDE), fields=("score_map",))
    for index, (upload, one) in enumerate(zip(gathered.files, results, strict=True)):
        try:
            if isinstance(one, Unreadable):
                raise one.error
            yield _row(upload.name, one, folder / f"{index:05d}.jpg")
        except UserError as error:
            sentence = str(error).replace(str(upload.path), PurePosixPath(upload.name).name)
            yield BatchRow(upload.name, problem=shorten_paths(sentence))


def _row(name: str, one: Finding, target: Path) -> BatchRow:
    """The row of one image; its map is made at the size of the overlay, not of the image, which may be far larger."""
    assert one.picture is not None
    size = (one.picture.shape[0], one.picture.shape[1])
    verdict = one.verdict(maps=("score_map",), size=size)
    Image.fromarray(overlay(one.picture, verdict["score_map"])).save(target, format="JPEG", quality=JPEG_QUALITY)
    return BatchRow(
        name,
        label=verdict["label"],
        score=verdict["score"],
        rank=verdict["rank"],
        image_score=verdict["image_score"],
        anomalous_fraction=fraction_above(verdict["score_map"]),
        overlay=target,
    )


def worst_first(rows: Sequence[BatchRow]) -> list[BatchRow]:
    """The rows with a verdict by falling score, then those without one."""
    return sorted(rows, key=lambda row: -1.0 if row.score is None else row.score, reverse=True)


def summary(rows: Sequence[BatchRow]) -> dict[str, int]:
    """How many images there are, of each of `LABELS`, and without a verdict (`not_checked`)."""
    labels = [row.label for row in rows]
    return {"images": len(rows), **{name: labels.count(name) for name in LABELS}, "not_checked": labels.count(None)}


def write_csv(rows: Sequence[BatchRow], path: Path) -> None:
    """A table of `COLUMNS`."""
    write_table(COLUMNS, [list(row.figures().values()) for row in rows], path)


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> None:
    """A CSV of rows, their texts as `as_cell` gives them.

    UTF-8 with a mark in front, without which Excel takes it for the system's encoding.
    """
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(as_cells(row) for row in rows)


def as_cells(row: Iterable[Any]) -> list[Any]:
    """The values of a row, texts as `as_cell` gives them."""
    return [as_cell(value) if isinstance(value, str) else value for value in row]


def as_cell(text: str) -> str:
    """A text in a table: with an apostrophe in front where a spreadsheet would take it for a formula, or one is there already.

    What is no text, in names of files, is written in ASCII. Different texts give different cells.
    """
    text = as_text(text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def write_overlays(rows: Sequence[BatchRow], path: Path) -> None:
    """A zip of all overlays, NAME_heatmap.jpg in the folders of the images; a name that is taken gets a number."""
    taken: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # JPEG does not pack
        for row in rows:
            if row.overlay is None:
                continue
            name_of = PurePosixPath(row.file)
            stem = str(name_of.with_suffix("")) + "".join(name_of.suffix.partition("#")[1:])  # a#2 of a.tif#2
            name, number = f"{stem}_heatmap.jpg", 1
            while name.casefold() in taken:
                number += 1
                name = f"{stem}_{number}_heatmap.jpg"
            taken.add(name.casefold())
            archive.write(row.overlay, name)
