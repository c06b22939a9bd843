"""Detection and localisation metrics of a labelled test set, gathered in one pass and in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..data.extras import needs_extra
from ..data.records import METRIC_KEYS
from ..model.errors import UserError
from .histograms import Group, pixel_curves, pixel_metrics, pool_pixels, up_to_limit


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
        self._good = Group()
        self._defects: dict[str, Group] = {}

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
            group = self._defects.setdefault(defect_type, Group()) if kind else self._good
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
        with needs_extra("train", "evaluation"):
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
        if (pixels := pool_pixels(self._good, groups)) is not None:
            fpr, tpr, overlap = pixel_curves(*pixels)
            pixel_roc, pro = _thinned(fpr, tpr, points), _thinned(*up_to_limit(fpr, overlap), points)
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


def _metrics(good: Group, defects: list[Group]) -> dict[str, float | None]:
    anomalous = np.concatenate([np.asarray(group.scores) for group in defects]) if defects else np.empty(0)
    values: dict[str, float | None] = dict.fromkeys(METRIC_KEYS)
    if good.scores and anomalous.size:
        values |= _image_metrics(np.array(good.scores), anomalous)
    if (pixels := pool_pixels(good, defects)) is not None:
        values |= pixel_metrics(*pixels)
    return values


def _image_metrics(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    with needs_extra("train", "evaluation"):
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


def _thinned(x: np.ndarray, y: np.ndarray, points: int) -> dict[str, list[float]]:
    """At most `points` points of a rising curve, evenly spread along it, both ends among them."""
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    rows = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)))
    return {"x": x[rows].tolist(), "y": y[rows].tolist()}
