"""Cached features, and the components that the networks see of them, as the batches of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..model.backbone import LARGEST
from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.views import NormalViews
from .features import require_space

IMAGES_PER_STEP = 16


class FeatureBatches(torch.utils.data.Dataset[int]):
    """Row numbers; `collate` turns a batch of them into what the networks see, once `project` has made that."""

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
        self.seen: np.ndarray | None = None
        self.seen_textures: np.ndarray | None = None

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

    @torch.no_grad()
    def project(self, views: NormalViews, folder: Path, write: bool = True) -> None:
        """Keep the standardised components of all images and textures in files of a folder: a step need not project them.

        Without `write` another process has just written them.
        """

        def projected(raw: np.ndarray, path: Path) -> np.ndarray:
            if not write:
                return np.load(path, mmap_mode="r")
            path.unlink(missing_ok=True)  # of a killed run
            shape = (len(raw), views.components, *raw.shape[2:])
            require_space(folder, 2 * math.prod(shape), len(raw))
            kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            for at in range(0, len(raw), IMAGES_PER_STEP):
                step = torch.from_numpy(raw[at : at + IMAGES_PER_STEP].copy()).to(views.axes.device)
                components = views.standardize(views.project(self.standardize(step))).clamp(-LARGEST, LARGEST)
                torch.from_numpy(kept[at : at + len(step)]).copy_(components)
            kept.flush()
            return np.load(path, mmap_mode="r")

        self.seen = projected(self.features, folder / "components.npy")
        if self.textures is not None:
            self.seen_textures = projected(self.textures, folder / "texture-components.npy")

    def components_of(self, rows: list[int]) -> Tensor:
        """Standardised components of some rows, float32 (B, K, G, G)."""
        return self.collate(rows)["components"].float()

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """Standardised components of some rows, float16 (B, K, G, G): half the bytes on the way to a GPU."""
        assert self.seen is not None, "project() comes first"
        return {"components": torch.from_numpy(self.seen[np.asarray(rows)])}

    def draw_textures(self, count: int) -> Tensor | None:
        """Standardised components of randomly drawn texture photos, float32 (count, K, G, G); None without any.

        Not part of `collate`, which runs ahead of the step it is for: a resumed run would draw others.
        """
        if self.seen_textures is None:
            return None
        drawn = torch.randint(len(self.seen_textures), (count,)).numpy()
        return torch.from_numpy(self.seen_textures[drawn]).float()
