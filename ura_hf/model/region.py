"""The region of interest: the cells of the feature grid that count, in the geometry of the network's input."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def to_text(inside: np.ndarray) -> str:
    """Cells that count, bool (G, G), as hexadecimal digits: a bit a cell, row by row."""
    return np.packbits(inside).tobytes().hex()


def from_text(text: str, grid_size: int) -> np.ndarray:
    """Inverse of `to_text`, bool (G, G)."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=grid_size**2)
    return bits.reshape(grid_size, grid_size).astype(bool)


def is_region(text: object, grid_size: int) -> bool:
    """Whether a config's field is the text of a region of at least one cell."""
    digits = 2 * -(-(grid_size**2) // 8)
    known = isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None
    return known and bool(from_text(str(text), grid_size).any())


class Region:
    """The cells that count; without a text all do, and every method gives back what it is given.

    Beyond them images are grey before the backbone sees them, so that nothing out there changes what is inside.
    """

    def __init__(self, text: str | None, grid_size: int) -> None:
        self.text = text
        self._cells = np.ones((grid_size, grid_size), dtype=bool) if text is None else from_text(text, grid_size)
        self.inside = torch.from_numpy(self._cells)
        """bool (G, G), on the CPU."""
        self.count = int(self._cells.sum())
        """How many cells count."""
        self._kept: dict[tuple[int, torch.device], Tensor] = {}

    @property
    def is_whole(self) -> bool:
        """Whether every cell counts."""
        return self.text is None

    def outside(self, side: int, device: torch.device) -> Tensor:
        """The pixels or cells that do not count, bool (side, side); kept, so that `torch.export` takes it for a constant."""
        if (side, device) not in self._kept:
            with torch.inference_mode(False):
                scaled = functional.interpolate(self.inside[None, None].float(), (side, side), mode="nearest")
                self._kept[side, device] = (scaled[0, 0] < 0.5).to(device)
        return self._kept[side, device]

    def fill(self, maps: Tensor, value: float = 0.0) -> Tensor:
        """Maps (..., side, side) with `value` wherever they do not count."""
        return maps if self.is_whole else maps.masked_fill(self.outside(maps.shape[-1], maps.device), value)

    def select(self, maps: Tensor) -> Tensor:
        """The cells that count, (..., G, G) -> (..., count), or (..., G, G) where all do."""
        return maps if self.is_whole else maps.flatten(-2)[..., self.indices().to(maps.device)]

    def indices(self, patch: int = 1) -> Tensor:
        """Numbers, row by row, of the patches of patch x patch cells of which any counts, (n,), on the CPU."""
        side = len(self._cells) // patch
        patches = self._cells.reshape(side, patch, side, patch).any((1, 3))
        return torch.from_numpy(np.flatnonzero(patches))
