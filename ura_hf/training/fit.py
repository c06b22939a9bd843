"""Fits the memories of a detector, weighs its residuals and calibrates its thresholds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..data.progress import Progress, silent
from ..model.configuration_uranet import MEMORY_RESIDUALS
from ..model.memory import greedy_coreset
from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.restoration import to_tokens
from ..model.subspace import MAX_FITTED
from . import calibration
from .batches import FeatureBatches

MAX_CANDIDATE_VECTORS = 300_000  # vectors that a coreset is chosen from; of larger sets, random ones of every image
Vectors = Callable[[Tensor], Tensor]
"""Standardised features (1, C, G, G) of an image -> its vectors (count, C') for a memory."""


@torch.no_grad()
def fill_memories(
    model: URANetForAnomalyDetection, batches: FeatureBatches, different: int, seed: int, progress: Progress = silent
) -> None:
    """Store what is normal: coresets of the training images' k x k tokens and cells, and the subspace of whole images.

    `different` is the number of images without turned copies.
    """
    uranet = model.uranet
    rows = np.random.default_rng(seed).permutation(batches.rows).tolist()
    patch = uranet.restoration.patch_size

    def tokens(features: Tensor) -> Tensor:
        return to_tokens(features, patch)[0]

    def unstandardized(features: Tensor) -> Tensor:
        return model.backbone.unstandardize(features.to(model.backbone.mean.device)).cpu()

    def cells(features: Tensor) -> Tensor:
        return unstandardized(features)[0].flatten(1).T[:, -uranet.memory.cells.shape[1] :]

    def shallow_cells(features: Tensor) -> Tensor:
        return model.backbone.level(unstandardized(features), 0)[0].flatten(1).T

    per_image = model.config.grid_size**2
    stores = [
        (uranet.restoration.memory, tokens, per_image // patch**2),
        (uranet.memory.cells, cells, per_image),
    ]
    if model.config.residuals.get("memory_shallow_l2"):
        stores.append((uranet.shallow_memory.cells, shallow_cells, per_image))
    for done, (store, vectors, count) in enumerate(stores):
        progress("memory", done, len(stores))
        if len(store):
            _fill_memory(store, batches, rows, vectors, count, seed)
    if model.config.residuals.get("subspace_l2"):
        images = (model.backbone.level(unstandardized(batches.features_of([row])), 1) for row in rows[:MAX_FITTED])
        fitted = torch.cat([uranet.subspace.coarse(image) for image in images])
        uranet.subspace.fit(fitted, min(different, len(fitted)))


def _fill_memory(
    store: Tensor, batches: FeatureBatches, rows: list[int], vectors: Vectors, count: int, seed: int
) -> None:
    """Fill `store`, (M, C), with a coreset of the `count` vectors that each of the images in `rows` has."""
    draw = np.random.default_rng(seed)
    kept = max(1, min(count, MAX_CANDIDATE_VECTORS // len(rows)))
    picks = [np.sort(draw.permutation(count)[:kept]) for _ in rows]
    candidates = (vectors(batches.features_of([row]))[pick] for row, pick in zip(rows, picks, strict=True))
    chosen = greedy_coreset(candidates, len(store), torch.Generator().manual_seed(seed)).tolist()
    by_image: dict[int, list[int]] = {}
    for slot in range(len(store)):  # a set smaller than the memory is repeated
        by_image.setdefault(chosen[slot % len(chosen)] // kept, []).append(slot)
    for image, slots in by_image.items():
        own = vectors(batches.features_of([rows[image]]))[picks[image]]
        store[slots] = own[[chosen[slot % len(chosen)] % kept for slot in slots]].to(store)


@torch.no_grad()
def calibrate(
    model: URANetForAnomalyDetection, batches: FeatureBatches, rows: list[int], progress: Progress = silent
) -> None:
    """Weigh the residuals and the image score's parts, and set both thresholds, from held-out normals.

    The thresholds are the image score's and that of the map's maximum, so the configured false-positive rate is the share of good
    images that are called anomalous, and of those that glow anywhere.
    """
    model.eval()
    config = model.config
    config.reliabilities = config.spread_ratio = None
    if config.adapt_residuals:
        maps = [model.uranet.perceive(batches.features_of([row]).to(model.device))[2] for row in rows]
        names = config.residual_weights
        measured = {name: calibration.reliability(torch.cat([m[name] for m in maps])) for name in names}
        # a memory needs no training; a learned map may be flat for want of it
        most = next((measured[name] for name in MEMORY_RESIDUALS if name in measured), float("inf"))
        config.reliabilities = {name: min(value, most) for name, value in measured.items()}
    scores, peaks, wholes = [], [], []
    for done, row in enumerate(rows):
        progress("calibration", done, len(rows))
        output = model.uranet(features=batches.features_of([row]).to(model.device))
        scores.append(model.score_maps(output.anomaly_map))
        peaks.append(output.anomaly_map.amax((1, 2)))
        wholes.append(output.whole_image_residual)
    of_maps, whole = torch.cat(scores), None if wholes[0] is None else torch.cat(wholes)
    if config.adapt_residuals and whole is not None:
        config.spread_ratio = calibration.spread_ratio(of_maps, whole)
    config.image_threshold = calibration.calibrate(model.score_images(of_maps, whole), config.false_positive_rate)
    config.pixel_threshold = calibration.calibrate(torch.cat(peaks), config.false_positive_rate)
