"""Folders train/ and test/: MVTec AD, MVTec LOCO AD, MVTec AD 2, BTAD, BMAD and OCT-2017."""

from __future__ import annotations

from pathlib import Path

from ...model.errors import UserError
from ..folder import GROUND_TRUTH, holds_companions, list_images, list_pictures, subfolders
from ..samples import GOOD, Dataset, Sample
from .masks import ground_truth, image_folder, read_types
from .words import VALIDATION_WORDS, child, good_folder, letters, means_bad

TRAIN, TEST, PUBLIC = "train", "test", "test_public"
PRIVATE = ("test_private", "test_private_mixed")  # of MVTec AD 2: without labels
UNSORTED = "normal"  # a train/ with this folder keeps its anomalous classes beside it (Kermany's layout of OCT-2017)


def matches(root: Path) -> bool:
    """Whether there is a folder train/, test/ or test_public/."""
    return root.is_dir() and child(root, TRAIN, TEST, PUBLIC) is not None


def has_good_images(root: Path) -> bool:
    """Whether there is a folder of good images in train/."""
    train = child(root, TRAIN)
    return train is not None and good_folder(train) is not None


def read(root: Path, recursive: bool = False) -> Dataset:
    """Images of `train/good` are for training, those of `test/good` and `test/TYPE` for testing.

    Masks are in `ground_truth/`, or in AD 2 in `test_public/ground_truth/`. Defective classes in train/ are not used where their
    names or a folder NORMAL show that they are such. Validation images and those without labels are not used either.

    Raises:
        UserError: Test images lie outside of a type's folder.
    """
    train = child(root, TRAIN) or root / TRAIN
    good = good_folder(train) or train / GOOD
    test = child(root, TEST, PUBLIC)
    types = _type_folders(test) if test else []
    inside = child(test, GROUND_TRUTH) if test else None
    tested = read_types(types, inside or ground_truth(root))
    others = [one for one in subfolders(train) if one != good] if train.is_dir() else []
    unused = {
        "validation": _below(root, *VALIDATION_WORDS),
        "unlabelled": _below(root, *PRIVATE),
    }
    dataset = Dataset(
        root.resolve().name,
        root,
        [Sample(path, 0, GOOD) for path in list_images(image_folder(good), recursive)] if good.is_dir() else [],
        tested.samples,
        train_folders=[image_folder(good)],
        test_folders=[image_folder(one) for one in types],
        train_left_out=unused | {"unmatched_masks": tested.unmatched},
        test_left_out=unused,
        notes=tested.notes,
        test_faults=tested.faults,
    )
    _sort_out(dataset, good, others)
    return dataset


def _type_folders(test: Path) -> list[Path]:
    if loose := list_images(test):
        raise UserError(
            f"images must lie in a subfolder of {test} named after their type, but got {len(loose)} directly in it, "
            f"e.g. {loose[0].name}; move them to {test / GOOD} or {test / '<defect type>'}"
        )
    return [folder for folder in subfolders(test) if folder.name.lower() != GROUND_TRUTH]


def _below(root: Path, *names: str) -> list[Path]:
    folders = [folder for folder in subfolders(root) if folder.name.lower() in names]
    return [image for folder in folders for image in list_images(folder, recursive=True)]


def _sort_out(dataset: Dataset, good: Path, others: list[Path]) -> None:
    """Of the other classes in train/, leave out those that are defective by name, and name those that may be good."""
    known = [one for one in others if letters(good.name) == UNSORTED or means_bad(one.name) or holds_companions(one)]
    dataset.train_left_out["defective"] = [image for one in known for image in list_pictures(one, recursive=True)]
    unknown = [one for one in others if one not in known and list_images(one)]
    if unknown and dataset.train:
        dataset.train_faults.append(
            f"{good.parent} must hold good images only, but beside {good.name}/ it has "
            f"{', '.join(one.name for one in unknown[:5])} ({len(list_images(unknown[0]))} images in {unknown[0].name}): "
            f"move such images to {good.parent.parent / TEST}"
        )
