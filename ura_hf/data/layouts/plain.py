"""A folder of good images, with or without subfolders."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from ..companions import drawn_from
from ..folder import holds_companions, list_images, list_pictures, subfolders
from ..samples import GOOD, Dataset, LeftOut, Sample
from .words import means_bad


def matches(root: Path) -> bool:
    """Whether it is a folder."""
    return root.is_dir()


def read(root: Path, recursive: bool = False) -> Dataset:
    """The images of a folder and, if `recursive`, of those below it; not those of folders of masks or heatmaps.

    A folder that links lead to, too, is read once, under its own name where it lies below the root.
    """
    if not recursive:
        return _dataset(root, list_images(root), [root])
    companions: list[Path] = []
    seen: dict[Path, Path] = {}
    inside, links = deque([root]), deque[Path]()
    while inside or links:
        folder = (inside or links).popleft()
        if seen.setdefault(folder.resolve(), folder) is not folder:
            continue
        for inner in subfolders(folder):
            if holds_companions(inner):
                companions += list_pictures(inner, recursive=True)
            else:
                (links if inner.is_symlink() else inside).append(inner)
    folders = list(seen.values())
    images = [image for folder in folders for image in list_images(folder)]
    companions += sorted(drawn := drawn_from(images))
    images = [image for image in images if image not in drawn]
    dataset = _dataset(root, images, folders, {"companions": companions})
    if bad := next((folder for folder in folders[1:] if means_bad(folder.name)), None):
        dataset.train_faults.append(
            f"{root} must hold good images only, but by its name {bad} holds defective ones: move them elsewhere, or pass "
            "the folders of good images one by one."
        )
    return dataset


def _dataset(root: Path, images: list[Path], folders: list[Path], left_out: LeftOut | None = None) -> Dataset:
    train = [Sample(image, 0, GOOD) for image in images]
    return Dataset(root.resolve().name, root, train, [], folders, train_left_out=left_out or {})
