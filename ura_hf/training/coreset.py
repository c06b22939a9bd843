"""A few points that cover many (Sener and Savarese 2018; as in PatchCore, Roth et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor


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
