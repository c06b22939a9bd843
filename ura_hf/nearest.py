"""Exact nearest neighbours among fixed cells, most of which their principal components rule out unseen."""

from __future__ import annotations

import torch
from torch import Tensor

QUERIES_AT_ONCE = 256  # their distances to all cells stay in the processor's cache
SHARE = 4  # one component for so many channels
PAYS = (1024, 256)  # cells and channels from which on the components save time
MANY = 64  # cells a query that may be left before comparing with all of them is faster


class NearestCells:
    """Squared distances to the nearest of some cells.

    With P the projection on the leading principal components of the cells and r(x) = |x - P x|, both of what is left after the
    cells' mean,

        |q - m|^2 >= |P q - P m|^2 + (r(q) - r(m))^2,

    the distance of points with one coordinate a component and one for r. The cell nearest by this bound is measured in full; only
    cells whose bound is below that distance can be nearer, and they are measured too. So the answer is that of comparing with all
    cells, for a quarter of the arithmetic.
    """

    def __init__(self, cells: Tensor) -> None:
        """Prepare cells (N, D), float32."""
        self.cells = cells
        self.half_norms = cells.square().sum(1) / 2
        self.directions: Tensor | None = None
        if cells.device.type == "cpu" and len(cells) >= PAYS[0] and cells.shape[1] >= PAYS[1]:
            self.centre = cells.mean(0)
            offsets = cells - self.centre
            vectors = torch.linalg.eigh((offsets.T @ offsets).double()).eigenvectors
            self.directions = vectors[:, -(cells.shape[1] // SHARE) :].float().contiguous()
            points = self._points(cells)
            self.low = torch.cat([-points, points.square().sum(1, keepdim=True) / 2], 1).T.contiguous()

    def distance(self, queries: Tensor) -> Tensor:
        """min_m |q - m|^2 of every query, (Q, D) -> (Q,), float32."""
        measure = self._all if self.directions is None else self._bounded
        return torch.cat([measure(block) for block in queries.split(QUERIES_AT_ONCE)])

    def _all(self, queries: Tensor) -> Tensor:
        nearest = torch.addmm(self.half_norms, queries, self.cells.T, alpha=-1).argmin(1)
        return (queries - self.cells[nearest]).square().sum(1)

    def _bounded(self, queries: Tensor) -> Tensor:
        points = self._points(queries)
        halves = torch.cat([points, points.new_ones(len(points), 1)], 1) @ self.low  # (bound - |point|^2) / 2
        found = (queries - self.cells[halves.argmin(1)]).square().sum(1)
        limits = (found * (1 + 1e-4) - points.square().sum(1)) / 2
        rows, columns = (halves < limits[:, None]).nonzero(as_tuple=True)
        if len(rows) > MANY * len(queries):
            return self._all(queries)
        others = (queries[rows] - self.cells[columns]).square().sum(1)
        return found.scatter_reduce(0, rows, others, "amin")

    def _points(self, x: Tensor) -> Tensor:
        """P x and r(x), (n, D) -> (n, D / SHARE + 1)."""
        assert self.directions is not None
        offsets = x - self.centre
        inside = offsets @ self.directions
        rest = (offsets.square().sum(1) - inside.square().sum(1)).clamp_min(0).sqrt()
        return torch.cat([inside, rest[:, None]], 1)
