"""Flaws that a surface of any kind can have: scratch, stain and dent."""

from __future__ import annotations

import numpy as np

from .canvas import Field, blob, line, paint, soft, texture, walk

Flaw = tuple[str, np.random.Generator] | None
"""Name of a defect and the generator of its place and shape; None: a good part."""


def spot(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """A point between two radii around the centre, image sides."""
    radius, angle = rng.uniform(low, high), rng.uniform(0, 2 * np.pi)
    return float(radius * np.cos(angle)), float(radius * np.sin(angle))


def surface_flaw(canvas: Field, u: Field, v: Field, flaw: Flaw, where: tuple[float, float]) -> Field:
    """The surface (H, W, 3) with its scratch, stain or dent, if it has one, between two radii; other flaws leave it as it is."""
    if flaw is None or flaw[0] not in ("scratch", "stain", "dent"):
        return canvas
    name, rng = flaw
    place = spot(rng, *where)
    if name == "scratch":
        corners = walk(rng, place, rng.uniform(0, 2 * np.pi), rng.uniform(0.13, 0.24), 0.12)
        shade = float(rng.choice([-0.4, 0.4]))
        return paint(canvas, soft(line(u, v, corners, rng.uniform(0.01, 0.016))), np.clip(canvas + shade, 0, 1))
    if name == "stain":
        field = blob(u, v, rng, place, rng.uniform(0.04, 0.07))
        rim = 0.12 * np.exp(-(((field + 0.006) / 0.008) ** 2))  # a dried drop is darkest at its edge
        cover = (0.72 + 0.06 * texture(u, v, rng, 0.02)) * soft(field, 0.014) + rim
        return paint(canvas, np.clip(cover, 0, 0.95), tuple(np.array([0.34, 0.19, 0.05]) * rng.uniform(0.5, 1.1)))
    radius = rng.uniform(0.035, 0.055)
    du, dv = (u - place[0]) / radius, (v - place[1]) / radius
    slope = (du + dv) * np.exp(-(du * du + dv * dv))
    return np.clip(canvas * (1 + 1.1 * slope[..., None]), 0, 1)
