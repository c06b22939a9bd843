"""Where a detector runs."""

from __future__ import annotations

import torch


def pick_device() -> torch.device:
    """The accelerator that is available: cuda, else mps, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
