"""Sizes and boxes between images and the network's input."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def inner_box(height: int, width: int, target_height: int, target_width: int) -> tuple[int, int, int, int]:
    """Where "pad" puts an image of (height, width) in the target: top, left, height, width [pixels]."""
    scale = min(target_height / height, target_width / width)
    inner_height = min(max(round(height * scale), 1), target_height)
    inner_width = min(max(round(width * scale), 1), target_width)
    return (target_height - inner_height) // 2, (target_width - inner_width) // 2, inner_height, inner_width


def interpolate(single: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize one (h, w) map to (height, width)."""
    if single.shape == (height, width):
        return single
    return F.interpolate(single[None, None], (height, width), mode="bilinear", align_corners=False, antialias=True)[
        0, 0
    ]
