"""Datasets of Hugging Face's `datasets` as data: saved on disk, Parquet or Arrow files in a folder, or NAMESPACE/NAME on the Hub.

The images of a split are written once, as they are encoded, into a folder in the MVTec AD layout in the Hub client's cache.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from huggingface_hub import HfApi, cached_assets_path, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from ..model.errors import UserError
from .extras import needs_extra
from .folder import GROUND_TRUTH, IMAGE_SUFFIXES, list_images
from .layouts.split import split_good, split_notes
from .network import UNREACHABLE
from .reader import is_category, read_dataset
from .samples import GOOD, Dataset
from .table_images import File, Row, Table

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(?::[\w.-]+)?", re.ASCII)
"""NAMESPACE/NAME, or NAMESPACE/NAME:CONFIG of a dataset with several configs."""
SAVED_FILES = ("state.json", "dataset_dict.json")  # what `save_to_disk` writes
TABLE_SUFFIXES = (".parquet", ".arrow")
TRAIN, TEST = "train", "test"
HUB_SECONDS = 5.0  # seconds to wait for the Hub's answer whether it has a dataset


def read_table(data: str | Path, for_training: bool = True) -> Dataset:
    """The training split of a `datasets` dataset, or else its test split, of which the images are written as files.

    Args:
        data: A folder that `save_to_disk` wrote, one with Parquet or Arrow files, or the name of a dataset on the Hub,
            NAMESPACE/NAME or NAMESPACE/NAME:CONFIG.
        for_training: Whether the training images are wanted.

    Raises:
        UserError: The dataset can't be loaded, lacks the split, or does not tell good images from others.
    """
    role, loaded = TRAIN if for_training else TEST, _load(data)
    table = Table(_split(loaded, role, data), data)
    dataset, defective = read_dataset(_images_of(table, role), for_training), table.defective_rows()
    if for_training:
        dataset.train_left_out["defective"] = [Path(row) for row in defective]
    return dataset if isinstance(loaded, dict) or not defective else _divided(dataset)


def _divided(dataset: Dataset) -> Dataset:
    """The training or the test part of a dataset without splits, whose good images `split_good` divides."""
    good, bad = (
        [one for one in [*dataset.train, *dataset.test] if bool(one.label) == label] for label in (False, True)
    )
    train, test, copies = split_good([one.image for one in good])
    side = dataset.train_left_out if dataset.train else dataset.test_left_out
    side["copies"] = [*side.get("copies", []), *copies]
    notes = [*dataset.notes, *split_notes(train, test)]
    if dataset.train:
        return dataclasses.replace(dataset, train=train, notes=notes)
    return dataclasses.replace(dataset, test=test + bad, notes=notes)


def is_table(data: str | Path) -> bool:
    """Whether `data` names a dataset that the package `datasets` reads, and not a folder of images.

    NAMESPACE/NAME is taken for a path where NAMESPACE is a folder here.
    """
    folder = Path(data)
    if folder.is_dir():
        return _is_saved(folder) or _holds_tables(folder)
    return not folder.parent.is_dir() and HUB_NAME.fullmatch(str(data)) is not None


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in SAVED_FILES)


def _holds_tables(folder: Path) -> bool:
    if is_category(folder) or list_images(folder):
        return False
    suffixes = {path.suffix.lower() for path in folder.rglob("*")}
    return not suffixes.isdisjoint(TABLE_SUFFIXES) and suffixes.isdisjoint(IMAGE_SUFFIXES)


def _images_of(table: Table, role: str) -> Path:
    """The images of a table as a folder in the MVTec AD layout, written unless it is there from an earlier call.

    `role` is train, for the good images of the training split, or test, for all images of the test split and their masks.
    """
    name = re.sub(r"[^\w.-]", "-", Path(table.data).resolve().name) or "dataset"
    home = cached_assets_path("ura-hf", "datasets", f"{table.fingerprint}-{role}")
    folder = home / name
    try:
        with FileLock(home / "writing.lock"):  # a second run waits for the first, and then has the images
            if not folder.is_dir():
                shutil.rmtree(home / "partial", ignore_errors=True)
                _write(table.rows(needs_labels=role == TEST), home / "partial", role, table.data)
                (home / "partial").rename(folder)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise UserError(f"the images of {table.data} can't be stored in {home} ({reason}): mend that.") from error
    return folder


def _load(data: str | Path) -> Any:
    """The dataset, or the dict of its splits, as `datasets` loads it."""
    with needs_extra("datasets", f"{data} is no folder of images, and reading it as a dataset"):
        import datasets
    name, _, config = str(data).partition(":")
    if not Path(data).is_dir():
        _ask_hub(name)
    try:
        if not Path(data).is_dir():
            return datasets.load_dataset(name, config or None)
        return datasets.load_from_disk(str(data)) if _is_saved(Path(data)) else datasets.load_dataset(str(data))
    except (*UNREACHABLE, datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        where = "" if Path(data).is_dir() else "there is no such folder, and as a dataset on the Hub "
        offline = (
            ", or unset HF_HUB_OFFLINE, which forbids to ask the Hub" if where and constants.HF_HUB_OFFLINE else ""
        )
        raise UserError(f"{data}: {where}it could not be loaded ({reason}): correct --data{offline}.") from error


@functools.cache
def _ask_hub(name: str) -> None:
    """Ask the Hub once whether it has a dataset, where `datasets` would ask again and again; offline it looks into its cache.

    Raises:
        UserError: There is none of this name, or the Hub can't be reached.
    """
    if constants.HF_HUB_OFFLINE:
        return
    logger.warning("There is no folder %s, so the Hugging Face Hub is asked for a dataset of this name.", name)
    try:
        HfApi().dataset_info(name, timeout=HUB_SECONDS)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"dataset not found: there is no folder {name}, and the Hugging Face Hub has no dataset of this name that you may "
            "read: correct --data."
        ) from error
    except (*UNREACHABLE, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"dataset not found: there is no folder {name}, and the Hugging Face Hub can't be asked for a dataset of this name "
            f"({type(error).__name__}): correct --data, check the network, or set HF_HUB_OFFLINE=1 to use what was loaded before."
        ) from error


def _split(loaded: Any, role: str, data: str | Path) -> datasets.Dataset:
    """The split of a role; a dataset that was saved without splits is taken whole."""
    import datasets

    if not isinstance(loaded, datasets.DatasetDict):
        other = TRAIN if role == TEST else TEST
        if str(loaded.split or "") == other:
            raise UserError(
                f"{data} is the split {other}, but a {role} split is needed: pass the dataset with its splits."
            )
        return loaded
    if role in loaded:
        return loaded[role]
    if role == TRAIN and len(loaded) == 1 and TEST not in loaded:
        return next(iter(loaded.values()))
    raise UserError(f"{data} has the splits {', '.join(loaded)}, but the split {role} is needed: name one so.")


def _write(rows: Iterable[Row], folder: Path, role: str, data: str | Path) -> None:
    for row in rows:
        if row.kind != GOOD and role == TRAIN:
            continue
        _write_file(folder / role / row.kind / row.name, row.image)
        if row.mask is not None and row.kind != GOOD:
            _write_file(folder / GROUND_TRUTH / row.kind / f"{row.name}_mask", row.mask)
    if not folder.is_dir():
        raise UserError(
            f"{data} has no {'good' if role == TRAIN else 'test'} images in its split {role}: check its labels."
        )


def _write_file(stem: Path, file: File) -> None:
    content, suffix = file
    path = stem.with_name(stem.name + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (0, 0))  # written again they are the same files, so that a run can be resumed
