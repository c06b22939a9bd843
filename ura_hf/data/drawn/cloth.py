"""A plain weave of two yarns that fills the picture."""

from __future__ import annotations

import numpy as np

from .canvas import Field, blob, line, paint, soft, texture, walk
from .flaws import Flaw, spot, surface_flaw

YARNS = 26.0  # in one image side
Place = tuple[float, float]
WARP, WEFT = np.array([0.5, 0.54, 0.64]), np.array([0.72, 0.68, 0.58])


def cloth(u: Field, v: Field, rng: np.random.Generator, flaw: Flaw) -> Field:
    """Scene (H, W, 3) in [0, 1] of part coordinates u, v; `rng` draws the part, that of `flaw` its defect."""
    name, draw = flaw if flaw is not None else ("", rng)
    place = spot(draw, 0.05, 0.33) if flaw is not None else (0.0, 0.0)
    u = u + 0.002 * texture(u, v, rng, 0.1)
    v = v + 0.002 * texture(u, v, rng, 0.1)
    tones = 1 + rng.normal(0, 0.035, (2, 80))  # of single yarns
    tone = rng.uniform(0.95, 1.05)
    if name == "fold":
        u, v, crease = _fold(u, v, draw, place)
    warp, weft = u * YARNS, v * YARNS
    column, row = np.floor(warp), np.floor(weft)
    over = (column + row) % 2 == 0
    profile_u, profile_v = np.sin(np.pi * (warp % 1)) ** 0.6, np.sin(np.pi * (weft % 1)) ** 0.6
    lift_u, lift_v = 0.55 + 0.45 * np.sin(np.pi * (weft % 1)), 0.55 + 0.45 * np.sin(np.pi * (warp % 1))
    fibre = 1 + 0.07 * texture(u, v, rng, 0.006, 3) + 0.05 * texture(v, u, rng, 0.006, 3)
    yarn_u = WARP * tone * tones[0][(column.astype(int) + 40) % 80][..., None]
    yarn_v = WEFT * tone * tones[1][(row.astype(int) + 40) % 80][..., None]
    light = np.where(over, profile_u * lift_u, profile_v * lift_v) * fibre
    colour = np.where(over[..., None], yarn_u, yarn_v)
    centre = np.floor(place[1] * YARNS) + 0.5  # of the yarn that the flaw lies in, yarns
    reach = soft(np.abs(u - place[0]) - draw.uniform(0.07, 0.14), 0.03) if flaw is not None else np.zeros_like(u)
    if name == "missing_yarn":  # the crossing yarns float over a dark gap
        gap = reach * soft((np.abs(weft - centre) - 0.85) / YARNS, 0.008)
        light = light + gap * (0.55 * profile_u**4 - light)
        colour = colour + gap[..., None] * (yarn_u - colour)
    if name == "thick_yarn":  # a slub, about twice as wide as its neighbours and on top of them
        wide = 0.95 + 0.12 * texture(u, np.zeros_like(v), draw, 0.03)
        height = np.clip(1 - ((weft - centre) / wide) ** 2, 0, 1) ** 0.5
        slub = reach * soft((np.abs(weft - centre) - wide) / YARNS, 0.008)
        light = light + slub * ((0.35 + 0.7 * height) * fibre - light)
        colour = colour + slub[..., None] * (1.12 * yarn_v - colour)
    canvas = np.clip(0.08 + 0.92 * light[..., None] * colour, 0, 1)
    if name == "fold":
        canvas = np.clip(canvas * (1 + 0.55 * crease[..., None]), 0, 1)
    if name == "hole":
        canvas = _hole(canvas, u, v, draw, place)
    if name == "foreign_fibre":
        canvas = _fibre(canvas, u, v, draw, place)
    return surface_flaw(canvas, u, v, flaw, (0.05, 0.33))


def _fold(u: Field, v: Field, draw: np.random.Generator, place: Place) -> tuple[Field, Field, Field]:
    """Coordinates that are pushed aside by a fold, and its shading."""
    across = (u - place[0]) * 0.8 + (v - place[1]) * 0.6
    along = (v - place[1]) * 0.8 - (u - place[0]) * 0.6
    push = 0.035 * np.exp(-((across / 0.035) ** 2)) * soft(np.abs(along) - draw.uniform(0.09, 0.14), 0.05)
    return u + 0.8 * push, v + 0.6 * push, push / 0.035 * np.sin(across / 0.022)


def _hole(canvas: Field, u: Field, v: Field, draw: np.random.Generator, place: Place) -> Field:
    field = blob(u, v, draw, place, draw.uniform(0.025, 0.042))
    canvas = paint(canvas, 0.5 * soft(field - 0.008, 0.02), canvas * 0.6)
    return paint(canvas, soft(field), (0.05, 0.05, 0.06))


def _fibre(canvas: Field, u: Field, v: Field, draw: np.random.Generator, place: Place) -> Field:
    corners = walk(draw, place, draw.uniform(0, 2 * np.pi), draw.uniform(0.16, 0.28), 0.5)
    canvas = paint(canvas, soft(line(u + 0.006, v + 0.008, corners, 0.012), 0.012), canvas * 0.55)
    return paint(canvas, soft(line(u, v, corners, 0.011)), (0.66, 0.1, 0.1))
