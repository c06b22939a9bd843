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
from ..training.options import FEW_IMAGES, FEW_STEPS, POSES, PRECISIONS, STEPS, TrainingOptions
from .fields import FRAMES_HELP, read_fields

CHECKED_IMAGES = 8  # of which the largest value is looked at
CONFIG_FLAGS = ("backbone", "image_size", "grid_size", "false_positive_rate")


def add_train(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "train",
        _train,
        "train a detector on good images",
        """Train a detector on good images only and write a checkpoint folder.

DATA is a plain folder of good images, folders of good and of defective ones beside each other (OK and NG, good and
crack ...; a fifth of the good ones is then kept for testing), or a category in the layout of MVTec AD, LOCO AD or AD 2,
BTAD, BMAD, OCT-2017 or VisA. It may be a CSV or JSON Lines file with the columns image, label, mask, split. It may also
be a dataset of the package `datasets`: a folder that save_to_disk wrote, one of Parquet or Arrow files, or a dataset on
the Hub, NAMESPACE/NAME or NAMESPACE/NAME:CONFIG. Its column label tells good images from others; without one all are
good. Several --data are read together.
elpv:mono and elpv:poly are photos of solar cells, which pip install '.[examples]' brings (not for commercial use).

The frozen backbone sees every image once (of more than 4000, 4000 drawn by the seed); its features are cached in the
output folder while training runs. All photos set the thresholds,
each compared with the others. The checkpoint is that of the last step.

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
    group.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DATA",
        help="see above; may be given several times",
    )
    group.add_argument("--recursive", action="store_true", help="read subfolders of the folder of good images, too")
    group.add_argument("--strict", action="store_true", help="refuse data of which anything would be left out")
    group.add_argument("--output", type=Path, required=True, metavar="DIR", help="for the checkpoint; made if absent")
    group.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write the closing report there, with the most unusual photos as pictures",
    )
    _add(group, "--limit", "use only N good images, drawn by the seed", type=int, metavar="N")
    _add(group, "--textures", "photos for artificial anomalies, not scikit-image's", type=Path, metavar="DIR")
    _add(group, "--max-value", "white, e.g. 4095 for 12-bit cameras; not in 8-bit images", type=float, metavar="V")
    _add(
        group,
        "--value-range",
        "black and white, e.g. -20 120 for temperatures; not in 8-bit images",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
    )
    _add(group, "--resize-mode", "pad keeps the aspect ratio", choices=("stretch", "pad"))
    _add(
        group,
        "--roi",
        "where to look: a mask, white there, or a rectangle in pixels of the photos; the rest is ignored for good",
        metavar="MASK.png|X,Y,W,H",
    )
    _add(group, "--frames", FRAMES_HELP, metavar="WHICH")
    _add(group, "--pose", "any: parts lie in any rotation (default: found out from the images)", choices=POSES)


def _add_model(group: Any) -> None:
    group.add_argument(
        "--backbone",
        metavar="NAME",
        help="any timm CNN or ViT, or uranet-small, which lies in the package "
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
    default = f"default: {STEPS}, of fewer than {FEW_IMAGES} images {FEW_STEPS}"
    _add(group, "--steps", f"optimiser steps ({default})", type=int)
    _add(group, "--batch-size", "images per step per process (default: %(default)s)")
    _add(group, "--learning-rate", "peak of the schedule (default: %(default)s)")
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
    from ..data.opening import open_dataset
    from ..model.configuration_uranet import URANetConfig
    from ..training.default_backbone import default_backbone
    from ..training.train import train

    fields = {name: value for name in CONFIG_FLAGS if (value := getattr(options, name)) is not None}
    fields |= read_fields(options.set)
    chosen = TrainingOptions(**{name: getattr(options, name) for name in TrainingOptions.__dataclass_fields__})
    images = [
        sample.image for sample in open_dataset(options.data, recursive=options.recursive).train
    ]  # what is wrong with them is said first
    if "backbone" not in fields and options.backbone_weights is None:
        fields["backbone"] = default_backbone(options.output)
    command = shlex.join(["uranet", *sys.argv[1:]])
    is_main = int(os.environ.get("RANK", "0")) == 0
    if is_main and options.max_value is None and options.value_range is None:
        _hint_at_white(images)
    record = train(chosen, URANetConfig(**fields), command, report=options.report)
    if is_main:
        _report(options.output, record)


def _report(output: Path, record: dict[str, Any]) -> None:
    """Say what to expect, which photos to look at, what the checkpoint was made from, and what was left out."""
    from ..data.left_out import used_table
    from ..training.report import FalseAlarms, sentences

    rate = FalseAlarms.of_record(record)
    fitted = record["images"]["fitted"]
    trained = "trained" if rate.photos == fitted else f"trained on {fitted} good images"
    print(f"{output}: {trained} and calibrated on {rate.photos} good images, {record['seconds']:.0f} s.")
    if (files := record["files"]) < record["good_images"]:
        print(f"{files} files hold {record['good_images']} images: each page and frame counts as one (--frames).")
    print("\n".join(sentences(record, rate)))
    for note in record["notes"]:
        print(note)
    used = {f"good images of {one['data']}": one["images"] for one in record["sources"]}
    print(used_table(used, record["left_out"], record["kept"]))


def _hint_at_white(images: list[Path]) -> None:
    """Say so where the first images look like those of a camera of 10 to 14 bits, stored in 16."""
    from ..model.frames import FIRST, all_frames
    from ..model.images import largest_level

    try:
        levels = [largest_level(image) or 2**16 for image in all_frames(images[:CHECKED_IMAGES], FIRST)]
    except UserError:
        return  # training says it, and of all images
    if (largest := max(levels)) < 2**14:
        white = 2 ** max(10, largest.bit_length()) - 1
        print(
            f"uranet: the first images are 16-bit, but none of their values is above {largest}: if the camera's white is "
            f"{white}, train with --max-value {white}.",
            file=sys.stderr,
        )
