"""What transformers' Trainer needs of us: batches of cached features, logging of the loss parts, seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from .modeling_uranet import URANetForAnomalyDetection
from .progress import Progress

LOSS_PARTS = ("restoration_loss", "perception_loss", "kl_loss")


class FeatureBatches(torch.utils.data.Dataset[int]):
    """Row numbers; `collate` turns a batch of them into standardised features."""

    def __init__(
        self, features: np.ndarray, rows: list[int], textures: np.ndarray | None, model: URANetForAnomalyDetection
    ):
        self.features, self.rows, self.textures = features, rows, textures
        self.mean, self.std = model.backbone.mean.cpu(), model.backbone.std.cpu()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        return self.rows[index]

    def _standardize(self, raw: np.ndarray) -> Tensor:
        return (torch.from_numpy(raw.astype(np.float32)) - self.mean[:, None, None]) / self.std[:, None, None]

    def features_of(self, rows: list[int]) -> Tensor:
        """Standardised features of some rows, (B, C, G, G)."""
        return self._standardize(self.features[np.asarray(rows)])

    def collate(self, rows: list[int]) -> dict[str, Any]:
        """Batch of `URANetForAnomalyDetection.forward`: features (B, C, G, G)."""
        return {"features": self.features_of(rows)}

    def draw_textures(self, count: int) -> Tensor | None:
        """Standardised features of randomly drawn texture photos, (count, C, G, G); None without any.

        Not part of `collate`, which runs ahead of the step it is for: a resumed run would draw others.
        """
        if self.textures is None:
            return None
        return self._standardize(self.textures[torch.randint(len(self.textures), (count,)).numpy()])


class RestorationTrainer(Trainer):
    """Trainer that also logs the parts of the loss, and shows them beside the progress bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts: dict[str, list[float]] = {}
        self.num_images = self.args.max_steps * self.args.train_batch_size * self.args.world_size
        self.remove_callback(ProgressCallback)
        self.add_callback(LossProgress())
        self.add_callback(SeedEveryProcess())

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        features = inputs["features"]
        textures = self.train_dataset.draw_textures(len(features))  # type: ignore[union-attr]
        textures = None if textures is None else textures.to(features.device)
        output = model(**inputs, textures=textures, num_images=self.num_images)
        for name in LOSS_PARTS:
            self.parts.setdefault(name, []).append(output[name].mean().item())
        return (output.loss, output) if return_outputs else output.loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        means = {name: round(float(np.mean(values)), 5) for name, values in self.parts.items() if values}
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
    """Whether to compute in bfloat16: as asked, or where `precision` is ``auto`` if the processor or GPU has it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
