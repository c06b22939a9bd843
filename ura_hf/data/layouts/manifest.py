"""A table of images: a CSV or JSON Lines file with the columns image, label, mask and split."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...model.errors import UserError
from ..samples import GOOD, Dataset, LeftOut, Sample
from .split import split_good, split_notes
from .words import ANOMALOUS, VALIDATION_WORDS, means_good

ENDINGS = (".csv", ".jsonl")
NAMES = tuple(f"manifest{ending}" for ending in ENDINGS)  # of one that is found in a folder
COLUMNS = ("image", "label", "mask", "split")
LABELS = ("label", "labels", "class", "defect_type", "target")
"""Names of the column of labels; the first that there is counts."""
TRAIN, TEST = ("train", "training"), ("test", "testing")
SPLITS = (*TRAIN, *TEST, *VALIDATION_WORDS)


def matches(root: Path) -> bool:
    """Whether it is such a file, or a folder with one named manifest.csv or manifest.jsonl."""
    return root.is_file() and root.suffix.lower() in ENDINGS if not root.is_dir() else _inside(root) is not None


def _inside(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in NAMES and path.is_file()), None)


@dataclass
class _Parts:
    """Samples by their split; those without one are `unsorted`."""

    train: list[Sample] = field(default_factory=list)
    test: list[Sample] = field(default_factory=list)
    unsorted: list[Sample] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=lambda: {"validation": [], "defective": [], "missing_masks": []})


def read(root: Path, recursive: bool = False) -> Dataset:
    """The images that a table names; paths are relative to its folder. `recursive` changes nothing.

    Only the column image is needed. `label`: good, ok, normal, pass or 0 for good images, for others the type of the defect or
    1; without it all are good (`LABELS` are its other names). `split`: train, test or validation; without it defective images
    are for testing, and where there are such, a fifth of the good ones. A folder's own manifest may name files of this folder
    alone.

    Raises:
        UserError: The table can't be read, or an image of it is missing.
    """
    path = root if root.is_file() else _inside(root)
    assert path is not None  # as it matches
    parts = _Parts()
    rows = rows_of(path.read_bytes(), path)
    labels = next((name for name in LABELS if name in rows[0][1]), None)
    unread = sorted({name for _, row in rows for name in row}.difference((*COLUMNS, labels)))
    for line, row in rows:
        row["label"] = row.get(labels) if labels else GOOD
        _sort(parts, path, line, row, confined=root.is_dir())
    _check_images(path, [*parts.train, *parts.test, *parts.unsorted])
    bad = [sample for sample in parts.unsorted if sample.label]
    good, tested = [sample for sample in parts.unsorted if not sample.label], list[Sample]()
    notes = [f"columns of {path} that are not read: {', '.join(unread)}."] * bool(unread)
    if bad and not parts.train and not any(not sample.label for sample in parts.test):
        good, tested, parts.left_out["copies"] = split_good([sample.image for sample in good])
        notes += split_notes(good, tested)
    missing, left_out = parts.left_out["missing_masks"], parts.left_out
    return Dataset(
        (root.resolve() if root.is_dir() else path).stem,
        path.parent,
        parts.train + good,
        parts.test + tested + bad,
        train_left_out=left_out,
        test_left_out={key: files for key, files in left_out.items() if key != "defective"},
        notes=notes,
        test_faults=[
            f"{len(missing)} mask(s) that {path} names are missing, e.g. {missing[0]}: add them, or leave the "
            "column mask empty there"
        ]
        if missing
        else [],
    )


def rows_of(data: bytes, path: str | Path) -> list[tuple[int, dict[str, Any]]]:
    """Line number and cells of every row of a table's bytes, the names of columns in lower case; `path` names the table.

    Raises:
        UserError: It is no table, or a row names no image.
    """
    try:
        text = data.decode("utf-8-sig")
        if str(path).lower().endswith(".csv"):
            heading = text.partition("\n")[0]
            reader = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=heading.count))
            rows = [(reader.line_num, dict(row)) for row in reader]
        else:
            rows = [(line, json.loads(one)) for line, one in enumerate(text.splitlines(), 1) if one.strip()]
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is no table that can be read ({error}): save it as CSV in UTF-8, or as JSON Lines."
        ) from error
    if not all(isinstance(row, dict) for _, row in rows):
        raise UserError(f'{path} must hold one JSON object a line: write {{"image": "a.png", "label": "good"}}.')
    named = [(line, {str(key).strip().lower(): row[key] for key in row}) for line, row in rows]
    if not named or not all(row.get("image") for _, row in named):
        faulty = next((line for line, row in named if not row.get("image")), 1)
        raise UserError(
            f"{path} must name an image in every row, but line {faulty} does not: its columns are {', '.join(COLUMNS)}, of "
            "which only image is needed."
        )
    return named


def _sort(parts: _Parts, path: Path, line: int, row: dict[str, Any], confined: bool) -> None:
    """Put the sample of a row where it belongs."""
    kind = _kind(row["label"], path, line)
    mask = _file(path, row.get("mask"), confined) if kind != GOOD else None
    if mask is not None and not mask.is_file():
        parts.left_out["missing_masks"].append(mask)
        mask = None
    image = _file(path, row["image"], confined)
    assert image is not None  # as every row has one
    sample = Sample(image, int(kind != GOOD), kind, mask)
    split = str(row.get("split") or "").strip().lower()
    if split and split not in SPLITS:
        raise UserError(f"{path}, line {line}: split must be train, test or validation, but got {split!r}: correct it.")
    if split in VALIDATION_WORDS:
        parts.left_out["validation"].append(image)
    elif split in TRAIN and sample.label:
        parts.left_out["defective"].append(image)
    else:
        (parts.train if split in TRAIN else parts.test if split in TEST else parts.unsorted).append(sample)


def _kind(label: Any, path: Path, line: int) -> str:
    """`good`, or the type of the defect."""
    text = str(label).strip() if label is not None else ""
    if not text:
        raise UserError(f"{path}, line {line}: label is empty: write good, or the type of the defect.")
    try:
        return GOOD if float(text) == 0 else ANOMALOUS
    except ValueError:
        if text.lower() in ("true", "false"):
            return ANOMALOUS if text.lower() == "true" else GOOD
        return GOOD if means_good(text) else text


def _file(path: Path, name: Any, confined: bool) -> Path | None:
    if not name:
        return None
    file = path.parent / str(name).strip().replace("\\", "/")
    if confined and not file.resolve().is_relative_to(path.parent.resolve()):
        raise UserError(f"{path} names {name}, which leads outside of its folder: name files of the folder.")
    return file


def _check_images(path: Path, samples: list[Sample]) -> None:
    images = Counter(sample.image for sample in samples)
    if absent := [image for image in images if not image.is_file()]:
        raise UserError(f"{len(absent)} image(s) that {path} names are missing, e.g. {absent[0]}: correct their paths.")
    if twice := [image for image, count in images.items() if count > 1]:
        raise UserError(f"{path} names {twice[0]} twice: leave one row of it.")
