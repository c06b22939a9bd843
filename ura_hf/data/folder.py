"""The one reader of dataset folders: MVTec AD, BTAD, OCT-2017 and VisA categories, a folder with `good/`, a plain folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..model.errors import UserError
from ..model.images import FORMATS
from .samples import GOOD, Dataset, Sample
from .visa import is_visa, read_visa

IMAGE_SUFFIXES = frozenset(ending for endings in FORMATS.values() for ending in endings)
"""File name endings, in lower case, that count as images."""

GOOD_FOLDERS = (GOOD, "ok", "normal")  # MVTec AD and BMAD, BTAD, OCT-2017; in any case
UNSORTED = "normal"  # a train/ with this folder keeps its anomalous classes beside it (Kermany's layout of OCT-2017)
GROUND_TRUTH = "ground_truth"
MIN_TRAIN_IMAGES = 2
RECOMMENDED_TRAIN_IMAGES = 20

_LAYOUTS = (
    "expected train/good/ with images (MVTec AD layout; BTAD's ok and OCT-2017's NORMAL are good, too), or good/ and one "
    f"subfolder per defect type, or good images directly in the folder ({', '.join(sorted(IMAGE_SUFFIXES))})"
)


def list_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """Image files in `folder` (and below it if `recursive`), naturally sorted: 2.png before 10.png; nothing hidden."""
    entries = Path(folder).rglob("*") if recursive else Path(folder).iterdir()
    images = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    hidden = {path for path in images if any(part.startswith(".") for part in path.relative_to(folder).parts)}
    return sorted(set(images) - hidden, key=_natural_key)


def other_files(folder: str | Path) -> list[Path]:
    """Files in `folder` that `list_images` leaves out, naturally sorted; nothing hidden."""
    others = {path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith(".")}
    return sorted(others.difference(list_images(folder)), key=_natural_key)


def images_below(folder: str | Path) -> list[Path]:
    """Images in subfolders of `folder`, which `list_images` leaves out, naturally sorted; nothing hidden."""
    own = set(list_images(folder))
    return [path for path in list_images(folder, recursive=True) if path not in own]


def distinct(images: Sequence[Path]) -> list[Path]:
    """The images without those that are, byte by byte, a copy of an earlier one."""
    sizes = [image.stat().st_size for image in images]
    shared = Counter(sizes)
    first: dict[object, Path] = {}
    for image, size in zip(images, sizes, strict=True):
        if shared[size] == 1:  # no need to read it
            first[image] = image
            continue
        with image.open("rb") as file:
            first.setdefault(hashlib.file_digest(file, "sha256").digest(), image)
    return list(first.values())


def read_dataset(root: str | Path, for_training: bool = True) -> Dataset:
    """Read a category in whichever layout it has.

    With `train/` or `test/`: `train/good/*`, `test/<type>/*` and `ground_truth/<type>/<stem>_mask.png` (or `<stem>.png`, any
    image suffix), where good is `good` (MVTec AD, BMAD), `ok` (BTAD) or `NORMAL` (OCT-2017, whose train/ holds the anomalous
    classes as well; they are not read). With `Data/Images/`: a VisA category, split by `../split_csv/1cls.csv`. With `good/`: its
    images are for training, every other subfolder is a defect type for testing, with masks in `ground_truth/` as above.
    Otherwise: the images directly in the folder, for training.
    Masks may be missing, altogether or for single images. `for_training=False` lets good training images be missing.

    Raises:
        UserError: no such folder, fewer than two good training images, defects among the training images, test images outside
            a type's folder, or masks that belong to no test image.
    """
    root = Path(root)
    if not root.exists():
        raise UserError(f"dataset folder not found: {root}; check the path")
    if not root.is_dir():
        raise UserError(f"dataset must be a folder, but got a file: {root}; {_LAYOUTS}")

    if is_visa(root):
        train, test = read_visa(root)
        if for_training:
            _check_train(train, root, root)
        return Dataset(root.resolve().name, root, train, test)
    if (root / "train").is_dir() or (root / "test").is_dir():
        train_folder, type_folders = _good_folder(root / "train"), _mvtec_test_folders(root)
        if for_training:
            _check_no_defects(train_folder)
    elif (root / GOOD).is_dir():
        train_folder = root / GOOD
        type_folders = [f for f in subfolders(root) if f.name not in (GOOD, GROUND_TRUTH)]
    else:
        train_folder, type_folders = root, []

    train = [Sample(path, 0, GOOD) for path in list_images(train_folder)] if train_folder.is_dir() else []
    if for_training:
        _check_train(train, train_folder, root)
    return Dataset(root.resolve().name, root, train, _read_test(type_folders, root / GROUND_TRUTH))


def is_category(folder: Path) -> bool:
    """Whether `read_dataset` would find training images by name: train/good, train/ok, train/NORMAL, good/ or VisA's layout."""
    return _good_folder(folder / "train").is_dir() or (folder / GOOD).is_dir() or is_visa(folder)


def _is_good(folder: Path) -> bool:
    return folder.name.lower() in GOOD_FOLDERS


def _good_folder(train: Path) -> Path:
    """The folder of good images in train/; train/good where there is none."""
    folders = {folder.name.lower(): folder for folder in subfolders(train)} if train.is_dir() else {}
    return next((folders[name] for name in GOOD_FOLDERS if name in folders), train / GOOD)


def _check_no_defects(good: Path) -> None:
    train = good.parent
    if not train.is_dir() or good.name.lower() == UNSORTED:
        return
    others = [folder for folder in subfolders(train) if folder != good and list_images(folder)]
    if others and good.is_dir() and list_images(good):
        raise UserError(
            f"{train} must hold good images only, but beside {good.name}/ it has {', '.join(f.name for f in others[:5])} "
            f"({len(list_images(others[0]))} images in {others[0].name}): move such images to {train.parent / 'test'}"
        )


def _mvtec_test_folders(root: Path) -> list[Path]:
    test = root / "test"
    if not test.is_dir():
        return []
    loose = list_images(test)
    if loose:
        raise UserError(
            f"images must lie in a subfolder of {test} named after their type, but got {len(loose)} directly in it, "
            f"e.g. {loose[0].name}; move them to {test / GOOD} or {test / '<defect type>'}"
        )
    return subfolders(test)


def _read_test(type_folders: list[Path], ground_truth: Path) -> list[Sample]:
    mask_images = list_images(ground_truth, recursive=True) if ground_truth.is_dir() else []
    masks = {mask for mask in mask_images if not (mask.parent.parent == ground_truth and _is_good(mask.parent))}
    by_name = {(mask.parent.name, mask.stem): mask for mask in masks if mask.parent.parent == ground_truth}
    unmatched = set(masks)
    samples = []
    for folder in type_folders:
        images = list_images(folder)
        named = Counter(image.stem for image in images)
        for image in images:
            if _is_good(folder):
                samples.append(Sample(image, 0, GOOD))
                continue
            stems = (f"{image.stem}_mask", image.stem)
            own = [by_name[folder.name, stem] for stem in stems if (folder.name, stem) in by_name]
            if own and named[image.stem] > 1:
                raise UserError(
                    f"{folder} holds {named[image.stem]} images named {image.stem}, so it is not known whose mask {own[0]} is; "
                    "rename images and masks"
                )
            unmatched.difference_update(own)
            samples.append(Sample(image, 1, folder.name, own[0] if own else None))
    if unmatched:
        first = min(unmatched, key=_natural_key)
        raise UserError(
            f"{len(unmatched)} mask(s) in {ground_truth} match no test image, e.g. {first.relative_to(ground_truth)}; "
            f"rename each to {GROUND_TRUTH}/<type>/<image name>_mask.png after its image, or remove it"
        )
    return samples


def _check_train(train: list[Sample], folder: Path, root: Path) -> None:
    if not train:
        raise UserError(
            f"no good training images in {folder}: {_describe(folder if folder.is_dir() else root)}; {_LAYOUTS}"
        )
    if len(train) < MIN_TRAIN_IMAGES:
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


def subfolders(folder: Path) -> list[Path]:
    """Folders in `folder`, naturally sorted; no hidden ones."""
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=_natural_key)


def _natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key in which runs of digits compare as numbers."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
