"""Training losses of perception and restoration."""

from __future__ import annotations

from collections.abc import Sequence

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


def restoration_loss(
    restored: Tensor, features: Tensor, levels: Sequence[int], cosine_weight: float, hard_power: float
) -> Tensor:
    """Weighted mean over the cells of MSE(F^, F) + cosine_weight (1 - cos(F^, F)), a scalar >= 0.

    The direction term is the mean over the levels. A cell's weight is its own detached error over the mean error, to the
    power `hard_power`, at most 8: rare normal structures, which are restored badly, count more.
    """
    mse = (restored - features).square().mean(1)
    cosines = [
        functional.cosine_similarity(r, f, dim=1)
        for r, f in zip(restored.split(list(levels), 1), features.split(list(levels), 1), strict=True)
    ]
    error = mse + cosine_weight * (1 - torch.stack(cosines).mean(0))  # (B, G, G)
    if hard_power == 0:
        return error.mean()
    fixed = error.detach()
    weight = (fixed / fixed.mean()).pow(hard_power).clamp_max(8)
    return (weight * error).sum() / weight.sum()
