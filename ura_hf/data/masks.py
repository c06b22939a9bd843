"""Where the defects of test images are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..model.images import load_mask
from .samples import Sample


def defect_of(sample: Sample, size: tuple[int, int] | None) -> np.ndarray | None:
    """The defect, bool (H, W), where one of an image's masks marks it; None without a mask.

    Args:
        sample: The image.
        size: (H, W) that the masks must have; None: any, the same for all masks of an image.

    Raises:
        UserError: A mask can't be read, or is of another size.
    """
    defect = None
    for mask in sample.masks:
        own = load_mask(mask, size)
        defect, size = own if defect is None else defect | own, (own.shape[0], own.shape[1])
    return defect


def black_masks(samples: Iterable[Sample]) -> list[Path]:
    """Masks of defective images that mark nothing.

    Raises:
        UserError: A mask can't be read.
    """
    found = []
    for sample in samples:
        defect = defect_of(sample, None) if sample.label else None
        if defect is not None and sample.mask is not None and not defect.any():
            found.append(sample.mask)
    return found
