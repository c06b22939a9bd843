"""Exact nearest neighbours among fixed cells. Principal components rule out most cells before they are compared in full."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

QUERIES_PER_STEP_ON_CPU = 128  # so that their distances to all cells fit in the processor's cache
QUERIES_PER_STEP_ON_GPU = 2048  # large steps are faster on a GPU; distances to 8192 cells take 64 MB
CHANNELS_PER_COMPONENT = 4  # the search uses a quarter as many components as channels
MIN_CELLS, MIN_CHANNELS = 4096, 256  # with fewer cells or channels the components save no time
MAX_CANDIDATES_PER_QUERY = 32  # groups, and cells; with more, comparing with all cells is faster
GROUPS = 128  # of cells; a group that can't hold the nearest cell is skipped as a whole


class NearestCells:
    """Squared distances to the nearest of some cells.

    The cells' mean is subtracted first. With P the projection on the cells' leading principal components and r(x) = |x - P x|,

        |q - m|^2 >= |P q - P m|^2 + (r(q) - r(m))^2.

    This lower bound is a distance between points with one coordinate per component and one for r. The cell with the smallest
    bound is measured in full. Only cells with a bound below that distance can be nearer, and they are measured too. The answer is
    the same as that of comparing with all cells, for a quarter of the arithmetic.

    Points are compared by their closeness q m - |m|^2 / 2 = (|q|^2 - |q - m|^2) / 2, one matrix product in float32. The largest
    closeness of each group is computed first, because finding a maximum is far faster than finding its place.
    """

    def __init__(self, cells: Tensor) -> None:
        """Prepare the search among cells (N, D), float32; they are not copied."""
        self.cells, self.centre = cells, cells.mean(0)
        self.directions: Tensor | None = None
        if cells.device.type == "cpu" and len(cells) >= MIN_CELLS and cells.shape[1] >= MIN_CHANNELS:
            offsets = cells - self.centre
            vectors = torch.linalg.eigh((offsets.T @ offsets).double()).eigenvectors
            self.directions = vectors[:, -(cells.shape[1] // CHANNELS_PER_COMPONENT) :].float().contiguous()
            self.low = _table(self._points(cells))

    @cached_property
    def table(self) -> Tensor:
        """All cells, centred, so that little is lost to cancellation."""
        with torch.inference_mode(False), torch.no_grad():  # it may be needed first in the one and then in the other
            return _table(self.cells - self.centre)

    def distance(self, queries: Tensor) -> Tensor:
        """min_m |q - m|^2 of every query, (Q, D) -> (Q,), float32."""
        measure = self._all if self.directions is None else self._bounded
        at_once = QUERIES_PER_STEP_ON_CPU if queries.device.type == "cpu" else QUERIES_PER_STEP_ON_GPU
        return torch.cat([measure(block) for block in queries.split(at_once)])

    def _all(self, queries: Tensor) -> Tensor:
        closeness = _closeness(queries - self.centre, self.table)
        return self._measure(queries, _closest(closeness, closeness.amax(1)))

    def _bounded(self, queries: Tensor) -> Tensor:
        points = self._points(queries)
        closeness = _closeness(points, self.low)
        largest = closeness.amax(1)
        found = self._measure(queries, _closest(closeness, largest))
        limits = (points.square().sum(1) - found * (1 + 1e-4)) / 2
        rows, groups = (largest > limits[:, None]).nonzero(as_tuple=True)
        if len(rows) > MAX_CANDIDATES_PER_QUERY * len(queries):
            return self._all(queries)
        places, members = (closeness[rows, :, groups] > limits[rows, None]).nonzero(as_tuple=True)
        if len(places) > MAX_CANDIDATES_PER_QUERY * len(queries):
            return self._all(queries)
        rows, groups = rows[places], groups[places]
        others = self._measure(queries[rows], members * GROUPS + groups)
        return found.scatter_reduce(0, rows, others, "amin")

    def _measure(self, queries: Tensor, places: Tensor) -> Tensor:
        """|q - m|^2 of queries (Q, D) and the cells at places (Q,) of a table -> (Q,)."""
        return (queries - self.cells[places.clamp_max(len(self.cells) - 1)]).square().sum(1)

    def _points(self, x: Tensor) -> Tensor:
        """P x and r(x), (n, D) -> (n, D / CHANNELS_PER_COMPONENT + 1)."""
        assert self.directions is not None
        offsets = x - self.centre
        inside = offsets @ self.directions
        rest = (offsets.square().sum(1) - inside.square().sum(1)).clamp_min(0).sqrt()
        return torch.cat([inside, rest[:, None]], 1)


def exhaustive(queries: Tensor, cells: Tensor) -> Tensor:
    """`NearestCells(cells).distance(queries)` by steps that do not depend on the values, as exported programs need it."""
    centre = cells.mean(0)
    offsets = cells - centre
    closeness = (queries - centre) @ offsets.T - offsets.square().sum(1) / 2
    return (queries - cells[closeness.argmax(1)]).square().sum(1)


def _table(points: Tensor) -> Tensor:
    """m and -|m|^2 / 2 of points (N, D) -> (M, D + 1), M the next multiple of GROUPS; the last point is repeated."""
    table = torch.cat([points, points.square().sum(1, keepdim=True) / -2], 1)
    return torch.cat([table, table[-1:].expand(-len(points) % GROUPS, -1)])


def _closeness(queries: Tensor, table: Tensor) -> Tensor:
    """q m - |m|^2 / 2 of queries (Q, D) and a table (M, D + 1) -> (Q, M / GROUPS, GROUPS); a group is a column."""
    return (functional.pad(queries, (0, 1), value=1.0) @ table.T).unflatten(1, (-1, GROUPS))


def _closest(closeness: Tensor, largest: Tensor) -> Tensor:
    """Row of the table with the largest closeness, (Q, M / GROUPS, GROUPS) and its maximum over each group -> (Q,)."""
    group = largest.argmax(1)
    within = closeness[torch.arange(len(group), device=group.device), :, group]
    return within.argmax(1) * GROUPS + group
