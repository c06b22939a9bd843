"""What transformers' Trainer needs of us: batches of cached features, logging of the loss parts, seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from .modeling_uranet import URANetForAnomalyDetection

LOSS_PARTS = ("restoration_loss", "perception_loss", "kl_loss")


class FeatureBatches(torch.utils.data.Dataset[int]):
    """Row numbers; `collate` turns a batch of them into standardised features and randomly drawn textures."""

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
        """Batch of `URANetForAnomalyDetection.forward`: features and textures, each (B, C, G, G)."""
        batch: dict[str, Any] = {"features": self.features_of(rows)}
        if self.textures is not None:
            drawn = torch.randint(len(self.textures), (len(rows),)).numpy()
            batch["textures"] = self._standardize(self.textures[drawn])
        return batch


class RestorationTrainer(Trainer):
    """Trainer that also logs the parts of the loss, and shows them beside the progress bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts: dict[str, list[float]] = {}
        self.num_images = self.args.max_steps * self.args.train_batch_size * self.args.world_size
        self.remove_callback(ProgressCallback)
        self.add_callback(LossProgress())

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        output = model(**inputs, num_images=self.num_images)
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
