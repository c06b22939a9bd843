"""The commands `uranet benchmark` and `uranet data check`."""

from __future__ import annotations

import argparse
import functools
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..model.errors import UserError
from .fields import read_fields

AddCommand = Callable[..., argparse.ArgumentParser]
DATASETS = ("mvtec", "btad", "oct2017", "visa", "elpv", "folder")
EXIT_INCOMPLETE = 1
TRAINING_FLAGS = (
    "backbone_weights",
    "textures",
    "steps",
    "epochs",
    "batch_size",
    "learning_rate",
    "precision",
    "save_every",
)


def add_benchmark(commands: Any, add_command: AddCommand) -> None:
    """Add the parsers of both commands."""
    _add_benchmark(commands, add_command)
    _add_data(commands, add_command)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, choices=DATASETS, help="its layout; folder: any other, see below")
    parser.add_argument("--root", type=Path, metavar="DIR", help="the dataset's folder; not for elpv")
    parser.add_argument("--categories", nargs="+", metavar="NAME", help="only these (default: all)")


def _add_benchmark(commands: Any, add_command: AddCommand) -> None:
    parser = add_command(
        commands,
        "benchmark",
        _benchmark,
        "train and measure every category of a dataset",
        """Train and evaluate every category of MVTec AD, BTAD, OCT-2017, VisA, the solar cells of elpv (read from
the package elpv-dataset) or a folder of categories.

Writes into --output: seed0/uranet-mvtec-bottle/ and so on (checkpoints with figures and card, ready for `uranet push --all`),
runs/bottle-seed0.json (all figures of a run), and results.json, results.csv and results.md. Repeat the command after a
kill: finished runs are kept, a half-trained one goes on. A category that can't be used is reported, the others go on, and
the exit code is then 1. Several GPUs or processes share the runs:
  torchrun --nproc-per-node 8 -m ura_hf benchmark ...        accelerate launch --num_processes 8 -m ura_hf benchmark ...

Presets: `fast` is this package's defaults; `paper` follows the authors' earlier systems (docs/reproduce.md).""",
        "uranet benchmark --dataset mvtec --root data/mvtec --output runs/mvtec --seeds 0 1 2",
        resumes=True,
    )
    _add_dataset(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="made if absent")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run each (default: 0)")
    parser.add_argument("--preset", choices=("paper", "fast"), default="fast", help="default: %(default)s")
    parser.add_argument("--partial", action="store_true", help="take categories that lack images, and say so")
    parser.add_argument(
        "--best-on-test",
        type=int,
        nargs="?",
        const=10,
        default=0,
        metavar="TIMES",
        help="also report an upper envelope: the best of so many evaluations on the test images (10 if no number is given)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="copy results.json there")
    parser.add_argument("--strict", action="store_true", help="a run of whose data anything is left out fails")
    _add_changes(parser.add_argument_group("changes to the preset"))


def _add_changes(change: Any) -> None:
    change.add_argument("--backbone", metavar="NAME", help="any timm CNN or ViT")
    change.add_argument("--backbone-weights", type=Path, metavar="FILE", help="as safetensors; default: the Hub")
    change.add_argument("--textures", type=Path, metavar="DIR", help="photos as a source of artificial anomalies")
    change.add_argument("--set", action="append", default=[], metavar="FIELD=JSON", help="a field of URANetConfig")
    change.add_argument("--steps", type=int, help="optimiser steps of a run")
    change.add_argument("--epochs", type=int, help="in place of --steps")
    change.add_argument("--batch-size", type=int, help="images a step")
    change.add_argument("--learning-rate", type=float, help="peak of the schedule")
    change.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="default: bf16 where it is faster")
    change.add_argument("--save-every", type=int, metavar="STEPS", help="between resume points")


def _add_data(commands: Any, add_command: AddCommand) -> None:
    data = commands.add_parser("data", help="check a dataset before it is used")
    parser = add_command(
        data.add_subparsers(title="commands", required=True, metavar="COMMAND"),
        "check",
        _check,
        "compare a dataset on disk with the published one",
        """Compare the images of every category and split with the published counts, read every image and mask, and list what is
missing, unreadable or of another size than its image. The exit code is 1 if anything is wrong.""",
        "uranet data check --dataset mvtec --root data/mvtec",
    )
    _add_dataset(parser)
    parser.add_argument("--quick", action="store_true", help="count only, read no image")


def _benchmark(options: argparse.Namespace) -> int:
    from ..benchmark.job import plan, take_place, work
    from ..benchmark.settings import Settings
    from ..benchmark.table import MARKDOWN, RESULTS

    place = take_place()
    if options.best_on_test < 0:
        raise UserError(f"--best-on-test must be at least 0, but got {options.best_on_test}.")
    if options.steps is not None and options.epochs is not None:
        raise UserError("--steps and --epochs say the same: give one of them.")
    fields = read_fields(options.set) | ({"backbone": options.backbone} if options.backbone else {})
    chosen = {name: value for name in TRAINING_FLAGS if (value := getattr(options, name)) is not None}
    training = {k: str(v.absolute()) if isinstance(v, Path) else v for k, v in chosen.items()}
    root = str(options.root.absolute()) if options.root else None
    limits = (options.partial, options.best_on_test, options.strict)
    settings = Settings(options.dataset, root, options.preset, fields, training, *limits)
    runs = plan(settings, options.output, options.categories, list(dict.fromkeys(options.seeds)))
    complete = work(runs, settings, shlex.join(["uranet", *sys.argv[1:]]), place, functools.partial(print, flush=True))
    if place.rank:
        return 0
    print((options.output / MARKDOWN).read_text())
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.output / RESULTS, options.json)
    return 0 if complete else EXIT_INCOMPLETE


def _check(options: argparse.Namespace) -> int:
    from ..data.check import check_category
    from ..data.datasets import locate_categories

    wrong = []
    for name, folder in locate_categories(options.dataset, options.root, options.categories).items():
        check = check_category(options.dataset, name, folder, decode=not options.quick)
        if check.counts:
            anomalous = sum(check.counts.types.values())
            masks = f", {anomalous - len(check.unmasked)} masks" if check.any_mask else ", no masks"
            counts = f"{check.counts.train} to train on; test: {check.counts.good} good, {anomalous} anomalous{masks}"
        else:
            counts = "not readable"
        print(f"{name}: {counts}{'' if check.problems else ', as it should be'}")
        for line in [*check.problems, *check.reading]:
            print(f"  {line}")
        if check.problems:
            wrong.append(name)
    if wrong:
        print(f"{len(wrong)} with problems: {', '.join(wrong)}.")
    return EXIT_INCOMPLETE if wrong else 0
