"""The training loss: artificial anomalies made from components of good images, to be found and to be restored."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..model.modeling_uranet import URANetForAnomalyDetection
from .losses import dice_loss, focal_loss, weigh_hard_cells
from .synthesis import synthesize


class Losses(NamedTuple):
    """Scalars: what is minimised, and its parts before weighting."""

    loss: Tensor
    restoration_loss: Tensor
    perception_loss: Tensor
    """Focal + dice of the perception."""


class Learner(nn.Module):
    """A detector whose forward is its training loss, so that transformers' Trainer can train it."""

    def __init__(self, detector: URANetForAnomalyDetection) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, seen: Tensor, textures: Tensor | None = None) -> Losses:
        """Loss = restoration + lambda_p perception on anomalies made from components of good images.

        Args:
            seen: Standardised components of good images, (B, K, G, G).
            textures: Standardised components of natural photos, (B, K, G, G), as a source of artificial anomalies.
        """
        detector, c = self.detector, self.detector.config
        uranet = detector.uranet
        views = uranet.views
        altered, mask = synthesize(seen, textures, c.source_weights, c.mask_weights, c.max_blend)
        region = uranet.region
        if not region.is_whole:
            altered = torch.where(region.outside(altered.shape[-1], altered.device), seen, altered)
        logits, target = uranet.perception(altered), region.select(mask)
        perception = focal_loss(region.select(logits), target) + dice_loss(region.select(logits), target)
        suspicion = uranet.suspicion_of(logits.detach())
        doubt = torch.rand(len(seen), 1, 1, 1, device=seen.device)
        suspicion = suspicion * (2 * doubt).clamp_max(1)  # perception misses real anomalies: restore them all the same
        restored = uranet.restoration(altered, suspicion).float()
        error = (seen.float() - restored).square().mean(1, keepdim=True)
        if c.cosine_weight:
            wanted, given = views.unstandardize(seen.float()), views.unstandardize(restored)
            error = error + c.cosine_weight * (1 - functional.cosine_similarity(wanted, given, dim=1)[:, None])
        restoration = weigh_hard_cells(region.select(error), c.hard_normal_power)
        return Losses(
            restoration + c.perception_weight * perception,
            restoration.detach(),
            perception.detach(),
        )
