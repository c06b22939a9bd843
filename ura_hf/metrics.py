"""Image and pixel metrics of anomaly detection, streamed in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from .errors import UserError

METRIC_KEYS = ("image_auroc", "image_ap", "image_f1max", "pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")
AUPRO_FPR_LIMIT = 0.3
CODE_BITS = 18  # sign, 8 exponent and 9 mantissa bits: bins 0.2 % wide, whatever the range of the scores
NORMAL = "good"
EIGHT_NEIGHBOURS = np.ones((3, 3))


def score_codes(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Bin of every score, in increasing order of the scores: the leading bits of float32 in two's-complement order."""
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return ordered >> np.uint32(32 - CODE_BITS)


class PixelCounts:
    """Histograms over the score bins: normal and anomalous pixels, and the anomalous ones weighed by 1 / region area."""

    def __init__(self) -> None:
        self.normal = np.zeros(1 << CODE_BITS, np.int64)
        self.anomalous = np.zeros(1 << CODE_BITS, np.int64)
        self.regions = np.zeros(1 << CODE_BITS, np.float64)
        self.region_count = 0

    def update(self, scores: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Add one image, scores and mask (H, W)."""
        codes = score_codes(scores)
        self.normal += np.bincount(codes[~mask], minlength=1 << CODE_BITS)
        if not mask.any():
            return
        inside = codes[mask]
        self.anomalous += np.bincount(inside, minlength=1 << CODE_BITS)
        labels, count = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
        regions = labels[mask]
        self.regions += np.bincount(inside, 1 / np.bincount(regions)[regions], minlength=1 << CODE_BITS)
        self.region_count += count

    def __add__(self, other: PixelCounts) -> PixelCounts:
        total = PixelCounts()
        for name in ("normal", "anomalous", "regions", "region_count"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def compute(self) -> dict[str, float | None]:
        """`pixel_auroc`, `pixel_ap`, `pixel_f1max` and `aupro`; None without both kinds of pixels.

        A bin is one threshold. AUPRO is the area under the mean overlap of the regions against the false-positive rate
        up to 0.3, over 0.3 (Bergmann et al. 2021), linear between thresholds.
        """
        positives, negatives = int(self.anomalous.sum()), int(self.normal.sum())
        if positives == 0 or negatives == 0:
            return dict.fromkeys(METRIC_KEYS[3:])
        used = np.flatnonzero(self.normal + self.anomalous)[::-1]
        true = np.concatenate([[0], self.anomalous[used].cumsum()])
        false = np.concatenate([[0], self.normal[used].cumsum()])
        recall, fpr = true / positives, false / negatives
        precision = true[1:] / (true[1:] + false[1:])
        overlap = np.concatenate([[0.0], self.regions[used].cumsum()]) / self.region_count
        inside = fpr <= AUPRO_FPR_LIMIT
        limited = np.append(fpr[inside], AUPRO_FPR_LIMIT)
        heights = np.append(overlap[inside], np.interp(AUPRO_FPR_LIMIT, fpr, overlap))
        return {
            "pixel_auroc": float(np.trapezoid(recall, fpr)),
            "pixel_ap": float(np.sum(np.diff(recall) * precision)),
            "pixel_f1max": float(np.max(2 * true / (true + false + positives))),
            "aupro": float(np.trapezoid(heights, limited) / AUPRO_FPR_LIMIT),
        }


def image_metrics(scores: Sequence[float], labels: Sequence[int]) -> dict[str, float | None]:
    """`image_auroc`, `image_ap` and `image_f1max` of scores and labels (N,); None unless both classes are there."""
    if len(set(labels)) < 2:
        return dict.fromkeys(METRIC_KEYS[:3])
    precision, recall, _ = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        "image_auroc": float(roc_auc_score(labels, scores)),
        "image_ap": float(average_precision_score(labels, scores)),
        "image_f1max": float(f1.max()),
    }


class AnomalyMetrics:
    """Metrics over a test set that is seen in parts: `update` with every part, then `compute`.

    Pixels are counted in 2^18 bins of their score and kept no longer; image scores are kept, one number an image.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything seen."""
        self.images: list[tuple[float, int, str]] = []
        self.pixels: dict[str, PixelCounts] = {}

    def update(
        self,
        image_scores: ArrayLike,
        labels: Sequence[int],
        anomaly_maps: Sequence[Any] | None = None,
        masks: Sequence[Any] | None = None,
        defect_types: Sequence[str] | None = None,
    ) -> None:
        """Add B images.

        Args:
            image_scores: (B,), higher is more anomalous.
            labels: 0 normal, 1 anomalous.
            anomaly_maps: Maps (H, W), arrays or tensors, of sizes that may differ; None: image metrics only.
            masks: Boolean (H, W), or None for an image: a normal one is then normal everywhere, an anomalous one does
                not count for the pixel metrics.
            defect_types: A name for each image; default: ``good`` and ``anomalous``.

        Raises:
            UserError: Lengths or sizes differ, or a score is not finite.
        """
        scores = np.asarray(image_scores, dtype=np.float64)
        types = list(defect_types) if defect_types is not None else [("good", "anomalous")[label] for label in labels]
        lengths = [len(scores), len(labels), len(types), *(len(x) for x in (anomaly_maps, masks) if x is not None)]
        if len(set(lengths)) > 1:
            raise UserError(f"scores, labels, maps, masks and types must be of one length, but got {lengths}.")
        if not np.isfinite(scores).all():
            raise UserError("image scores must be finite, but got NaN or infinity: check the model and its input.")
        for index, (score, label, kind) in enumerate(zip(scores.tolist(), labels, types, strict=True)):
            self.images.append((score, int(label), kind if label else NORMAL))
            if anomaly_maps is None:
                continue
            mask = masks[index] if masks is not None else None
            if mask is None and label:
                continue
            self._count(kind if label else NORMAL, np.asarray(anomaly_maps[index], np.float32), mask)

    def _count(self, kind: str, scores: NDArray[np.float32], mask: Any) -> None:
        marked = np.zeros(scores.shape, bool) if mask is None else np.asarray(mask, bool)
        if marked.shape != scores.shape:
            raise UserError(f"a mask must have the size of its map, {scores.shape}, but got {marked.shape}.")
        if not np.isfinite(scores).all():
            raise UserError("anomaly maps must be finite, but got NaN or infinity: check the model and its input.")
        self.pixels.setdefault(kind, PixelCounts()).update(scores, marked)

    def compute(self) -> dict[str, Any]:
        """`METRIC_KEYS` over all images, `per_type` with the same keys and `n` for every defect type against all normal
        images, and `n_images`, `n_normal`, `n_anomalous`. A metric that is not defined (one class only, no masks) is None.
        """
        normal = self.pixels.get(NORMAL, PixelCounts())
        total, per_type = normal, {}
        for kind in sorted({kind for _, label, kind in self.images if label}):
            own = self.pixels.get(kind, PixelCounts())
            total = total + own
            rows = [(score, label) for score, label, other in self.images if not label or other == kind]
            count = sum(label for _, label in rows)
            per_type[kind] = {**self._metrics(rows), **(normal + own).compute(), "n": count}
        rows = [(score, label) for score, label, _ in self.images]
        anomalous = sum(label for _, label in rows)
        return {
            **self._metrics(rows),
            **total.compute(),
            "per_type": per_type,
            "n_images": len(rows),
            "n_normal": len(rows) - anomalous,
            "n_anomalous": anomalous,
        }

    @staticmethod
    def _metrics(rows: Sequence[tuple[float, int]]) -> dict[str, float | None]:
        return image_metrics([score for score, _ in rows], [label for _, label in rows])
