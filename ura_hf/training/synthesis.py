"""Feature-level artificial anomalies (FASM of arXiv 2603.22840), for training only."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

LATTICE = 32  # gradient vectors a side; noise repeats beyond, which no grid reaches


def perlin_noise(side: int, frequency: Tensor, angle: Tensor, offset: Tensor) -> Tensor:
    """Perlin noise, about [-0.7, 0.7], (B, side, side); 0 on its lattice.

    frequency (B, 2) in periods a side, along axes turned by angle (B,) in radians; offset (B, 2) of the centre from a lattice
    point, in periods.
    """
    batch, device = len(frequency), frequency.device
    line = torch.linspace(-0.5, 0.5, side, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u = (cos * x - sin * y) * frequency[:, 0, None, None] + offset[:, 0, None, None]
    v = (sin * x + cos * y) * frequency[:, 1, None, None] + offset[:, 1, None, None]
    directions = torch.rand(batch, LATTICE * LATTICE, device=device) * (2 * math.pi)
    column, row = u.floor(), v.floor()
    fu, fv = u - column, v - row

    def corner(du: int, dv: int) -> Tensor:
        index = ((row + dv) % LATTICE * LATTICE + (column + du) % LATTICE).long().flatten(1)
        theta = directions.gather(1, index).view_as(u)
        return theta.cos() * (fu - du) + theta.sin() * (fv - dv)

    def fade(t: Tensor) -> Tensor:
        return t * t * t * (t * (6 * t - 15) + 10)

    top = torch.lerp(corner(0, 0), corner(1, 0), fade(fu))
    bottom = torch.lerp(corner(0, 1), corner(1, 1), fade(fu))
    return torch.lerp(top, bottom, fade(fv))


def _uniform(low: float, high: float, *shape: int, device: torch.device) -> Tensor:
    return low + (high - low) * torch.rand(*shape, device=device)


def _any_noise(batch: int, side: int, low: float, high: float, device: torch.device) -> Tensor:
    """Perlin noise of 2^low to 2^high periods a side, turned and placed anywhere, (B, side, side).

    Were a lattice point always at the centre, masks would leave that out.
    """
    return perlin_noise(
        side,
        2 ** _uniform(low, high, batch, 2, device=device),
        _uniform(0, math.pi, batch, device=device),
        torch.rand(batch, 2, device=device),
    )


def _window(batch: int, side: int, radius: Tensor, device: torch.device) -> Tensor:
    """Randomly placed, randomly turned ellipses, boolean (B, side, side); radius (B, 2) in cells."""
    centre = torch.rand(batch, 2, device=device) * side
    angle = torch.rand(batch, device=device) * math.pi
    line = torch.arange(side, device=device) + 0.5
    y, x = torch.meshgrid(line, line, indexing="ij")
    dy, dx = y - centre[:, 0, None, None], x - centre[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along, across = (cos * dx + sin * dy) / radius[:, 0, None, None], (cos * dy - sin * dx) / radius[:, 1, None, None]
    inside = along.square() + across.square() <= 1
    nearest = functional.one_hot((centre.floor()[:, 0] * side + centre.floor()[:, 1]).long(), side * side)
    return inside | nearest.view(batch, side, side).bool()  # never less than one cell


def large_masks(batch: int, side: int, device: torch.device) -> Tensor:
    """Perlin noise above its own quantile: 3 to 40 % of the cells, boolean (B, side, side)."""
    noise = _any_noise(batch, side, 0.5, 3.5, device)
    share = _uniform(0.03, 0.4, batch, device=device)
    level = torch.stack([n.quantile(1 - s) for n, s in zip(noise.flatten(1), share, strict=True)])
    return noise > level[:, None, None]


def small_masks(batch: int, side: int, device: torch.device) -> Tensor:
    """One to three ellipses from a single cell up to an eighth of the side, boolean (B, side, side)."""
    mask = torch.zeros(batch, side, side, dtype=torch.bool, device=device)
    for index in range(3):
        used = torch.rand(batch, device=device) < (1.0, 0.4, 0.3)[index]
        radius = torch.exp(_uniform(math.log(0.3), math.log(max(side / 8, 1.0)), batch, 2, device=device))
        mask |= _window(batch, side, radius, device) & used[:, None, None]
    return mask


def thin_masks(batch: int, side: int, device: torch.device) -> Tensor:
    """Pieces of curves about one cell wide: the zero band of Perlin noise in an ellipse, boolean (B, side, side)."""
    noise = _any_noise(batch, side, 0, 2.5, device)
    slope = functional.pad((noise[:, 1:, 1:] - noise[:, :-1, :-1]).abs(), (0, 1, 0, 1)) + 1e-3
    curve = noise.abs() < slope * _uniform(0.5, 1.0, batch, device=device)[:, None, None]
    radius = torch.exp(_uniform(math.log(1.5), math.log(max(side / 2.5, 2.0)), batch, 2, device=device))
    mask = curve & _window(batch, side, radius, device)
    missed = ~mask.flatten(1).any(1)
    return torch.where(missed[:, None, None], small_masks(batch, side, device), mask)


def sample_masks(batch: int, side: int, weights: Mapping[str, float], device: torch.device) -> tuple[Tensor, Tensor]:
    """Masks of mixed families: boolean (B, 1, side, side), and which samples are subtle, boolean (B,)."""
    names = list(weights)
    chosen = torch.multinomial(torch.tensor([float(weights[n]) for n in names], device=device), batch, replacement=True)
    shapes = [large_masks(batch, side, device), small_masks(batch, side, device), thin_masks(batch, side, device)]
    empty = torch.zeros_like(shapes[0])
    pick = torch.randint(3, (batch,), device=device)
    family = {"large": shapes[0], "small": shapes[1], "thin": shapes[2], "empty": empty}
    family["subtle"] = torch.stack(shapes)[pick, torch.arange(batch, device=device)]
    mask = torch.stack([family[names[int(c)]][i] for i, c in enumerate(chosen)])
    subtle = chosen == names.index("subtle") if "subtle" in names else torch.zeros_like(chosen, dtype=torch.bool)
    return mask[:, None], subtle


def self_source(others: Tensor) -> Tensor:
    """Features of other normal images, shifted, turned, or one of their cells spread out; (B, C, G, G) -> same."""
    _, channels, side, _ = others.shape
    out = []
    for item in others:
        kind = int(torch.randint(3, ()))
        if kind == 0:
            shift = [int(s) for s in torch.randint(side // 4, side - side // 4 + 1, (2,))]
            out.append(item.roll(shift, (1, 2)))
        elif kind == 1:
            out.append(item.rot90(int(torch.randint(4, ())), (1, 2)).flip(1).roll(int(torch.randint(side, ())), 2))
        else:
            cell = item.flatten(1)[:, int(torch.randint(side * side, ()))]
            out.append(cell[:, None, None].expand(channels, side, side))
    return torch.stack(out)


def noise_source(features: Tensor) -> Tensor:
    """The features plus Gaussian noise, one part shared by the whole image and one part a cell; (B, C, G, G) -> same.

    Standard deviations are log-uniform from 0.2 to 2 of the (unit) channel deviation.
    """
    batch, channels, _, _ = features.shape
    device = features.device
    amplitude = torch.exp(_uniform(math.log(0.2), math.log(2), batch, 1, 1, 1, device=device))
    shared = torch.rand(batch, 1, 1, 1, device=device)
    common = torch.randn(batch, channels, 1, 1, device=device)
    noise = shared.sqrt() * common + (1 - shared).sqrt() * torch.randn_like(features)
    return features + amplitude * noise


def synthesize(
    features: Tensor,
    textures: Tensor | None,
    source_weights: Mapping[str, float],
    mask_weights: Mapping[str, float],
    max_blend: float,
) -> tuple[Tensor, Tensor]:
    """F~ = (1-M) F + M (b F + (1-b) A), b ~ U(0, max_blend); for subtle samples b ~ U(max_blend, 0.5 + max_blend / 2).

    features (B, C, G, G) standardised; textures (B, C, G, G) of natural photos or None: the source `texture` is then left out.
    Returns F~ (B, C, G, G) and M (B, 1, G, G) of 0 and 1. Random numbers come from torch's global generators.
    """
    batch, _, side, _ = features.shape
    device = features.device
    mask, subtle = sample_masks(batch, side, mask_weights, device)
    weights = {n: w for n, w in source_weights.items() if w > 0 and (n != "texture" or textures is not None)}
    if not weights:
        weights = {"self": 1.0}
    names = list(weights)
    chosen = torch.multinomial(torch.tensor([float(weights[n]) for n in names], device=device), batch, replacement=True)
    source = torch.empty_like(features)
    for index, name in enumerate(names):
        if not (rows := chosen == index).any():
            continue
        if name == "texture" and textures is not None:
            drawn = textures[rows]
        else:
            drawn = self_source(features.roll(1, 0))[rows] if name == "self" else noise_source(features[rows])
        source[rows] = drawn.to(features.dtype)
    low = torch.where(subtle, max_blend, 0.0)
    high = torch.where(subtle, 0.5 + max_blend / 2, max_blend)
    keep = (low + (high - low) * torch.rand(batch, device=device))[:, None, None, None]
    keep = keep.to(features.dtype)
    altered = torch.where(mask, keep * features + (1 - keep) * source, features)
    return altered, mask.to(features.dtype)
