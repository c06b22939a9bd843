"""Metrics of a detector on a labelled test set."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..data.extras import require
from ..data.left_out import as_record, joined, left_out_of, require_nothing_left_out, without_masks
from ..data.masks import black_masks, defect_of
from ..data.opening import Data, open_dataset, sources
from ..data.progress import Progress, silent
from ..data.samples import Dataset, LeftOut, Sample
from ..inference import Detector, Finding, Unreadable, find
from ..model.errors import UserError
from ..model.frames import frames
from ..model.verdicts import LABELS
from .histograms import AUPRO_FPR_LIMIT
from .metrics import AnomalyMetrics

IMAGE_COLUMNS = ("image", "label", "defect_type", "score", "verdict", "image_score")
"""What is told of each image: `label` is 0 of good and 1 of defective ones; `score` and `verdict` need a calibrated model."""
Row = Callable[[dict[str, Any]], None]


def evaluate(
    detector: Detector,
    data: Data | Dataset,
    batch_size: int = 8,
    curves: bool = False,
    progress: Progress = silent,
    strict: bool = False,
    row: Row = lambda row: None,
) -> dict[str, Any]:
    """Image and pixel metrics on the test images of a category or dataset.

    Args:
        detector: As `load_detector` gives it, or any other model with its image processor (`inference.Pair`).
        data: Folder of a category in any layout that `read_dataset` knows, or whatever else with test images `open_dataset`
            reads; or several of them. Or the dataset itself, as one of the two has read it.
        batch_size: Images that go through the model at once.
        curves: Whether to add the curves of `AnomalyMetrics.curves`.
        progress: Called with the stage ``evaluation``, in images.
        strict: Whether to refuse data of which anything is left out.
        row: Called with a dict of `IMAGE_COLUMNS` for each image.

    Maps are compared with the masks in the geometry of the input image. `at_threshold` tells how the calibrated threshold
    does on the test images: rates of false alarms and of misses; `verdicts`, which share of the good and of the defective ones
    gets each of `LABELS`. `used` and `left_out` tell how many images and masks were used, and what was not.

    Raises:
        UserError: A package of the extra `train` is not installed, there is nothing to test on, an image or mask is
            unreadable, or anything is left out though `strict` forbids it.
    """
    require("sklearn.metrics", "train", "evaluation")
    dataset = data if isinstance(data, Dataset) else open_dataset(data, for_training=False)
    samples = dataset.test
    _require_test_images(samples, dataset.root if isinstance(data, Dataset) else data)
    left_out = _left_out(dataset)
    if strict:
        require_nothing_left_out(joined(left_out, {"black_masks": black_masks(samples)}))
    measured = _measure(detector, samples, batch_size, progress, row)
    config = detector.model.config
    return {
        **measured.metrics.compute(),
        **({"curves": measured.metrics.curves()} if curves else {}),
        "at_threshold": _at_threshold(measured.rows, config.image_threshold),
        "verdicts": _verdicts(measured.rows),
        "dataset": dataset.name,
        "used": _used(samples),
        "left_out": as_record(joined(left_out, {"black_masks": measured.black})),
        "notes": dataset.notes,
        "protocol": {
            "pixel_geometry": "input image",
            "aupro_fpr_limit": AUPRO_FPR_LIMIT,
            "network_input": config.image_size,
            "views": config.views,
            "score_views": config.score_views,
            "checkpoint": "last step",
        },
        "date": datetime.date.today().isoformat(),
    }


@dataclass
class _Measured:
    """Metrics and rows of all images, and masks of defective ones that mark nothing."""

    metrics: AnomalyMetrics = field(default_factory=AnomalyMetrics)
    rows: list[dict[str, Any]] = field(default_factory=list)
    black: list[Path] = field(default_factory=list)


def _measure(detector: Detector, samples: Sequence[Sample], batch_size: int, progress: Progress, row: Row) -> _Measured:
    """Look at every image; verdicts are given where there is a threshold."""
    measured = _Measured()
    results = find(detector, [sample.image for sample in samples], batch_size, fields=("anomaly_map",))
    for sample, one in zip(samples, tqdm(results, "evaluating", len(samples), unit="image"), strict=True):
        if isinstance(one, Unreadable):
            raise one.error
        mask = defect_of(sample, one.size)
        if sample.label and sample.mask is not None and mask is not None and not mask.any():
            measured.black.append(sample.mask)
        measured.metrics.update([one.raw_score], [sample.label], [one.map("anomaly_map")], [mask], [sample.defect_type])
        measured.rows.append(_row(sample, one))
        row(measured.rows[-1])
        progress("evaluation", len(measured.rows), len(samples))
    return measured


def _row(sample: Sample, one: Finding) -> dict[str, Any]:
    verdict = {} if one.config.image_threshold is None else one.verdict()
    about = (str(sample.image), sample.label, sample.defect_type, verdict.get("score"), verdict.get("label"))
    return dict(zip(IMAGE_COLUMNS, (*about, one.raw_score), strict=True))


def _used(samples: Sequence[Sample]) -> dict[str, int]:
    """How many images and masks there are, by the words of the table."""
    defective = sum(sample.label for sample in samples)
    masks = sum(sample.mask is not None for sample in samples)
    return {
        "good images": len(samples) - defective,
        "defective images": defective,
        "defective images with masks": masks,
    }


def _left_out(dataset: Dataset) -> LeftOut:
    """What was found and is not measured, but for masks that mark nothing."""
    images = [sample.image for sample in dataset.test]
    masks = [mask for sample in dataset.test for mask in sample.masks]
    return left_out_of(dataset.test_folders, images + masks, dataset.test_left_out | without_masks(dataset.test))


def _require_test_images(samples: Sequence[Sample], data: Data) -> None:
    if not samples:
        given = ", ".join(map(str, sources(data)))
        raise UserError(f"no test images in {given}: expected test/good and test/<defect type>.")
    for sample in samples:
        if (count := len(frames(sample.image))) > 1:
            raise UserError(
                f"{sample.image} holds {count} images, but a test image must be one: save each as a file, with its mask."
            )


def _verdicts(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    shares: dict[str, dict[str, float]] = {}
    for kind, label in (("good", 0), ("defective", 1)):
        own = [row["verdict"] for row in rows if row["label"] == label and row["verdict"]]
        if own:
            shares[kind] = {name: own.count(name) / len(own) for name in LABELS}
    return shares


def _at_threshold(rows: Sequence[dict[str, Any]], threshold: float | None) -> dict[str, float | None]:
    if threshold is None:
        return {"threshold": None, "false_alarm_rate": None, "miss_rate": None}
    good = [row["image_score"] > threshold for row in rows if not row["label"]]
    bad = [row["image_score"] <= threshold for row in rows if row["label"]]
    return {
        "threshold": threshold,
        "false_alarm_rate": sum(good) / len(good) if good else None,
        "miss_rate": sum(bad) / len(bad) if bad else None,
    }
