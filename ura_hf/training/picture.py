"""Trains the decoder of pictures on good photos: its linear part in closed form, its correction by gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import get_cosine_schedule_with_warmup

from ..data.prefetch import read_ahead
from ..data.progress import Progress, silent
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.picture import PictureDecoder
from ..model.region import Region
from .batches import FeatureBatches
from .options import TrainingOptions
from .pose import turned_copy
from .randomness import seeded_generators
from .synthesis import sample_masks

MAX_PICTURES = 500  # photos and turned copies that the decoder is trained on; they are held in memory
IMAGES_PER_STEP = 8
GREY = 0.5  # beyond the region of interest
REGRESSION_CELLS = 75_000  # at most, about: 65 for every weight of a pixel
RIDGE = 1e-3  # added to the variances, in units of their mean
LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Pairs:
    """What the decoder sees, standardised components (M, K, G, G) float16, and what it is to draw, (N, 3, P, P) uint8.

    M is a multiple of N: row m of the components belongs to picture m mod N.
    """

    components: Tensor
    pictures: Tensor

    def batch(self, rows: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Both of some rows, float32, pictures in [0, 1]."""
        pictures = self.pictures[[row % len(self.pictures) for row in rows]]
        return self.components[list(rows)].to(device).float(), pictures.to(device) / 255


def learn_pictures(
    model: URANetForAnomalyDetection,
    batches: FeatureBatches,
    images: Sequence[Path],
    processor: URANetImageProcessor,
    options: TrainingOptions,
    progress: Progress = silent,
) -> None:
    """Train the model's decoder on photos of good parts and their turned copies, the rows after them in `batches`.

    It takes half as many steps as the networks.
    Leaves the global generators as they were, so that nothing else of a run depends on it.
    """
    decoder = model.uranet.decoder
    if decoder is None:
        return
    model.eval()
    steps, seed = -(-options.steps_for(len(images)) // 2), options.seed
    progress("pictures", 0, steps)
    pairs = look(model, decoder, batches, images, processor, seed)
    decoder.begin(*fit_linear(decoder, pairs, model.device), seed)
    descend(decoder, pairs, model.device, steps, seed, progress)
    decoder.round()


@torch.no_grad()
def look(
    model: URANetForAnomalyDetection,
    decoder: PictureDecoder,
    batches: FeatureBatches,
    images: Sequence[Path],
    processor: URANetImageProcessor,
    seed: int,
) -> Pairs:
    """Components and pictures of the rows of `batches`, of more than `MAX_PICTURES` random ones.

    Every image comes as it is, and with places restored as if they were suspicious: restored components look different.
    """
    side = model.config.grid_size * decoder.cell_pixels
    rows: list[int] = np.random.default_rng(seed).permutation(np.asarray(batches.rows))[:MAX_PICTURES].tolist()
    region = model.uranet.region
    pictures = torch.cat(list(read_ahead(lambda row: _picture(row, images, processor, region, side), rows)))
    seen, mixed = [], []
    with seeded_generators(seed):
        for at in range(0, len(rows), IMAGES_PER_STEP):
            own = batches.components_of(rows[at : at + IMAGES_PER_STEP]).to(model.device)
            mask = sample_masks(len(own), own.shape[-1], model.config.mask_weights, own.device)[0].to(own.dtype)
            seen.append(own.half().cpu())
            mixed.append(torch.lerp(own, model.uranet.restoration(own, mask), mask).half().cpu())
    return Pairs(torch.cat(seen + mixed), pictures)


def _picture(row: int, images: Sequence[Any], processor: URANetImageProcessor, region: Region, side: int) -> Tensor:
    """The photo of a row of features as the network gets it, uint8 RGB (1, 3, side, side), grey beyond the region."""
    copy, image = divmod(row, len(images))
    inputs = processor([images[image]], do_normalize=False, return_tensors="pt")
    inputs["pixel_values"] = region.fill(inputs["pixel_values"], GREY)  # before it is turned
    shown = turned_copy(inputs, range(image, image + 1), copy, processor) if copy else inputs["pixel_values"]
    shown = functional.interpolate(shown, (side, side), mode="bilinear", antialias=True)
    return (region.fill(shown, GREY) * 255).round().clamp(0, 255).byte()


@torch.no_grad()
def fit_linear(decoder: PictureDecoder, pairs: Pairs, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ridge regression around the means of each place: W^T = (X^T X + lambda I)^-1 X^T Y and b_t = y_t - W x_t.

    X are the components around cells and Y their pixels, each less its mean x_t or y_t of the place. Sums are in float64 on the
    CPU, since Apple's GPUs lack this type. Of many cells every so many-th counts, other ones in each batch.
    """
    count = len(pairs.components)
    every = max(1, count * pairs.components[0, 0].numel() // REGRESSION_CELLS)
    steps = [range(at, min(at + IMAGES_PER_STEP, count)) for at in range(0, count, IMAGES_PER_STEP)]
    means = [sum(part) / count for part in zip(*(_added(pairs.batch(rows, device)) for rows in steps), strict=True)]
    squares = crossed = torch.zeros((), dtype=torch.float64)
    for step, rows in enumerate(steps):
        components, pictures = (own - mean for own, mean in zip(pairs.batch(rows, device), means, strict=True))
        x, y = (part[step % every :: every] for part in (decoder.known(components), decoder.wanted(pictures)))
        squares, crossed = squares + (x.T @ x).cpu().double(), crossed + (x.T @ y).cpu().double()
    squares.diagonal().add_(RIDGE * squares.diagonal().mean().clamp_min(1e-12))
    weight = torch.linalg.solve(squares, crossed)
    x_mean, y_mean = decoder.known(means[0]).cpu().double(), decoder.wanted(means[1]).cpu().double()
    return weight, y_mean - x_mean @ weight


def _added(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch[0].sum(0, keepdim=True), batch[1].sum(0, keepdim=True)


def descend(
    decoder: PictureDecoder, pairs: Pairs, device: torch.device, steps: int, seed: int, progress: Progress
) -> None:
    """Train the correction by AdamW on `picture_loss`, with a linear warm-up of 10 %, then cosine to zero."""
    decoder.requires_grad_(True)
    optimizer = torch.optim.AdamW(decoder.parameters(), LEARNING_RATE)
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, steps // 10), steps)
    draw, order = torch.Generator().manual_seed(seed), list[int]()
    for step in range(steps):
        while len(order) < IMAGES_PER_STEP:
            order += torch.randperm(len(pairs.components), generator=draw).tolist()
        components, pictures = pairs.batch(order[:IMAGES_PER_STEP], device)
        order = order[IMAGES_PER_STEP:]
        optimizer.zero_grad()
        picture_loss(decoder(components), pictures).backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress("pictures", step + 1, steps)
    decoder.requires_grad_(False)


def picture_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of the pixels, plus that of their differences to the next row and the next column.

    Both (B, 3, P, P) -> scalar. The differences keep edges sharp.
    """
    error = drawn - wanted
    return error.abs().mean() + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
