"""Pixels of 8 bits, three bytes each, until the network's size is reached: a large photo is never held as floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image

BLOCK_PIXELS = 1 << 18
"""Pixels that are converted at once; smaller images are one block."""
GAP = 4
"""A side of 8 bits that is longer than so many times the wanted one is first shortened to this, in 8 bits: what that rounds is
0.1 of 255 in the mean, and it takes a tenth of the time of floats."""


def row_blocks(height: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Rows of an image, from top to bottom, in blocks of at most `BLOCK_PIXELS`, but at least `multiple` rows.

    All but the last block have a multiple of so many rows.
    """
    rows = max(1, BLOCK_PIXELS // max(width, 1) // multiple) * multiple
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def from_pil(image: Image.Image, mode: str) -> np.ndarray:
    """Samples of a decoded image, converted to a mode of 8 bits such as RGB -> uint8 (H, W, C)."""
    image = image if image.mode == mode else image.convert(mode)
    samples = np.empty((image.height, image.width, len(mode)), np.uint8)
    for rows in row_blocks(image.height, image.width):  # as a whole, Pillow would make two copies beside its own
        samples[rows] = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
    return samples


def as_floats(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32 in [0, 1]; float32 as it is."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def resize_in_blocks(
    pixels: torch.Tensor, height: int, width: int, resize: Callable[[torch.Tensor, int, int], torch.Tensor]
) -> torch.Tensor:
    """Resize (3, H, W), uint8 or float32 in [0, 1], to float32 (3, height, width).

    A separable filter such as bilinear does the rows first: block by block that gives the same bits as all at once.

    Args:
        resize: (image, height, width) -> resized image, uint8 or float32 as it came.
    """
    between = min(pixels.shape[1], GAP * height), min(pixels.shape[2], GAP * width)
    if pixels.dtype == torch.uint8 and between != pixels.shape[1:]:
        pixels = resize(pixels, *between)
    blocks = list(row_blocks(pixels.shape[1], pixels.shape[2]))
    if len(blocks) > 1:
        narrow = torch.empty(3, pixels.shape[1], width, device=pixels.device)
        for rows in blocks:
            narrow[:, rows] = resize(as_floats(pixels[:, rows]), rows.stop - rows.start, width)
        pixels = narrow
    return resize(as_floats(pixels), height, width).contiguous()
