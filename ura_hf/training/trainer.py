"""What transformers' Trainer needs of us: batches of cached features, logging of the loss parts, seeds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from ..data.progress import Progress
from ..model.modeling_uranet import URANetForAnomalyDetection
from ..model.pipeline_uranet import pick_device
from .objective import Learner, Losses

LOSS_PARTS = Losses._fields[1:]


class FeatureBatches(torch.utils.data.Dataset[int]):
    """Row numbers; `collate` turns a batch of them into raw features, which are standardised on the model's device."""

    def __init__(
        self, features: np.ndarray, rows: list[int], textures: np.ndarray | None, model: URANetForAnomalyDetection
    ):
        self.features, self.rows, self.textures = features, rows, textures
        self.mean, self.std = model.backbone.mean.cpu(), model.backbone.std.cpu()

    def __getstate__(self) -> dict[str, Any]:
        """A loading process opens the files itself, where a memory map would be sent with all that it holds."""
        kept = self.__dict__.items()
        return {name: Path(str(value.filename)) if isinstance(value, np.memmap) else value for name, value in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.items()
        self.__dict__ = {
            name: np.load(value, mmap_mode="r") if isinstance(value, Path) else value for name, value in kept
        }

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return self.rows[index]

    def standardize(self, raw: Tensor) -> Tensor:
        """Raw features (B, C, G, G) as float32, each channel with the mean 0 and deviation 1 of the training images."""
        mean, std = (values.to(raw.device)[:, None, None] for values in (self.mean, self.std))
        return (raw.float() - mean) / std

    def features_of(self, rows: list[int]) -> Tensor:
        """Standardised features of some rows, (B, C, G, G)."""
        return self.standardize(torch.from_numpy(self.features[np.asarray(rows)]))

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """Raw features of some rows, float16 (B, C, G, G): half the bytes on the way to a GPU."""
        return {"features": torch.from_numpy(self.features[np.asarray(rows)])}

    def draw_textures(self, count: int) -> Tensor | None:
        """Raw features of randomly drawn texture photos, float16 (count, C, G, G); None without any.

        Not part of `collate`, which runs ahead of the step it is for: a resumed run would draw others.
        """
        if self.textures is None:
            return None
        return torch.from_numpy(self.textures[torch.randint(len(self.textures), (count,)).numpy()])


class RestorationTrainer(Trainer):
    """Trainer that also logs the parts of the loss, shows them beside the progress bar, and times its waiting for data."""

    def __init__(self, detector: URANetForAnomalyDetection, train_dataset: FeatureBatches, **kwargs: Any) -> None:
        self.detector = detector
        learner = Learner(detector)
        super().__init__(learner, train_dataset=train_dataset, data_collator=train_dataset.collate, **kwargs)
        self.parts: dict[str, list[Tensor]] = {}
        self.waited = 0.0
        self.num_images = self.args.max_steps * self.args.train_batch_size * self.args.world_size
        self.remove_callback(ProgressCallback)
        self.add_callback(LossProgress())
        self.add_callback(SeedEveryProcess())

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        batch = super().get_batch_samples(*args, **kwargs)
        self.waited += time.monotonic() - began
        return batch

    def train(self, *args: Any, **kwargs: Any) -> Any:
        began = time.monotonic()
        result = super().train(*args, **kwargs)
        self.trained = time.monotonic() - began
        return result

    def wait_share(self) -> float:
        """Share of the training loop, 0 to 1, in which the model waited for its next batch or for textures."""
        return round(self.waited / self.trained, 4)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        dataset: Any = self.train_dataset
        features = dataset.standardize(inputs["features"])
        began = time.monotonic()
        textures = dataset.draw_textures(len(features))
        self.waited += time.monotonic() - began
        textures = None if textures is None else dataset.standardize(textures.to(features.device))
        losses: Losses = model(features=features, textures=textures, num_images=self.num_images)
        for name in LOSS_PARTS:  # numbers when they are logged: a GPU need not wait for every step's
            self.parts.setdefault(name, []).append(getattr(losses, name).detach().mean())
        return (losses.loss, losses) if return_outputs else losses.loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        means = {name: round(float(np.mean([v.item() for v in values])), 5) for name, values in self.parts.items()}
        self.parts = {}
        super().log({**logs, **means}, *args, **kwargs)


class LossProgress(ProgressCallback):
    """One progress bar with the latest losses, in place of a line a log entry."""

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None and logs:
            shown = {name.removesuffix("_loss"): f"{logs[name]:.3f}" for name in LOSS_PARTS if name in logs}
            self.training_bar.set_postfix(shown, refresh=False)


class ReportProgress(TrainerCallback):
    """Tells a `Progress` of every step, and of the losses where they are logged."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress("training", state.global_step, state.max_steps)

    def on_log(self, args: TrainingArguments, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if losses := {name: logs[name] for name in LOSS_PARTS if name in (logs or {})}:
            self.progress("training", state.global_step, state.max_steps, losses)


class SeedEveryProcess(TrainerCallback):
    """Different artificial anomalies in every process of a distributed run; a resumed run restores its own generators."""

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **kwargs: Any) -> None:
        torch.manual_seed(args.seed + args.process_index)


def use_bf16(precision: str) -> bool:
    """Whether to compute in bfloat16: as asked, or for ``auto`` if the GPU has it, not emulated, or the processor AMX.

    With AVX-512's bf16 alone a training step of ResNet-18 takes longer than in float32.
    """
    if precision != "auto":
        return precision == "bf16"
    if pick_device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)  # torch's private name, which may go
    return torch.backends.mkldnn.is_available() and has_amx is not None and has_amx()
