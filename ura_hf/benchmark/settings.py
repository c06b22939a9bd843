"""What a benchmark depends on: the preset, what the caller changed of it, and the options of one run."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from ..data.datasets import checkpoint_name
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from ..training.options import MAX_IMAGES, TrainingOptions

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "config": {
            "backbone": "wide_resnet50_2.tv_in1k",
            "out_indices": [1, 2, 3],
            "image_size": 256,
            "grid_size": 64,
            "patch_size": 4,
            "num_hidden_layers": 8,
            "views": ["restored"],
        },
        "learning_rate": 1e-4,
        "epochs": 300,
    },
    "fast": {"config": {}},
}
"""`paper`: the numbers of the authors' line of work, as far as they are public; `fast`: the defaults of this package."""


@dataclasses.dataclass
class Settings:
    """A benchmark, apart from where it is written. Paths are absolute.

    Args:
        dataset: mvtec, btad, oct2017, visa, elpv or folder.
        root: Folder of the dataset; None for elpv.
        preset: Key of `PRESETS`.
        config: Fields of URANetConfig that override the preset's.
        training: Fields of TrainingOptions that override the preset's, and `epochs`.
        partial: Take categories whose counts differ from the published ones.
        strict: Refuse data of which anything is left out.
        best_on_test: How often a run is measured on the test images while it trains; 0: never.
    """

    dataset: str
    root: str | None
    preset: str = "fast"
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    partial: bool = False
    best_on_test: int = 0
    strict: bool = False

    def model(self) -> URANetConfig:
        """The config of every run.

        Raises:
            UserError: A field is unknown or out of its range.
        """
        return URANetConfig(**{**PRESETS[self.preset]["config"], **self.config})

    def options(self, category: Path, output: Path, seed: int, images: int) -> TrainingOptions:
        """Training options of one run; epochs become steps by the number of good images.

        Raises:
            UserError: A value is out of its range.
        """
        chosen = {k: v for k, v in PRESETS[self.preset].items() if k != "config"} | self.training
        epochs = chosen.pop("epochs", None)
        paths = {name: Path(chosen[name]) for name in ("backbone_weights", "textures") if chosen.get(name)}
        options = TrainingOptions(category, output, seed=seed, strict=self.strict, **{**chosen, **paths})
        fitted = min(images, options.limit or MAX_IMAGES, MAX_IMAGES)
        if epochs is not None and "steps" not in self.training:
            if epochs < 1:
                raise UserError(f"epochs must be at least 1, but got {epochs}.")
            options.steps = epochs * math.ceil(fitted / options.batch_size)
        options.steps = options.steps_for(fitted)
        return options

    def as_json(self) -> dict[str, Any]:
        """What a resumed benchmark is compared with."""
        settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return settings


@dataclasses.dataclass(frozen=True)
class Run:
    """One category with one seed, and where its parts lie below the benchmark's output folder."""

    dataset: str
    category: str
    seed: int
    data: Path
    output: Path

    @property
    def name(self) -> str:
        """`bottle-seed0`."""
        return f"{self.category}-seed{self.seed}"

    @property
    def checkpoint(self) -> Path:
        """`seed0/uranet-mvtec-bottle`: one folder a seed, so that `uranet push --all` takes it as it is."""
        return self.output / f"seed{self.seed}" / checkpoint_name(self.dataset, self.category)

    @property
    def result(self) -> Path:
        """Written last: its presence means that the run is done."""
        return self.output / "runs" / f"{self.name}.json"

    @property
    def failure(self) -> Path:
        """Why the run failed; removed when it is tried again."""
        return self.output / "runs" / f"{self.name}.failed.json"

    @property
    def envelope(self) -> Path:
        """Figures on the test images along the way, of `best_on_test`."""
        return self.output / "runs" / f"{self.name}.steps.json"

    @property
    def images(self) -> Path:
        """Fingerprint of the images that the checkpoint is trained on."""
        return self.output / "runs" / f"{self.name}.images"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.output / "runs" / f"{self.name}.lock"
