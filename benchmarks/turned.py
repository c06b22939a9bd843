"""Real parts turned to any rotation, and made small so that their defects have a few pixels."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ura_hf.data.reader import read_dataset

MOVED = 0.8  # of the room on each side, at most


def write_turned(source: Path, folder: Path, scale: float, seed: int = 0) -> None:
    """A category of the MVTec layout, each image and its mask turned alike by an angle that the seed and its number fix.

    The square pictures (S, S) become S / `scale` wide, with the border's pixels repeated around them, and the part is moved by up
    to `MOVED` of the room that this leaves on each side.
    """
    dataset = read_dataset(source)
    for number, sample in enumerate([*dataset.train, *dataset.test]):
        draw = np.random.default_rng((seed, number))
        angle, shift = draw.uniform(0, 360), draw.uniform(-MOVED, MOVED, 2) * (1 - scale) / 2
        for path in filter(None, (sample.image, sample.mask)):
            with Image.open(path) as picture:
                turned = turn(np.asarray(picture), angle, shift, scale, path == sample.mask)
            target = (folder / path.relative_to(source)).with_suffix(".png")
            target.parent.mkdir(parents=True, exist_ok=True)
            turned.save(target)


def turn(
    pixels: NDArray[np.uint8], angle: float, shift: NDArray[np.float64], scale: float, is_mask: bool
) -> Image.Image:
    """A picture (S, S) or (S, S, 3) turned by `angle` degrees and moved by `shift` (x, y) of the new side, S / `scale`."""
    side = round(pixels.shape[0] / scale)
    reach = side * (1 + 2 * float(np.abs(shift).max())) / math.sqrt(2)  # a corner's way from the centre
    margin = max(0, math.ceil(reach - pixels.shape[0] / 2))
    widths = [(margin, margin)] * 2 + [(0, 0)] * (pixels.ndim - 2)
    wide = Image.fromarray(np.pad(pixels, widths) if is_mask else np.pad(pixels, widths, mode="edge"))
    turned = wide.rotate(angle, Image.Resampling.NEAREST if is_mask else Image.Resampling.BICUBIC)
    left, top = (round((wide.width - side) / 2 - part * side) for part in shift)
    return turned.crop((left, top, left + side, top + side))
