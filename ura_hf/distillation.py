"""A small backbone of our own, taught to see as an ImageNet CNN does (feature distillation)."""

from __future__ import annotations

import datetime
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import InterpolationMode, v2
from transformers import Trainer, TrainingArguments, set_seed

from .backbone import SMALL, Backbone
from .data.folder import list_images
from .data.textures import generated_texture
from .errors import UserError
from .images import load_image
from .trainer import use_bf16

MIN_PHOTOS = 20
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PHOTO_SIDE = 320  # photos are held in memory with this short side
MEASURED = 128  # pictures that the teacher's statistics come from
STD_FLOOR = 0.25  # of a level's median deviation
PROCEDURAL = 0.2  # share of pictures that are generated textures


@dataclass
class DistillationOptions:
    """What a distillation depends on.

    Args:
        teacher: Name of a timm CNN with feature levels 1-3.
        teacher_weights: Its safetensors file in timm's key layout; None: from the Hub.
        photos: Folder of ordinary photos, searched recursively; at least 20.
        output: File for the student's weights; its card is written beside it as .json.
        steps: Optimiser steps.
        batch_size: Pictures a step.
        side: Side of the training crops, pixels.
        learning_rate: Peak of the schedule.
        seed: Seed of weights, crops and generated textures.
    """

    teacher: str
    photos: Path
    output: Path
    teacher_weights: Path | None = None
    steps: int = 1500
    batch_size: int = 16
    side: int = 128
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch_size", 2), ("side", 64), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name} must be at least {low}, but got {getattr(self, name)}.")
        if self.output.suffix != ".safetensors":
            raise UserError(f"output must be a .safetensors file, but got {self.output}.")


class Pictures(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Strongly augmented crops of photos, and generated textures; normalised (3, side, side)."""

    def __init__(self, photos: Sequence[Path], side: int, length: int) -> None:
        self.side, self.length = side, length
        self.photos = [self._read(path) for path in photos]
        self.augment = v2.Compose(
            [
                v2.RandomResizedCrop(side, scale=(0.08, 1), ratio=(0.6, 1.7), interpolation=InterpolationMode.BILINEAR),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(0.3),
                v2.RandomApply([v2.RandomRotation(180, InterpolationMode.BILINEAR)], 0.2),
                v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.15)], 0.8),
                v2.RandomGrayscale(0.25),
                v2.RandomInvert(0.05),
                v2.RandomApply([v2.GaussianBlur(5, (0.2, 1.5))], 0.2),
                v2.ToDtype(torch.float32, scale=True),
                v2.RandomApply([v2.GaussianNoise(sigma=0.03)], 0.3),
                v2.Normalize(MEAN, STD),
            ]
        )

    @staticmethod
    def _read(path: Path) -> Tensor:
        pixels = torch.from_numpy(load_image(path)).permute(2, 0, 1)[None]
        scale = PHOTO_SIDE / min(pixels.shape[2:])
        if scale < 1:
            pixels = functional.interpolate(pixels, scale_factor=scale, mode="bilinear", antialias=True)
        return (pixels[0] * 255).round().byte()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if torch.rand(()) < PROCEDURAL:
            picture = generated_texture(np.random.default_rng(int(torch.randint(2**31, ()))), self.side * 2)
        else:
            picture = self.photos[int(torch.randint(len(self.photos), ()))]
        return {"pictures": self.augment(picture)}


class Distiller(nn.Module):
    """Student and teacher; one linear map a level takes the student's features to the teacher's."""

    def __init__(self, teacher: Backbone) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = Backbone(SMALL, (1, 2, 3), teacher.grid_size).cnn.requires_grad_(True)
        channels = self.student.feature_info.channels()
        pairs = zip(channels, teacher.level_channels, strict=True)
        self.heads = nn.ModuleList(nn.Conv2d(own, other, 1) for own, other in pairs)
        self.apply(_initialise)

    @torch.no_grad()
    def measure(self, pictures: Tensor) -> None:
        """Store the deviation of the teacher's channels on some pictures (N, 3, side, side)."""
        raw = self.teacher.raw(pictures)
        self.teacher.set_statistics(raw.mean((0, 2, 3)), raw.std((0, 2, 3)), STD_FLOOR)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Mean over levels of the squared error in deviations of the teacher's channels plus 1 - cosine."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            wanted = [level.float() for level in self.teacher.cnn(pictures)]
        deviations = self.teacher.std.split(self.teacher.level_channels)
        losses = []
        for level, head, deviation, target in zip(self.student(pictures), self.heads, deviations, wanted, strict=True):
            guess = head(level).float()
            error = ((guess - target) / deviation[:, None, None]).square().mean()
            losses.append(error + 1 - functional.cosine_similarity(guess, target, dim=1).mean())
        return {"loss": torch.stack(losses).mean()}


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def distill(options: DistillationOptions, command: str | None = None) -> dict[str, Any]:
    """Train the small backbone, write its weights as float16 safetensors in timm's key layout and its card beside them.

    Raises:
        UserError: Too few photos, teacher weights that don't fit, or an output that can't be written.
    """
    began = time.monotonic()
    photos = list_images(options.photos, recursive=True)
    if len(photos) < MIN_PHOTOS:
        raise UserError(f"{options.photos} must hold at least {MIN_PHOTOS} photos, but got {len(photos)}: add more.")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{options.output} can't be written ({error.strerror}): choose another place.") from error
    if not os.access(options.output.parent, os.W_OK):
        raise UserError(f"{options.output} can't be written (permission denied): choose another place.")
    set_seed(options.seed)
    teacher = Backbone(options.teacher, (1, 2, 3), 8)
    teacher.load_imagenet(options.teacher_weights)
    model: Distiller = Distiller(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures = Pictures(photos, options.side, options.steps * options.batch_size)
    model.measure(torch.stack([pictures[i]["pictures"] for i in range(MEASURED)]))
    with tempfile.TemporaryDirectory() as work:
        arguments = TrainingArguments(
            output_dir=work,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            weight_decay=1e-4,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, options.steps // 20),
            logging_steps=max(1, options.steps // 20),
            save_strategy="no",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            report_to="none",
            seed=options.seed,
            use_cpu=not torch.cuda.is_available(),
            bf16=use_bf16("auto"),
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=pictures)
        trainer.train()
    weights = {key: value.half().cpu().contiguous() for key, value in model.student.state_dict().items()}
    save_file(weights, options.output, metadata={"format": "pt", "licence": "Apache-2.0"})
    card = {
        "command": command,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
        "photos": len(photos),
        "parameters": sum(p.numel() for p in model.student.parameters()),
        "losses": [round(e["loss"], 4) for e in trainer.state.log_history if "loss" in e],
        "seconds": round(time.monotonic() - began),
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "date": datetime.date.today().isoformat(),
    }
    options.output.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    return card
