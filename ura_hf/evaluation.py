"""Scores of a checkpoint on a labelled test set, and predictions on loose images."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .data.folder import read_dataset
from .data.samples import Sample
from .errors import UserError
from .image_processing_uranet import URANetImageProcessor
from .images import load_mask
from .metrics import AnomalyMetrics
from .modeling_uranet import URANetForAnomalyDetection
from .prefetch import read_ahead
from .progress import Progress, silent


@torch.inference_mode()
def predict_batches(
    model: URANetForAnomalyDetection,
    processor: URANetImageProcessor,
    images: Sequence[Path],
    batch_size: int,
    description: str,
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Batch by batch, with a progress bar: index of the first image, raw scores (B,), raw maps (B, S, S), original sizes."""
    starts = range(0, len(images), batch_size)
    inputs_ahead = read_ahead(
        lambda start: processor(list(images[start : start + batch_size]), return_tensors="pt"), starts
    )
    for start, inputs in zip(starts, tqdm(inputs_ahead, description, len(starts), unit="batch"), strict=True):
        output = model(inputs["pixel_values"].to(model.device))
        yield start, output.image_score.cpu(), output.anomaly_map.float().cpu(), inputs["original_sizes"]


def evaluate(
    model: URANetForAnomalyDetection,
    processor: URANetImageProcessor,
    data: str | Path,
    batch_size: int = 8,
    curves: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Image and pixel metrics on the test images of a category in any layout that `read_dataset` knows.

    Maps are compared with the masks in the geometry of the input image. `at_threshold` tells how the calibrated threshold
    does on the test images: rates of false alarms and of misses. With `curves`, also those of `AnomalyMetrics.curves`.
    `progress` hears of the stage ``evaluation``, in images.

    Raises:
        UserError: There is nothing to test on, or an image or mask is unreadable.
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, but got {batch_size}.")
    dataset = read_dataset(data, for_training=False)
    samples = dataset.test
    if not samples:
        raise UserError(f"{data} has no test images: expected test/good and test/<defect type>.")
    metrics = AnomalyMetrics()
    scores: list[float] = []
    paths = [sample.image for sample in samples]
    for start, image_scores, cells, sizes in predict_batches(model, processor, paths, batch_size, "evaluating"):
        maps = processor.restore_geometry(cells, sizes)
        rows = samples[start : start + len(maps)]
        masks = [_mask(row, tuple(m.shape)) for row, m in zip(rows, maps, strict=True)]
        metrics.update(image_scores, [row.label for row in rows], maps, masks, [row.defect_type for row in rows])
        scores += image_scores.tolist()
        progress("evaluation", len(scores), len(samples))
    return {
        **metrics.compute(),
        **({"curves": metrics.curves()} if curves else {}),
        "at_threshold": _at_threshold(scores, [s.label for s in samples], model.config.image_threshold),
        "dataset": dataset.name,
        "protocol": {
            "pixel_geometry": "input image",
            "aupro_fpr_limit": 0.3,
            "network_input": model.config.image_size,
            "image_score": model.config.image_score,
            "checkpoint": "last step",
        },
        "date": datetime.date.today().isoformat(),
    }


def _mask(sample: Sample, size: tuple[int, ...]) -> Any:
    return None if sample.mask is None else load_mask(sample.mask, (size[0], size[1]))


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
