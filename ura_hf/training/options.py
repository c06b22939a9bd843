"""What a training run depends on, apart from the model's own config."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..model.errors import UserError

MAX_IMAGES = 4000
"""Largest number of images whose features are cached; of more, so many are drawn by the seed."""
STEPS, FEW_STEPS, FEW_IMAGES = 600, 300, 100
"""Optimiser steps, and those of fewer images than the last number."""
MAX_SEED = 2**32 - 1
POSES = ("auto", "fixed", "any")
PATHS = ("output", "backbone_weights", "textures", "cache")
"""Options that may be given as strings, too."""
PRECISIONS = ("auto", "fp32", "bf16")


@dataclasses.dataclass
class TrainingOptions:
    """What a training run depends on, apart from the model's own config.

    Args:
        data: Whatever `open_dataset` reads: the folder of a category in any layout that `read_dataset` knows, a plain folder of
            good images, a table of images, a dataset that `datasets` wrote or NAMESPACE/NAME on the Hub; or a list of them.
        output: Folder of the checkpoint.
        backbone_weights: safetensors file in timm's key layout; None: timm fetches them from the Hub.
        textures: Folder of natural photos for artificial anomalies, searched recursively; None: photos of scikit-image, or
            generated textures where it is not installed.
        steps: Optimiser steps; None: 600, of fewer than 100 good images 300.
        batch_size: Images per step per process.
        learning_rate: Peak of the schedule: 10 % linear warm-up, then cosine to zero.
        seed: Seed of the split, the weights and the artificial anomalies.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the GPU computes in it or the processor has AMX.
        save_every: Steps between the points that a killed run resumes from.
        max_value: Value of white; None: 65535, and 1 in floats. Images of 8 bits keep their 255.
        value_range: Values of black and white, in place of `max_value`, as in URANetImageProcessor.
        resize_mode: ``stretch`` or ``pad``, as in URANetImageProcessor.
        roi: Region of interest, ``x,y,width,height`` in pixels of the photos, or the path of a mask: outside of it nothing is
            learnt, scored or drawn. It lies in the photo and not on the part, so it does not turn with the copies of `pose`.
        limit: Use only this many good images, drawn by the seed; None: all.
        frames: Which of a file's pages or frames are images: ``all``, ``first``, or ``every-N``, as in `model.frames`.
        pose: ``fixed``, ``any`` where parts lie in any rotation, so that turned copies of the images are normal too, or
            ``auto``: found out from the images (`training.pose`).
        cache: Folder that keeps the frozen features for later runs on the same images; None: each run computes its own.
        half: Round the weights to float16 before calibration and store them so, for half the size.
        recursive: Read the subfolders of a folder of good images, too.
        strict: Refuse data of which anything is left out.
    """

    data: str | Path | Sequence[str | Path]
    output: Path
    backbone_weights: Path | None = None
    textures: Path | None = None
    steps: int | None = None
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    precision: str = "auto"
    save_every: int = 200
    max_value: float | None = None
    value_range: Sequence[float] | None = None
    resize_mode: str = "stretch"
    roi: str | Path | Sequence[int] | None = None
    limit: int | None = None
    frames: str = "all"
    pose: str = "auto"
    cache: Path | None = None
    half: bool = False
    recursive: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        from ..model.frames import step_of
        from ..model.value_range import value_range_of

        if not isinstance(self.data, (str, Path)):
            several = [str(one) for one in self.data]
            self.data = several[0] if len(several) == 1 else several  # the same run as with one
        for name in PATHS:
            if isinstance(value := getattr(self, name), str):
                setattr(self, name, Path(value))
        if self.roi is not None:
            self.roi = str(self.roi) if isinstance(self.roi, (str, Path)) else ",".join(map(str, self.roi))
        for name in ("steps", "batch_size", "save_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"{name} must be at least 1, but got {value}.")
        if not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"seed must be from 0 to {MAX_SEED}, but got {self.seed}.")
        if self.limit is not None and self.limit < 2:
            raise UserError(
                f"limit must be at least 2, one image to score and one to compare it with, but got {self.limit}."
            )
        value_range_of(self.max_value, self.value_range)
        step_of(self.frames)
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate must be above 0, but got {self.learning_rate}.")
        if self.pose not in POSES:
            raise UserError(f"pose must be one of {', '.join(POSES)}, but got {self.pose!r}.")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, but got {self.precision!r}.")

    def steps_for(self, images: int) -> int:
        """Optimiser steps of a training on so many good images."""
        return self.steps or (FEW_STEPS if images < FEW_IMAGES else STEPS)
