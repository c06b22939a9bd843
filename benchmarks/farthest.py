"""Exact farthest-point selection that spares most distances, for coresets of a hundred thousand points."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def farthest_points(points: Tensor, count: int, first: int, pool: int = 0) -> Tensor:
    """Indices of `count` points (N, D), each the farthest from those before it; the first is given.

    A point's distance to the selection only falls, so an old value bounds it from above. Selection goes on inside a pool of
    the `pool` largest bounds (0: chosen by N) as long as the pool's largest distance is not below every bound outside; only
    then are bounds brought up to date, those of the next pool alone, against all centres chosen since, in one matrix product
    for the points that are equally old. Same choice as comparing each centre with every point, up to rounding.
    """
    total = len(points)
    pool = min(pool or max(1024, total // 16), total)
    points = points - points.mean(0)  # distances stay, and little is lost to cancellation
    norms = points.square().sum(1)
    bound = points.new_full((total,), float("inf"))
    age = torch.zeros(total, dtype=torch.long)  # how many centres a bound has seen
    chosen = [first]
    while len(chosen) < count:
        members = bound.topk(pool).indices
        outside = bound.clone()
        outside[members] = -1
        limit = float(outside.max())
        _refresh(points, norms, bound, age, members, torch.tensor(chosen))
        inside, square, nearest = points[members], norms[members], bound[members]
        while len(chosen) < count:
            value, place = nearest.max(0)
            if value < limit:
                break
            chosen.append(int(members[place]))
            nearest = torch.minimum(nearest, square - 2 * (inside @ inside[place]) + square[place])
            nearest[place] = 0
        bound[members], age[members] = nearest, len(chosen)
    return torch.tensor(chosen)


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
