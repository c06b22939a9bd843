"""Textures as a source of artificial anomalies: photos of scikit-image, and generated ones, which distillation sees, too."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from scipy import ndimage
from torch import Tensor

TEXTURE_COUNT = 100  # generated pictures
PHOTOS = ("brick", "grass", "gravel", "coffee", "chelsea", "camera")
"""Photos in the wheel of scikit-image that their authors gave under CC0, as its docstrings say."""
SIDE, STRIDE = 256, 128  # of the pieces that a photo is cut into [pixels]


def generated_texture(rng: np.random.Generator, side: int) -> Tensor:
    """Coloured noise, stripes, patches or a weave between two random colours, uint8 (3, side, side)."""
    kind = rng.integers(4)
    sigma = np.exp(rng.uniform(np.log(0.5), np.log(12), 2))
    field = ndimage.gaussian_filter(rng.standard_normal((side, side)), sigma, mode="wrap")
    field /= field.std() + 1e-6
    if kind in (1, 3):
        y, x = np.mgrid[:side, :side] / side
        angle, count = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(2), np.log(40)))
        bend = rng.uniform(0, 2) * field
        field = np.sin(2 * np.pi * count * (np.cos(angle) * x + np.sin(angle) * y) + bend)
        if kind == 3:
            field = 2 * field * np.sin(2 * np.pi * count * (np.cos(angle) * y - np.sin(angle) * x) + bend)
    if kind == 2:
        field = np.round(field * rng.uniform(0.5, 2))
    share = np.clip(0.5 + rng.uniform(0.1, 0.4) * field, 0, 1)[..., None]
    first, second = rng.uniform(0, 255, (2, 3))
    return torch.from_numpy((share * first + (1 - share) * second).astype(np.uint8)).permute(2, 0, 1).contiguous()


def packaged_photos() -> list[Path]:
    """The files of `PHOTOS` in the installed scikit-image, which is not imported; none where it is not installed."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        return []
    files = [Path(package.origin).parent / f"data/{name}.png" for name in PHOTOS]
    return files if all(file.is_file() for file in files) else []


def cut_into_pieces(photos: Sequence[Path], parent: Path) -> list[Path]:
    """Overlapping squares of photos as files of a folder in `parent`; those that are there are used again."""
    folder, paths = parent / "pieces", []
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "writing.lock"):
        for photo in photos:
            with Image.open(photo) as image:
                for top in range(0, image.height - SIDE + 1, STRIDE):
                    for left in range(0, image.width - SIDE + 1, STRIDE):
                        paths.append(folder / f"{photo.stem}-{top}-{left}.png")
                        if not paths[-1].exists():
                            _store(image.crop((left, top, left + SIDE, top + SIDE)), paths[-1])
    return paths


def generated_textures(parent: Path, side: int, seed: int) -> list[Path]:
    """Generated textures as files of a folder in `parent`; those that are there are used again."""
    folder = parent / f"textures-{side}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(TEXTURE_COUNT)]
    with FileLock(folder / "writing.lock"):
        for index, path in enumerate(paths):
            if not path.exists():
                pixels = generated_texture(np.random.default_rng((seed, index)), side)
                _store(Image.fromarray(pixels.permute(1, 2, 0).numpy()), path)
    return paths


def _store(image: Image.Image, path: Path) -> None:
    """Write a PNG file, never half of one."""
    partial = path.with_suffix(".partial")
    image.save(partial, format="PNG")
    partial.rename(path)
