"""Global normal features: a coreset of the training set's cells, looked up by nearest neighbour. Ours, not the paper's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .nearest import NearestCells, exhaustive


class NormalMemory(nn.Module):
    """Cells of normal images that cover the training set; each cell of an image is compared with its nearest one.

    Restoration attention generalises. The memory does not: it only returns cells of training images. Where the input differs
    from both, it is anomalous (`docs/method.md`).
    """

    cells: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("cells", torch.zeros(size, channels))
        self._kept: dict[int, tuple[Tensor, int, NearestCells]] = {}

    def distance(self, features: Tensor) -> Tensor:
        """mean_c (F - nearest)^2 for every cell and its nearest normal cell: (B, C, G, G) -> (B, 1, G, G), float32.

        Features with fewer channels than the memory are compared with its last channels.
        """
        batch, channels, height, width = features.shape
        queries = features.float().flatten(2).transpose(1, 2).reshape(-1, channels)
        if torch.compiler.is_exporting():
            found = exhaustive(queries, self.cells[:, -channels:].float())
        else:
            with torch.autocast(features.device.type, enabled=False):  # a bound that is rounded is none
                found = self._search(channels).distance(queries)
        return (found / channels).view(batch, 1, height, width)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}  # a copy's cells count their changes anew

    def _search(self, channels: int) -> NearestCells:
        """The search among the cells' last channels, kept until the cells change."""
        version = -1 if self.cells.is_inference() else self.cells._version
        kept = self._kept.get(channels)
        if kept is None or kept[0] is not self.cells or kept[1] != version:
            with torch.inference_mode(False), torch.no_grad():
                kept = self._kept[channels] = (self.cells, version, NearestCells(self.cells[:, -channels:].float()))
        return kept[2]


@torch.no_grad()
def greedy_coreset(chunks: Iterable[Tensor], count: int, generator: torch.Generator, projected: int = 64) -> Tensor:
    """Indices of at most `count` points that cover the set: farthest-point selection (Sener and Savarese 2018; PatchCore 2022).

    chunks of points (n, D), N in all -> (min(count, N),) indices. Distances are measured after a Gaussian random
    projection to `projected` dimensions, so only the projections are held in memory.
    """
    low: list[Tensor] = []
    projection: Tensor | None = None
    for chunk in chunks:
        if projection is None:
            projection = torch.randn(chunk.shape[1], projected, generator=generator) / projected**0.5
        low.append(chunk.float() @ projection)
    points = torch.cat(low)
    if count >= len(points):
        return torch.arange(len(points))
    if count == 0:
        return torch.empty(0, dtype=torch.long)
    return farthest_points(points, count, int(torch.randint(len(points), (1,), generator=generator)))


@torch.no_grad()
def farthest_points(points: Tensor, count: int, first: int, pool: int = 0) -> Tensor:
    """Indices of `count` points (N, D), each the farthest from those before it; the first is given.

    A point's distance to the selection only falls, so an old distance is an upper bound. Points are selected within a pool of the
    `pool` points with the largest bounds (0: chosen by N), as long as the largest distance in the pool is at least the largest
    bound outside. Then a new pool is formed, and the bounds of its points are updated with all centres chosen since. The choice
    is that of comparing each centre with every point, to within rounding error.
    """
    total = len(points)
    pool = min(pool or max(1024, total // 16), total)
    points = points - points.mean(0)  # distances stay, and little is lost to cancellation
    norms = points.square().sum(1)
    bound = points.new_full((total,), float("inf"))
    age = torch.zeros(total, dtype=torch.long, device=points.device)  # how many centres a bound has seen
    chosen = [first]
    while len(chosen) < count:
        members = bound.topk(pool).indices
        outside = bound.clone()
        outside[members] = -1
        limit = float(outside.max())
        _refresh(points, norms, bound, age, members, torch.tensor(chosen, device=points.device))
        inside, square, nearest, places = points[members], norms[members], bound[members], members.tolist()
        while len(chosen) < count:
            value, place = nearest.max(0)
            if value < limit:
                break
            chosen.append(places[int(place)])
            nearest = torch.minimum(nearest, square - 2 * (inside @ inside[place]) + square[place])
            nearest[place] = 0
        bound[members], age[members] = nearest, len(chosen)
    return torch.tensor(chosen, device=points.device)


def _refresh(points: Tensor, norms: Tensor, bound: Tensor, age: Tensor, members: Tensor, chosen: Tensor) -> None:
    """Bring the members' bounds up to date with all chosen centres."""
    for old in age[members].unique().tolist():
        if old == len(chosen):
            continue
        group, centres = members[age[members] == old], chosen[old:]
        for rows in group.split(8192):
            products = points[rows] @ points[centres].T
            distances = (norms[centres] - 2 * products).amin(1) + norms[rows]
            bound[rows] = torch.minimum(bound[rows], distances)
    bound[chosen] = 0
    age[members] = len(chosen)
