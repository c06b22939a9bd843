"""The commands `uranet distill` and `uranet demo-data`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

AddCommand = Callable[..., argparse.ArgumentParser]


def add_making(commands: Any, add_command: AddCommand) -> None:
    """Add the parsers of the two commands."""
    _add_distill(commands, add_command)
    _add_demo_data(commands, add_command)


def _add_distill(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "distill",
        _distill,
        "train the small backbone from a teacher",
        """Train the small backbone `uranet-small` to give the features of an ImageNet teacher.

The photos need no labels; crops, colours and generated textures make a few hundred suffice. Writes FILE (float16
safetensors) and its card, FILE with the suffix .json.""",
        "uranet distill --teacher resnet18.tv_in1k --photos photos --output uranet-small.safetensors",
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
    parser.add_argument("--steps", type=int, default=4000, help="optimiser steps (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures a step (default: %(default)s)")
    parser.add_argument("--side", type=int, default=160, help="of the crops, pixels (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def _add_demo_data(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "demo-data",
        _demo_data,
        "draw inspection images to try things on",
        """Draw inspection images with exact defect masks and write them in the MVTec AD layout.

Kinds: ring (a machined part), cloth (a weave), board (an assembly; its types missing_part and
misplaced_part are logical anomalies, the paper's named failure). The same command draws the same images.
With --seed 0 they are those that the bundled checkpoints were trained and evaluated on.""",
        "uranet demo-data --kind ring --output demo/ring",
    )
    parser.add_argument("--kind", required=True, choices=("ring", "cloth", "board"), help="what to draw")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the category")
    parser.add_argument("--train", type=int, default=60, help="good training images (default: %(default)s)")
    parser.add_argument("--good", type=int, default=20, help="good test images (default: %(default)s)")
    parser.add_argument("--each", type=int, default=10, help="test images of every defect type (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="no two share an image (default: %(default)s)")


def _distill(options: argparse.Namespace) -> None:
    from .distillation import DistillationOptions, distill

    chosen = {name: getattr(options, name) for name in DistillationOptions.__dataclass_fields__}
    card = distill(DistillationOptions(**chosen), " ".join(["uranet", *sys.argv[1:]]))
    print(f"{options.output}: {card['parameters']} parameters, last loss {card['losses'][-1]}, {card['seconds']} s.")


def _demo_data(options: argparse.Namespace) -> None:
    from .data.demo_parts import write_demo_data

    write_demo_data(options.kind, options.output, options.train, options.good, options.each, seed=options.seed)
