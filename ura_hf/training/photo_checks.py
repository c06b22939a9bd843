"""What is wrong with photos of good parts before a detector learns from them: unreadable, doubled, odd sizes, likely defects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ..data.archives import Upload
from ..data.progress import Progress, silent
from ..data.records import shorten_paths
from ..model.backbone import SMALL, Backbone
from ..model.errors import UserError
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.images import load_image
from .imagenet import load_imagenet
from .near_copies import Thumbnail, same_as, thumbnail

Kind = Literal["unreadable", "duplicate", "size", "defect"]
KINDS: tuple[Kind, ...] = ("unreadable", "duplicate", "size", "defect")

MIN_SIDE = 32  # of a photo [pixels]
ASPECT_TOLERANCE = 0.05  # relative difference from the median aspect ratio
SIZE_TOLERANCE = 2.0  # factor between the longer side and the median one
GRID_SIDE = 16  # side of the feature grid that likely defects are looked for on
MAX_BANK_CELLS = 20_000  # cells of the other photos that a cell is compared with, at most
PROJECTED_DIMENSIONS = 64  # of a cell, when it is compared
MIN_OUTLIER_DEVIATIONS = 3.0  # robust standard deviations of the log score from which a photo is flagged
MIN_OUTLIER_LOG_DEVIATION = 0.05  # least robust deviation of the log scores that a photo is judged by
MIN_COMPARED_PHOTOS = 8  # photos below which no statement on likely defects is made


@dataclass(frozen=True)
class PhotoProblem:
    """One thing that is wrong with a photo, in a sentence.

    For likely defects `cells` marks where, (GRID_SIDE, GRID_SIDE) in [0, 1].
    """

    photo: int
    kind: Kind
    sentence: str
    cells: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class PhotoReport:
    """Problems in the order of the photos, and the photos that could be read, both by index."""

    count: int
    readable: list[int]
    problems: list[PhotoProblem]

    def flagged(self, *kinds: Kind) -> list[int]:
        """Photos with a problem of one of these kinds, of any kind if none is given."""
        return sorted({problem.photo for problem in self.problems if problem.kind in (kinds or KINDS)})


@dataclass
class _Seen:
    """What is kept of each readable photo."""

    rows: list[int]
    sizes: list[tuple[int, int]]
    thumbnails: list[Thumbnail]
    features: list[Tensor]


@torch.inference_mode()
def check_photos(photos: Sequence[Upload], progress: Progress = silent) -> PhotoReport:
    """Check photos of good parts; every photo is read once. `progress` is called with the stage ``checking``.

    - unreadable: no image, damaged, or smaller than `MIN_SIDE`;
    - duplicate: it shows what an earlier photo shows (`near_copies.same_as`), so it adds nothing;
    - size: another aspect ratio than most, or a side far from the median;
    - defect: its worst cell is farther from all cells of all *other* photos than it is usual among them: a robust z-score of
      the log distance above `MIN_OUTLIER_DEVIATIONS`. No model is trained for this, so small or faint defects pass.
    """
    backbone = Backbone(SMALL, (1, 2, 3), 2 * GRID_SIDE)
    load_imagenet(backbone)
    processor = URANetImageProcessor()
    problems: list[PhotoProblem] = []
    seen = _Seen([], [], [], [])
    for index, photo in enumerate(photos):
        try:
            pixels = load_image(photo.path)
            if min(pixels.shape[:2]) < MIN_SIDE:
                height, width = pixels.shape[:2]
                raise UserError(
                    f"{photo.path} has only {width}x{height} pixels: take photos of at least {MIN_SIDE} on a side"
                )
        except UserError as error:
            sentence = shorten_paths(str(error).replace(str(photo.path), photo.name))
            problems.append(PhotoProblem(index, "unreadable", sentence))
        else:
            grid = backbone.raw(processor(pixels, return_tensors="pt")["pixel_values"])
            seen.rows.append(index)
            seen.sizes.append((pixels.shape[0], pixels.shape[1]))
            seen.thumbnails.append(thumbnail(pixels))
            seen.features.append(functional.avg_pool2d(grid, 2)[0].half())
        progress("checking", index + 1, len(photos))
    if seen.rows:
        doubles = _doubles(seen, photos)
        problems += doubles + _odd_sizes(seen)
        problems += _likely_defects(seen, {problem.photo for problem in doubles}, backbone.level_channels)
    order = {kind: place for place, kind in enumerate(KINDS)}
    problems.sort(key=lambda problem: (problem.photo, order[problem.kind]))
    return PhotoReport(len(photos), seen.rows, problems)


def _doubles(seen: _Seen, photos: Sequence[Upload]) -> list[PhotoProblem]:
    """Photos that show what an earlier one shows."""
    problems = []
    for place, twin in same_as(seen.thumbnails).items():
        sentence = f"shows the same as {photos[seen.rows[twin]].name}: a second copy teaches nothing new"
        problems.append(PhotoProblem(seen.rows[place], "duplicate", sentence))
    return problems


def _odd_sizes(seen: _Seen) -> list[PhotoProblem]:
    """Photos that differ in shape or resolution from most; turning a camera or cropping makes good parts look wrong."""
    sizes = np.array(seen.sizes, dtype=float)
    aspects, sides = sizes[:, 1] / sizes[:, 0], sizes.max(1)
    aspect, side = float(np.median(aspects)), float(np.median(sides))
    usual_height, usual_width = np.median(sizes, axis=0).astype(int)
    problems = []
    for row, (height, width), own_aspect, own_side in zip(seen.rows, seen.sizes, aspects, sides, strict=True):
        other_shape = abs(own_aspect / aspect - 1) > ASPECT_TOLERANCE
        if other_shape or not 1 / SIZE_TOLERANCE <= own_side / side <= SIZE_TOLERANCE:
            what = "another shape" if other_shape else "another resolution"
            sentence = f"has {what} than most: {width}x{height} pixels instead of about {usual_width}x{usual_height}"
            problems.append(PhotoProblem(row, "size", sentence))
    return problems


def _likely_defects(seen: _Seen, doubled: set[int], levels: Sequence[int]) -> list[PhotoProblem]:
    """Photos with a place unlike any place of the other photos; doubles are left out, since they would hide each other."""
    kept = [place for place, row in enumerate(seen.rows) if row not in doubled]
    if len(kept) < MIN_COMPARED_PHOTOS:
        return []
    maps = strangeness(torch.stack([seen.features[place] for place in kept]), levels)
    scores = np.log(maps.reshape(len(maps), -1).max(1))
    centre = np.median(scores)
    deviation = max(1.4826 * float(np.median(np.abs(scores - centre))), MIN_OUTLIER_LOG_DEVIATION)
    problems = []
    for place, single, score in zip(kept, maps, scores, strict=True):
        if score - centre > MIN_OUTLIER_DEVIATIONS * deviation:
            sentence = "has a place that looks like nothing on the other photos: is this part really good?"
            cells = (single / single.max()).astype(np.float32)
            problems.append(PhotoProblem(seen.rows[place], "defect", sentence, cells))
    return problems


def strangeness(features: Tensor, levels: Sequence[int]) -> NDArray[Any]:
    """Squared distance of every cell to the nearest cell of any other photo, (N, C, G, G) -> float (N, G, G) above 0, smoothed.

    Channels are standardised over all photos, with the floor of `Backbone.set_statistics`, and projected at random.
    """
    values = features.float()
    count, channels, side, _ = values.shape
    spread = values.std((0, 2, 3), keepdim=True)
    floors = [part.clamp_min(0.25 * float(part.median())).clamp_min(1e-5) for part in spread.split(list(levels), 1)]
    values = (values - values.mean((0, 2, 3), keepdim=True)) / torch.cat(floors, 1)
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(channels, PROJECTED_DIMENSIONS, generator=generator) / PROJECTED_DIMENSIONS**0.5
    cells = values.flatten(2).transpose(1, 2) @ projection  # (N, T, PROJECTED_DIMENSIONS)
    per_photo = max(1, min(cells.shape[1], MAX_BANK_CELLS // count))
    chosen = torch.stack([torch.randperm(cells.shape[1], generator=generator)[:per_photo] for _ in range(count)])
    bank = torch.gather(cells, 1, chosen[..., None].expand(-1, -1, PROJECTED_DIMENSIONS)).flatten(0, 1)
    norms = bank.square().sum(1)
    maps = []
    for index in range(count):
        distances = norms - 2 * (cells[index] @ bank.T)
        distances[:, index * per_photo : (index + 1) * per_photo] = torch.inf
        nearest = (distances.amin(1) + cells[index].square().sum(1)).clamp_min(1e-6)
        maps.append(ndimage.gaussian_filter(nearest.view(side, side).numpy(), 0.7))
    return np.stack(maps)
