"""How memory and time grow with images and categories, on drawn images: `python benchmarks/scaling.py`.

Every measurement is a process of its own with one thread; seconds are of the processor, not of the clock, since
neighbours on the machine would be measured too. Writes docs/results/scaling.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, evaluate
from ura_hf.inference import Pair

ROOT = Path(__file__).resolve().parent.parent
SIDE = 64
TINY = {
    "backbone": "uranet-small",
    "image_size": SIDE,
    "grid_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "memory_tokens": 16,
    "memory_cells": 32,
    "perception_size": 16,
}
NAMES = ("bottle", "cable", "capsule", "hazelnut")


def draw(path: Path, rng: np.random.Generator, mask: Path | None = None) -> None:
    """A disc on noise, with a dark spot where it has a mask."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = ndimage.gaussian_filter(((y - 32) ** 2 + (x - 32) ** 2 < 24**2).astype(float), 1)
    grey = 60 + 120 * disc + 6 * rng.standard_normal(disc.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    if mask:
        spot = (y - rng.integers(20, 44)) ** 2 + (x - rng.integers(20, 44)) ** 2 < 16
        grey = np.where(spot, 20, grey)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(spot.astype(np.uint8) * 255).save(mask)
    Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(path)


def category(root: Path, train: int, test: int) -> Path:
    """A category with `train` good images, and `test` to test on, half of them defective."""
    rng = np.random.default_rng(0)
    for index in range(train):
        draw(root / f"train/good/{index:05d}.png", rng)
    for index in range(test // 2):
        draw(root / f"test/good/{index:05d}.png", rng)
        draw(root / f"test/spot/{index:05d}.png", rng, root / f"ground_truth/spot/{index:05d}_mask.png")
    return root


def evaluate_only(data: Path) -> None:
    """Evaluate an untrained model and print memory and processor time, those before the first image apart."""
    torch.manual_seed(0)
    config = URANetConfig(**TINY)
    model, processor = (
        URANetForAnomalyDetection(config).eval(),
        URANetImageProcessor(size={"height": SIDE, "width": SIDE}),
    )
    model.backbone.set_statistics(model.backbone.mean, model.backbone.std)  # an unfitted model refuses to score
    before = resource.getrusage(resource.RUSAGE_SELF)
    evaluate(Pair(model, processor), data)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"peak_mib": round(after.ru_maxrss / 1024, 1), "cpu_seconds": round(seconds, 2)}))


def run(*command: str) -> str:
    """What a command printed, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    full = [sys.executable, *command]
    return subprocess.run(full, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=environment).stdout


def benchmark(root: Path, output: Path, *more: str) -> dict[str, Any]:
    """`uranet benchmark` on some of the drawn categories: processor time of its runs, without that of importing the package."""
    fields = [f"--set={name}={json.dumps(value)}" for name, value in TINY.items()]
    places = ["--dataset", "mvtec", "--root", str(root), "--output", str(output), "--partial"]
    run("-m", "ura_hf", "benchmark", *places, *fields, *more)
    runs = json.loads((output / "results.json").read_text())["runs"]
    seconds = sum(found["processor_seconds"] for found in runs)
    waits = [found["training"]["data_wait_share"] for found in runs]
    return {
        "cpu_seconds": round(seconds, 1),
        "data_wait_share": max(waits),
        "steps": sum(found["steps"] for found in runs),
    }


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", type=int, nargs="+", default=[100, 1000, 10000], help="test images")
    parser.add_argument(
        "--images", type=int, nargs="+", default=[100, 200, 400], help="good images, trained for 4 epochs"
    )
    parser.add_argument("--categories", type=int, nargs="+", default=[1, 2, 4], help="of 40 images, 40 steps each")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/scaling.json")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        evaluate_only(options.only)
        return
    report: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "hardware": f"one thread of {os.cpu_count()} CPU cores ({platform.machine()})",
        "torch": torch.__version__,
        "seed": 0,
        "date": datetime.date.today().isoformat(),
        "data": f"drawn images of {SIDE}x{SIDE}; config {json.dumps(TINY)}",
        "evaluation": [],
        "images": [],
        "categories": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for count in options.evaluation:
            data = category(work / f"test{count}", 2, count)
            printed = run("benchmarks/scaling.py", "--only", str(data))
            report["evaluation"].append({"images": count, **json.loads(printed.splitlines()[-1])})
        for count in options.images:
            category(work / f"train{count}/bottle", count, 4)
            found = benchmark(work / f"train{count}", work / f"out{count}", "--categories", "bottle", "--epochs", "4")
            report["images"].append({"images": count, **found})
        for name in NAMES[: max(options.categories)]:
            category(work / "many" / name, 40, 4)
        for count in options.categories:
            found = benchmark(work / "many", work / f"many{count}", "--steps", "40", "--categories", *NAMES[:count])
            report["categories"].append({"categories": count, **found})
    options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
