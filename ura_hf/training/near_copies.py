"""Photos that show what another one shows: copies, the same shot saved again, and bursts of one part that lies still."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.prefetch import read_ahead
from ..data.progress import Progress, silent
from ..model.errors import UserError
from ..model.images import load_pixels
from ..model.pixels import row_blocks

Thumbnail = NDArray[np.float32]
Pixels = NDArray[Any]
THUMBNAIL = 64  # side of the grey thumbnails by which copies are recognised [pixels]
MAX_DIFFERENCE = 0.045  # RMS difference of two standardised thumbnails up to which they show one photo
MAX_SHARE_OF_USUAL = 0.25  # of the median distance to the nearest photo: where photos differ more, so may copies
STEP = 500  # photos that are compared with the others at once


def near_copies(
    images: Sequence[Any], load: Callable[[Any], Pixels] = load_pixels, progress: Progress = silent
) -> dict[int, int]:
    """As `same_as` on photos that `load` reads as `load_pixels` does, by their rows; unreadable ones are like no other.

    `progress` is called with the stage ``copies``.
    """

    def read(image: Any) -> Thumbnail | None:
        try:
            return thumbnail(load(image))
        except UserError:
            return None

    seen: dict[int, Thumbnail] = {}
    for row, small in enumerate(read_ahead(read, images)):
        if small is not None:
            seen[row] = small
        progress("copies", row + 1, len(images))
    rows = list(seen)
    return {rows[place]: rows[twin] for place, twin in same_as(list(seen.values())).items()}


def firsts(images: int, copies: Mapping[int, int]) -> list[int]:
    """Of every image the row of the first one that shows the same, (N,): its own, or by `near_copies` that of an earlier one."""
    found = list(range(images))
    for row, twin in sorted(copies.items()):
        found[row] = found[twin]
    return found


def named(copies: Mapping[int, int], names: Sequence[str]) -> list[list[str]]:
    """`near_copies` by the names of the images: pairs of an image and the one that it shows again."""
    return [[names[row], names[twin]] for row, twin in copies.items()]


def thumbnail(pixels: Pixels) -> Thumbnail:
    """Grey thumbnail of mean 0 and deviation 1, so that brightness and contrast don't count, (THUMBNAIL, THUMBNAIL).

    `pixels` (H, W, 3) are uint8, or float32 in [0, 1].
    """
    narrow = np.empty((len(pixels), THUMBNAIL), np.float32)
    for rows in row_blocks(*pixels.shape[:2]):  # a large photo is never held as floats
        grey = Image.fromarray(pixels[rows].mean(2, dtype=np.float32))
        narrow[rows] = np.asarray(grey.resize((THUMBNAIL, grey.height), Image.Resampling.BOX))
    small = np.asarray(Image.fromarray(narrow).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    small = small / (255 if pixels.dtype == np.uint8 else 1)
    return (small - small.mean()) / max(float(small.std()), 1e-3)


def same_as(thumbnails: Sequence[Thumbnail]) -> dict[int, int]:
    """Rows of thumbnails that show what an earlier one shows, each with that one, the nearest.

    Their RMS difference is at most `MAX_DIFFERENCE`, or a quarter of what is usual between a photo and the one most like it.
    """
    if len(thumbnails) < 2:
        return {}
    flat = np.stack(thumbnails).reshape(len(thumbnails), -1)
    norms, nearest = np.square(flat).sum(1), np.full((len(flat), 2), np.inf)
    twins = np.zeros(len(flat), dtype=int)
    for start in range(0, len(flat), STEP):
        part = flat[start : start + STEP]
        rows = np.arange(start, start + len(part))
        apart = np.sqrt(np.maximum(norms[rows, None] + norms - 2 * part @ flat.T, 0) / flat.shape[1])
        apart[np.arange(len(part)), rows] = np.inf
        nearest[rows, 0] = apart.min(1)
        apart[np.arange(len(flat)) > rows[:, None]] = np.inf
        nearest[rows, 1], twins[rows] = apart.min(1), apart.argmin(1)
    most = max(MAX_DIFFERENCE, MAX_SHARE_OF_USUAL * float(np.median(nearest[:, 0])))
    return {int(row): int(twins[row]) for row in np.flatnonzero(nearest[:, 1] <= most)}
