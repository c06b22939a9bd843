"""What lies in a folder: images, their companions, other files, subfolders."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..model.images import IMAGE_SUFFIXES
from .archives import JUNK
from .companions import FOLDERS, MASKS, companions, looks_like_a_mask

GROUND_TRUTH = "ground_truth"
MIN_TRAIN_IMAGES = 2
RECOMMENDED_TRAIN_IMAGES = 20


def list_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """Photos in `folder` (and below it if `recursive`), naturally sorted: 2.png before 10.png.

    Nothing hidden, and no `companions` of other photos, such as masks and heatmaps.
    """
    images = list_pictures(folder, recursive)
    others = companions(images)
    return [image for image in images if image not in others]


def list_pictures(folder: str | Path, recursive: bool = False) -> list[Path]:
    """As `list_images`, with companions."""
    entries = Path(folder).rglob("*") if recursive else Path(folder).iterdir()
    images = [path for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    hidden = {path for path in images if any(part.startswith(".") for part in path.relative_to(folder).parts)}
    return sorted(set(images) - hidden, key=natural_key)


def other_files(folder: str | Path) -> list[Path]:
    """Files and broken links in `folder` that `list_images` leaves out, naturally sorted; none hidden, or added by systems."""
    files = [path for path in Path(folder).iterdir() if not path.is_dir() and not path.name.startswith(".")]
    others = {path for path in files if path.name.lower() not in JUNK}
    return sorted(others.difference(list_pictures(folder)), key=natural_key)


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


def holds_companions(folder: Path) -> bool:
    """Whether a folder's name says that it holds masks or heatmaps, and what it holds does not speak against it."""
    name = folder.name.lower()
    if name == GROUND_TRUTH or name not in FOLDERS:
        return name == GROUND_TRUTH
    return name not in MASKS or all(map(looks_like_a_mask, list_pictures(folder, recursive=True)[:5]))


def subfolders(folder: Path) -> list[Path]:
    """Folders in `folder`, naturally sorted; no hidden ones."""
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_key)


def natural_key(path: Path | str) -> list[tuple[int, int, str]]:
    """Sort key in which runs of digits compare as numbers."""
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
