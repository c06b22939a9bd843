"""A model of another library behind the interface of our evaluation."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn

SIDE = 256


class Rival(nn.Module):
    """One of anomalib's torch models, with what `ura_hf.inference` asks of a model."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.device = device
        self.config = SimpleNamespace(image_threshold=None, image_size=SIDE, views="the model's own", score_views=[])

    def forward(
        self, pixel_values: Tensor, num_samples: int | None = None, return_dict: bool | None = None
    ) -> dict[str, Tensor]:
        """(B, 3, S, S) normalised pixels -> image_score (B,), anomaly_map (B, S, S); the other arguments change nothing."""
        found = self.model(pixel_values)
        return {"image_score": found.pred_score.flatten(), "anomaly_map": found.anomaly_map.flatten(0, 1)}
