"""The normal memory: cells that cover the good images, looked up by nearest neighbour (PatchCore, Roth et al. 2022)."""

from __future__ import annotations

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
        batch, width, height, _ = components.shape
        queries = components.float().flatten(2).transpose(1, 2).reshape(-1, width)
        cells = self.cells.float()
        half = cells.square().sum(1) / 2
        at_once = torch.compiler.is_exporting()  # a saved program takes batches of any size
        blocks = (queries,) if at_once else queries.split(max(1, DISTANCES_PER_STEP // len(cells)))
        with exactly(queries.device.type):  # rounded products would drown small distances
            closeness = torch.cat([(block @ cells.T - half).amax(1) for block in blocks])
        return (queries.square().sum(1) - 2 * closeness).clamp_min(0).view(batch, 1, height, -1)
