"""Generated textures: pictures of nothing, for distillation and as a source of artificial anomalies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image
from scipy import ndimage
from torch import Tensor

TEXTURE_COUNT = 100  # pictures that stand in for texture photos


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


def generated_textures(parent: Path, side: int, seed: int) -> list[Path]:
    """Generated textures as files of a folder in `parent`, in place of photos; those that are there are used again."""
    folder = parent / f"textures-{side}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(TEXTURE_COUNT)]
    with FileLock(folder / "writing.lock"):
        for index, path in enumerate(paths):
            if not path.exists():
                pixels = generated_texture(np.random.default_rng((seed, index)), side)
                partial = path.with_suffix(".partial")
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(partial, format="PNG")
                partial.rename(path)
    return paths
