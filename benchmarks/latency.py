"""Milliseconds an image of URA-Net and anomalib's models, taking turns in one process: `python benchmarks/latency.py`.

With `--device cuda` on a GPU, to docs/results/gpu/latency.json.

How long a model was trained does not change its speed, so URA-Net trains one step and who learns by gradients one second;
memories, coresets and statistics are whole. URA-Net's verdict needs its map alone; with restoration and uncertainty it has a row
of its own. "backbone alone" is the ResNet-18 that all of them look through. Each model takes turns in both memory formats, and
the faster counts. Writes docs/results/latency.json; `python benchmarks/render.py` renders its table. Needs
`pip install -e .[benchmarks]`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from copy import deepcopy
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from descent import Budget
from detection import WEIGHTS
from runs import commit, device_here, versions, write_report
from sets import DATASETS, ROOT
from torch import nn

from ura_hf import URANetForAnomalyDetection, URANetImageProcessor
from ura_hf.data.reader import read_dataset

OURS = ("uranet", "uranet, with restoration", "uranet, uranet-small", "backbone alone")
RIVALS = (
    "patchcore_0.01",
    "patchcore_0.1",
    "mh_patchcore",
    "padim",
    "dfm",
    "fre",
    "stfpm",
    "reverse_distillation",
    "supersimplenet",
)
LONG = ("patchcore_0.1", "mh_patchcore", "supersimplenet")  # to fit
WARM_UP = 3  # rounds
BATCHES = {1: 40, 8: 12}  # images at once, and rounds
Entry = tuple[str, str]  # model and memory format
Key = TypeVar("Key", bound=Hashable)
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Part(nn.Module):
    """What of URA-Net a row is about: its verdict and map, these with restoration and uncertainty, or its backbone."""

    def __init__(self, name: str, model: URANetForAnomalyDetection) -> None:
        super().__init__()
        self.name, self.model = name, model

    def forward(self, pixels: torch.Tensor) -> Any:
        """The outputs for images (B, 3, S, S)."""
        if self.name == "backbone alone":
            return self.model.uranet.extract(pixels)
        return self.model(pixels, num_samples=None if self.name == "uranet, with restoration" else 0)


def make(name: str, data: Path, pixels: torch.Tensor, options: argparse.Namespace) -> Any:
    """A model with all that its speed depends on; `pixels` are the normalised training images (N, 3, S, S)."""
    if name not in OURS:
        from rivals import train_rival

        with TemporaryDirectory() as folder:  # so that a second call does not go on with the first one's training
            budget = Budget(1, Path(folder) / "kept.pt")
            return train_rival(name, options.shared / WEIGHTS, pixels, budget, seed=0)[0]
    small = "small" in name
    folder = options.work / f"{data.name}-{'small' if small else 'resnet18'}-{commit()}"
    if not (folder / "training.json").exists():
        weights = ["--backbone-weights", options.shared / WEIGHTS] * (not small)
        backbone = ["--backbone", "uranet-small" if small else "resnet18", *weights]
        command = [sys.executable, "-m", "ura_hf", "train", "--data", data, "--output", folder, "--steps=1", *backbone]
        subprocess.run([str(word) for word in command], check=True)
    return Part(name, URANetForAnomalyDetection.from_pretrained(folder)).to(options.device).eval()


def in_formats(models: dict[str, Any], image: torch.Tensor) -> dict[Entry, Callable[[torch.Tensor], Any]]:
    """Every model by name and memory format in which it can compute, as a call that converts its image too."""
    found: dict[Entry, Callable[[torch.Tensor], Any]] = {}
    for name, model in models.items():
        for label, memory_format in FORMATS.items():
            call = partial(_call, deepcopy(model).to(memory_format=memory_format), memory_format)
            try:
                call(image)
            except RuntimeError as error:  # some rivals view what only contiguous features allow
                print(f"{name} cannot compute in {label}: {error}", file=sys.stderr)
            else:
                found[name, label] = call
    return found


def _call(model: Any, memory_format: torch.memory_format, image: torch.Tensor) -> Any:
    with torch.inference_mode():
        found = model(image.to(memory_format=memory_format))
        if image.is_cuda:
            torch.cuda.synchronize()
        return found


def compare(times: dict[Entry, list[float]]) -> list[dict[str, Any]]:
    """One row a model, of its format with the least median; ratios are medians over the rounds."""
    chosen: dict[str, str] = {}
    for name, label in times:
        if name not in chosen or statistics.median(times[name, label]) < statistics.median(times[name, chosen[name]]):
            chosen[name] = label
    base = times[OURS[0], chosen[OURS[0]]]
    rows = []
    for name, label in chosen.items():
        own = times[name, label]
        ratio = statistics.median(mine / ours for mine, ours in zip(own, base, strict=True))
        figures = {"median_ms": statistics.median(own), "least_ms": min(own), "times_of_uranet": ratio}
        rows.append({"model": name, "memory_format": label, **figures})
    return rows


def take_turns(
    calls: Mapping[Key, Callable[[torch.Tensor], Any]], images: list[torch.Tensor], rounds: int
) -> dict[Key, list[float]]:
    """Milliseconds of every call for one batch of images (B, 3, S, S) a round."""
    times: dict[Key, list[float]] = {entry: [] for entry in calls}
    for image in islice(cycle(images), rounds + WARM_UP):
        for entry, call in calls.items():
            began = time.perf_counter()
            call(image)
            times[entry].append(1000 * (time.perf_counter() - began))
    return {entry: found[WARM_UP:] for entry, found in times.items()}


def measure(dataset: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a model and number of threads (on a GPU one number of them)."""
    data = options.shared / DATASETS[dataset]
    processor, parts = URANetImageProcessor(size={"height": 256, "width": 256}), read_dataset(data)

    def read(samples: list[Any]) -> list[torch.Tensor]:
        return [processor([sample.image], return_tensors="pt")["pixel_values"].to(options.device) for sample in samples]

    pixels = torch.cat(read(parts.train))
    models = {name: make(name, data, pixels, options) for name in dict.fromkeys([OURS[0], *options.models])}
    calls, found = in_formats(models, pixels[:1]), []
    for batch, rounds in BATCHES.items():
        own = read(parts.test[:: max(1, len(parts.test) // (batch * rounds))])
        images = [torch.cat(own[at : at + batch]) for at in range(0, len(own) - batch + 1, batch)]
        for threads in sorted({1, os.cpu_count() or 1}) if options.device == "cpu" else [torch.get_num_threads()]:
            torch.set_num_threads(threads)
            rows = compare(take_turns(calls, images, rounds))
            found += [{"dataset": dataset, "threads": threads, "batch": batch, **row} for row in rows]
    return found


def main() -> None:
    """Measure all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/latency", help="checkpoints go there")
    parser.add_argument("--output", type=Path, help="default: docs/results/latency.json, or gpu/latency.json there")
    parser.add_argument("--device", type=device_here, choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=["bottle", "pill"])
    few = [name for name in RIVALS if name not in LONG]
    parser.add_argument("--models", nargs="+", choices=[*OURS, *RIVALS], default=[*OURS, *few])
    options = parser.parse_args()
    runs = [run for dataset in options.datasets for run in measure(dataset, options)]
    facts = {"rounds": BATCHES, "commit": commit(), "versions": versions("torch", "transformers", "anomalib")}
    if options.device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
    name = "latency.json" if options.device == "cpu" else "gpu/latency.json"
    write_report(options.output or ROOT / "docs/results" / name, {**facts, "runs": runs})


if __name__ == "__main__":
    main()
