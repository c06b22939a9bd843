"""Train the small backbone `uranet-small` to give the features of an ImageNet teacher (feature distillation).

python tools/distill.py --teacher resnet18.tv_in1k --photos photos --output uranet-small.safetensors

The photos need no labels; crops, colours and generated textures make a few hundred suffice. Writes a float16 safetensors
file and its card, the same name with the suffix .json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from pictures import Pictures, read_photo
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import Trainer, TrainingArguments, set_seed

from ura_hf.data.files import write_json, write_whole
from ura_hf.data.folder import list_images
from ura_hf.model.backbone import SMALL, Backbone
from ura_hf.model.device import pick_device
from ura_hf.model.errors import UserError
from ura_hf.training.imagenet import load_imagenet, read_weights
from ura_hf.training.trainer import use_bf16

MIN_PHOTOS = 20
HELD_OUT = 10  # one photo of so many is kept apart, to measure on
MEASURED = 128  # pictures that the teacher's statistics come from, and that are measured on
STD_FLOOR = 0.25  # of a level's median deviation
WITHIN_FLOOR = 0.25  # of a channel's variance over all pictures, added to that within a picture


@dataclass
class DistillationOptions:
    """What a distillation depends on.

    Args:
        teacher: Name of a timm CNN with feature levels 1-3.
        teacher_weights: Its safetensors file in timm's key layout; None: from the Hub.
        initial: Weights of an earlier distillation to go on from, its card beside them; None: random ones.
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
    initial: Path | None = None
    steps: int = 4000
    batch_size: int = 8
    side: int = 160
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("steps", 1), ("batch_size", 2), ("side", 64), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name} must be at least {low}, but got {getattr(self, name)}.")
        if self.output.suffix != ".safetensors":
            raise UserError(f"output must be a .safetensors file, but got {self.output}.")


class Distiller(nn.Module):
    """Student and teacher.

    Where a level of both has as many channels, the student's are the teacher's, so distances and directions agree too; a level
    of other width is taken to the teacher's by a linear map that is thrown away afterwards.
    """

    def __init__(self, teacher: Backbone) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = Backbone(SMALL, (1, 2, 3), teacher.grid_size).cnn.requires_grad_(True)
        pairs = zip(self.student.feature_info.channels(), teacher.level_channels, strict=True)
        self.heads = nn.ModuleList(nn.Identity() if own == other else nn.Conv2d(own, other, 1) for own, other in pairs)

    @torch.no_grad()
    def measure(self, pictures: Tensor) -> None:
        """Store the deviation of the teacher's channels on some pictures (N, 3, side, side)."""
        raw = self.teacher.raw(pictures)
        levels = raw.std((0, 2, 3)).split(self.teacher.level_channels)
        floored = torch.cat([level.clamp_min(STD_FLOOR * float(level.median())) for level in levels])
        self.teacher.set_statistics(raw.mean((0, 2, 3)), floored)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """``loss`` of pictures (N, 3, side, side): the mean over levels of (e_picture + e_all) / 2 + 1 - cosine.

        e is the mean squared error over the variance of the teacher's channel: within the picture, as a detector standardises
        by parts that look alike, and over all pictures. Levels are averaged over 3x3 neighbours first, as `Backbone` does.
        ``error`` and ``direction``: e_all and 1 - cosine of every level, (levels,).
        """
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            wanted = [_pooled(level) for level in self.teacher.cnn(pictures)]
        deviations = self.teacher.std.split(self.teacher.level_channels)
        losses, errors, directions = [], [], []
        for level, head, deviation, target in zip(self.student(pictures), self.heads, deviations, wanted, strict=True):
            guess = _pooled(head(level))
            square, overall = (guess - target).square(), deviation[:, None, None].square()
            within = target.var((2, 3), keepdim=True) + WITHIN_FLOOR * overall
            errors.append((square / overall).mean())
            directions.append(1 - functional.cosine_similarity(guess, target, dim=1).mean())
            losses.append(((square / within).mean() + errors[-1]) / 2 + directions[-1])
        return {
            "loss": torch.stack(losses).mean(),
            "error": torch.stack(errors),
            "direction": torch.stack(directions),
        }


def _pooled(level: Tensor) -> Tensor:
    return functional.avg_pool2d(level.float(), 3, stride=1, padding=1)


def distill(options: DistillationOptions, command: str | None = None) -> dict[str, Any]:
    """Train the small backbone, write its weights as float16 safetensors in timm's key layout and its card beside them.

    Raises:
        UserError: Too few photos, teacher weights that don't fit, or an output that can't be written.
    """
    began = time.monotonic()
    photos = list_images(options.photos, recursive=True)
    if len(photos) < MIN_PHOTOS:
        raise UserError(f"{options.photos} must hold at least {MIN_PHOTOS} photos, but got {len(photos)}: add more.")
    teacher = Backbone(options.teacher, (1, 2, 3), 8)
    load_imagenet(teacher, options.teacher_weights)
    set_seed(options.seed)
    model: Distiller = Distiller(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    earlier = None
    if options.initial is not None:
        model.student.load_state_dict(read_weights(options.initial, model.student.state_dict()))
        earlier = _read_card(options.initial.with_suffix(".json"))
    _claim(options.output)
    pixels = [read_photo(path) for path in photos]
    apart = pixels[::HELD_OUT]
    kept = [pixel for index, pixel in enumerate(pixels) if index % HELD_OUT]
    pictures = Pictures(kept, options.side, options.steps * options.batch_size)
    model.measure(torch.stack([pictures[i]["pictures"] for i in range(MEASURED)]))
    losses = _learn(model, pictures, options)
    weights = {key: value.half().cpu().contiguous() for key, value in model.student.state_dict().items()}
    card = {
        "command": command,
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
        "earlier": earlier,
        "photos": {"trained_on": len(kept), "held_out": len(apart)},
        "parameters": sum(p.numel() for p in model.student.parameters()),
        "losses": losses,
        "held_out": measure_student(model.float(), apart, options.side),
        "seconds": round(time.monotonic() - began),
        **_surroundings(),
    }
    write_whole(options.output, lambda path: save_file(weights, path, {"format": "pt", "licence": "Apache-2.0"}))
    write_json(options.output.with_suffix(".json"), card)
    return card


def _learn(model: Distiller, pictures: Pictures, options: DistillationOptions) -> list[float]:
    """Train the student; returns the losses that were logged."""
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
            use_cpu=pick_device().type == "cpu",
            bf16=use_bf16("auto"),
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=pictures)
        trainer.train()
    return [round(entry["loss"], 4) for entry in trainer.state.log_history if "loss" in entry]


def _surroundings() -> dict[str, Any]:
    """What the card says of the machine and the day."""
    return {
        "threads": torch.get_num_threads(),
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "date": datetime.date.today().isoformat(),
    }


@torch.no_grad()
def measure_student(model: Distiller, photos: list[Tensor], side: int) -> dict[str, Any]:
    """Loss, and error and direction a level as in `Distiller.forward`, on the same pictures of these photos at every call."""
    model.eval()
    device = next(model.student.parameters()).device
    pictures = Pictures(photos, side, MEASURED)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = model(torch.stack([pictures[i]["pictures"] for i in range(MEASURED)]).to(device))
    return {key: [round(float(v), 4) for v in value.flatten()] for key, value in found.items()}


def _read_card(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{path}, the card of the initial weights, can't be read: keep it beside them.") from error


def _claim(output: Path) -> None:
    """Make the folder of the output and see that files can be written there."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise UserError(f"{output} can't be written ({error.strerror}): choose another place.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command: 0 done, 2 with one sentence on stderr where its input must be mended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="tools/distill.py"
    )
    parser.add_argument("--teacher", required=True, metavar="NAME", help="timm CNN with feature levels 1 to 3")
    parser.add_argument("--teacher-weights", type=Path, metavar="FILE", help="as safetensors; default: the Hub")
    parser.add_argument(
        "--photos", type=Path, required=True, metavar="DIR", help="ordinary photos, searched recursively"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="a .safetensors file")
    parser.add_argument(
        "--initial", type=Path, metavar="FILE", help="go on from these weights of an earlier distillation"
    )
    for name, help_text in (
        ("steps", "optimiser steps"),
        ("batch_size", "pictures per step"),
        ("side", "of the crops, pixels"),
        ("learning_rate", "peak of the schedule"),
        ("seed", "of weights, crops and generated textures"),
    ):
        default = getattr(DistillationOptions, name)
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"{help_text} (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        card = distill(DistillationOptions(**vars(options)), shlex.join(["python", "tools/distill.py", *sys.argv[1:]]))
    except UserError as error:
        print(f"distill: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {card['parameters']} parameters, last loss {card['losses'][-1]}, {card['seconds']} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
