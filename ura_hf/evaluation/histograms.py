"""Pixel metrics from histograms over the leading bits of the scores, in memory that does not grow with the pixels."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.integrate import trapezoid
from scipy.ndimage import label as connected_components

AUPRO_FPR_LIMIT = 0.3

_CODE_BITS = 20  # sign, 8 bits of exponent, 11 of mantissa


def _histogram() -> np.ndarray:
    return np.zeros(1 << _CODE_BITS, dtype=np.int64)


def _weight_histogram() -> np.ndarray:
    return np.zeros(1 << _CODE_BITS, dtype=np.float64)


@dataclass
class Group:
    """What is kept of the images of one kind: the good ones, or those of one defect type."""

    scores: array[float] = field(default_factory=lambda: array("d"))
    negatives: np.ndarray = field(default_factory=_histogram)  # normal pixels per score bin
    positives: np.ndarray = field(default_factory=_histogram)  # defective pixels per score bin
    overlap: np.ndarray = field(default_factory=_weight_histogram)  # 1 / area of its region for each defective pixel
    n_regions: int = 0

    def add_pixels(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        codes = _monotone_codes(anomaly_map)
        _count(self.negatives, codes[~mask])
        if not mask.any():
            return
        regions, n_regions = connected_components(mask, structure=np.ones((3, 3)))
        inside, region_of_pixel = codes[mask], regions[mask]
        _count(self.positives, inside)
        _count(self.overlap, inside, 1.0 / np.bincount(region_of_pixel)[region_of_pixel])
        self.n_regions += n_regions


def pool_pixels(good: Group, defects: Sequence[Group]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Histograms of normal pixels, of defective ones and of the mean overlap, whose total is 1; None without both kinds."""
    negatives = sum((group.negatives for group in defects), start=good.negatives)
    positives = sum((group.positives for group in defects), start=_histogram())
    if not (negatives.any() and positives.any()):
        return None
    overlap = sum((group.overlap for group in defects), start=_weight_histogram())
    return negatives, positives, overlap / sum(group.n_regions for group in defects)


def pixel_metrics(negatives: np.ndarray, positives: np.ndarray, overlap: np.ndarray) -> dict[str, float]:
    """Metrics over the thresholds between bins; `overlap` is the histogram whose total is a mean overlap of 1."""
    bins = np.flatnonzero(negatives + positives)[::-1]
    true, false = np.cumsum(positives[bins]), np.cumsum(negatives[bins])
    fpr, tpr, overlaps = pixel_curves(negatives, positives, overlap)
    pro_x, pro_y = up_to_limit(fpr, overlaps)
    return {
        "pixel_auroc": float(trapezoid(tpr, fpr)),
        "pixel_ap": float(np.sum(np.diff(tpr) * (true / (true + false)))),
        "pixel_f1max": float(np.max(2 * true / (true + false + true[-1]))),
        "aupro": float(min(trapezoid(pro_y, pro_x) / AUPRO_FPR_LIMIT, 1.0)),
    }


def pixel_curves(
    negatives: np.ndarray, positives: np.ndarray, overlap: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False-positive rate, true-positive rate and per-region overlap over falling thresholds, from 0 to 1 each."""
    bins = np.flatnonzero(negatives + positives)[::-1]
    true, false = np.cumsum(positives[bins]), np.cumsum(negatives[bins])
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1]), np.append(0.0, np.cumsum(overlap[bins]))


def up_to_limit(fpr: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve up to `AUPRO_FPR_LIMIT`, linearly interpolated there; `fpr` rises from 0 to 1."""
    after = int(np.searchsorted(fpr, AUPRO_FPR_LIMIT, side="right"))
    share = (AUPRO_FPR_LIMIT - fpr[after - 1]) / (fpr[after] - fpr[after - 1])
    at_limit = overlap[after - 1] + share * (overlap[after] - overlap[after - 1])
    return np.append(fpr[:after], AUPRO_FPR_LIMIT), np.append(overlap[:after], at_limit)


def _monotone_codes(scores: np.ndarray) -> np.ndarray:
    """Leading bits of float32 scores as integers in [0, 2^20) such that a < b implies code(a) <= code(b)."""
    bits = (scores + np.float32(0)).view(np.uint32)  # adding zero turns -0.0 into 0.0
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return ordered >> np.uint32(32 - _CODE_BITS)


def _count(histogram: np.ndarray, codes: np.ndarray, weights: np.ndarray | None = None) -> None:
    if codes.size:
        low = codes.min()
        counts = np.bincount(codes - low, weights)
        histogram[low : low + counts.size] += counts
