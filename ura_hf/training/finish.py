"""The end of a run: its record, and the checkpoint on disk."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from ..data.files import writing
from ..data.records import TRAINING, write_record
from ..model.errors import UserError
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.loading import CONFIG_FILE
from ..model.modeling_uranet import URANetForAnomalyDetection
from .options import TrainingOptions
from .run_folder import WORK

if TYPE_CHECKING:
    from .trainer import RestorationTrainer


class Clock:
    """Time since it was made."""

    def __init__(self) -> None:
        self.began = time.monotonic(), sum(os.times()[:4])

    def read(self) -> dict[str, float]:
        """Seconds that passed, and seconds of processor time."""
        return {
            "seconds": round(time.monotonic() - self.began[0], 1),
            "cpu_seconds": round(sum(os.times()[:4]) - self.began[1], 1),
        }


def peak_memory() -> float:
    """Largest resident memory of this process so far [GiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def describe_run(options: TrainingOptions, trainer: RestorationTrainer, clock: Clock) -> dict[str, Any]:
    """What the record says of a run beside its images: options, thresholds, costs, versions and losses."""
    config = trainer.detector.config
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "backbone": config.backbone,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(options).items()},
        "thresholds": {
            "image": config.image_threshold,
            "pixel": config.pixel_threshold,
            "false_positive_rate": config.false_positive_rate,
        },
        "processes": trainer.args.world_size,
        **clock.read(),
        "peak_memory_gib": round(peak_memory(), 2),
        "peak_gpu_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if gpu else None,
        "hardware": gpu or f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "precision": "bf16" if trainer.args.bf16 else "fp32",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "date": datetime.date.today().isoformat(),
        "losses": [entry for entry in trainer.state.log_history if "restoration_loss" in entry],
        "data_wait_share": trainer.wait_share(),
    }


def require_finite(model: URANetForAnomalyDetection, learning_rate: float) -> None:
    """Raise UserError where the model, or what was measured of it so far, holds something that is not a number."""
    thresholds = (model.config.image_threshold, model.config.pixel_threshold)
    measured: dict[str, list[Any]] = {"thresholds": [value for value in thresholds if value is not None]}
    measured["standards"] = [value for pair in (model.config.standards or {}).values() for value in pair]
    measured["false_alarms"] = [value for pair in model.config.false_alarms or [] for value in pair]
    measured["strangeness"] = model.config.strangeness or []
    numbers = {**model.state_dict(), **{name: torch.tensor(values) for name, values in measured.items()}}
    if bad := [name for name, tensor in numbers.items() if not tensor.isfinite().all()]:
        raise UserError(
            f"training diverged: {len(bad)} of the model's tensors are not finite numbers (first {bad[0]}), so there is no "
            f"checkpoint. Choose a learning rate below {learning_rate:g}."
        )


def save(
    model: URANetForAnomalyDetection, processor: URANetImageProcessor, record: dict[str, Any], output: Path
) -> None:
    """Write the checkpoint, and its record last, so that its presence means a complete checkpoint; then clean up."""
    with writing(output):
        model.save_pretrained(output)
        mode = (output / CONFIG_FILE).stat().st_mode & 0o777
        for file in output.glob("*.safetensors"):  # written through a temporary file that only its owner may read
            file.chmod(mode)
        processor.save_pretrained(output)
        write_record(output / TRAINING, record)
    shutil.rmtree(output / WORK, ignore_errors=True)  # the checkpoint is whole without it
