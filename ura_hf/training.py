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
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import PartialState
from PIL import Image
from torch import Tensor
from transformers import Trainer, TrainingArguments, set_seed

from . import calibration
from .configuration_uranet import URANetConfig
from .data.folder import list_images, read_dataset
from .data.textures import generated_texture
from .errors import UserError
from .feature_cache import cached_features, channel_statistics, files_fingerprint
from .image_processing_uranet import URANetImageProcessor
from .memory import greedy_coreset
from .modeling_uranet import URANetForAnomalyDetection
from .progress import Progress, silent
from .restoration import to_tokens
from .run_folder import RECORD, WORK, claim_output, resume_point
from .trainer import FeatureBatches, ReportProgress, RestorationTrainer, use_bf16

MAX_IMAGES = 4000  # largest number of images whose features are cached; more are sampled
MIN_HELD_OUT = 10  # unless that is more than a quarter of the images
GENERATED_TEXTURES = 100  # pictures that stand in for texture photos
MAX_CANDIDATES = 1_000_000  # vectors that a coreset is chosen from; of larger sets, those of random images


@dataclasses.dataclass
class TrainingOptions:
    """What a training run depends on, apart from the model's own config.

    Args:
        data: MVTec-layout category, or a plain folder of good images.
        output: Folder of the checkpoint.
        backbone_weights: safetensors file in timm's key layout; None: timm fetches them from the Hub.
        textures: Folder of natural photos for artificial anomalies, searched recursively; None: none are used.
        steps: Optimiser steps.
        batch_size: Images a step and process.
        learning_rate: Peak of the schedule: 10 % linear warm-up, then cosine to zero.
        held_out: Share of the good images kept from training for calibration, in (0, 0.5]; at least 10, or a quarter of few.
        seed: Seed of the split, the weights and the artificial anomalies.
        precision: ``fp32``, ``bf16``, or ``auto``: bf16 where the processor or GPU computes in it.
        save_every: Steps between the points that a killed run resumes from.
        max_value: Value of white in 16-bit images; None: 65535.
        resize_mode: ``stretch`` or ``pad``, as in URANetImageProcessor.
        limit: Use only this many good images, drawn by the seed; None: all.
        half: Round the weights to float16 before calibration and store them so, for half the size.
    """

    data: Path
    output: Path
    backbone_weights: Path | None = None
    textures: Path | None = None
    steps: int = 800
    batch_size: int = 8
    learning_rate: float = 1e-3
    held_out: float = 0.1
    seed: int = 0
    precision: str = "auto"
    save_every: int = 200
    max_value: float | None = None
    resize_mode: str = "stretch"
    limit: int | None = None
    half: bool = False

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch_size", 1), ("save_every", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name} must be at least {low}, but got {getattr(self, name)}.")
        if self.limit is not None and self.limit < 2:
            raise UserError(f"limit must be at least 2, one image to fit and one to calibrate, but got {self.limit}.")
        if not 0 < self.held_out <= 0.5:
            raise UserError(f"held_out must be above 0 and at most 0.5, but got {self.held_out}.")
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate must be above 0, but got {self.learning_rate}.")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise UserError(f"precision must be auto, fp32 or bf16, but got {self.precision!r}.")


def train(
    options: TrainingOptions, config: URANetConfig, command: str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Train a detector, calibrate it on held-out good images and save it; the same call resumes an interrupted run.

    The checkpoint is that of the last step. Returns the record that is also written to ``training.json``. `progress` hears of
    the stages ``training features``, ``texture features``, ``memory``, ``training`` (with losses) and ``calibration``.

    Raises:
        UserError: Data, weights or the output folder can't be used.
        Cancelled: `progress` raised it; the output folder then holds no checkpoint, only what resumes the run.
    """
    began = time.monotonic()
    state = PartialState(cpu=not torch.cuda.is_available())
    images = [sample.image for sample in read_dataset(options.data).train]
    images = _some(images, min(options.limit or MAX_IMAGES, MAX_IMAGES), options.seed)
    photos = _texture_photos(options, config)
    choices = {k: v for k, v in dataclasses.asdict(options).items() if k != "output"}
    files = {"images": files_fingerprint(images), "textures": files_fingerprint(photos)}
    work = claim_output(options.output, choices | files | {"config": config.to_diff_dict()}, state)
    set_seed(options.seed)
    model = URANetForAnomalyDetection(config)
    model.backbone.load_imagenet(options.backbone_weights)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.backbone.to(state.device if device.type == "cuda" else device)
    size = {"height": config.image_size, "width": config.image_size}
    processor = URANetImageProcessor(size=size, max_value=options.max_value, resize_mode=options.resize_mode)

    if options.half:
        model.backbone.half().float()
    with state.main_process_first():
        features = cached_features(images, model.backbone, processor, work, "training", progress)
        if not photos and config.source_weights.get("texture"):
            photos = _generated_textures(work, config.image_size, options.seed)
        textures = cached_features(photos, model.backbone, processor, work, "texture", progress) if photos else None
    held_out, fitted = _split(len(images), options)
    model.backbone.set_statistics(*channel_statistics(features, fitted), config.std_floor)
    if options.half:
        model.backbone.half().float()
    batches = FeatureBatches(features, fitted, textures, model)
    fill_memories(model, batches, options.seed, progress)

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
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        report_to="none",
        seed=options.seed,
    )
    trainer = RestorationTrainer(
        model=model,
        args=arguments,
        train_dataset=batches,
        data_collator=batches.collate,
        callbacks=[ReportProgress(progress)],
    )
    last = resume_point(work)
    trainer.train(resume_from_checkpoint=last)
    # thresholds are for full precision
    trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    if state.is_main_process:
        if options.half:
            model.half().float()
        calibrate(model, batches, held_out, progress)
        record = _record(options, trainer, began, len(fitted), len(held_out), last is not None, command)
        _save(model.half() if options.half else model, processor, record, options.output)
    state.wait_for_everyone()
    return json.loads((options.output / RECORD).read_text())


@torch.no_grad()
def calibrate(
    model: URANetForAnomalyDetection, batches: FeatureBatches, rows: list[int], progress: Progress = silent
) -> None:
    """Set both thresholds from held-out normals: the image score's, and that of the map's maximum an image.

    So the configured false-positive rate is the share of good images that are called anomalous, and of those that glow anywhere.
    """
    model.eval()
    scores, peaks = [], []
    for done, row in enumerate(rows):
        progress("calibration", done, len(rows))
        output = model(features=batches.collate([row])["features"].to(model.device))
        scores.append(output.image_score.cpu())
        peaks.append(output.anomaly_map.amax((1, 2)).cpu())
    config = model.config
    config.image_threshold = calibration.calibrate(torch.cat(scores), config.false_positive_rate)
    config.pixel_threshold = calibration.calibrate(torch.cat(peaks), config.false_positive_rate)


def _texture_photos(options: TrainingOptions, config: URANetConfig) -> list[Path]:
    if options.textures is None or not config.source_weights.get("texture"):
        return []
    if not options.textures.is_dir():
        raise UserError(f"{options.textures} is not a folder of texture photos: correct --textures or leave it out.")
    photos = list_images(options.textures, recursive=True)
    if not photos:
        raise UserError(f"{options.textures} holds no images: correct --textures or leave it out.")
    return _some(photos, MAX_IMAGES, options.seed)


def _some(images: list[Path], count: int | None, seed: int) -> list[Path]:
    """At most `count` images, drawn by the seed, in their order."""
    order = np.random.default_rng(seed).permutation(len(images))[:count].tolist()
    return [images[i] for i in sorted(order)]


def _generated_textures(work: Path, side: int, seed: int) -> list[Path]:
    """Generated textures as files, in place of a folder of photos."""
    folder = work / "textures"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(GENERATED_TEXTURES)]
    for index, path in enumerate(paths):
        if not path.exists():
            pixels = generated_texture(np.random.default_rng((seed, index)), side)
            partial = path.with_suffix(".partial")
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(partial, format="PNG")
            partial.rename(path)
    return paths


def _split(count: int, options: TrainingOptions) -> tuple[list[int], list[int]]:
    """Rows held out for calibration and rows to fit, both sorted."""
    order = np.random.default_rng(options.seed).permutation(count).tolist()
    asked = round(options.held_out * count)
    held_out = min(max(asked, min(MIN_HELD_OUT, count // 4), 1), count // 2)
    return sorted(order[:held_out]), sorted(order[held_out:])


@torch.no_grad()
def fill_memories(
    model: URANetForAnomalyDetection, batches: FeatureBatches, seed: int, progress: Progress = silent
) -> None:
    """Store coresets of the training images: k x k tokens for restoration attention, single cells for the residuals."""
    uranet = model.uranet
    rows = np.random.default_rng(seed).permutation(batches.rows)
    patch = uranet.restoration.patch_size

    def tokens(features: Tensor) -> Tensor:
        return to_tokens(features, patch)[0]

    def cells(features: Tensor) -> Tensor:
        return features[0].flatten(1).T

    def deep_cells(features: Tensor) -> Tensor:
        return cells(model.backbone.deep(features.to(model.backbone.mean.device)).cpu())

    stores = (
        (uranet.restoration.memory, tokens, (model.config.grid_size // patch) ** 2),
        (uranet.memory.cells, cells, model.config.grid_size**2),
        (uranet.deep_memory.cells, deep_cells, model.config.grid_size**2),
    )
    for done, (store, vectors, count) in enumerate(stores):
        progress("memory", done, len(stores))
        if len(store) == 0:
            continue
        used = sorted(rows[: max(1, MAX_CANDIDATES // count)].tolist())
        candidates = (vectors(batches.features_of([row])) for row in used)
        chosen = greedy_coreset(candidates, len(store), torch.Generator().manual_seed(seed)).tolist()
        by_image: dict[int, list[int]] = {}
        for slot in range(len(store)):  # a set smaller than the memory is repeated
            by_image.setdefault(chosen[slot % len(chosen)] // count, []).append(slot)
        for image, slots in by_image.items():
            found = vectors(batches.features_of([used[image]]))
            store[slots] = found[[chosen[slot % len(chosen)] % count for slot in slots]].to(store)


def _record(
    options: TrainingOptions,
    trainer: Trainer,
    began: float,
    fitted: int,
    held_out: int,
    resumed: bool,
    command: str | None,
) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": command,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(options).items()},
        "images": {"fitted": fitted, "held_out": held_out},
        "thresholds": {
            "image": trainer.model.config.image_threshold,
            "pixel": trainer.model.config.pixel_threshold,
            "false_positive_rate": trainer.model.config.false_positive_rate,
        },
        "processes": trainer.args.world_size,
        "seconds": round(time.monotonic() - began, 1),
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
    """Write the checkpoint; the record comes last, so that its presence means a complete checkpoint."""
    model.save_pretrained(output)
    for file in output.glob("*.safetensors"):  # written through a temporary file that only its owner may read
        file.chmod(0o666 & ~_umask())
    processor.save_pretrained(output)
    shutil.rmtree(output / WORK)
    (output / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
