"""From a folder of good images to a calibrated checkpoint, on transformers' Trainer."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import PartialState
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from .backbone import own_weights, timms_weights
from .configuration_uranet import URANetConfig
from .data.folder import MIN_TRAIN_IMAGES, distinct, images_below, list_images, read_dataset
from .data.textures import generated_textures
from .errors import UserError
from .feature_cache import all_problems_at_once, cached_features, channel_statistics, files_fingerprint
from .files import write_json
from .fitting import calibrate, fill_memories
from .image_processing_uranet import URANetImageProcessor
from .modeling_uranet import URANetForAnomalyDetection
from .pose import ANY_ROTATION, TURNED_COPIES, rotation_ratio
from .prefetch import loading_processes
from .progress import Progress, silent
from .run_folder import RECORD, WORK, claim_output, resume_point
from .trainer import FeatureBatches, ReportProgress, RestorationTrainer, use_bf16

MAX_IMAGES = 4000  # largest number of images whose features are cached; more are sampled
MIN_HELD_OUT = 10  # unless that is more than a quarter of the images
MAX_SEED = 2**32 - 1


@dataclasses.dataclass
class TrainingOptions:
    """What a training run depends on, apart from the model's own config.

    Args:
        data: Category in any layout that `read_dataset` knows, or a plain folder of good images.
        output: Folder of the checkpoint.
        backbone_weights: safetensors file in timm's key layout; None: timm fetches them from the Hub.
        textures: Folder of natural photos for artificial anomalies, searched recursively; None: none are used.
        steps: Optimiser steps.
        batch_size: Images a step and process.
        learning_rate: Peak of the schedule: 10 % linear warm-up, then cosine to zero.
        held_out: Share of the good images kept from training for calibration, in (0, 0.5]; at least 10, or a quarter of few.
        seed: Seed of the split, the weights and the artificial anomalies.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the GPU computes in it or the processor has AMX.
        save_every: Steps between the points that a killed run resumes from.
        max_value: Value of white in 16-bit images; None: 65535.
        resize_mode: ``stretch`` or ``pad``, as in URANetImageProcessor.
        limit: Use only this many good images, drawn by the seed; None: all.
        pose: ``fixed``, ``any`` where parts lie in any rotation, so that turned copies of the images are normal too, or
            ``auto``: told from the images (`ura_hf.pose`).
        cache: Folder that keeps the frozen features for later runs on the same images; None: each run computes its own.
        half: Round the weights to float16 before calibration and store them so, for half the size.
    """

    data: Path
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
        if self.pose not in ("auto", "fixed", "any"):
            raise UserError(f"pose must be auto, fixed or any, but got {self.pose!r}.")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise UserError(f"precision must be auto, fp32 or bf16, but got {self.precision!r}.")


def train(
    options: TrainingOptions,
    config: URANetConfig,
    command: str | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a detector, calibrate it on held-out good images and save it; the same call resumes an interrupted run.

    The checkpoint is that of the last step. Returns the record that is also written to ``training.json``.
    `callbacks` are transformers' and see the model while it trains. `progress` hears of the stages ``training features``,
    ``texture features``, ``memory``, ``training`` (with losses) and ``calibration``.

    Raises:
        UserError: Data, weights or the output folder can't be used.
        Cancelled: `progress` raised it; the output folder then holds no checkpoint, only what resumes the run.
    """
    began = time.monotonic(), sum(os.times()[:4])
    state = PartialState(cpu=not torch.cuda.is_available())
    found = [sample.image for sample in read_dataset(options.data).train]
    good = distinct(found)
    if len(good) < MIN_TRAIN_IMAGES:
        raise UserError(
            f"the {len(found)} good images in {found[0].parent} are copies of one: add images of other good parts."
        )
    left_out = {"copies": len(found) - len(good), "in_subfolders": len(images_below(found[0].parent))}
    images = draw_images(good, min(options.limit or MAX_IMAGES, MAX_IMAGES), options.seed)
    photos = _texture_photos(options, config)
    choices = {k: v for k, v in dataclasses.asdict(options).items() if k not in ("output", "cache")}
    weights = options.backbone_weights or own_weights(config.backbone)
    files = {"images": files_fingerprint(images), "textures": files_fingerprint(photos)}
    files["backbone"] = files_fingerprint([weights] if weights and weights.is_file() else [])
    work = claim_output(options.output, choices | files | {"config": config.to_diff_dict()}, state)
    set_seed(options.seed)
    model = URANetForAnomalyDetection(config)
    model.backbone.load_imagenet(options.backbone_weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.backbone.to(state.device if device.type == "cuda" else device)
    processor = make_processor(options, config)
    if options.half:
        model.backbone.half().float()
    with all_problems_at_once(images, processor):
        ratio = rotation_ratio(images, model.backbone, processor) if options.pose == "auto" else None
    copies = TURNED_COPIES if options.pose == "any" or (ratio is not None and ratio <= ANY_ROTATION) else 0
    with state.main_process_first():
        features = cached_features(
            images, model.backbone, processor, options.cache or work, "training", copies, progress
        )
        if not photos and config.source_weights.get("texture"):
            photos = generated_textures(options.cache or work, config.image_size, options.seed)
        textures = (
            cached_features(photos, model.backbone, processor, options.cache or work, "texture", progress=progress)
            if photos
            else None
        )
    held_out, fitted = split_rows(len(images), options)
    different = len(fitted)
    fitted = [copy * len(images) + row for copy in range(copies + 1) for row in fitted]
    model.backbone.set_statistics(*channel_statistics(features, fitted), config.std_floor)
    if options.half:
        model.backbone.half().float()
    batches = FeatureBatches(features, fitted, textures, model)
    fill_memories(model, batches, different, options.seed, progress)

    arguments = TrainingArguments(
        output_dir=str(work),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=0.01,
        max_grad_norm=1.0,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, options.steps // 10),
        bf16=use_bf16(options.precision),
        use_cpu=device.type == "cpu",
        logging_steps=max(1, min(50, options.steps // 10)),
        save_steps=options.save_every,
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=device.type == "cuda",
        dataloader_num_workers=loading_processes(),
        ddp_find_unused_parameters=False,
        report_to="none",
        seed=options.seed,
    )
    trainer = RestorationTrainer(
        model=model,
        args=arguments,
        train_dataset=batches,
        data_collator=batches.collate,
        callbacks=[*callbacks, ReportProgress(progress)],
    )
    last = resume_point(work)
    trainer.train(resume_from_checkpoint=last)
    # thresholds are for full precision
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    if state.is_main_process:
        if options.half:
            model.half().float()
        calibrate(model, batches, held_out, progress)
        _check_finite(model, options)
        pose = {"rotation_ratio": ratio, "turned_copies": copies}
        counts = {"fitted": different, "held_out": len(held_out)}
        record = _record(options, trainer, began, counts, pose, last is not None, command)
        record |= {"good_images": len(good), "left_out": left_out, "data_wait_share": trainer.wait_share()}
        _save(model.half() if options.half else model, processor, record, options.output)
    state.wait_for_everyone()
    return json.loads((options.output / RECORD).read_text())


def make_processor(options: TrainingOptions, config: URANetConfig) -> URANetImageProcessor:
    """The image processor that a checkpoint of these options has; it normalises as the backbone's weights ask for."""
    size = {"height": config.image_size, "width": config.image_size}
    weights = timms_weights(config.backbone)
    colours = {"image_mean": weights.mean, "image_std": weights.std} if weights else {}
    return URANetImageProcessor(size=size, max_value=options.max_value, resize_mode=options.resize_mode, **colours)


def _check_finite(model: URANetForAnomalyDetection, options: TrainingOptions) -> None:
    measured = {"thresholds": [model.config.image_threshold, model.config.pixel_threshold]}
    measured["reliabilities"] = list((model.config.reliabilities or {}).values())
    numbers = {**model.state_dict(), **{name: torch.tensor(values) for name, values in measured.items()}}
    if bad := [name for name, tensor in numbers.items() if not tensor.isfinite().all()]:
        raise UserError(
            f"training diverged: {len(bad)} of the model's tensors are not finite numbers (first {bad[0]}), so there is no "
            f"checkpoint. Choose a learning rate below {options.learning_rate:g}."
        )


def _texture_photos(options: TrainingOptions, config: URANetConfig) -> list[Path]:
    if options.textures is None or not config.source_weights.get("texture"):
        return []
    if not options.textures.is_dir():
        raise UserError(f"{options.textures} is not a folder of texture photos: correct --textures or leave it out.")
    photos = list_images(options.textures, recursive=True)
    if not photos:
        raise UserError(f"{options.textures} holds no images: correct --textures or leave it out.")
    return draw_images(photos, MAX_IMAGES, options.seed)


def draw_images(images: list[Path], count: int | None, seed: int) -> list[Path]:
    """At most `count` images, drawn by the seed, in their order."""
    order = np.random.default_rng(seed).permutation(len(images))[:count].tolist()
    return [images[i] for i in sorted(order)]


def split_rows(count: int, options: TrainingOptions) -> tuple[list[int], list[int]]:
    """Rows held out for calibration and rows to fit, both sorted."""
    order = np.random.default_rng(options.seed).permutation(count).tolist()
    held_out, _ = split_sizes(count, options.held_out)
    return sorted(order[:held_out]), sorted(order[held_out:])


def split_sizes(count: int, share: float) -> tuple[int, int]:
    """How many of `count` good images are held out for calibration, and how many are left to fit."""
    held_out = min(max(round(share * count), min(MIN_HELD_OUT, count // 4), 1), count // 2)
    return held_out, count - held_out


def _record(
    options: TrainingOptions,
    trainer: Trainer,
    began: tuple[float, float],
    images: dict[str, int],
    pose: dict[str, Any],
    resumed: bool,
    command: str | None,
) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": command,
        "backbone": trainer.model.config.backbone,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(options).items()},
        "images": images,
        "pose": pose,
        "thresholds": {
            "image": trainer.model.config.image_threshold,
            "pixel": trainer.model.config.pixel_threshold,
            "false_positive_rate": trainer.model.config.false_positive_rate,
        },
        "processes": trainer.args.world_size,
        "seconds": round(time.monotonic() - began[0], 1),
        "cpu_seconds": round(sum(os.times()[:4]) - began[1], 1),
        "resumed": resumed,
        "peak_memory_gib": round(peak, 2),
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
    }


def _save(
    model: URANetForAnomalyDetection, processor: URANetImageProcessor, record: dict[str, Any], output: Path
) -> None:
    """Write the checkpoint, and its record last, so that its presence means a complete checkpoint; then clean up."""
    model.save_pretrained(output)
    for file in output.glob("*.safetensors"):  # written through a temporary file that only its owner may read
        file.chmod(0o666 & ~_umask())
    processor.save_pretrained(output)
    write_json(output / RECORD, record)
    shutil.rmtree(output / WORK, ignore_errors=True)  # the checkpoint is whole without it


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
