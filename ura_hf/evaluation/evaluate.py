"""Metrics of a detector on a labelled test set."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data.extras import require
from ..data.hub_datasets import open_dataset
from ..data.progress import Progress, silent
from ..inference import Detector, Unreadable, find
from ..model.errors import UserError
from ..model.images import load_mask
from .histograms import AUPRO_FPR_LIMIT
from .metrics import AnomalyMetrics


def evaluate(
    detector: Detector,
    data: str | Path,
    batch_size: int = 8,
    curves: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Image and pixel metrics on the test images of a category or dataset.

    Args:
        detector: As `load_detector` gives it, or any other model with its image processor (`inference.Pair`).
        data: Folder of a category in any layout that `read_dataset` knows, or a dataset with a test split that
            `open_dataset` reads.
        batch_size: Images that go through the model at once.
        curves: Whether to add the curves of `AnomalyMetrics.curves`.
        progress: Called with the stage ``evaluation``, in images.

    Maps are compared with the masks in the geometry of the input image. `at_threshold` tells how the calibrated threshold
    does on the test images: rates of false alarms and of misses.

    Raises:
        UserError: A package of the extra `train` is not installed, there is nothing to test on, or an image or mask is
            unreadable.
    """
    require("sklearn.metrics", "train", "evaluation")
    dataset = open_dataset(data, for_training=False)
    samples = dataset.test
    if not samples:
        raise UserError(f"{data} has no test images: expected test/good and test/<defect type>.")
    metrics = AnomalyMetrics()
    scores: list[float] = []
    results = find(detector, [sample.image for sample in samples], batch_size, fields=("anomaly_map",))
    for sample, one in zip(samples, tqdm(results, "evaluating", len(samples), unit="image"), strict=True):
        if isinstance(one, Unreadable):
            raise one.error
        mask = None if sample.mask is None else load_mask(sample.mask, one.size)
        metrics.update([one.raw_score], [sample.label], [one.map("anomaly_map")], [mask], [sample.defect_type])
        scores.append(one.raw_score)
        progress("evaluation", len(scores), len(samples))
    config = detector.model.config
    return {
        **metrics.compute(),
        **({"curves": metrics.curves()} if curves else {}),
        "at_threshold": _at_threshold(scores, [s.label for s in samples], config.image_threshold),
        "dataset": dataset.name,
        "protocol": {
            "pixel_geometry": "input image",
            "aupro_fpr_limit": AUPRO_FPR_LIMIT,
            "network_input": config.image_size,
            "image_score": config.image_score,
            "checkpoint": "last step",
        },
        "date": datetime.date.today().isoformat(),
    }


def _at_threshold(scores: Sequence[float], labels: Sequence[int], threshold: float | None) -> dict[str, float | None]:
    if threshold is None:
        return {"threshold": None, "false_alarm_rate": None, "miss_rate": None}
    good = [s > threshold for s, label in zip(scores, labels, strict=True) if not label]
    bad = [s <= threshold for s, label in zip(scores, labels, strict=True) if label]
    return {
        "threshold": threshold,
        "false_alarm_rate": sum(good) / len(good) if good else None,
        "miss_rate": sum(bad) / len(bad) if bad else None,
    }
