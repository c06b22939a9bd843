"""Detection and localisation metrics of a labelled test set, gathered in one pass and in bounded memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.integrate import trapezoid
from scipy.ndimage import label as connected_components

from ..data.records import METRIC_KEYS
from ..model.errors import UserError

AUPRO_FPR_LIMIT = 0.3

_CODE_BITS = 20  # sign, 8 bits of exponent, 11 of mantissa


def _histogram() -> np.ndarray:
    return np.zeros(1 << _CODE_BITS, dtype=np.int64)


def _weight_histogram() -> np.ndarray:
    return np.zeros(1 << _CODE_BITS, dtype=np.float64)


@dataclass
class _Group:
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


class AnomalyMetrics:
    """Image AUROC, AP and best F1; pixel AUROC, AP and best F1; AUPRO. Overall and for each defect type.

    Image metrics are computed by scikit-learn from the exact scores, one float kept per image. Pixel scores go into
    histograms over the leading bits of their float32 pattern, mapped to an integer that grows with the score. The bins
    cover every finite score with a width of 2^-11 of its size or finer, so no range has to be known and nothing is
    clamped; scores in one bin count as equal. Memory does not grow with the pixels: each defect type, and the good
    images, take three histograms of 2^20 bins, 24 MB at most.

    AUPRO follows Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021: the per-region overlap
    PRO(t) = mean over ground-truth regions R of |{p in R: score(p) >= t}| / |R|, with R the 8-connected components of
    the masks, integrated over the false-positive rate of all normal pixels from 0 to 0.3 and divided by 0.3.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets every image."""
        self._good = _Group()
        self._defects: dict[str, _Group] = {}

    def update(
        self,
        image_scores: Any,
        labels: Any,
        anomaly_maps: Sequence[Any] | None,
        masks: Sequence[Any] | None,
        defect_types: Sequence[str],
    ) -> None:
        """Adds a batch of images; arrays may come as numpy arrays, torch tensors on any device, or lists.

        Args:
            image_scores: (B,) finite, higher = more anomalous.
            labels: (B,) 0 = normal, 1 = anomalous.
            anomaly_maps: B maps (H, W), finite, higher = more anomalous, each of its own size; None leaves the pixel
                metrics without these images.
            masks: B masks (H, W), nonzero = defective; None for a normal image means no defective pixel, None or a mask
                without a defective pixel for an anomalous image leaves it out of the pixel metrics. None for all of
                them: no image has a mask.
            defect_types: B names; those of normal images are not used.

        Raises:
            UserError: Lengths or shapes differ, a score is not finite, a label is neither 0 nor 1, or a normal image
                has defective pixels in its mask. Nothing of the batch is added then.
        """
        scores = _array(image_scores).astype(np.float64)
        if scores.ndim != 1:
            raise UserError(f"image_scores must be of shape (B,), but got {scores.shape}: pass one score per image.")
        _require_finite(scores, "image_scores")
        kinds = _array(labels).reshape(-1)
        n = len(scores)
        for name, values in (
            ("labels", kinds),
            ("anomaly_maps", anomaly_maps),
            ("masks", masks),
            ("defect_types", defect_types),
        ):
            if values is not None and len(values) != n:
                raise UserError(f"{name} must have one entry per image score ({n}), but got {len(values)}.")
        if not np.isin(kinds, (0, 1)).all():
            raise UserError(f"labels must be 0 (normal) or 1 (anomalous), but got {np.unique(kinds).tolist()}.")
        pixels = [
            None
            if anomaly_maps is None
            else _check_pixels(i, anomaly_maps[i], masks[i] if masks is not None else None, k)
            for i, k in enumerate(kinds)
        ]
        for score, kind, defect_type, pair in zip(scores.tolist(), kinds, defect_types, pixels, strict=True):
            group = self._defects.setdefault(defect_type, _Group()) if kind else self._good
            group.scores.append(score)
            if pair is not None:
                group.add_pixels(*pair)

    def compute(self) -> dict[str, Any]:
        """Metrics of everything added so far, as plain floats in [0, 1] and ints, ready for JSON.

        Returns:
            The keys of `METRIC_KEYS`, `n_images`, `n_normal`, `n_anomalous`, and `per_type`: for each defect type the
            same keys and `n`, its number of images, when its images are compared with all normal images. A metric is
            None where it is undefined: without images (pixels, for pixel metrics and AUPRO) of both classes.
        """
        defects = dict(sorted(self._defects.items()))
        n_normal = len(self._good.scores)
        n_anomalous = sum(len(group.scores) for group in defects.values())
        return {
            **_metrics(self._good, list(defects.values())),
            "per_type": {
                name: {**_metrics(self._good, [group]), "n": len(group.scores)} for name, group in defects.items()
            },
            "n_images": n_normal + n_anomalous,
            "n_normal": n_normal,
            "n_anomalous": n_anomalous,
        }

    def curves(self, points: int = 200) -> dict[str, Any]:
        """Curves of everything added so far, of at most `points` points each, ready for JSON.

        Returns:
            `image_roc` and `pixel_roc`, the true-positive rate over the false-positive rate, and `pro`, the per-region overlap
            over the false-positive rate of the normal pixels up to 0.3: dicts of lists `x` and `y`, or None where undefined.
            `scores`: the image scores of the good images under ``good``, of every defect type under its name.
        """
        from sklearn.metrics import roc_curve  # not at the top: the page starts without it

        defects = dict(sorted(self._defects.items()))
        groups = list(defects.values())
        anomalous = [score for group in groups for score in group.scores]
        image_roc = None
        if self._good.scores and anomalous:
            scores = [*self._good.scores, *anomalous]
            fpr, tpr, _ = roc_curve(np.arange(len(scores)) >= len(self._good.scores), scores)
            image_roc = _thinned(fpr, tpr, points)
        pixel_roc = pro = None
        if (pixels := _pixels(self._good, groups)) is not None:
            fpr, tpr, overlap = _pixel_curves(*pixels)
            pixel_roc, pro = _thinned(fpr, tpr, points), _thinned(*_up_to_limit(fpr, overlap), points)
        return {
            "image_roc": image_roc,
            "pixel_roc": pixel_roc,
            "pro": pro,
            "scores": {
                "good": list(self._good.scores),
                **{name: list(group.scores) for name, group in defects.items()},
            },
        }


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def _require_finite(values: np.ndarray, name: str) -> None:
    bad = values.size - np.count_nonzero(np.isfinite(values))
    if bad:
        raise UserError(
            f"{name} must be finite float32 numbers, but got {bad} of {values.size} that are NaN or infinite: "
            "check the images and the checkpoint that produced them."
        )


def _check_pixels(index: int, anomaly_map: Any, mask: Any, anomalous: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Float32 map and boolean mask of one image, or None where an anomalous image has no mask or one that marks nothing."""
    with np.errstate(over="ignore"):
        scores = _array(anomaly_map).astype(np.float32)
    if scores.ndim != 2:
        raise UserError(f"anomaly_maps[{index}] must be of shape (H, W), but got {scores.shape}.")
    _require_finite(scores, f"anomaly_maps[{index}]")
    if mask is None:
        return None if anomalous else (scores, np.zeros(scores.shape, dtype=bool))
    defective = _array(mask) != 0
    if defective.shape != scores.shape:
        raise UserError(
            f"masks[{index}] must have the shape of its anomaly map, {scores.shape}, but got {defective.shape}: "
            "bring the map to the geometry of the mask first."
        )
    if not anomalous and defective.any():
        raise UserError(
            f"masks[{index}] must be empty for an image labelled normal, but got {defective.sum()} defective "
            "pixels: correct the label or the mask."
        )
    return None if anomalous and not defective.any() else (scores, defective)


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


def _metrics(good: _Group, defects: list[_Group]) -> dict[str, float | None]:
    anomalous = np.concatenate([np.asarray(group.scores) for group in defects]) if defects else np.empty(0)
    values: dict[str, float | None] = dict.fromkeys(METRIC_KEYS)
    if good.scores and anomalous.size:
        values |= _image_metrics(np.array(good.scores), anomalous)
    if (pixels := _pixels(good, defects)) is not None:
        values |= _pixel_metrics(*pixels)
    return values


def _pixels(good: _Group, defects: list[_Group]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Histograms of normal pixels, of defective ones and of the mean overlap, whose total is 1; None without both kinds."""
    negatives = sum((group.negatives for group in defects), start=good.negatives)
    positives = sum((group.positives for group in defects), start=_histogram())
    if not (negatives.any() and positives.any()):
        return None
    overlap = sum((group.overlap for group in defects), start=_weight_histogram())
    return negatives, positives, overlap / sum(group.n_regions for group in defects)


def _image_metrics(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    scores = np.concatenate([normal, anomalous])
    labels = np.arange(len(scores)) >= len(normal)
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return {
        "image_auroc": float(roc_auc_score(labels, scores)),
        "image_ap": float(average_precision_score(labels, scores)),
        "image_f1max": float(f1.max()),
    }


def _pixel_metrics(negatives: np.ndarray, positives: np.ndarray, overlap: np.ndarray) -> dict[str, float]:
    """Metrics over the thresholds between bins; `overlap` is the histogram whose total is a mean overlap of 1."""
    bins = np.flatnonzero(negatives + positives)[::-1]
    true, false = np.cumsum(positives[bins]), np.cumsum(negatives[bins])
    fpr, tpr, overlaps = _pixel_curves(negatives, positives, overlap)
    pro_x, pro_y = _up_to_limit(fpr, overlaps)
    return {
        "pixel_auroc": float(trapezoid(tpr, fpr)),
        "pixel_ap": float(np.sum(np.diff(tpr) * (true / (true + false)))),
        "pixel_f1max": float(np.max(2 * true / (true + false + true[-1]))),
        "aupro": float(min(trapezoid(pro_y, pro_x) / AUPRO_FPR_LIMIT, 1.0)),
    }


def _pixel_curves(
    negatives: np.ndarray, positives: np.ndarray, overlap: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False-positive rate, true-positive rate and per-region overlap over falling thresholds, from 0 to 1 each."""
    bins = np.flatnonzero(negatives + positives)[::-1]
    true, false = np.cumsum(positives[bins]), np.cumsum(negatives[bins])
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1]), np.append(0.0, np.cumsum(overlap[bins]))


def _up_to_limit(fpr: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve up to `AUPRO_FPR_LIMIT`, linearly interpolated there; `fpr` rises from 0 to 1."""
    after = int(np.searchsorted(fpr, AUPRO_FPR_LIMIT, side="right"))
    share = (AUPRO_FPR_LIMIT - fpr[after - 1]) / (fpr[after] - fpr[after - 1])
    at_limit = overlap[after - 1] + share * (overlap[after] - overlap[after - 1])
    return np.append(fpr[:after], AUPRO_FPR_LIMIT), np.append(overlap[:after], at_limit)


def _thinned(x: np.ndarray, y: np.ndarray, points: int) -> dict[str, list[float]]:
    """At most `points` points of a rising curve, evenly spread along it, both ends among them."""
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    rows = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)))
    return {"x": x[rows].tolist(), "y": y[rows].tolist()}
