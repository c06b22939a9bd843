"""Training by transformers' Trainer, which needs accelerate: its arguments, and the logging of the loss parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import ProgressCallback

from ..data.prefetch import loading_processes
from ..data.progress import Progress
from ..model.device import pick_device
from ..model.modeling_uranet import URANetForAnomalyDetection
from .batches import FeatureBatches
from .objective import Learner, Losses
from .options import TrainingOptions

LOSS_PARTS = Losses._fields[1:]


class RestorationTrainer(Trainer):
    """Trainer that also logs the parts of the loss, shows them beside the progress bar, and times its waiting for data."""

    def __init__(self, detector: URANetForAnomalyDetection, train_dataset: FeatureBatches, **kwargs: Any) -> None:
        self.detector = detector
        learner = Learner(detector)
        super().__init__(learner, train_dataset=train_dataset, data_collator=train_dataset.collate, **kwargs)
        self.parts: dict[str, list[Tensor]] = {}
        self.waited = 0.0
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
        components = inputs["components"].float()
        began = time.monotonic()
        textures = dataset.draw_textures(len(components))
        self.waited += time.monotonic() - began
        losses: Losses = model(components, None if textures is None else textures.to(components.device))
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


def learn(
    options: TrainingOptions,
    model: URANetForAnomalyDetection,
    batches: FeatureBatches,
    work: Path,
    resumed: str | None,
    callbacks: Sequence[TrainerCallback],
    progress: Progress,
) -> RestorationTrainer:
    """Train perception and restoration on artificial anomalies, from the resume point `resumed` on if there is one."""
    assert options.steps is not None, "train() chooses them by the number of images"
    device, steps = pick_device().type, options.steps
    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=0.01,
        max_grad_norm=1.0,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, steps // 10),
        bf16=use_bf16(options.precision),
        use_cpu=device == "cpu",
        logging_steps=max(1, min(50, steps // 10)),
        save_steps=options.save_every,
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        dataloader_num_workers=loading_processes(),
        ddp_find_unused_parameters=False,
        report_to="none",
        seed=options.seed,
    )
    callbacks = [*callbacks, ReportProgress(progress)]
    trainer = RestorationTrainer(model, args=arguments, train_dataset=batches, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=resumed)
    return trainer


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
