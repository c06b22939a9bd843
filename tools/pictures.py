"""Strongly augmented pictures: a few hundred photos and generated textures stand for all that a camera sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode, v2

from ura_hf.data.textures import generated_texture
from ura_hf.model.images import load_image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTO_SIDE = 320  # photos are held in memory with this short side
GENERATED = 0.2  # share of pictures that are generated textures
CUT_OUT = 0.25  # share of pictures that are cut out on a plain ground, as a part lies before a camera
MARKED = 0.5  # share of pictures with strokes and specks on them, as fibres, scratches and dirt look
MAX_MARKS = 8  # of one picture


def read_photo(path: Path) -> Tensor:
    """uint8 (3, H, W), the short side at most 320."""
    pixels = torch.from_numpy(load_image(path)).permute(2, 0, 1)[None]
    scale = PHOTO_SIDE / min(pixels.shape[2:])
    if scale < 1:
        pixels = functional.interpolate(pixels, scale_factor=scale, mode="bilinear", antialias=True)
    return (pixels[0] * 255).round().byte()


class Pictures(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Random crops at the scale of textures and of objects, with random colours, marks and camera faults.

    Normalised, (3, side, side), drawn from PyTorch's global generator.
    """

    def __init__(self, photos: Sequence[Tensor], side: int, length: int) -> None:
        self.photos, self.side, self.length = photos, side, length
        self.crop = v2.Compose(
            [
                v2.RandomResizedCrop(side, scale=(0.06, 1), ratio=(0.6, 1.7), interpolation=InterpolationMode.BILINEAR),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(0.3),
                v2.RandomApply([v2.RandomRotation(180, InterpolationMode.BILINEAR)], 0.1),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )
        self.blur = v2.RandomApply([v2.GaussianBlur(7, (0.4, 2.0))], 0.25)
        self.normalize = v2.Normalize(MEAN, STD)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        picture = _recolour(self._content())
        if torch.rand(()) < CUT_OUT:
            ground = torch.rand(3, 1, 1) if torch.rand(()) < 0.5 else torch.rand(1, 1, 1).expand(3, 1, 1)
            cover = _cover(self.side)
            picture = cover * picture + (1 - cover) * ground
        if torch.rand(()) < MARKED:
            for _ in range(int(torch.randint(1, MAX_MARKS + 1, ()))):
                opacity = _mark(self.side) * torch.empty(()).uniform_(0.3, 1)
                picture = opacity * torch.rand(3, 1, 1) + (1 - opacity) * picture
        picture = self.blur(picture)
        if torch.rand(()) < 0.5:
            picture = picture + 0.04 * torch.rand(()) * torch.randn_like(picture)
        return {"pictures": self.normalize(picture.clamp(0, 1))}

    def _content(self) -> Tensor:
        if torch.rand(()) < GENERATED:
            return self.crop(generated_texture(np.random.default_rng(int(torch.randint(2**31, ()))), 2 * self.side))
        return self.crop(self.photos[int(torch.randint(len(self.photos), ()))])


def _recolour(picture: Tensor) -> Tensor:
    """Another white balance, saturation, contrast and brightness, sometimes grey or inverted; (3, H, W) in [0, 1] -> same."""
    grey = torch.full((3, 3), 1 / 3)
    saturation = 0.0 if torch.rand(()) < 0.25 else 0.4 + 1.2 * float(torch.rand(()))
    mix = saturation * torch.eye(3) + (1 - saturation) * grey + 0.1 * torch.randn(3, 3) * min(saturation, 1.0)
    sign = -1.0 if torch.rand(()) < 0.05 else 1.0
    contrast = sign * float(torch.empty(()).uniform_(-1.4, 0.4).exp())
    centre = picture.mean((1, 2), keepdim=True)
    target = (centre + 0.25 * torch.randn(1, 1, 1)).clamp(0.05, 0.95)
    return (torch.einsum("ij,jhw->ihw", mix, picture - centre) * contrast + target).clamp(0, 1)


def _cover(side: int) -> Tensor:
    """Anti-aliased disc, ring or rounded rectangle in any pose, (1, side, side) in [0, 1]."""
    axis = (torch.arange(side) + 0.5) / side - 0.5
    angle, centre = torch.rand(()) * 3.14159, 0.3 * torch.rand(2) - 0.15
    y, x = axis[:, None] - centre[0], axis[None] - centre[1]
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    half, power = 0.15 + 0.35 * torch.rand(2), 2 + 6 * torch.rand(())
    distance = ((u / half[0]).abs() ** power + (v / half[1]).abs() ** power) ** (1 / power) - 1
    if torch.rand(()) < 0.25:
        distance = torch.maximum(distance, -distance - 0.5)
    return (0.5 - distance * half.min() * side).clamp(0, 1)[None]


def _mark(side: int) -> Tensor:
    """Anti-aliased bent stroke, or a speck where it is short, 1 to 5 pixels wide, (1, side, side) in [0, 1]."""
    start, turn = torch.rand(2) * side, 2 * math.pi * torch.rand(())
    length, bend = side * 0.4 * torch.rand(()).square(), 2 * torch.randn(())
    count = int(length) + 2  # less than a pixel apart
    angles = turn + bend * torch.linspace(0, 1, count)
    points = start + (length / count * torch.stack([angles.sin(), angles.cos()], 1)).cumsum(0)  # (count, 2)
    axis = torch.arange(side) + 0.5
    square = (axis[:, None, None] - points[:, 0]).square() + (axis[None, :, None] - points[:, 1]).square()
    half = torch.empty(()).uniform_(0.5, 2.5)
    return (half + 0.5 - square.amin(2).sqrt()).clamp(0, 1)[None]
