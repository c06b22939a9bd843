"""Generated inspection images with exact masks: a machined ring, a woven cloth and an assembled board. No outside material."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ..errors import UserError
from .demo_canvas import Camera, Field, blob, box, disc, line, paint, soft, texture, walk

Flaw = tuple[str, np.random.Generator] | None
CHANGED = 4 / 255  # a pixel whose noiseless value moves by more belongs to the defect


def _spot(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    radius, angle = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def _surface_flaw(canvas: Field, u: Field, v: Field, flaw: Flaw, where: tuple[float, float]) -> Field:
    """Flaws that every kind can have: scratch, stain, dent; others leave the canvas as it is."""
    if flaw is None:
        return canvas
    name, rng = flaw
    spot = _spot(rng, *where)
    if name == "scratch":
        corners = walk(rng, spot, rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.22), 0.12)
        shade = float(rng.choice([-0.35, 0.35]))
        return paint(canvas, soft(line(u, v, corners, rng.uniform(0.008, 0.014))), np.clip(canvas + shade, 0, 1))
    if name == "stain":
        cover = 0.75 * soft(blob(u, v, rng, spot, rng.uniform(0.025, 0.06)), 0.012)
        return paint(canvas, cover, tuple(np.array([0.3, 0.2, 0.08]) * rng.uniform(0.5, 1.2)))
    if name == "dent":
        radius = rng.uniform(0.025, 0.05)
        du, dv = (u - spot[0]) / radius, (v - spot[1]) / radius
        slope = (du + dv) * np.exp(-(du * du + dv * dv))
        return np.clip(canvas * (1 + 0.9 * slope[..., None]), 0, 1)
    return canvas


def _ring(u: Field, v: Field, rng: np.random.Generator, flaw: Flaw) -> Field:
    """A turned metal ring with six bolt holes in a fixture on a dark belt."""
    name, draw = flaw if flaw is not None else ("", rng)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    belt = 0.14 + 0.012 * texture(u, v, rng, 0.012) + 0.01 * texture(u, v, rng, 0.08)
    canvas = np.repeat(belt[..., None], 3, 2)
    marks = texture(radius, np.zeros_like(u), rng, 0.006)  # concentric, from turning
    gleam = 0.09 * np.cos(2 * (angle - rng.normal(0.8, 0.15)))
    metal = rng.uniform(0.5, 0.54) + 0.03 * marks + gleam + 0.012 * texture(u, v, rng, 0.01)
    edge = np.minimum(np.abs(radius - 0.2), np.abs(radius - 0.4))
    metal = metal + 0.15 * np.exp(-((edge / 0.008) ** 2))  # chamfers
    steel = metal[..., None] * np.array([0.97, 1.0, 1.04])
    steel = _surface_flaw(steel, u, v, flaw, (0.25, 0.36))
    if name == "crack":
        way = draw.uniform(0, 2 * np.pi)
        start = (0.21 * np.cos(way), 0.21 * np.sin(way))
        steel = paint(steel, soft(line(u, v, walk(draw, start, way, 0.18, 0.5), 0.01)), (0.08, 0.08, 0.08))
    body = np.maximum(radius - 0.4, 0.2 - radius)
    if name == "burr":
        body = np.minimum(body, blob(u, v, draw, _spot(draw, 0.4, 0.405), draw.uniform(0.025, 0.04)))
    if name == "chip":
        body = np.maximum(body, -blob(u, v, draw, _spot(draw, 0.4, 0.405), draw.uniform(0.025, 0.04)))
    canvas = paint(canvas * (1 - 0.5 * soft(body - 0.012, 0.03)[..., None]), soft(body), steel)
    blocked = int(draw.integers(6)) if name == "blocked_hole" else -1
    for hole in range(6):
        centre = (0.3 * np.cos(hole * np.pi / 3), 0.3 * np.sin(hole * np.pi / 3))
        ring = disc(u, v, centre, 0.032)
        canvas = paint(canvas, 0.6 * soft(np.abs(ring) - 0.003), (0.85, 0.87, 0.9))
        if hole != blocked:
            canvas = paint(canvas, soft(ring), (0.1, 0.1, 0.11))
    return canvas


def _cloth(u: Field, v: Field, rng: np.random.Generator, flaw: Flaw) -> Field:
    """Plain weave of two yarns that fills the picture."""
    name, draw = flaw if flaw is not None else ("", rng)
    spot = _spot(draw, 0.05, 0.35) if flaw is not None else (0.0, 0.0)
    u = u + 0.002 * texture(u, v, rng, 0.1)
    v = v + 0.002 * texture(u, v, rng, 0.1)
    if name == "fold":
        across = (u - spot[0]) * 0.8 + (v - spot[1]) * 0.6
        along = (v - spot[1]) * 0.8 - (u - spot[0]) * 0.6
        push = 0.03 * np.exp(-((across / 0.03) ** 2)) * soft(np.abs(along) - draw.uniform(0.06, 0.12), 0.04)
        u, v = u + 0.8 * push, v + 0.6 * push
    count = 26.0
    warp, weft = u * count, v * count
    over = (np.floor(warp) + np.floor(weft)) % 2 == 0
    profile_u, profile_v = np.sin(np.pi * (warp % 1)) ** 0.6, np.sin(np.pi * (weft % 1)) ** 0.6
    lift_u, lift_v = 0.55 + 0.45 * np.sin(np.pi * (weft % 1)), 0.55 + 0.45 * np.sin(np.pi * (warp % 1))
    fibre = 1 + 0.06 * texture(u, v, rng, 0.006, 3)
    tone = rng.uniform(0.95, 1.05)
    yarn_u = np.array([0.52, 0.55, 0.64]) * tone
    yarn_v = np.array([0.72, 0.68, 0.58]) * tone
    light = np.where(over, profile_u * lift_u, profile_v * lift_v) * fibre
    colour = np.where(over[..., None], yarn_u, yarn_v)
    row = np.floor(spot[1] * count)
    if name == "thick_yarn":
        stretch = (np.floor(weft) == row) & (np.abs(u - spot[0]) < draw.uniform(0.06, 0.14))
        light = np.where(stretch, 0.75 + 0.25 * profile_v, light)
        colour = np.where(stretch[..., None], yarn_v * 1.2, colour)
    if name == "missing_yarn":
        stretch = (np.floor(weft) == row) & (np.abs(u - spot[0]) < draw.uniform(0.06, 0.14))
        light = np.where(stretch & ~over, 0.12, light)
    canvas = np.clip(0.1 + 0.9 * light[..., None] * colour, 0, 1)
    if name == "hole":
        canvas = paint(canvas, soft(blob(u, v, draw, spot, draw.uniform(0.018, 0.035))), (0.06, 0.06, 0.07))
    if name == "foreign_fibre":
        corners = walk(draw, spot, draw.uniform(0, 2 * np.pi), draw.uniform(0.12, 0.25), 0.5)
        canvas = paint(canvas, soft(line(u, v, corners, 0.009)), (0.6, 0.12, 0.12))
    return _surface_flaw(canvas, u, v, flaw, (0.05, 0.35))


PARTS: tuple[tuple[str, tuple[float, float], tuple[float, float]], ...] = (
    ("chip", (-0.14, -0.12), (0.1, 0.07)),
    ("chip", (0.17, 0.2), (0.07, 0.07)),
    ("can", (0.2, -0.2), (0.065, 0.065)),
    ("can", (0.04, -0.27), (0.05, 0.05)),
    ("resistor", (-0.22, 0.12), (0.07, 0.025)),
    ("resistor", (-0.22, 0.21), (0.07, 0.025)),
    ("resistor", (-0.22, 0.3), (0.07, 0.025)),
)


def _component(
    canvas: Field, u: Field, v: Field, kind: str, at: tuple[float, float], half: tuple[float, float]
) -> Field:
    below = (at[0] + 0.012, at[1] + 0.012)
    shadow = soft(disc(u, v, below, half[0]) if kind == "can" else box(u, v, below, half), 0.03)
    canvas = canvas * (1 - 0.35 * shadow[..., None])
    if kind == "chip":
        for side in (-1, 1):
            for pin in np.linspace(-0.8, 0.8, 6):
                centre = (at[0] + pin * half[0], at[1] + side * (half[1] + 0.012))
                canvas = paint(canvas, soft(box(u, v, centre, (0.006, 0.014))), (0.75, 0.76, 0.78))
        canvas = paint(canvas, soft(box(u, v, at, half)), (0.16, 0.16, 0.18))
        return paint(
            canvas, soft(disc(u, v, (at[0] - 0.75 * half[0], at[1] - 0.6 * half[1]), 0.009)), (0.32, 0.32, 0.34)
        )
    if kind == "can":
        canvas = paint(canvas, soft(disc(u, v, at, half[0])), (0.2, 0.24, 0.42))
        return paint(canvas, soft(disc(u, v, at, 0.8 * half[0])), (0.72, 0.73, 0.75))
    canvas = paint(canvas, soft(box(u, v, at, (half[0] + 0.02, 0.008))), (0.75, 0.76, 0.78))
    canvas = paint(canvas, soft(box(u, v, at, half) - 0.006), (0.78, 0.66, 0.46))
    for band, colour in zip((-0.5, -0.15, 0.2), ((0.5, 0.15, 0.1), (0.2, 0.2, 0.2), (0.75, 0.4, 0.1)), strict=True):
        stripe = np.maximum(box(u, v, (at[0] + band * half[0], at[1]), (0.007, half[1])), -1.0)
        canvas = paint(canvas, soft(stripe), colour)
    return canvas


def _board(u: Field, v: Field, rng: np.random.Generator, flaw: Flaw) -> Field:
    """A circuit board with seven parts, each in its place."""
    name, draw = flaw if flaw is not None else ("", rng)
    bench = 0.35 + 0.01 * texture(u, v, rng, 0.02)
    canvas = np.repeat(bench[..., None], 3, 2)
    green = np.array([0.1, 0.36, 0.24]) * rng.uniform(0.95, 1.06)
    grain = 1 + 0.03 * texture(u, v, rng, 0.008)
    board = grain[..., None] * green
    for track in range(9):
        x = -0.36 + 0.09 * track
        corners = np.array([[x, -0.4], [x, -0.1], [x + 0.06, 0.05], [x + 0.06, 0.4]])
        board = paint(board, 0.6 * soft(line(u, v, corners, 0.008)), green * 1.5)
    canvas = paint(canvas, soft(box(u, v, (0, 0), (0.41, 0.41))), board)
    for corner in ((-0.36, -0.36), (0.36, -0.36), (-0.36, 0.36), (0.36, 0.36)):
        canvas = paint(canvas, soft(disc(u, v, corner, 0.028)), (0.8, 0.7, 0.35))
        canvas = paint(canvas, soft(disc(u, v, corner, 0.016)), (0.3, 0.3, 0.3))
    chosen = int(draw.integers(len(PARTS))) if name in ("missing_part", "misplaced_part") else -1
    for index, (kind, at, half) in enumerate(PARTS):
        offset = rng.normal(0, 0.0015, 2)  # placement tolerance
        if index == chosen and name == "missing_part":
            continue
        if index == chosen:
            angle = draw.uniform(0, 2 * np.pi)
            offset = offset + 0.035 * np.array([np.cos(angle), np.sin(angle)])
        canvas = _component(canvas, u, v, kind, (at[0] + offset[0], at[1] + offset[1]), half)
    spot = _spot(draw, 0.05, 0.33) if flaw is not None else (0.0, 0.0)
    if name == "solder_splash":
        field = blob(u, v, draw, spot, draw.uniform(0.018, 0.032))
        canvas = paint(canvas, soft(field), (0.82, 0.83, 0.85))
        canvas = paint(canvas, soft(field + 0.012, 0.012), (0.98, 0.98, 1.0))
    if name == "burn":
        cover = 0.85 * soft(blob(u, v, draw, spot, draw.uniform(0.03, 0.055)), 0.04)
        canvas = paint(canvas, cover, (0.06, 0.05, 0.04))
    if name == "hair":
        corners = walk(draw, spot, draw.uniform(0, 2 * np.pi), draw.uniform(0.15, 0.3), 0.6)
        canvas = paint(canvas, soft(line(u, v, corners, 0.007)), (0.85, 0.82, 0.75))
    return _surface_flaw(canvas, u, v, flaw, (0.05, 0.33))


Scene = Callable[[Field, Field, np.random.Generator, Flaw], Field]
KINDS: dict[str, tuple[Scene, float, tuple[str, ...]]] = {
    "ring": (_ring, 0.15, ("scratch", "stain", "dent", "crack", "burr", "chip", "blocked_hole")),
    "cloth": (_cloth, 0.04, ("stain", "hole", "thick_yarn", "missing_yarn", "foreign_fibre", "fold")),
    "board": (
        _board,
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
        if (np.abs(shown - good).max(2) > CHANGED).mean() > 3e-4:
            break
    mask = np.abs(shown - good).max(2) > CHANGED
    return camera.expose(shown, np.random.default_rng([*key, 3])), mask


def write_demo_data(kind: str, output: Path, train: int = 60, good: int = 20, each: int = 10, side: int = 256) -> None:
    """Write a kind as a category in the MVTec AD layout: `train` and `good` normal images, `each` images of every defect type.

    Raises:
        UserError: No such kind, or the folder can't be written.
    """
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}.")
    for name, count, low in (("train", train, 1), ("good", good, 0), ("each", each, 0)):
        if count < low:
            raise UserError(f"{name} must be at least {low}, but got {count}.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} is not an empty folder: choose another --output.")
    jobs: list[tuple[str, int, str | None, int]] = [("train/good", i, None, i) for i in range(train)]
    jobs += [("test/good", i, None, 10_000 + i) for i in range(good)]
    for row, defect in enumerate(KINDS[kind][2]):
        jobs += [(f"test/{defect}", i, defect, 20_000 + 1000 * row + i) for i in range(each)]
    try:
        for folder, index, defect, seed in tqdm(jobs, desc=f"drawing {kind}", unit="image"):
            pixels, mask = demo_image(kind, seed, defect, side)
            path = output / folder / f"{index:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            if defect is not None:
                target = output / "ground_truth" / defect / f"{index:03d}_mask.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(target)
    except OSError as error:
        raise UserError(f"{output} can't be written ({error.strerror}): choose another folder.") from error
