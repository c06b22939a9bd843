"""Global normal features: a coreset of the training set's cells, looked up by nearest neighbour. Ours, not the paper's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

CELLS_AT_ONCE = 4096  # look-ups a block, which bounds the distance matrix


class NormalMemory(nn.Module):
    """Cells of normal images that cover the training set; a cell's nearest one is what is normal there.

    Restoration attention generalises; the memory cannot: it only returns what was seen. Where both disagree with the input,
    the input is anomalous (`docs/method.md`).
    """

    cells: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("cells", torch.zeros(size, channels))

    def distance(self, features: Tensor) -> Tensor:
        """mean_c (F - nearest)^2 with the nearest normal cell of every cell: (B, C, G, G) -> (B, 1, G, G), float32."""
        batch, channels, height, width = features.shape
        memory = self.cells.float()
        half_norms = memory.square().sum(1) / 2
        queries = features.float().flatten(2).transpose(1, 2).reshape(-1, channels)
        found = []
        for block in queries.split(CELLS_AT_ONCE):
            nearest = memory[(half_norms - block @ memory.T).argmin(1)]
            found.append((block - nearest).square().mean(1))
        return torch.cat(found).view(batch, 1, height, width)


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
    norms = points.square().sum(1)
    chosen = [int(torch.randint(len(points), (1,), generator=generator))]
    nearest = torch.full((len(points),), float("inf"))
    while len(chosen) < count:
        last = chosen[-1]
        nearest = torch.minimum(nearest, norms - 2 * (points @ points[last]) + norms[last])
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)
