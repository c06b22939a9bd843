"""Pictures that are no photos of their own: masks, labels and heatmaps that lie beside the photos that they belong to."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from ..model.image_checks import DECODE_ERRORS, check_pixels
from ..model.pillow_images import FORMATS

MASKS = (
    "mask",
    "masks",
    "gt",
    "label",
    "labels",
    "seg",
    "segmentation",
    "ground_truth",
    "annotation",
    "annotations",
)
PICTURES = ("heatmap", "heatmaps", "overlay", "overlays", "restored")
"""What the name of a companion ends with, and what a folder of companions is called; in any case."""
FOLDERS = frozenset((*MASKS, *PICTURES))
MOST_COLOURS = 4  # of a mask; saved as JPEG it has more, and is then known by its name alone
_ENDING = re.compile(rf"(?P<of>.+?)[ _.-](?P<kind>{'|'.join(sorted(FOLDERS, key=len, reverse=True))})", re.IGNORECASE)

_FRAME = re.compile(r"#\d+$")  # in x#2_heatmap.png, of the second image of a file with several


def companions(images: Iterable[Path]) -> dict[Path, Path]:
    """Of images of any folders those that belong to another one beside them, and to which.

    By name: ``x-heatmap.jpg`` beside ``x.jpg``. By name and content: ``x_mask.png`` that looks like a mask beside ``x.jpg``, and
    ``x.png`` beside ``x.jpg``, of at most `MOST_COLOURS` colours where the other has more.
    """
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for image in images:
        groups[image.parent, image.stem.casefold()].append(image)
    found: dict[Path, Path] = {}
    for (folder, stem), same in groups.items():
        named = _ENDING.fullmatch(stem)
        same_name = (
            groups.get((folder, named["of"])) or groups.get((folder, _FRAME.sub("", named["of"]))) if named else ()
        )
        owners = [one for one in same_name or () if not has_few_colours(one)]
        if named and owners:
            kind = named["kind"].lower()
            found |= dict.fromkeys((one for one in same if kind in PICTURES or looks_like_a_mask(one)), owners[0])
        elif len(same) > 1:
            flat = [image for image in same if has_few_colours(image)]
            photos = [image for image in same if image not in flat]
            if len(photos) == 1:
                found |= dict.fromkeys(flat, photos[0])
    return found


def drawn_from(images: Iterable[Path]) -> set[Path]:
    """Heatmaps and the like by name, ``x_heatmap.png``, of any of the images, wherever both lie."""
    images = list(images)
    stems = {image.stem.casefold() for image in images}
    named = [(image, _ENDING.fullmatch(image.stem.casefold())) for image in images]
    return {
        image for image, found in named if found and found["kind"] in PICTURES and _FRAME.sub("", found["of"]) in stems
    }


def companions_by_name(images: Iterable[PurePath]) -> set[PurePath]:
    """As `companions`, of images that are not read: those named after another one, beside it or in one of `FOLDERS`."""
    images = list(images)
    apart = {image for image in images if not FOLDERS.isdisjoint(part.casefold() for part in image.parts[:-1])}
    places = {(image.parent, image.stem.casefold()) for image in images if image not in apart}
    stems, found = {stem for _, stem in places}, set()
    for image in images:
        stem = image.stem.casefold()
        named = _ENDING.fullmatch(stem)
        owner = _FRAME.sub("", named["of"]) if named else stem
        far = image in apart or (named and named["kind"] in PICTURES)  # from the photo
        if (far and owner in stems) or (named and (image.parent, owner) in places):
            found.add(image)
    return found


def masks_beside(images: Iterable[Path]) -> dict[Path, Path]:
    """The mask of every image that has one beside it, among `companions`."""
    found: dict[Path, Path] = {}
    for companion, owner in companions(images).items():
        named = _ENDING.fullmatch(companion.stem)
        if named is None or named["kind"].lower() in MASKS:
            found[owner] = companion
    return found


def looks_like_a_mask(image: Path) -> bool:
    """Whether an image file has few colours, or is a JPEG that hardly has other colours than black and white."""
    if has_few_colours(image):
        return True
    try:
        with Image.open(image, formats=tuple(FORMATS)) as opened:
            check_pixels(*opened.size, str(image))
            if opened.format != "JPEG":
                return False
            levels = opened.convert("L").histogram()
    except (*DECODE_ERRORS, Image.DecompressionBombError):
        return False
    return sum(levels[:32]) + sum(levels[-32:]) > 0.98 * sum(levels)


def has_few_colours(image: Path) -> bool:
    """Whether an image file has at most `MOST_COLOURS` colours; one that can't be read has not."""
    try:
        with Image.open(image, formats=tuple(FORMATS)) as opened:
            check_pixels(*opened.size, str(image))
            if opened.mode in ("I", "F") or opened.mode.startswith("I;"):  # of more than 8 bits
                return len(np.unique(np.asarray(opened))) <= MOST_COLOURS
            return opened.getcolors(MOST_COLOURS) is not None
    except (*DECODE_ERRORS, Image.DecompressionBombError):
        return False
