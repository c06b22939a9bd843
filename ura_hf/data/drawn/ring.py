"""A turned metal ring with six countersunk bolt holes on a dark belt."""

from __future__ import annotations

import numpy as np

from .canvas import Field, blob, disc, line, paint, soft, texture, walk
from .flaws import Flaw, spot, surface_flaw

INNER, OUTER, HOLES = 0.2, 0.4, 6
STEEL = np.array([0.97, 1.0, 1.04])


def ring(u: Field, v: Field, rng: np.random.Generator, flaw: Flaw) -> Field:
    """Scene (H, W, 3) in [0, 1] of part coordinates u, v; `rng` draws the part, that of `flaw` its defect."""
    name, draw = flaw if flaw is not None else ("", rng)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    light = rng.normal(-2.2, 0.12)  # of the lamp, upper left
    facing = np.cos(angle - light)
    belt = 0.13 + 0.012 * texture(u, v, rng, 0.006) + 0.012 * texture(u, v, rng, 0.08) + 0.006 * np.cos(420 * v)
    canvas = np.repeat(belt[..., None], 3, 2) * (1.02, 1.0, 0.97)

    marks = texture(radius, np.zeros_like(u), rng, 0.006)  # concentric, from turning
    gleam = 0.1 * np.abs(np.cos(angle - light - 0.6)) ** 3 - 0.03
    metal = rng.uniform(0.5, 0.54) + 0.03 * marks * (1 + gleam * 4) + gleam + 0.014 * texture(u, v, rng, 0.01)
    metal = metal + (0.06 + 0.2 * facing) * np.exp(-(((radius - OUTER + 0.007) / 0.006) ** 2))  # chamfers
    metal = metal + (0.06 - 0.2 * facing) * np.exp(-(((radius - INNER - 0.007) / 0.006) ** 2))
    steel = surface_flaw(metal[..., None] * STEEL, u, v, flaw, (0.25, 0.35))
    if name == "crack":
        way = draw.uniform(0, 2 * np.pi)
        start = (0.205 * np.cos(way), 0.205 * np.sin(way))
        steel = paint(steel, soft(line(u, v, walk(draw, start, way, 0.19, 0.45), 0.011)), (0.06, 0.06, 0.06))

    body = np.maximum(radius - OUTER, INNER - radius)
    if name == "burr":
        body = np.minimum(body, blob(u, v, draw, spot(draw, 0.405, 0.415), draw.uniform(0.032, 0.045)))
    if name == "chip":
        body = np.maximum(body, -blob(u, v, draw, spot(draw, 0.39, 0.4), draw.uniform(0.035, 0.05)))
    shadow = soft(
        np.maximum(np.hypot(u - 0.012, v - 0.016) - OUTER - 0.004, INNER - np.hypot(u - 0.012, v - 0.016)), 0.05
    )
    canvas = paint(canvas * (1 - 0.6 * shadow[..., None]), soft(body), np.clip(steel, 0, 1))
    blocked = int(draw.integers(HOLES)) if name == "blocked_hole" else -1
    return np.clip(_drill(canvas, u, v, light, blocked, draw), 0, 1)


def _drill(canvas: Field, u: Field, v: Field, light: float, blocked: int, draw: np.random.Generator) -> Field:
    """The scene with its countersunk bolt holes, of which number `blocked` (-1: none) is filled with swarf."""
    for hole in range(HOLES):
        turn = hole * 2 * np.pi / HOLES
        centre = (0.3 * np.cos(turn), 0.3 * np.sin(turn))
        field = disc(u, v, centre, 0.032)
        side = ((u - centre[0]) * np.cos(light) + (v - centre[1]) * np.sin(light)) / 0.032
        sink = np.clip(0.55 - 0.25 * side, 0, 1)  # countersink: its far side faces the lamp
        canvas = paint(canvas, 0.85 * soft(field - 0.008), sink[..., None] * STEEL)
        depth = np.clip(0.1 - 0.06 * side, 0.03, 1)
        canvas = paint(canvas, soft(field), np.repeat(depth[..., None], 3, 2))
        if hole == blocked:  # by swarf, rough and off-colour
            swarf = 0.42 + 0.12 * texture(u, v, draw, 0.012)
            canvas = paint(canvas, soft(field - 0.002), np.clip(swarf[..., None] * (1.1, 0.95, 0.75), 0, 1))
    return canvas
