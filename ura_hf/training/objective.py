"""The training loss: artificial anomalies made from features of good images, to be found and to be restored."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.perception import binary_entropy
from ..model.scoring import l2_distance
from .losses import dice_loss, focal_loss, weigh_hard_cells
from .synthesis import synthesize


class Losses(NamedTuple):
    """Scalars: what is minimised, and its parts before weighting."""

    loss: Tensor
    restoration_loss: Tensor
    perception_loss: Tensor
    """Focal + dice of the perception."""
    kl_loss: Tensor
    """KL of the variational weights over the number of cells that training shows."""


class Learner(nn.Module):
    """A detector whose forward is its training loss, so that transformers' Trainer can train it."""

    def __init__(self, detector: URANetForAnomalyDetection) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, features: Tensor, textures: Tensor | None = None, num_images: int = 8000) -> Losses:
        """Loss = restoration + lambda_p (perception + KL) on anomalies made from features of good images.

        Args:
            features: Standardised features of good images, (B, C, G, G).
            textures: Standardised features of natural photos, (B, C, G, G), as a source of artificial anomalies.
            num_images: Artificial images that training shows in all; KL is divided by it times the cells of an image.
        """
        detector, c = self.detector, self.detector.config
        uranet = detector.uranet
        altered, mask = synthesize(features, textures, c.source_weights, c.mask_weights, c.max_blend)
        logits = uranet.perception(altered)
        perception = focal_loss(logits, mask) + dice_loss(logits, mask)
        kl = uranet.perception.kl() / (max(num_images, 1) * mask[0].numel())  # a cell is a datum
        probability = logits.detach().sigmoid()
        suspicion = uranet.suspicion(probability, binary_entropy(probability))
        doubt = torch.rand(len(features), 1, 1, 1, device=features.device)
        suspicion = suspicion * (2 * doubt).clamp_max(1)  # perception misses real anomalies: restore them all the same
        restored = uranet.restoration(altered, suspicion)
        unstandardized = uranet.extractor.unstandardize(features.float())
        error = l2_distance(features.float(), restored.float()) + c.cosine_weight * uranet.direction(
            unstandardized, restored
        )
        restoration = weigh_hard_cells(error, c.hard_normal_power)
        return Losses(
            restoration + c.perception_weight * (perception + kl),
            restoration.detach(),
            perception.detach(),
            kl.detach(),
        )
