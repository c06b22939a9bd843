"""The command `uranet`: train, evaluate and predict. Numerics live elsewhere."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cli_benchmark import add_benchmark
from .cli_fields import read_fields
from .cli_making import add_making
from .cli_predict import add_predict
from .cli_sharing import add_sharing
from .errors import UserError
from .files import write, write_json

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
LOOKED_AT = 8  # images whose largest value is looked at
WHY_LEFT_OUT = {
    "copies": "each is a copy of another one, byte by byte.",
    "in_subfolders": "they lie in subfolders, and only the folder itself is read; move them up where they are good.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 done, 1 done in part, 2 with one sentence on stderr where its input must be mended, 130 interrupted."""
    options = build_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        return options.run(options) or 0
    except UserError as error:
        print(f"uranet: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except PermissionError as error:
        print(f"uranet: {error.filename} may not be read or written by you: change its permissions.", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        hint = "; repeat the same command to go on where it was last saved" if options.resumes else ""
        print(f"uranet: interrupted{hint}.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # who read the output has enough; nothing more is written, at the end of Python either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="uranet",
        description="Find defects in images after seeing only good ones (URA-Net, arXiv 2603.22840).",
        epilog="'uranet COMMAND --help' explains each command. Exit codes: 0 done, 1 in part, 2 wrong input, 130 interrupted.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    add_predict(commands, _add_command)
    add_benchmark(commands, _add_command)
    add_making(commands, _add_command)
    add_sharing(commands, _add_command)
    return parser


def _add_command(
    commands: Any, name: str, run: Any, summary: str, description: str, example: str, resumes: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, resumes=resumes)
    return parser


def _add_train(commands: Any) -> None:
    parser = _add_command(
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
    data.add_argument("--resize-mode", choices=("stretch", "pad"), default="stretch", help="pad keeps the aspect ratio")
    data.add_argument(
        "--pose",
        choices=("auto", "fixed", "any"),
        default="auto",
        help="any: parts lie in any rotation (default: told)",
    )
    model = parser.add_argument_group("model")
    model.add_argument(
        "--backbone",
        metavar="NAME",
        help="any timm CNN, or uranet-small, which lies in the package (default: wide_resnet50_2.tv_in1k; uranet-small "
        "where its weights can't be fetched)",
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
    run.add_argument("--steps", type=int, default=600, help="optimiser steps (default: %(default)s)")
    run.add_argument("--batch-size", type=int, default=8, help="images a step and process (default: %(default)s)")
    run.add_argument("--learning-rate", type=float, default=1e-3, help="peak of the schedule (default: %(default)s)")
    run.add_argument(
        "--held-out", type=float, default=0.1, metavar="SHARE", help="for calibration (default: %(default)s)"
    )
    run.add_argument(
        "--false-positive-rate", type=float, metavar="RATE", help="of good images, to calibrate for (default: 0.05)"
    )
    run.add_argument(
        "--seed", type=int, default=0, help="same seed, same weights on one machine (default: %(default)s)"
    )
    run.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="default: bf16 where it is faster"
    )
    run.add_argument(
        "--save-every", type=int, default=200, metavar="STEPS", help="between resume points (default: 200)"
    )
    run.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep the frozen features there for later runs on the same images"
    )
    run.add_argument("--half", action="store_true", help="store the weights as float16, half the size")


def _add_evaluate(commands: Any) -> None:
    parser = _add_command(
        commands,
        "evaluate",
        _evaluate,
        "measure a checkpoint on labelled test images",
        """Measure a checkpoint on the test images of a category in any layout that `uranet train` takes.

Prints image AUROC, AP and F1-max, pixel AUROC, AP and F1-max, and AUPRO up to a false-positive rate of 0.3, overall
and per defect type, and how the calibrated threshold did. Maps are compared with the masks at the size of the images.""",
        "uranet evaluate runs/bottle --data mvtec/bottle --json bottle.json",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `uranet train` wrote, or a bundled name")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="category: test/, and ground_truth/ for masks"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--save", action="store_true", help="keep the figures in the checkpoint, for its card")
    parser.add_argument("--batch-size", type=int, default=8, help="images at once (default: %(default)s)")


def _train(options: argparse.Namespace) -> None:
    from .calibration import enough_to_calibrate
    from .configuration_uranet import URANetConfig
    from .default_backbone import default_backbone
    from .training import TrainingOptions, train

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
        count, held = record["images"]["fitted"], record["images"]["held_out"]
        print(
            f"{options.output}: trained on {count} good images, calibrated on {held} others, {record['seconds']:.0f} s."
        )
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
    from .data.folder import read_dataset
    from .images import largest_level

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


def _evaluate(options: argparse.Namespace) -> None:
    from .download import EVALUATION, checkpoint_folder
    from .evaluation import evaluate
    from .hub import load_checkpoint

    folder = checkpoint_folder(options.checkpoint)
    result = evaluate(*load_checkpoint(folder), options.data, options.batch_size)
    try:
        _print_figures(result)
    finally:
        if options.json:
            write(options.json, lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))
        if options.save:  # in place of a link into the Hub's cache, whose file must stay as it came
            write(folder / EVALUATION, lambda path: write_json(path, result))


def _print_figures(result: dict[str, Any]) -> None:
    from .metrics import METRIC_KEYS

    rows = {"all": result, **result["per_type"]}
    width = max(len(name) for name in rows) + 2
    print("".ljust(width) + "  ".join(key.rjust(11) for key in METRIC_KEYS))
    for name, row in rows.items():
        cells = ["-" if row[key] is None else f"{row[key]:.4f}" for key in METRIC_KEYS]
        print(name.ljust(width) + "  ".join(cell.rjust(11) for cell in cells))
    at = result["at_threshold"]
    rates = {"false alarms": at["false_alarm_rate"], "misses": at["miss_rate"]}
    if said := [f"{rate:.1%} {name}" for name, rate in rates.items() if rate is not None]:
        print(f"at the calibrated threshold: {', '.join(said)}")
    if not result["n_normal"]:
        print("there are no good test images, so most figures can't be had: put some into test/good.")
