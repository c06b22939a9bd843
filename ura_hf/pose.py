"""Parts that lie in any rotation: told from good images alone, and answered with turned copies of them. Ours, not the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from .backbone import Backbone
from .image_processing_uranet import URANetImageProcessor

TURNED_COPIES = 3  # of every image, where parts lie in any rotation
ANY_ROTATION = 1.4  # largest ratio of distances at which they do
MIN_IMAGES = 6  # with fewer, none of which is like another by chance, the pose counts as fixed
LOOKED_AT = 48  # images the ratio is measured on: a third, at most 16, against the others
ANGLES = 3  # that each image is turned by
NUDGE = 2.0  # degrees, which count as no turning
REFERENCE_CELLS = 12_000  # of these others


def turn(pixels: Tensor, degrees: float) -> Tensor:
    """Images turned about their centre, their borders continued by reflection: (B, 3, S, S) -> (B, 3, S, S)."""
    margin = pixels.shape[-1] // 4  # more than (sqrt(2) - 1) / 2, which a corner sweeps
    wide = functional.pad(pixels, (margin,) * 4, mode="reflect")
    turned = transforms.rotate(wide, degrees, interpolation=InterpolationMode.BILINEAR)
    return turned[..., margin:-margin, margin:-margin]


def turned_copy(pixels: Tensor, images: range, copy: int) -> Tensor:
    """Copy number `copy` >= 1 of images (B, 3, S, S), each turned by an angle that its number and the copy's fix."""
    angles = [np.random.default_rng((copy, image)).uniform(0, 360) for image in images]
    return torch.cat([turn(one[None], float(angle)) for one, angle in zip(pixels, angles, strict=True)])


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
    chosen = [images[i] for i in draw.permutation(len(images))[:LOOKED_AT]]

    def cells(pixels: Tensor) -> Tensor:
        deep = backbone.raw(pixels)[:, -sum(backbone.deep_channels) :].float()
        return deep.flatten(2).transpose(1, 2).flatten(0, 1)

    def load(paths: Sequence[Path]) -> Tensor:
        return processor(list(paths), return_tensors="pt")["pixel_values"].to(backbone.mean.device)

    count = max(len(chosen) // 3, 1)
    others = torch.cat([cells(load([path])) for path in chosen[count:]])
    others = others[draw.permutation(len(others))[:REFERENCE_CELLS]]

    def distance(pixels: Tensor) -> float:
        return float(torch.cdist(cells(pixels), others).amin(1).square().mean())

    ratios = []
    for path in chosen[:count]:
        pixels = load([path])
        turned = [distance(turn(pixels, float(angle))) for angle in draw.uniform(30, 330, ANGLES)]
        upright = distance(turn(pixels, NUDGE))
        ratios += [np.log(max(d, 1e-12) / max(upright, 1e-12)) for d in turned]
    return float(np.exp(np.mean(ratios)))
