"""Categories of VisA in the layout of its archive: images by label, split by a CSV beside them."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ..model.errors import UserError
from .samples import GOOD, Sample

SPLIT = Path("split_csv") / "1cls.csv"  # the one-class split: only good images in train
COLUMNS = {"object", "split", "label", "image", "mask"}
ANOMALY = "anomaly"


def is_visa(category: Path) -> bool:
    """Whether a folder is a category as the archive of VisA has it."""
    return (category / "Data" / "Images").is_dir()


def read_visa(category: Path) -> tuple[list[Sample], list[Sample]]:
    """Training and test images of a category, in the order of the split, which is `../split_csv/1cls.csv`.

    Raises:
        UserError: The split is missing or not one, has no such category, or names files that are not there.
    """
    category = Path(os.path.abspath(category))
    root = category.parent
    path = root / SPLIT
    if not path.is_file():
        raise UserError(f"{category} is a category of VisA, but its split {path} is missing: extract the whole archive")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := COLUMNS - set(reader.fieldnames or ()):
            raise UserError(f"{path} must have the columns {', '.join(sorted(COLUMNS))}, but {min(missing)} is missing")
        rows = [row for row in reader if row["object"] == category.name]
    if not rows:
        raise UserError(f"{path} has no images of {category.name}: the folder must be named as in the split")
    train, test, absent = [], [], []
    for row in rows:
        anomalous = row["label"] != "normal"
        mask = root / row["mask"] if anomalous and row["mask"] else None
        sample = Sample(root / row["image"], int(anomalous), ANOMALY if anomalous else GOOD, mask)
        absent += [file for file in (sample.image, mask) if file is not None and not file.is_file()]
        if row["split"] == "test":
            test.append(sample)
        elif anomalous:
            raise UserError(f"{path} puts the anomalous {row['image']} into train: take the split 1cls of the archive")
        else:
            train.append(sample)
    if absent:
        raise UserError(
            f"{len(absent)} of the files that {path} names for {category.name} are missing, e.g. {absent[0]}: "
            "extract the archive again"
        )
    return train, test
