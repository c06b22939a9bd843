"""Categories of VisA in the layout of its archive: images by label, split by a CSV beside them."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ...model.errors import UserError
from ..samples import GOOD, Dataset, Sample

SPLIT = Path("split_csv") / "1cls.csv"  # the one-class split: only good images in train
COLUMNS = {"object", "split", "label", "image", "mask"}
ANOMALY = "anomaly"


def matches(root: Path) -> bool:
    """Whether a folder is a category as the archive of VisA has it."""
    return (root / "Data" / "Images").is_dir()


def read(root: Path, recursive: bool = False) -> Dataset:
    """Images of a category, in the order of the split, which is `../split_csv/1cls.csv`. `recursive` changes nothing.

    Raises:
        UserError: The split is missing or not one, has no such category, or names images that are not there.
    """
    category = Path(os.path.abspath(root))
    train, test, absent, no_masks = [], [], [], []
    path = category.parent / SPLIT
    for row in _rows(path, category):
        anomalous = row["label"] != "normal"
        mask = category.parent / row["mask"] if anomalous and row["mask"] else None
        if mask is not None and not mask.is_file():
            no_masks.append(mask)
            mask = None
        sample = Sample(category.parent / row["image"], int(anomalous), ANOMALY if anomalous else GOOD, mask)
        absent += [] if sample.image.is_file() else [sample.image]
        if row["split"] == "test":
            test.append(sample)
        elif anomalous:
            raise UserError(f"{path} puts the anomalous {row['image']} into train: take the split 1cls of the archive")
        else:
            train.append(sample)
    said = "{0} of the files that {1} names for {2} are missing, e.g. {3}: extract the archive again"
    if absent:
        raise UserError(said.format(len(absent), path, category.name, absent[0]))
    faults = [said.format(len(no_masks), path, category.name, no_masks[0])] if no_masks else []
    left_out = {"missing_masks": no_masks}
    return Dataset(
        category.name, root, train, test, train_left_out=left_out, test_left_out=left_out, test_faults=faults
    )


def _rows(path: Path, category: Path) -> list[dict[str, str]]:
    """The rows of the split that are of this category."""
    if not path.is_file():
        raise UserError(f"{category} is a category of VisA, but its split {path} is missing: extract the whole archive")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := COLUMNS - set(reader.fieldnames or ()):
            raise UserError(f"{path} must have the columns {', '.join(sorted(COLUMNS))}, but {min(missing)} is missing")
        rows = [row for row in reader if row["object"] == category.name]
    if not rows:
        raise UserError(f"{path} has no images of {category.name}: the folder must be named as in the split")
    return rows
