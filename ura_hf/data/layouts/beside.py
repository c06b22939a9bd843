"""A folder of good images beside folders of defective ones: OK and NG, good and one folder per type of defect."""

from __future__ import annotations

from pathlib import Path

from ..folder import holds_companions, list_images, subfolders
from ..samples import GOOD, Dataset, Sample
from .masks import ground_truth, read_types
from .split import split_good, split_notes
from .words import good_folder, letters, means_bad, means_good


def matches(root: Path) -> bool:
    """Whether there is a folder of good images, and the images that lie beside it do not speak against it."""
    good = good_folder(root) if root.is_dir() else None
    if good is None:
        return False
    return letters(good.name) == GOOD or any(means_bad(one.name) for one in subfolders(root)) or not list_images(root)


def read(root: Path, recursive: bool = False) -> Dataset:
    """Images of `good/` are for training, every other subfolder is a defect type for testing, with masks in `ground_truth/`.

    Where there are defective images and no second folder of good ones, a fifth of the good ones is for testing.
    """
    good = good_folder(root) or root
    others = [folder for folder in subfolders(root) if folder != good and not holds_companions(folder)]
    tested = read_types(others, ground_truth(root))
    images = list_images(good, recursive)
    train, test, copies = [Sample(image, 0, GOOD) for image in images], list[Sample](), list[Path]()
    if tested.samples and not any(means_good(folder.name) for folder in others):
        train, test, copies = split_good(images)
    loose = list_images(root)
    return Dataset(
        root.resolve().name,
        root,
        train,
        test + tested.samples,
        train_folders=[good],
        test_folders=others,
        train_left_out={"copies": copies, "loose": loose, "unmatched_masks": tested.unmatched},
        test_left_out={"copies": copies, "loose": loose},
        notes=split_notes(train, test) + tested.notes,
        test_faults=tested.faults,
    )
