"""Regions above a threshold of the score map, and whether an image is of a kind that the checkpoint was never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..model.verdicts import check_threshold

Float = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Region:
    """A connected place above the threshold, in pixels of the image that came in."""

    box: tuple[int, int, int, int]
    """Left, top, width and height."""
    area: int
    peak_score: float
    """Highest score on the fixed 0-1 scale where 0.5 is the calibrated pixel threshold."""
    uncertainty: float | None
    """Mean total uncertainty in nats, 0 to ln 2; None where it was not asked for."""


def find_regions(
    score_map: Float, uncertainty: Float | None, threshold: float, size: tuple[int, int] | None = None
) -> tuple[list[Region], NDArray[np.int32]]:
    """The connected regions (8 neighbours) where `score_map` exceeds `threshold`, highest peak first, and their labels.

    Args:
        score_map: (h, w) on the fixed 0-1 scale.
        uncertainty: (h, w), nats; None leaves that of the regions out.
        threshold: in (0, 1).
        size: (H, W) of the image, where the maps are of another resolution; boxes and areas are scaled to it.

    Returns:
        The regions, and an int32 (h, w) that holds the region's place in the list plus one, 0 outside.
    """
    check_threshold(threshold)
    if score_map.ndim != 2 or (uncertainty is not None and uncertainty.shape != score_map.shape):
        shapes = [values.shape for values in (score_map, uncertainty) if values is not None]
        raise ValueError(f"maps must be two equal (h, w), but got {' and '.join(map(str, shapes))}")
    components, count = ndimage.label(score_map > threshold, structure=np.ones((3, 3)))
    inside = components > 0  # few of the pixels, so the rest is left out of the sums
    owner = components[inside] - 1
    peaks = np.zeros(count, score_map.dtype)
    np.maximum.at(peaks, owner, score_map[inside])
    order = np.argsort(-peaks, kind="stable")
    areas = np.bincount(owner, minlength=count)
    doubts = None if uncertainty is None else np.bincount(owner, uncertainty[inside], count) / areas
    boxes = ndimage.find_objects(components)
    height, width = size or score_map.shape
    down, across = height / score_map.shape[0], width / score_map.shape[1]
    regions = []
    for index in order:
        rows, columns = boxes[index]
        left, top = int(columns.start * across), int(rows.start * down)
        right, bottom = min(-int(-columns.stop * across // 1), width), min(-int(-rows.stop * down // 1), height)
        regions.append(
            Region(
                (left, top, right - left, bottom - top),
                max(1, round(float(areas[index]) * down * across)),
                float(peaks[index]),
                None if doubts is None else float(doubts[index]),
            )
        )
    places = np.zeros(count + 1, np.int32)
    places[order + 1] = np.arange(1, count + 1)
    return regions, places[components]
