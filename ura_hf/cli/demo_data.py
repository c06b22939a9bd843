"""The command `uranet demo-data`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

AddCommand = Callable[..., argparse.ArgumentParser]


def add_demo_data(commands: Any, add_command: AddCommand) -> None:
    """Add the command to the parser's; `add_command` makes one."""
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


def _demo_data(options: argparse.Namespace) -> None:
    from ..data.drawn.parts import write_demo_data

    write_demo_data(options.kind, options.output, options.train, options.good, options.each, seed=options.seed)
