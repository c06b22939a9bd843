"""The normal memory: cells that cover the good images, looked up by nearest neighbour (PatchCore, Roth et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .scoring import exactly

DISTANCES_PER_STEP = 1024 * 2048  # take 8 MB, which fit in a processor's cache


class NormalMemory(nn.Module):
    """A coreset of the good images' cells; each cell of an image is compared with its nearest one."""

    cells: Tensor

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("cells", torch.zeros(size, channels))

    def distance(self, components: Tensor) -> Tensor:
        """min_j |x - m_j|^2 of every cell x: (B, K, G, G) -> (B, 1, G, G), float32."""
        batch, _, height, _ = components.shape
        queries = _as_rows(components)
        with exactly(queries.device.type):  # rounded products would drown small distances
            closeness = torch.cat([closeness.amax(1) for closeness in self._closeness(queries)])
        return (queries.square().sum(1) - 2 * closeness).clamp_min(0).view(batch, 1, height, -1)

    def nearest(self, components: Tensor) -> Tensor:
        """m_j with the least |x - m_j|^2 of every cell x: (B, K, G, G) -> same, float32."""
        batch, width, height, _ = components.shape
        queries = _as_rows(components)
        with exactly(queries.device.type):
            places = torch.cat([closeness.argmax(1) for closeness in self._closeness(queries)])
        return self.cells.float()[places].view(batch, height, -1, width).permute(0, 3, 1, 2)

    def _closeness(self, queries: Tensor) -> Iterator[Tensor]:
        """x m_j - |m_j|^2 / 2 of cells x (n, K), which is largest where |x - m_j|^2 is least; some cells at a time."""
        cells = self.cells.float()
        half = cells.square().sum(1) / 2
        at_once = torch.compiler.is_exporting()  # a saved program takes batches of any size
        for block in (queries,) if at_once else queries.split(max(1, DISTANCES_PER_STEP // len(cells))):
            yield block @ cells.T - half


def _as_rows(components: Tensor) -> Tensor:
    return components.float().flatten(2).transpose(1, 2).flatten(0, 1)
