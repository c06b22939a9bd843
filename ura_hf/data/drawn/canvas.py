"""What generated inspection images share: coordinates, anti-aliased shapes, textures, a camera and its faults."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float64]

EDGE = 0.006  # width of an anti-aliased edge, image sides


def soft(distance: Field, edge: float = EDGE) -> Field:
    """Coverage in [0, 1] of a shape from its signed distance (negative inside), any shape of array."""
    return np.clip(0.5 - distance / edge, 0, 1)


def disc(u: Field, v: Field, centre: tuple[float, float], radius: float) -> Field:
    """Signed distance to a circle."""
    return np.hypot(u - centre[0], v - centre[1]) - radius


def box(u: Field, v: Field, centre: tuple[float, float], half: tuple[float, float], angle: float = 0.0) -> Field:
    """Signed distance to a rectangle of half sides `half`, turned by `angle` radians."""
    du, dv = u - centre[0], v - centre[1]
    x = np.abs(np.cos(angle) * du + np.sin(angle) * dv) - half[0]
    y = np.abs(np.cos(angle) * dv - np.sin(angle) * du) - half[1]
    return np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0)


def walk(rng: np.random.Generator, start: tuple[float, float], angle: float, length: float, bend: float) -> Field:
    """Corners of a wandering line, (n, 2); `bend` is the deviation of its turns in radians."""
    turns = angle + np.cumsum(rng.normal(0, bend, 10))
    steps = np.stack([np.cos(turns), np.sin(turns)], 1) * length / 10
    return np.concatenate([[start], np.asarray(start) + np.cumsum(steps, 0)])


def line(u: Field, v: Field, corners: Field, width: float) -> Field:
    """Signed distance to a line of `width` through the corners (n, 2)."""
    nearest = np.full(u.shape, np.inf)
    for (u0, v0), (u1, v1) in itertools.pairwise(corners):
        du, dv = u1 - u0, v1 - v0
        along = np.clip(((u - u0) * du + (v - v0) * dv) / (du * du + dv * dv), 0, 1)
        nearest = np.minimum(nearest, np.hypot(u - u0 - along * du, v - v0 - along * dv))
    return nearest - width / 2


def blob(u: Field, v: Field, rng: np.random.Generator, centre: tuple[float, float], radius: float) -> Field:
    """Signed distance-like field of an irregular round patch."""
    angle = np.arctan2(v - centre[1], u - centre[0])
    phases, sizes = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.05, 0.16, 4)
    wobble = sum(
        size * np.sin((k + 2) * angle + phase) for k, (phase, size) in enumerate(zip(phases, sizes, strict=True))
    )
    return np.hypot(u - centre[0], v - centre[1]) - radius * (1 + wobble)


def texture(u: Field, v: Field, rng: np.random.Generator, scale: float, stretch: float = 1.0) -> Field:
    """Smooth random field fixed to the part, deviation 1; `scale` of its grains in image sides, longer along u by `stretch`."""
    side = 256
    grains = (max(scale * side / 2, 0.3), max(scale * stretch * side / 2, 0.3))
    noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), grains, mode="wrap")
    return ndimage.map_coordinates(noise / noise.std(), [v * side, u * side], order=1, mode="grid-wrap")


def paint(canvas: Field, cover: Field, colour: Field | tuple[float, float, float]) -> Field:
    """The canvas (H, W, 3) with a colour, (3,) or (H, W, 3), laid over it where `cover` (H, W) says so."""
    rows, columns = np.flatnonzero(cover.any(1)), np.flatnonzero(cover.any(0))
    if not len(rows):
        return canvas
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)  # most shapes are small
    painted, colours = canvas.copy(), np.broadcast_to(colour, canvas.shape)
    painted[window] += cover[window][..., None] * (colours[window] - canvas[window])
    return painted


@dataclass(frozen=True)
class Camera:
    """Pose of the part, light and faults of the picture; drawn once an image."""

    shift: tuple[float, float]
    angle: float
    zoom: float
    light: tuple[float, float]
    gain: float
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator, turn: float, shift: float = 0.02) -> Camera:
        """A camera for parts that lie turned by up to `turn` radians and off by up to `shift` image sides."""
        x, y = rng.uniform(-shift, shift, 2)
        return cls(
            shift=(float(x), float(y)),
            angle=float(rng.uniform(-turn, turn)),
            zoom=float(rng.uniform(0.98, 1.02)),
            light=(float(rng.normal(-0.15, 0.03)), float(rng.normal(-0.15, 0.03))),
            gain=float(rng.uniform(0.94, 1.02)),
            blur=float(rng.uniform(0.4, 0.8)),
            noise=float(rng.uniform(0.008, 0.014)),
        )

    def coordinates(self, side: int) -> tuple[Field, Field]:
        """Part coordinates of every pixel, the centre at (0, 0), one image side long; two (side, side)."""
        axis = (np.arange(side) + 0.5) / side - 0.5
        x, y = np.meshgrid(axis - self.shift[0], axis - self.shift[1])
        cos, sin = np.cos(self.angle) / self.zoom, np.sin(self.angle) / self.zoom
        return cos * x + sin * y, cos * y - sin * x

    def expose(self, scene: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Light fall-off, blur and sensor noise: scene (S, S, 3) in [0, 1] -> uint8 (S, S, 3)."""
        side = len(scene)
        axis = (np.arange(side) + 0.5) / side - 0.5
        x, y = np.meshgrid(axis - self.light[0], axis - self.light[1])
        lit = scene * (self.gain * (1.06 - 0.5 * (x * x + y * y)))[..., None]
        blurred = ndimage.gaussian_filter(lit, (self.blur * side / 256, self.blur * side / 256, 0))
        grain = rng.normal(0, self.noise, scene.shape) * np.sqrt(0.3 + blurred.clip(0, 1))
        return (np.clip(blurred + grain, 0, 1) * 255).round().astype(np.uint8)
