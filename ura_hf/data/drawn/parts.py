"""Generated inspection images with exact masks: a machined ring, a woven cloth and an assembled board. No outside material."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ...model.errors import UserError
from .board import board
from .canvas import Camera, Field
from .cloth import cloth
from .flaws import Flaw
from .ring import ring

CHANGED = 4 / 255  # a pixel whose noiseless value moves by more belongs to the defect
MIN_DEFECT_SHARE = 8e-4  # least share of the picture that a defect changes
IMAGES_PER_SEED = 1_000_000
Scene = Callable[[Field, Field, np.random.Generator, Flaw], Field]
KINDS: dict[str, tuple[Scene, float, tuple[str, ...]]] = {
    "ring": (ring, 0.15, ("scratch", "stain", "dent", "crack", "burr", "chip", "blocked_hole")),
    "cloth": (cloth, 0.04, ("stain", "hole", "thick_yarn", "missing_yarn", "foreign_fibre", "fold")),
    "board": (
        board,
        0.03,
        ("scratch", "stain", "solder_splash", "burn", "hair", "missing_part", "misplaced_part"),
    ),
}
"""Scene, largest turn in radians and defect types of every kind."""
LOGICAL = ("missing_part", "misplaced_part")
"""Defects that are normal content in the wrong place: the paper's named failure case."""


def demo_image(
    kind: str, seed: int, defect: str | None = None, side: int = 256
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One generated picture, uint8 RGB (side, side, 3), and the mask of its defect, (side, side).

    The same arguments give the same picture. The mask holds exactly the pixels that the defect changes before blur and noise.

    Raises:
        UserError: No such kind, or no such defect of this kind.
    """
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}.")
    scene, turn, defects = KINDS[kind]
    if defect is not None and defect not in defects:
        raise UserError(f"defect of a {kind} must be one of {', '.join(defects)}, but got {defect!r}.")
    key = [list(KINDS).index(kind), seed]
    camera = Camera.draw(np.random.default_rng([*key, 0]), turn)
    u, v = camera.coordinates(side)
    good = scene(u, v, np.random.default_rng([*key, 1]), None)
    shown = good
    for attempt in range(20 if defect is not None else 0):  # a defect may fall where it is hidden: draw another
        shown = scene(u, v, np.random.default_rng([*key, 1]), (str(defect), np.random.default_rng([*key, 2, attempt])))
        if (np.abs(shown - good).max(2) > CHANGED).mean() > MIN_DEFECT_SHARE:
            break
    mask = np.abs(shown - good).max(2) > CHANGED
    return camera.expose(shown, np.random.default_rng([*key, 3])), mask


def write_demo_data(
    kind: str, output: Path, train: int = 60, good: int = 20, each: int = 10, side: int = 256, seed: int = 0
) -> None:
    """Write a kind as a category in the MVTec AD layout: `train` and `good` normal images, `each` images of every defect type.

    No two seeds share an image. The bundled checkpoints were trained and evaluated on those of seed 0.

    Raises:
        UserError: No such kind, or the folder can't be written.
    """
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}.")
    for name, count, low in (("train", train, 1), ("good", good, 0), ("each", each, 0), ("seed", seed, 0)):
        if count < low:
            raise UserError(f"{name} must be at least {low}, but got {count}.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is not an empty folder: choose another --output.")
    jobs: list[tuple[str, int, str | None, int]] = [("train/good", i, None, i) for i in range(train)]
    jobs += [("test/good", i, None, 10_000 + i) for i in range(good)]
    for row, defect in enumerate(KINDS[kind][2]):
        jobs += [(f"test/{defect}", i, defect, 20_000 + 1000 * row + i) for i in range(each)]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent) as work:
            root = Path(work) / "category"
            for folder, index, defect, number in tqdm(jobs, desc=f"drawing {kind}", unit="image"):
                pixels, mask = demo_image(kind, IMAGES_PER_SEED * seed + number, defect, side)
                _save(pixels, root / folder / f"{index:03d}.png")
                if defect is not None:
                    _save(mask.astype(np.uint8) * 255, root / "ground_truth" / defect / f"{index:03d}_mask.png")
            root.replace(output)  # all or nothing
    except OSError as error:
        raise UserError(f"{output} can't be written ({error.strerror}): choose another folder.") from error


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
