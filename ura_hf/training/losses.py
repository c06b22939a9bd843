"""Training losses of perception and restoration."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean of (1 - p_t)^gamma (-ln p_t) over all cells (Lin et al. 2017), a scalar; logits and target (B, 1, G, G)."""
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** gamma * cross_entropy).mean()


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - 2 |p M| / (|p| + |M|) over the whole batch (Milletari et al. 2016), a scalar in [0, 1].

    Over the batch and not per image, since a sample with an empty mask has no overlap to score.
    """
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)


def weigh_hard_cells(error: Tensor, power: float) -> Tensor:
    """Weighted mean of the errors (B, 1, G, G), a scalar: weights (error / mean error)^power, detached, at most 8.

    Rare normal structures, which are restored badly, count more.
    """
    if power == 0:
        return error.mean()
    fixed = error.detach()
    weight = (fixed / fixed.mean().clamp_min(1e-12)).pow(power).clamp_max(8)
    return (weight * error).sum() / weight.sum().clamp_min(1e-12)
