"""The one reader of folders of images: which layout a folder has, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ..model.errors import UserError
from ..model.frames import frames
from .folder import MIN_TRAIN_IMAGES, RECOMMENDED_TRAIN_IMAGES, subfolders
from .layouts import beside, manifest, plain, train_test, visa
from .samples import Dataset

LAYOUTS = (manifest, visa, train_test, beside, plain)
"""Tried in turn; every folder is at least `plain`."""

_EXPECTED = (
    "expected train/good/ with images (MVTec AD layout; ok, normal or pass count as good, in any letter case), or good/ and one "
    "subfolder per defect type (or OK/ and NG/), or good images directly in the folder"
)


def read_dataset(root: str | Path, for_training: bool = True, recursive: bool = False) -> Dataset:
    """Read a category in whichever of `LAYOUTS` it has.

    Masks may be missing, altogether or for single images. `for_training=False` lets good training images be missing, and
    `for_training=True` masks be wrong. `recursive` reads the subfolders of the folder of good images, too.

    Raises:
        UserError: No such folder or table, test images outside of a type's folder; for training fewer than two good images, or
            others among them; for testing masks that belong to no test image, or to two.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"dataset folder not found: {root}; check the path")
    layout = next((layout for layout in LAYOUTS if layout.matches(root)), None)
    if layout is None:
        raise UserError(
            f"dataset must be a folder or a table ({', '.join(manifest.ENDINGS)}), but got another file: {root}; {_EXPECTED}"
        )
    dataset: Dataset = layout.read(root, recursive)
    faults = dataset.train_faults if for_training else dataset.test_faults
    if faults:
        raise UserError(faults[0])
    if for_training:
        _check_train(dataset)
    return dataset


def is_category(folder: Path) -> bool:
    """Whether `read_dataset` would find training images by name: train/good, train/ok, train/NORMAL, good/ or VisA's layout."""
    named = train_test.has_good_images(folder) or (beside.matches(folder) and not train_test.matches(folder))
    return named or visa.matches(folder) or manifest.matches(folder)


def _check_train(dataset: Dataset) -> None:
    folder = dataset.train_folders[0] if dataset.train_folders else dataset.root
    if not dataset.train:
        there = folder if folder.is_dir() else dataset.root
        if not any(there.iterdir()):
            raise UserError(f"{there} is empty: put images of good parts there, or correct the path")
        raise UserError(f"no good training images in {folder}: {_describe(there)}; {_EXPECTED}")
    if len(dataset.train) < MIN_TRAIN_IMAGES and len(frames(dataset.train[0].image)) < MIN_TRAIN_IMAGES:
        raise UserError(
            f"only one image in {folder}: at least {MIN_TRAIN_IMAGES} good training images are needed and "
            f"{RECOMMENDED_TRAIN_IMAGES} or more are recommended; add images of good parts"
        )


def _describe(folder: Path) -> str:
    """What `folder` holds instead of images, e.g. "found 3 other files (.txt) and subfolders bottle, pill in /data"."""
    suffixes = Counter(
        p.suffix.lower() or p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")
    )
    names = [f.name for f in subfolders(folder)]
    parts = []
    if suffixes:
        parts.append(f"{suffixes.total()} other file(s) ({', '.join(s for s, _ in suffixes.most_common(5))})")
    if names:
        parts.append(f"subfolder(s) {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    description = f"found {' and '.join(parts) or 'nothing'} in {folder}"
    datasets = [f for f in subfolders(folder) if is_category(f)]
    return f"{description}, did you mean {datasets[0]}?" if datasets else description
