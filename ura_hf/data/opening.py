"""Whatever `--data` names as a dataset: folders, tables of images, solar cells, datasets of `datasets`; or several of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..model.errors import UserError
from .elpv import is_elpv, read_elpv
from .hub_datasets import is_table, read_table
from .left_out import joined
from .reader import read_dataset
from .samples import Dataset

Data = str | Path | Sequence[str | Path]
"""One source of images, or several that are read together."""


def sources(data: Data) -> list[str | Path]:
    """The sources one by one.

    Raises:
        UserError: There is none, or one is given twice.
    """
    found = [data] if isinstance(data, (str, Path)) else list(data)
    twice = [one for one, count in Counter(str(Path(one).absolute()) for one in found).items() if count > 1]
    if twice or not found:
        raise UserError(
            f"--data names {twice[0]} twice: give it once." if twice else "--data names nothing: give a folder."
        )
    return found


def open_each(data: Data, for_training: bool = True, recursive: bool = False) -> list[Dataset]:
    """The dataset of every source; arguments and errors as in `open_dataset`."""
    return [_open(one, for_training, recursive) for one in sources(data)]


def open_dataset(data: Data, for_training: bool = True, recursive: bool = False) -> Dataset:
    """What all sources hold, as one dataset.

    Args:
        data: One or several of: a folder or table that `read_dataset` knows, a folder that `save_to_disk` wrote, or of Parquet
            or Arrow files, the name of a dataset on the Hub, NAMESPACE/NAME or NAMESPACE/NAME:CONFIG, elpv:mono or elpv:poly.
        for_training: Whether the training images are wanted; of a folder both are read.
        recursive: Whether subfolders of a folder of good images are read, too.

    Raises:
        UserError: As `read_dataset`, or the dataset can't be loaded, lacks the split, or does not tell good images from others.
    """
    parts = open_each(data, for_training, recursive)
    if len(parts) == 1:
        return parts[0]
    return Dataset(
        " + ".join(dict.fromkeys(part.name for part in parts)),
        parts[0].root,
        train=list(dict.fromkeys(sample for part in parts for sample in part.train)),
        test=list(dict.fromkeys(sample for part in parts for sample in part.test)),
        train_folders=[folder for part in parts for folder in part.train_folders],
        test_folders=[folder for part in parts for folder in part.test_folders],
        train_left_out=joined(*(part.train_left_out for part in parts)),
        test_left_out=joined(*(part.test_left_out for part in parts)),
        notes=[f"{part.name}: {note}" for part in parts for note in part.notes],
    )


def _open(data: str | Path, for_training: bool, recursive: bool) -> Dataset:
    if is_elpv(data):
        return read_elpv(data)
    if is_table(data):
        return read_table(data, for_training)
    return read_dataset(data, for_training, recursive)
