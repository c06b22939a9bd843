"""What is published about each dataset, in one table (`assets/datasets.json`), and where its categories lie on disk."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model.errors import UserError
from .elpv import ELPV, elpv_name
from .files import ASSETS
from .folder import subfolders
from .layouts.train_test import has_good_images
from .reader import is_category
from .samples import Dataset

FOLDER = "folder"  # any other dataset: every subfolder is a category
ARCHIVES = (".zip", ".tar", ".gz", ".xz", ".tgz", ".part", ".crdownload")


@functools.cache
def facts() -> dict[str, dict[str, Any]]:
    """Facts of the datasets by the key in checkpoint names: mvtec, btad, oct2017, visa, elpv, demo."""
    table: dict[str, dict[str, Any]] = json.loads((ASSETS / "datasets.json").read_text())
    return table


@dataclass(frozen=True)
class Counts:
    """Images of a category: good ones to train on, good ones to test on, anomalous ones by type; `edition` if there are many."""

    train: int
    good: int
    types: dict[str, int]
    edition: str | None = None

    @classmethod
    def of(cls, dataset: Dataset) -> Counts:
        """What was found on disk."""
        types = Counter(sample.defect_type for sample in dataset.test if sample.label)
        return cls(len(dataset.train), sum(not sample.label for sample in dataset.test), dict(types))

    def differences(self, published: Counts) -> list[str]:
        """Where these counts depart from the published ones, one clause each."""
        pairs = [("train", self.train, published.train), ("test, good", self.good, published.good)]
        pairs += [(f"test, {k}", self.types.get(k, 0), published.types.get(k, 0)) for k in published.types | self.types]
        return [f"{name}: {own} images, published {wanted}" for name, own, wanted in pairs if own != wanted]


def published_counts(key: str, category: str) -> list[Counts]:
    """The published counts, one entry an edition; none for `folder`."""
    entry = facts().get(key, {}).get("categories", {}).get(category, {})
    return [Counts(**counts) for counts in entry.get("counts", [])]


def has_masks(key: str) -> bool:
    """Whether the published dataset comes with masks of its anomalous images."""
    return bool(facts().get(key, {}).get("masks"))


def checkpoint_name(key: str, category: str) -> str:
    """`uranet-mvtec-bottle`, as published; of other data `uranet-{category}`."""
    return str(facts().get(key, {}).get("checkpoint", "uranet-{category}")).format(category=category)


def locate_categories(key: str, root: Path | None, wanted: list[str] | None = None) -> dict[str, Path]:
    """The folder of every category, or of those in `wanted`, in the published order; it need not exist.

    `root` may hold the categories in one subfolder, as archives unpack. The solar cells of `elpv` have no root, and their
    categories are named as `open_dataset` takes them.

    Raises:
        UserError: `root` is not a folder or holds no category, or `wanted` has a name that there is not.
    """
    folders = _elpv_categories(root) if key == ELPV else _category_folders(key, root)
    if unknown := [name for name in wanted or [] if name not in folders]:
        raise UserError(f"--categories must be some of {', '.join(folders)}, but got {unknown[0]!r}.")
    return {name: folder for name, folder in folders.items() if wanted is None or name in wanted}


def _elpv_categories(root: Path | None) -> dict[str, Path]:
    if root is not None:
        raise UserError(f"the solar cells are read from the package {ELPV}-dataset, not from {root}: leave out --root.")
    return {name: Path(elpv_name(name)) for name in facts()[ELPV]["categories"]}


def _category_folders(key: str, root: Path | None) -> dict[str, Path]:
    if root is None:
        raise UserError(f"{key} is read from a folder: give it as --root.")
    if not root.is_dir():
        raise UserError(f"--root must be the folder of the dataset, but {root} is not a folder: check the path.")
    if key == FOLDER:
        inside = {folder.name: folder for folder in _open_ones(root) if is_category(folder)}
        folders = {root.resolve().name: root} if is_category(root) else inside
        if not folders:
            raise UserError(
                f"{root} holds no category: expected subfolders with train/good or good (or OK). {_describe_content(root)}"
            )
        return folders
    names = list(facts()[key]["categories"])
    home = next((place for place in _places(root) if _holds(place, names)), None)
    if home is None:
        what = "train/NORMAL or train/good" if len(names) == 1 else f"subfolders {', '.join(names)}"
        raise UserError(f"{root} does not look like {facts()[key]['name']}: expected {what}. {_describe_content(root)}")
    return {name: home / name for name in names} if len(names) > 1 else {names[0]: home}


def _places(root: Path) -> list[Path]:
    """The root itself, or what an archive may have made inside it, two levels deep."""
    inside = _open_ones(root)
    return [root, *inside, *(deeper for folder in inside[:20] for deeper in _open_ones(folder)[:20])]


def _open_ones(root: Path) -> list[Path]:
    """`subfolders` that may be read; of a mounted disk one often may not."""
    return [folder for folder in subfolders(root) if os.access(folder, os.R_OK | os.X_OK)]


def _holds(place: Path, names: list[str]) -> bool:
    if len(names) == 1:
        return has_good_images(place)
    return any((place / name).is_dir() for name in names) and not (place / "train").is_dir()


def _describe_content(root: Path) -> str:
    packed = archives(root)
    if packed:
        return f"Found the archive {packed[0].name}: extract it there."
    names = [folder.name for folder in subfolders(root)]
    hint = f" {root} is itself one category: pass the folder above it, {root.parent}." if is_category(root) else ""
    return f"Found {', '.join(names[:5]) + (', ...' if len(names) > 5 else '') if names else 'no subfolders'}.{hint}"


def archives(folder: Path) -> list[Path]:
    """Archives lying in a folder, packed or half downloaded."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ARCHIVES and path.is_file())
