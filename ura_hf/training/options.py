"""What a training run depends on, apart from the model's own config."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..model.errors import UserError

MAX_IMAGES = 4000
"""Largest number of images whose features are cached; of more, so many are drawn by the seed."""
MIN_HELD_OUT = 10
"""Images kept from training for calibration at least, unless that is more than a quarter of them."""
MAX_SEED = 2**32 - 1
POSES = ("auto", "fixed", "any")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclasses.dataclass
class TrainingOptions:
    """What a training run depends on, apart from the model's own config.

    Args:
        data: Folder of a category in any layout that `read_dataset` knows, a plain folder of good images, or a dataset that
            `open_dataset` reads: a folder that `datasets` wrote, or NAMESPACE/NAME on the Hub.
        output: Folder of the checkpoint.
        backbone_weights: safetensors file in timm's key layout; None: timm fetches them from the Hub.
        textures: Folder of natural photos for artificial anomalies, searched recursively; None: none are used.
        steps: Optimiser steps.
        batch_size: Images per step per process.
        learning_rate: Peak of the schedule: 10 % linear warm-up, then cosine to zero.
        held_out: Share of the good images kept from training for calibration, in (0, 0.5]; at least 10, or a quarter of few.
        seed: Seed of the split, the weights and the artificial anomalies.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the GPU computes in it or the processor has AMX.
        save_every: Steps between the points that a killed run resumes from.
        max_value: Value of white in 16-bit images; None: 65535.
        resize_mode: ``stretch`` or ``pad``, as in URANetImageProcessor.
        limit: Use only this many good images, drawn by the seed; None: all.
        pose: ``fixed``, ``any`` where parts lie in any rotation, so that turned copies of the images are normal too, or
            ``auto``: found out from the images (`training.pose`).
        cache: Folder that keeps the frozen features for later runs on the same images; None: each run computes its own.
        half: Round the weights to float16 before calibration and store them so, for half the size.
    """

    data: str | Path
    output: Path
    backbone_weights: Path | None = None
    textures: Path | None = None
    steps: int = 600
    batch_size: int = 8
    learning_rate: float = 1e-3
    held_out: float = 0.1
    seed: int = 0
    precision: str = "auto"
    save_every: int = 200
    max_value: float | None = None
    resize_mode: str = "stretch"
    limit: int | None = None
    pose: str = "auto"
    cache: Path | None = None
    half: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, but got {getattr(self, name)}.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"seed must be from 0 to {MAX_SEED}, but got {self.seed}.")
        if self.limit is not None and self.limit < 2:
            raise UserError(f"limit must be at least 2, one image to fit and one to calibrate, but got {self.limit}.")
        if not 0 < self.held_out <= 0.5:
            raise UserError(f"held_out must be above 0 and at most 0.5, but got {self.held_out}.")
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate must be above 0, but got {self.learning_rate}.")
        if self.pose not in POSES:
            raise UserError(f"pose must be one of {', '.join(POSES)}, but got {self.pose!r}.")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, but got {self.precision!r}.")


def split_sizes(count: int, share: float) -> tuple[int, int]:
    """How many of `count` good images are held out for calibration, and how many are left to fit."""
    held_out = min(max(round(share * count), min(MIN_HELD_OUT, count // 4), 1), count // 2)
    return held_out, count - held_out
