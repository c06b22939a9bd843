"""Finds out from good images whether parts lie in any rotation, and makes turned copies of them. Not in the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ..model.backbone import Backbone
from ..model.configuration_uranet import DEFAULT_VIEWS
from ..model.image_processing_uranet import URANetImageProcessor

TURNED_COPIES = 3  # of every image, where parts lie in any rotation
MAX_TURNED_RATIO = 1.4  # parts lie in any rotation where `rotation_ratio` is at most this
MIN_IMAGES = 6  # of fewer images the pose counts as fixed
MAX_MEASURED_IMAGES = 48  # of which a third is turned and compared with the others
TURNS_PER_IMAGE = 3
NUDGE_DEGREES = 2.0  # counts as no turning
MAX_REFERENCE_CELLS = 12_000  # of the others


def views_for(views: Sequence[str], turned_copies: int) -> list[str]:
    """The default views without `place`, which tells nothing of parts in any rotation; views that somebody chose stay."""
    chosen = list(views) != list(DEFAULT_VIEWS)
    return [view for view in views if view != "place" or chosen or not turned_copies]


def turn(pixels: Tensor, degrees: float, aspect: float = 1.0) -> Tensor:
    """Images turned about their centre, (B, 3, h, w) -> (B, 3, h, w).

    Turned as in their own geometry, where they are `aspect` times as wide as high: stretched pixels are not square. Beyond the
    borders comes a quarter of the image by reflection, then, where an image is wider than high or higher than wide, its edge.
    The CPU computes it, since torch's sampling lacks this border on Apple's GPUs; the result is on the device of `pixels`.
    """
    device, pixels = pixels.device, pixels.cpu()
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    height, width = pixels.shape[-2:]
    wide = functional.pad(pixels, (width // 4, width // 4, height // 4, height // 4), mode="reflect")
    shares = pixels.new_tensor([[width / wide.shape[-1]], [height / wide.shape[-2]]])
    matrix = shares * pixels.new_tensor([[cosine, -sine / aspect, 0], [sine * aspect, cosine, 0]])
    grid = functional.affine_grid(matrix.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
    return functional.grid_sample(wide, grid, padding_mode="border", align_corners=False).to(device)


def turn_input(inputs: Mapping[str, Tensor], row: int, degrees: float, processor: URANetImageProcessor) -> Tensor:
    """One image of a processor's output turned as its photo would be, around which padding stays what it is: (1, 3, S, S)."""
    pixels, (height, width) = inputs["pixel_values"][row : row + 1], inputs["original_sizes"][row].tolist()
    top, left, inner_height, inner_width = processor.inner_box(height, width)
    inner = pixels[..., top : top + inner_height, left : left + inner_width]
    bottom, right = pixels.shape[-2] - top - inner_height, pixels.shape[-1] - left - inner_width
    return functional.pad(turn(inner, degrees, width / height), (left, right, top, bottom), mode="replicate")


def turned_copy(inputs: Mapping[str, Tensor], images: range, copy: int, processor: URANetImageProcessor) -> Tensor:
    """Copy number `copy` >= 1 of a processor's output, each image turned by an angle that its number and the copy's fix."""
    angles = [np.random.default_rng((copy, image)).uniform(0, 360) for image in images]
    return torch.cat([turn_input(inputs, row, float(angle), processor) for row, angle in enumerate(angles)])


@torch.no_grad()
def rotation_ratio(images: Sequence[Path], backbone: Backbone, processor: URANetImageProcessor) -> float | None:
    """How much farther turned images lie from the others than upright ones do: about 1 where parts lie in any rotation.

    For a third of the images: the distance to the nearest deep cells of the others when turned by 30 to 330 degrees, over the
    same when hardly turned, which resamples the pixels alike; of these ratios the geometric mean.
    None for fewer than `MIN_IMAGES` images.
    """
    if len(images) < MIN_IMAGES:
        return None
    draw = np.random.default_rng(0)
    chosen = [images[i] for i in draw.permutation(len(images))[:MAX_MEASURED_IMAGES]]

    levels = backbone.level_channels[1:] or backbone.level_channels

    def cells(pixels: Tensor) -> Tensor:
        deep = backbone.raw(pixels)[:, -sum(levels) :, ::2, ::2].float()  # a quarter of the cells tells as much
        return deep.flatten(2).transpose(1, 2).flatten(0, 1)

    def load(path: Path) -> Mapping[str, Tensor]:
        inputs = processor([path], return_tensors="pt").to(backbone.mean.device)
        return {**inputs, "pixel_values": backbone.region.fill(inputs["pixel_values"])}

    count = max(len(chosen) // 3, 1)
    others = torch.cat([cells(load(path)["pixel_values"]) for path in chosen[count:]])
    others = others[draw.permutation(len(others))[:MAX_REFERENCE_CELLS]]

    def distance(pixels: Tensor) -> float:
        return float(torch.cdist(cells(pixels), others).amin(1).square().mean())

    ratios = []
    for path in tqdm(chosen[:count], "how the parts lie (--pose fixed skips it)", unit="image"):
        inputs = load(path)
        turned = [
            distance(turn_input(inputs, 0, float(angle), processor)) for angle in draw.uniform(30, 330, TURNS_PER_IMAGE)
        ]
        upright = distance(turn_input(inputs, 0, NUDGE_DEGREES, processor))
        ratios += [np.log(max(d, 1e-12) / max(upright, 1e-12)) for d in turned]
    return float(np.exp(np.mean(ratios)))
