"""Artificial defects drawn into good images, to choose settings on without test images.

They are made in the image and not by the training synthesis, which works on features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ura_hf.data.textures import generated_texture
from ura_hf.model.images import load_image

KINDS = ("cut_paste", "scratch", "spot", "texture")
CHANGED = 6  # levels by which a defective pixel differs
ON_PART = 20  # levels by which a part differs from the picture's border
Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def add_defect(image: Picture, kind: str, rng: np.random.Generator) -> tuple[Picture, Mask]:
    """One defect in an image (H, W, 3), and the mask of the pixels that it changes visibly, gaps closed, (H, W).

    Sizes are for a shorter side of 256 pixels and scale with it: `spot` 2 to 10 across, `scratch` 20 to 100 long and 1 to 2.5
    wide, `cut_paste` a rectangle of 12 to 60 a side from elsewhere, `texture` a patch of 16 to 60 across of another material.
    """
    height, width = image.shape[:2]
    unit = min(height, width) / 256
    plain = image.astype(np.float64)
    grey = np.ptp(image, axis=2).max() <= 2
    border = np.median(np.concatenate([plain[0], plain[-1], plain[:, 0], plain[:, -1]]), axis=0)
    result, mask = image, np.zeros((height, width), dtype=bool)
    for _ in range(50):
        cover, content = _DEFECTS[kind](plain, unit, rng)
        if grey:
            content = np.broadcast_to(content, image.shape).mean(2, keepdims=True)
        drawn = np.rint(plain + cover[..., None] * (content - plain)).clip(0, 255).astype(np.uint8)
        changed = np.abs(drawn.astype(int) - image).max(2) >= CHANGED
        if changed.sum() < max(3, 0.6 * (cover > 0.25).sum()):
            continue  # hardly to be seen
        result, mask = drawn, changed | ndimage.binary_closing(changed, iterations=2)
        if (np.abs(plain[changed] - border).max(1) > ON_PART).mean() > 0.6:
            break  # on the part and not beside it; where the part fills the picture the last try stays
    return (
        (result, mask) if mask.any() else add_defect(image, "spot", rng)
    )  # an even picture has nothing to cut and paste


def _grid(plain: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    y, x = np.mgrid[: plain.shape[0], : plain.shape[1]]
    return y, x


def _place(plain: NDArray[np.float64], rng: np.random.Generator) -> tuple[float, float]:
    height, width = plain.shape[:2]
    return rng.uniform(0.1, 0.9) * height, rng.uniform(0.1, 0.9) * width


def _shifted(plain: NDArray[np.float64], where: tuple[float, float], low: float, high: float, rng: Any) -> Any:
    """The colour at a place, lighter or darker by `low` to `high` levels, whichever has room."""
    here = plain[int(where[0]), int(where[1])]
    sign = rng.choice([-1, 1])
    sign = -sign if not 0 <= here.mean() + sign * low <= 255 else sign
    return here + sign * rng.uniform(low, high) + rng.normal(0, 8, 3)


def _spot(plain: NDArray[np.float64], unit: float, rng: np.random.Generator) -> tuple[Any, Any]:
    where, radii = _place(plain, rng), unit * rng.uniform(1, 5, 2)
    y, x = _grid(plain)
    angle = rng.uniform(0, np.pi)
    dy, dx = y - where[0], x - where[1]
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    distance = np.hypot(along / radii[0], across / radii[1])
    return np.clip((1 - distance) * min(radii) + 0.5, 0, 1), _shifted(plain, where, 30, 110, rng)


def _scratch(plain: NDArray[np.float64], unit: float, rng: np.random.Generator) -> tuple[Any, Any]:
    where, length, width = _place(plain, rng), unit * rng.uniform(20, 100), unit * rng.uniform(1, 2.5)
    steps = max(2, int(2 * length))
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.04, steps))
    line_y, line_x = where[0] + np.cumsum(np.sin(angle)) / 2, where[1] + np.cumsum(np.cos(angle)) / 2
    inside = (line_y >= 0) & (line_y < plain.shape[0]) & (line_x >= 0) & (line_x < plain.shape[1])
    away = np.ones(plain.shape[:2], dtype=bool)
    away[line_y[inside].astype(int), line_x[inside].astype(int)] = False
    distance = ndimage.distance_transform_edt(away)
    return np.clip(width / 2 - distance + 0.5, 0, 1) * rng.uniform(0.5, 1), _shifted(plain, where, 30, 90, rng)


def _cut_paste(plain: NDArray[np.float64], unit: float, rng: np.random.Generator) -> tuple[Any, Any]:
    height, width = plain.shape[:2]
    tall, wide = (
        int(min(unit * side, limit - 1)) for side, limit in zip(rng.uniform(12, 60, 2), (height, width), strict=True)
    )
    from_y, to_y = rng.integers(0, height - tall, 2)
    from_x, to_x = rng.integers(0, width - wide, 2)
    content, cover = plain.copy(), np.zeros((height, width))
    piece = plain[from_y : from_y + tall, from_x : from_x + wide] * rng.uniform(0.9, 1.1)
    content[to_y : to_y + tall, to_x : to_x + wide] = piece
    cover[to_y : to_y + tall, to_x : to_x + wide] = 1
    return cover, content


def _texture(plain: NDArray[np.float64], unit: float, rng: np.random.Generator) -> tuple[Any, Any]:
    where, radius = _place(plain, rng), unit * rng.uniform(8, 30)
    y, x = _grid(plain)
    bumps = ndimage.gaussian_filter(rng.standard_normal(plain.shape[:2]), radius / 3)
    outline = radius * (1 + 0.4 * bumps / bumps.std())
    cover = np.clip(outline - np.hypot(y - where[0], x - where[1]) + 0.5, 0, 1) * rng.uniform(0.4, 1)
    side = max(plain.shape[:2])
    material = generated_texture(rng, side).permute(1, 2, 0).numpy()
    return cover, material[: plain.shape[0], : plain.shape[1]].astype(np.float64)


_DEFECTS = {"spot": _spot, "scratch": _scratch, "cut_paste": _cut_paste, "texture": _texture}


def write_held_out(images: Sequence[Path], folder: Path, seed: int, share: float = 0.2, most: int = 50) -> None:
    """Split good images into a category of the MVTec layout: training images, held-out ones, and those with defects.

    `share` of the images, at most `most` of them, become test/good, and once more with each kind of defect test/KIND; file
    names match. Held-out images beyond `most` are not used.
    """
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    held = order[: max(1, round(share * len(images)))]
    for index in sorted(order[len(held) :]):
        _save(np.rint(load_image(images[index]) * 255).astype(np.uint8), folder / f"train/good/{index:04d}.png")
    for index in held[:most]:
        picture = np.rint(load_image(images[index]) * 255).astype(np.uint8)
        _save(picture, folder / f"test/good/{index:04d}.png")
        for number, kind in enumerate(KINDS):
            drawn, mask = add_defect(picture, kind, np.random.default_rng((seed, index, number)))
            _save(drawn, folder / f"test/{kind}/{index:04d}.png")
            _save(mask.astype(np.uint8) * 255, folder / f"ground_truth/{kind}/{index:04d}_mask.png")


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
