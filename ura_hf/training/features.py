"""Frozen features of a folder of images, computed once and kept on disk as float16."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm
from transformers import BatchFeature

from ..data.files import files_fingerprint
from ..data.prefetch import read_ahead
from ..data.progress import Progress, silent
from ..model.backbone import Backbone
from ..model.errors import UserError
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.region import Region
from .pose import turned_copy

SHOWN_PROBLEMS = 20  # images that one message names
READING_VERSION = 3  # raise it where an image is read or turned otherwise, so that older features are not taken for it


def _fingerprint(images: Sequence[Path], backbone: Backbone, processor: URANetImageProcessor) -> str:
    levels = list(backbone.cnn.feature_info.out_indices)
    parts = [READING_VERSION, files_fingerprint(images), backbone.name, levels, backbone.grid_size, processor.to_dict()]
    parts += [] if backbone.region.text is None else [backbone.region.text]
    key = hashlib.sha256(json.dumps(parts, default=str).encode())
    for name, tensor in backbone.cnn.state_dict().items():
        key.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return key.hexdigest()[:20]


def cached_features(
    images: Sequence[Path],
    backbone: Backbone,
    processor: URANetImageProcessor,
    folder: Path,
    name: str,
    copies: int = 0,
    progress: Progress = silent,
    batch_size: int = 16,
) -> np.ndarray:
    """Raw features of `images`, (N, C, G, G) float16, memory-mapped read-only from `folder`.

    With `copies`, ((copies + 1) N, C, G, G): the images, then their first turned copies, and so on.

    Computed where the folder has none of the same images, processor and weights; an interrupted computation starts again.

    Raises:
        UserError: An image can't be read, `folder` can't be made, or the disk is too full for the features.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} can't be a folder of features ({error.strerror}): choose another.") from error
    path = folder / f"{name}-{_fingerprint(images, backbone, processor)}-{copies}.npy"
    if not path.exists():
        with FileLock(path.with_suffix(".lock")):  # a second run waits for the first, and then has the features
            _compute_missing(path, images, backbone, processor, copies, progress, batch_size)
    return np.load(path, mmap_mode="r")


def _compute_missing(
    path: Path,
    images: Sequence[Path],
    backbone: Backbone,
    processor: URANetImageProcessor,
    copies: int,
    progress: Progress,
    batch_size: int,
) -> None:
    if path.exists():
        return
    name = path.name.split("-")[0]
    shape = ((copies + 1) * len(images), backbone.channels, backbone.grid_size, backbone.grid_size)
    require_space(path.parent, 2 * math.prod(shape), len(images))
    partial = path.with_suffix(".partial")
    store = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    device = backbone.mean.device
    starts = range(0, len(images), batch_size)
    ahead = read_ahead(lambda at: _read(images[at : at + batch_size], processor), starts)
    batches = tqdm(ahead, f"features of {name} images", len(starts), unit="batch")
    with all_problems_at_once(images, processor):
        for start, inputs in zip(starts, batches, strict=True):
            inputs = inputs.to(device)
            inputs["pixel_values"] = backbone.region.fill(inputs["pixel_values"])  # before it is turned
            rows = range(start, start + len(inputs["pixel_values"]))
            for copy in range(copies + 1):
                shown = turned_copy(inputs, rows, copy, processor) if copy else inputs["pixel_values"]
                computed = backbone.raw(shown).clamp(-6e4, 6e4).half().cpu().numpy()
                store[copy * len(images) + rows.start : copy * len(images) + rows.stop] = computed
            progress(f"{name} features", rows.stop, len(images))
    store.flush()
    del store
    partial.replace(path)


def _read(images: Sequence[Path], processor: URANetImageProcessor) -> BatchFeature:
    """What the processor gives for the images, of which one at a time is held as it is large."""
    each = [processor(image, return_tensors="pt") for image in images]
    return BatchFeature({name: torch.cat([one[name] for one in each]) for name in each[0]})


@contextlib.contextmanager
def all_problems_at_once(images: Sequence[Path], processor: URANetImageProcessor) -> Iterator[None]:
    """Where an image can't be read, the error names every one that can't."""
    try:
        yield
    except UserError as error:
        problems = []
        for image in images:
            try:
                processor.load(image)
            except UserError as problem:
                problems.append(str(problem))
        if len(problems) < 2:
            raise
        shown = "".join(f"\n  {problem}" for problem in problems[:SHOWN_PROBLEMS])
        more = f"\n  and {len(problems) - SHOWN_PROBLEMS} more" * (len(problems) > SHOWN_PROBLEMS)
        raise UserError(f"{len(problems)} of {len(images)} images can't be read:{shown}{more}") from error


def require_space(folder: Path, needed: int, images: int) -> None:
    """Raise UserError where `needed` bytes for features of so many images do not fit on the disk."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the features of {images} images need {needed / 1e9:.1f} GB in {folder} while training runs, but "
            f"{free / 1e9:.1f} GB is free: choose another --output, fewer images or a smaller --grid-size."
        )


def channel_statistics(
    features: np.ndarray, rows: Sequence[int], region: Region | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel over the chosen images, two (C,), in a region; accumulated in float64."""
    total = torch.zeros(features.shape[1], dtype=torch.float64)
    squares, count = torch.zeros_like(total), 0
    for row in rows:
        image = torch.from_numpy(features[row].astype(np.float64))
        cells = (region.select(image) if region else image).flatten(1)
        total, squares, count = total + cells.sum(1), squares + cells.square().sum(1), count + cells.shape[1]
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()
