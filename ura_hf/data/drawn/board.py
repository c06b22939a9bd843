"""A circuit board with seven parts, each in its place."""

from __future__ import annotations

import numpy as np

from .canvas import Field, blob, box, disc, line, paint, soft, texture, walk
from .flaws import Flaw, spot, surface_flaw

PARTS: tuple[tuple[str, tuple[float, float], tuple[float, float]], ...] = (
    ("chip", (-0.14, -0.12), (0.1, 0.07)),
    ("chip", (0.17, 0.2), (0.07, 0.07)),
    ("can", (0.2, -0.2), (0.065, 0.065)),
    ("can", (0.04, -0.27), (0.05, 0.05)),
    ("resistor", (-0.22, 0.12), (0.07, 0.025)),
    ("resistor", (-0.22, 0.21), (0.07, 0.025)),
    ("resistor", (-0.22, 0.3), (0.07, 0.025)),
)
"""Kind, centre and half sides of every part, image sides."""
MISPLACED_BY = 0.04
TIN, INK = (0.74, 0.75, 0.78), (0.82, 0.85, 0.8)


def board(u: Field, v: Field, rng: np.random.Generator, flaw: Flaw) -> Field:
    """Scene (H, W, 3) in [0, 1] of part coordinates u, v; `rng` draws the part, that of `flaw` its defect."""
    name, draw = flaw if flaw is not None else ("", rng)
    canvas = _bare(u, v, rng)
    chosen = int(draw.integers(len(PARTS))) if name in ("missing_part", "misplaced_part") else -1
    for index, (kind, at, half) in enumerate(PARTS):
        offset = rng.normal(0, 0.0015, 2)  # placement tolerance
        glint = rng.normal(0, 0.15)
        if index == chosen and name == "missing_part":
            continue
        if index == chosen:
            angle = draw.uniform(0, 2 * np.pi)
            offset = offset + MISPLACED_BY * np.array([np.cos(angle), np.sin(angle)])
        centre = (at[0] + offset[0], at[1] + offset[1])
        below = (centre[0] + 0.012, centre[1] + 0.016)
        shadow = soft(disc(u, v, below, half[0]) if kind == "can" else box(u, v, below, half), 0.04)
        canvas = COMPONENTS[kind](canvas * (1 - 0.45 * shadow[..., None]), u, v, centre, half, glint)
    return np.clip(_flawed(canvas, u, v, flaw), 0, 1)


def _bare(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Board without parts on a bench: tracks under the solder mask, printed outlines, mounting holes."""
    bench = 0.33 + 0.012 * texture(u, v, rng, 0.02) + 0.01 * texture(u, v, rng, 0.006)
    canvas = np.repeat(bench[..., None], 3, 2)
    green = np.array([0.09, 0.34, 0.22]) * rng.uniform(0.95, 1.06)
    grain = 1 + 0.03 * texture(u, v, rng, 0.008) + 0.015 * np.cos(300 * u) * np.cos(300 * v)  # glass fabric
    surface = grain[..., None] * green
    for track in range(9):
        x = -0.36 + 0.09 * track
        corners = np.array([[x, -0.4], [x, -0.1], [x + 0.06, 0.05], [x + 0.06, 0.4]])
        surface = paint(surface, 0.6 * soft(line(u, v, corners, 0.008)), green * 1.5)
    for _, at, half in PARTS:
        outline = np.abs(box(u, v, at, (half[0] + 0.016, half[1] + 0.016)))
        surface = paint(surface, 0.55 * soft(outline - 0.0025), INK)
    edge = box(u, v, (0, 0), (0.41, 0.41))
    shadow = soft(box(u, v, (0.01, 0.014), (0.41, 0.41)), 0.05)
    canvas = paint(canvas * (1 - 0.5 * shadow[..., None]), soft(edge), surface)
    canvas = paint(canvas, 0.5 * soft(np.abs(edge + 0.003) - 0.003), (0.55, 0.6, 0.4))
    for corner in ((-0.36, -0.36), (0.36, -0.36), (-0.36, 0.36), (0.36, 0.36)):
        ring = disc(u, v, corner, 0.028)
        gleam = np.clip(0.95 - 6 * (u - corner[0] + v - corner[1]), 0.6, 1.3)
        canvas = paint(canvas, soft(ring), np.clip(gleam[..., None] * (0.76, 0.64, 0.3), 0, 1))
        canvas = paint(canvas, soft(ring + 0.012), (0.12, 0.12, 0.12))
    return canvas


def _chip(canvas: Field, u: Field, v: Field, at: tuple[float, float], half: tuple[float, float], glint: float) -> Field:
    for side in (-1, 1):
        shine = 0.75 + 0.25 * np.exp(-(((v - at[1] - side * (half[1] + 0.008)) / 0.005) ** 2))
        for pin in np.linspace(-0.8, 0.8, 6):
            leg = box(u, v, (at[0] + pin * half[0], at[1] + side * (half[1] + 0.012)), (0.006, 0.014))
            canvas = paint(canvas, soft(leg), shine[..., None] * TIN)
    body = box(u, v, at, half)
    moulded = 0.15 + 0.04 * ((at[0] - u) + (at[1] - v)) / half[0] + 0.02 * glint
    moulded = moulded + 0.12 * np.exp(-(((body + 0.006) / 0.004) ** 2)) * (
        u + v < at[0] + at[1]
    )  # bevel towards the lamp
    canvas = paint(canvas, soft(body), np.clip(moulded, 0, 1)[..., None] * (0.98, 0.98, 1.08))
    for row, length in ((-0.15, 0.55), (0.15, 0.4)):  # printed type
        text = box(u, v, (at[0] + 0.1 * half[0], at[1] + row * half[1] * 2), (length * half[0], 0.006))
        letters = np.sin((u - at[0]) * 520) > -0.2
        canvas = paint(canvas, 0.5 * soft(text) * letters, (0.7, 0.7, 0.68))
    return paint(canvas, soft(disc(u, v, (at[0] - 0.78 * half[0], at[1] - 0.62 * half[1]), 0.009)), (0.3, 0.3, 0.32))


def _can(canvas: Field, u: Field, v: Field, at: tuple[float, float], half: tuple[float, float], glint: float) -> Field:
    field, angle = disc(u, v, at, half[0]), np.arctan2(v - at[1], u - at[0])
    side = 1 + 0.5 * np.cos(angle + 2.2)
    canvas = paint(canvas, soft(field), np.clip(side[..., None] * (0.17, 0.2, 0.36), 0, 1))
    lid = 0.7 + 0.12 * np.cos(2 * (angle - 0.8 - glint)) + 0.08 * np.exp(-(((field + 0.2 * half[0]) / 0.004) ** 2))
    canvas = paint(canvas, soft(field + 0.18 * half[0]), np.clip(lid[..., None] * (1.0, 1.01, 1.03), 0, 1))
    for turn in (0.0, np.pi / 2):  # vent cross
        canvas = paint(canvas, 0.5 * soft(box(u, v, at, (0.5 * half[0], 0.003), turn + 0.8)), (0.42, 0.42, 0.44))
    return canvas


def _resistor(
    canvas: Field, u: Field, v: Field, at: tuple[float, float], half: tuple[float, float], glint: float
) -> Field:
    across = (v - at[1]) / half[1]
    round_ = np.clip(1.12 - 0.5 * (across + 0.25) ** 2, 0.3, 1.2)  # a cylinder under a lamp
    canvas = paint(canvas, soft(box(u, v, at, (half[0] + 0.02, 0.008))), TIN)
    body = box(u, v, at, half) - 0.006
    canvas = paint(canvas, soft(body), np.clip(round_[..., None] * (0.78, 0.65, 0.44), 0, 1))
    for band, colour in zip((-0.5, -0.15, 0.2), ((0.5, 0.14, 0.1), (0.18, 0.18, 0.18), (0.75, 0.4, 0.1)), strict=True):
        stripe = np.maximum(box(u, v, (at[0] + band * half[0], at[1]), (0.008, half[1] + 0.006)), body)
        canvas = paint(canvas, soft(stripe), np.clip(round_[..., None] * colour, 0, 1))
    gleam = np.exp(-(((across + 0.3 + 0.1 * glint) / 0.12) ** 2)) * soft(np.abs(u - at[0]) - 0.8 * half[0], 0.02)
    return paint(canvas, 0.35 * gleam, (1.0, 0.98, 0.94))


COMPONENTS = {"chip": _chip, "can": _can, "resistor": _resistor}


def _flawed(canvas: Field, u: Field, v: Field, flaw: Flaw) -> Field:
    if flaw is None:
        return canvas
    name, draw = flaw
    place = spot(draw, 0.05, 0.3)
    if name == "solder_splash":
        field = blob(u, v, draw, place, draw.uniform(0.028, 0.042))
        canvas = paint(canvas, 0.5 * soft(field - 0.006, 0.03), canvas * 0.5)
        dome = np.clip(0.72 - 8 * (u - place[0] + v - place[1]), 0.45, 0.85)
        canvas = paint(canvas, soft(field), dome[..., None] * (0.99, 1.0, 1.03))
        shine = disc(u, v, (place[0] - 0.008, place[1] - 0.008), 0.008)
        return paint(canvas, np.minimum(soft(shine, 0.01), soft(field)), (1.0, 1.0, 1.0))
    if name == "burn":
        cover = 0.88 * soft(blob(u, v, draw, place, draw.uniform(0.045, 0.07)), 0.04)
        return paint(canvas, cover, (0.06, 0.05, 0.04))
    if name == "hair":
        corners = walk(draw, place, draw.uniform(0, 2 * np.pi), draw.uniform(0.2, 0.32), 0.5)
        canvas = paint(canvas, 0.5 * soft(line(u - 0.005, v - 0.007, corners, 0.01), 0.014), canvas * 0.4)
        return paint(canvas, soft(line(u, v, corners, 0.0085)), (0.9, 0.86, 0.76))
    return surface_flaw(canvas, u, v, flaw, (0.05, 0.3))
