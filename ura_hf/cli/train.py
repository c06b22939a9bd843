"""The command `uranet train`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from ..model.defaults import BACKBONE, FALSE_POSITIVE_RATE, GRID_SIZE, IMAGE_SIZE
from ..model.errors import UserError
from ..training.options import POSES, PRECISIONS, TrainingOptions
from .fields import read_fields

CHECKED_IMAGES = 8  # of which the largest value is looked at
WHY_LEFT_OUT = {
    "copies": "each is a copy of another one, byte by byte.",
    "in_subfolders": "they lie in subfolders, and only the folder itself is read; move them up where they are good.",
}
CONFIG_FLAGS = ("backbone", "image_size", "grid_size", "false_positive_rate")


def add_train(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "train",
        _train,
        "train a detector on good images",
        """Train a detector on good images only and write a checkpoint folder.

DATA is a category of MVTec AD, BTAD, OCT-2017 or VisA as it was published, your own in the MVTec AD layout (train/good
is used; masks in ground_truth must belong to test images), or a plain folder of good images. It may also be a dataset of
the package `datasets`: a folder that save_to_disk wrote, a folder of Parquet or Arrow files, or a dataset on the Hub,
NAMESPACE/NAME or NAMESPACE/NAME:CONFIG. Its column label tells good images from others; without one all are good.

The frozen backbone sees every image once (of more than 4000, 4000 drawn by the seed); its features are cached in the
output folder while training runs. A tenth of the images is kept from training to calibrate the thresholds. The
checkpoint is that of the last step.

Killed or interrupted runs go on from the last saved step when the same command is repeated. Several processes or
GPUs: accelerate launch -m ura_hf train ...""",
        "uranet train --data photos/ring --output runs/ring --seed 0",
        resumes=True,
    )
    _add_data(parser.add_argument_group("data"))
    _add_model(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))


def _add(group: Any, flag: str, help: str, **more: Any) -> None:
    """Add a flag of `TrainingOptions`, with its default; numbers get their type from it."""
    default = getattr(TrainingOptions, flag.removeprefix("--").replace("-", "_"))
    if isinstance(default, (int, float)):
        more["type"] = type(default)
    group.add_argument(flag, default=default, help=help, **more)


def _add_data(group: Any) -> None:
    group.add_argument("--data", type=Path, required=True, metavar="DATA", help="folder or dataset, see above")
    group.add_argument("--output", type=Path, required=True, metavar="DIR", help="for the checkpoint; made if absent")
    _add(group, "--limit", "use only N good images, drawn by the seed", type=int, metavar="N")
    _add(group, "--textures", "natural photos as a source of artificial anomalies", type=Path, metavar="DIR")
    _add(group, "--max-value", "white in 16-bit images, e.g. 4095 for 12-bit cameras", type=float, metavar="V")
    _add(group, "--resize-mode", "pad keeps the aspect ratio", choices=("stretch", "pad"))
    _add(group, "--pose", "any: parts lie in any rotation (default: found out from the images)", choices=POSES)


def _add_model(group: Any) -> None:
    group.add_argument(
        "--backbone",
        metavar="NAME",
        help="any timm CNN, or uranet-small, which lies in the package "
        f"(default: {BACKBONE}; uranet-small where its weights can't be fetched)",
    )
    _add(group, "--backbone-weights", "its weights as safetensors; default: the Hub", type=Path, metavar="FILE")
    group.add_argument(
        "--image-size", type=int, metavar="S", help=f"side of the network input, pixels (default: {IMAGE_SIZE})"
    )
    group.add_argument("--grid-size", type=int, metavar="G", help=f"side of the feature grid (default: {GRID_SIZE})")
    group.add_argument(
        "--set", action="append", default=[], metavar="FIELD=JSON", help="any other field of URANetConfig"
    )


def _add_training(group: Any) -> None:
    _add(group, "--steps", "optimiser steps (default: %(default)s)")
    _add(group, "--batch-size", "images per step per process (default: %(default)s)")
    _add(group, "--learning-rate", "peak of the schedule (default: %(default)s)")
    _add(group, "--held-out", "share for calibration (default: %(default)s)", metavar="SHARE")
    group.add_argument(
        "--false-positive-rate",
        type=float,
        metavar="RATE",
        help=f"of good images, to calibrate for (default: {FALSE_POSITIVE_RATE})",
    )
    _add(group, "--seed", "same seed, same weights on one machine (default: %(default)s)")
    _add(group, "--precision", "default: bf16 where it is faster", choices=PRECISIONS)
    _add(group, "--save-every", "between resume points (default: %(default)s)", metavar="STEPS")
    _add(group, "--cache", "keep the frozen features there for later runs on the same images", type=Path, metavar="DIR")
    group.add_argument("--half", action="store_true", help="store the weights as float16, half the size")


def _train(options: argparse.Namespace) -> None:
    from ..data.hub_datasets import open_dataset
    from ..model.configuration_uranet import URANetConfig
    from ..training.default_backbone import default_backbone
    from ..training.train import train

    fields = {name: value for name in CONFIG_FLAGS if (value := getattr(options, name)) is not None}
    fields |= read_fields(options.set)
    chosen = TrainingOptions(**{name: getattr(options, name) for name in TrainingOptions.__dataclass_fields__})
    images = [sample.image for sample in open_dataset(options.data).train]  # what is wrong with them is said first
    if "backbone" not in fields and options.backbone_weights is None:
        fields["backbone"] = default_backbone(options.output)
    command = shlex.join(["uranet", *sys.argv[1:]])
    is_main = int(os.environ.get("RANK", "0")) == 0
    if is_main and options.max_value is None:
        _hint_at_white(images)
    record = train(chosen, URANetConfig(**fields), command)
    if is_main:
        _report(options.output, record)


def _report(output: Path, record: dict[str, Any]) -> None:
    """Say what the checkpoint was made from, what was left out, and whether the photos were enough."""
    from ..training.calibration import enough_to_calibrate

    count, held = record["images"]["fitted"], record["images"]["held_out"]
    print(f"{output}: trained on {count} good images, calibrated on {held} others, {record['seconds']:.0f} s.")
    if count + held < record["good_images"]:
        print(f"used {count + held} of {record['good_images']} good images, drawn by the seed.")
    for what, number in record["left_out"].items():
        if number:
            print(f"left out {number} image(s): {WHY_LEFT_OUT[what]}")
    if not enough_to_calibrate(held, rate := record["thresholds"]["false_positive_rate"]):
        print(
            f"{held} images are few to calibrate a false-positive rate of {rate:g} on, so the real one may differ: "
            "give more good images, or a larger --held-out or --false-positive-rate."
        )


def _hint_at_white(images: list[Path]) -> None:
    """Say so where the first images look like those of a camera of 10 to 14 bits, stored in 16."""
    from ..model.images import largest_level

    try:
        levels = [largest_level(image) or 2**16 for image in images[:CHECKED_IMAGES]]
    except UserError:
        return  # training says it, and of all images
    if (largest := max(levels)) < 2**14:
        white = 2 ** max(10, largest.bit_length()) - 1
        print(
            f"uranet: the first images are 16-bit, but none of their values is above {largest}: if the camera's white is "
            f"{white}, train with --max-value {white}.",
            file=sys.stderr,
        )
