"""Reads the region of interest that a run is given: a mask, or a rectangle in pixels of the photos."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..model.errors import UserError
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.images import image_size, load_mask
from ..model.region import Region, to_text

RECTANGLE = re.compile(r"\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(-?\d+)\s*")
ASPECT_TOLERANCE = 0.02  # relative difference between the aspect ratios of a mask and a photo that are padded alike


def read_region(roi: str, photo: Any, processor: URANetImageProcessor, grid_size: int) -> str | None:
    """The region of interest as the text of a config; None where it covers all that the network sees.

    A cell counts if at least half of it is covered.

    Args:
        roi: ``x,y,width,height`` in pixels of `photo`, or the path of a mask, whose pixels count unless they are black or
            transparent. A mask may have any size: it is resized as the photos are.
        photo: One of the photos.
        processor: Which resizes them.
        grid_size: Side G of the feature grid.

    Raises:
        UserError: It covers nothing, leaves the photo, can't be read, or has another shape than photos that are padded.
    """
    size = image_size(photo)
    rectangle = RECTANGLE.fullmatch(roi)
    mask = _rectangle([int(number) for number in rectangle.groups()], size) if rectangle else load_mask(roi, None)
    if not mask.any():
        raise UserError(f"--roi {roi} covers nothing, since it is all black: paint white what is to be looked at.")
    if (
        processor.resize_mode == "pad"
        and abs(mask.shape[1] * size[0] / (mask.shape[0] * size[1]) - 1) > ASPECT_TOLERANCE
    ):
        raise UserError(
            f"--roi must have the shape of the photos where they are padded, {size[1]}x{size[0]} pixels or a multiple, but "
            f"{roi} has {mask.shape[1]}x{mask.shape[0]}: export it again."
        )
    top, left, height, width = processor.inner_box(*mask.shape)
    inner = functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), (height, width))
    bottom, right = processor.size.height - top - height, processor.size.width - left - width
    shown = functional.pad(inner, (left, right, top, bottom))
    inside = functional.adaptive_avg_pool2d(shown, grid_size)[0].numpy() >= 0.5
    if not inside.any():
        raise UserError(
            f"--roi {roi} covers no cell of the grid of {grid_size}x{grid_size} to at least one half: make it larger, "
            "or the grid finer with --grid-size."
        )
    return None if inside.all() else to_text(inside)


def within(pixels: np.ndarray, processor: URANetImageProcessor, region: Region) -> np.ndarray:
    """The smallest rectangle of a photo (H, W, 3) that holds its region of interest, of one colour where this is not.

    The photo itself where the region is whole, or lies beside the photo.
    """
    if region.is_whole:
        return pixels
    places = []
    (top, left, *inner), sides = processor.inner_box(*pixels.shape[:2]), (processor.size.height, processor.size.width)
    for first, inside, length, side in zip((top, left), inner, pixels.shape[:2], sides, strict=True):
        centres = first + (np.arange(length) + 0.5) * inside / length
        places.append((centres * len(region.inside) / side).astype(int))
    counts = region.inside.numpy()[np.ix_(*places)]
    rows, columns = np.flatnonzero(counts.any(1)), np.flatnonzero(counts.any(0))
    if not len(rows):
        return pixels
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    shown = pixels[box].copy()
    shown[~counts[box]] = shown[counts[box]].mean(0)
    return shown


def loader_within(processor: URANetImageProcessor, region: Region) -> Callable[[Any], np.ndarray]:
    """A function that reads a photo as the processor does and gives `within` of it."""
    return lambda photo: within(processor.load_pixels(photo), processor, region)


def _rectangle(numbers: list[int], size: tuple[int, int]) -> np.ndarray:
    x, y, width, height = numbers
    if width < 1 or height < 1:
        raise UserError(
            f"--roi x,y,width,height must have a width and a height of at least 1, but got {width} and {height}."
        )
    if x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
        raise UserError(
            f"--roi {x},{y},{width},{height} lies outside of the photos, in part or as a whole: they have {size[1]}x{size[0]} "
            "pixels (width x height)."
        )
    mask = np.zeros(size, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask
