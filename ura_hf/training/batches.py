"""Cached features as the batches of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.modeling_uranet import URANetForAnomalyDetection


class FeatureBatches(torch.utils.data.Dataset[int]):
    """Row numbers; `collate` turns a batch of them into raw features, which are standardised on the model's device."""

    def __init__(
        self,
        features: np.ndarray,
        rows: list[int],
        textures: np.ndarray | None,
        model: URANetForAnomalyDetection,
        strangers: np.ndarray | None = None,
    ):
        self.features, self.rows, self.textures = features, rows, textures
        self.strangers = textures if strangers is None else strangers
        """Raw features of what stands for all that is not the part, (N, C, G, G) float16; None of nothing."""
        self.mean, self.std = model.backbone.mean.cpu(), model.backbone.std.cpu()

    def __getstate__(self) -> dict[str, Any]:
        """A loading process opens the files itself, where a memory map would be sent with all that it holds."""
        kept = self.__dict__.items()
        return {name: Path(str(value.filename)) if isinstance(value, np.memmap) else value for name, value in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.items()
        self.__dict__ = {
            name: np.load(value, mmap_mode="r") if isinstance(value, Path) else value for name, value in kept
        }

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return self.rows[index]

    def standardize(self, raw: Tensor) -> Tensor:
        """Raw features (B, C, G, G) as float32, each channel with the mean 0 and deviation 1 of the training images."""
        mean, std = (values.to(raw.device)[:, None, None] for values in (self.mean, self.std))
        return (raw.float() - mean) / std

    def features_of(self, rows: list[int]) -> Tensor:
        """Standardised features of some rows, (B, C, G, G)."""
        return self.standardize(torch.from_numpy(self.features[np.asarray(rows)]))

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """Raw features of some rows, float16 (B, C, G, G): half the bytes on the way to a GPU."""
        return {"features": torch.from_numpy(self.features[np.asarray(rows)])}

    def draw_textures(self, count: int) -> Tensor | None:
        """Raw features of randomly drawn texture photos, float16 (count, C, G, G); None without any.

        Not part of `collate`, which runs ahead of the step it is for: a resumed run would draw others.
        """
        if self.textures is None:
            return None
        return torch.from_numpy(self.textures[torch.randint(len(self.textures), (count,)).numpy()])
