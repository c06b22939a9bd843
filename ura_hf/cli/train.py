"""The command `uranet train`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from ..model.errors import UserError
from ..training.options import POSES, PRECISIONS, TrainingOptions
from .fields import read_fields

LOOKED_AT = 8  # images whose largest value is looked at
WHY_LEFT_OUT = {
    "copies": "each is a copy of another one, byte by byte.",
    "in_subfolders": "they lie in subfolders, and only the folder itself is read; move them up where they are good.",
}


def add_train(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "train",
        _train,
        "train a detector on good images",
        """Train a detector on good images only and write a checkpoint folder.

DIR is a category of MVTec AD, BTAD, OCT-2017 or VisA as it was published, your own in the MVTec AD layout (train/good
is used; masks in ground_truth must belong to test images), or a plain folder of good images. The frozen backbone sees
every image once (of more than 4000, 4000 drawn by the seed); its features are cached in the output folder while training
runs. A tenth of the images is kept from training to calibrate the thresholds. The checkpoint is that of the last step.

Killed or interrupted runs go on from the last saved step when the same command is repeated. Several processes or
GPUs: accelerate launch -m ura_hf train ...""",
        "uranet train --data photos/ring --output runs/ring --seed 0",
        resumes=True,
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, required=True, metavar="DIR", help="category or folder of good images")
    data.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder for the checkpoint; made if absent"
    )
    data.add_argument("--limit", type=int, metavar="N", help="use only N good images, drawn by the seed")
    data.add_argument("--textures", type=Path, metavar="DIR", help="natural photos as a source of artificial anomalies")
    data.add_argument(
        "--max-value", type=float, metavar="V", help="white in 16-bit images, e.g. 4095 for 12-bit cameras"
    )
    data.add_argument(
        "--resize-mode",
        choices=("stretch", "pad"),
        default=TrainingOptions.resize_mode,
        help="pad keeps the aspect ratio",
    )
    data.add_argument(
        "--pose",
        choices=POSES,
        default=TrainingOptions.pose,
        help="any: parts lie in any rotation (default: found out from the images)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone",
        metavar="NAME",
        help="any timm CNN, or uranet-small, which lies in the package (default: resnet18.tv_in1k; uranet-small where its "
        "weights can't be fetched)",
    )
    model.add_argument(
        "--backbone-weights", type=Path, metavar="FILE", help="its weights as safetensors; default: the Hub"
    )
    model.add_argument("--image-size", type=int, metavar="S", help="side of the network input, pixels (default: 256)")
    model.add_argument("--grid-size", type=int, metavar="G", help="side of the feature grid (default: 32)")
    model.add_argument(
        "--set", action="append", default=[], metavar="FIELD=JSON", help="any other field of URANetConfig"
    )
    run = parser.add_argument_group("training")
    run.add_argument("--steps", type=int, default=TrainingOptions.steps, help="optimiser steps (default: %(default)s)")
    run.add_argument(
        "--batch-size",
        type=int,
        default=TrainingOptions.batch_size,
        help="images per step per process (default: %(default)s)",
    )
    run.add_argument(
        "--learning-rate",
        type=float,
        default=TrainingOptions.learning_rate,
        help="peak of the schedule (default: %(default)s)",
    )
    run.add_argument(
        "--held-out",
        type=float,
        default=TrainingOptions.held_out,
        metavar="SHARE",
        help="for calibration (default: %(default)s)",
    )
    run.add_argument(
        "--false-positive-rate", type=float, metavar="RATE", help="of good images, to calibrate for (default: 0.05)"
    )
    run.add_argument(
        "--seed",
        type=int,
        default=TrainingOptions.seed,
        help="same seed, same weights on one machine (default: %(default)s)",
    )
    run.add_argument(
        "--precision", choices=PRECISIONS, default=TrainingOptions.precision, help="default: bf16 where it is faster"
    )
    run.add_argument(
        "--save-every",
        type=int,
        default=TrainingOptions.save_every,
        metavar="STEPS",
        help="between resume points (default: 200)",
    )
    run.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep the frozen features there for later runs on the same images"
    )
    run.add_argument("--half", action="store_true", help="store the weights as float16, half the size")


def _train(options: argparse.Namespace) -> None:
    from ..model.configuration_uranet import URANetConfig
    from ..training.default_backbone import default_backbone
    from ..training.train import train

    fields = {
        name: value
        for name in ("backbone", "image_size", "grid_size", "false_positive_rate")
        if (value := getattr(options, name)) is not None
    }
    fields |= read_fields(options.set)
    chosen = TrainingOptions(**{name: getattr(options, name) for name in TrainingOptions.__dataclass_fields__})
    if "backbone" not in fields and options.backbone_weights is None and options.data.is_dir():
        fields["backbone"] = default_backbone(options.output)
    command = shlex.join(["uranet", *sys.argv[1:]])
    is_main = int(os.environ.get("RANK", "0")) == 0
    if is_main and options.max_value is None:
        _hint_at_white(options.data)
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


def _hint_at_white(data: Path) -> None:
    """Say so where the first images look like those of a camera of 10 to 14 bits, stored in 16."""
    from ..data.folder import read_dataset
    from ..model.images import largest_level

    try:
        levels = [largest_level(sample.image) or 2**16 for sample in read_dataset(data).train[:LOOKED_AT]]
    except UserError:
        return  # training says it, and of all images
    if (largest := max(levels)) < 2**14:
        white = 2 ** max(10, largest.bit_length()) - 1
        print(
            f"uranet: the first images are 16-bit, but none of their values is above {largest}: if the camera's white is "
            f"{white}, train with --max-value {white}.",
            file=sys.stderr,
        )
