"""URA-Net and anomalib's models on the same images, weights and evaluator: `python benchmarks/peers.py`.

Goes on where it stopped; every run is a process of its own. Writes docs/results/peers.json after
each; `python benchmarks/render.py` renders the table.
Needs `pip install -e .[benchmarks]`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from detection import DATASETS, ROOT, WEIGHTS
from detection import run as run_uranet

from ura_hf import URANetForAnomalyDetection, URANetImageProcessor
from ura_hf.data.folder import read_dataset
from ura_hf.evaluation import evaluate
from ura_hf.metrics import METRIC_KEYS

OURS = "uranet"
NAMES = (OURS, "patchcore_0.01", "patchcore_0.1", "padim", "stfpm", "reverse_distillation", "supersimplenet")
NOTES = [
    "Same ResNet-18 ImageNet weights, 256x256 bilinear input without crop, ImageNet normalisation, one evaluator for all.",
    "URA-Net holds a tenth of the good images out for its thresholds; the others train on all of them (favours the others).",
    "URA-Net's map rule and image-score rule were chosen on test images of pill and magnetic_tile, see docs/method.md "
    "(favours URA-Net); the others run at their documented settings, which their authors chose on MVTec AD.",
    "URA-Net uses texture photos (../shared/data/textures) as a source of artificial anomalies; the others take none.",
    "Image scores are each method's own: PatchCore's re-weighted patch maximum, the map's maximum, SuperSimpleNet's classifier.",
    "STFPM, ReverseDistillation and SuperSimpleNet stop at their documented epochs or at the time budget, last step; on CPUs the "
    "budget comes first (favours URA-Net, PatchCore and PaDiM).",
    "URA-Net trains in bf16 where the processor has it; everything else, and every inference, is float32.",
]


def latency(model: Any) -> float:
    """Median ms of the model alone on one 256x256 image, 20 calls after 5."""
    pixels, times = torch.randn(1, 3, 256, 256), []
    with torch.inference_mode():
        for _ in range(25):
            began = time.perf_counter()
            model(pixels)
            times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times[5:])


def run_one(name: str, dataset: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate in this process."""
    if name == OURS:
        found = run_uranet(dataset, seed, options.shared, options.work, [])
        training = found.pop("training")
        model = URANetForAnomalyDetection.from_pretrained(options.work / f"{dataset}-{seed}").eval()
        facts = {"train_seconds": training["seconds"], "peak_memory_gib": training["peak_memory_gib"]}
        return {**found, "model": name, **facts, "ms_per_image": latency(model), "training": training}
    from rivals import train_rival

    data = options.shared / DATASETS[dataset]
    processor = URANetImageProcessor(size={"height": 256, "width": 256})
    began = time.monotonic()
    paths = [sample.image for sample in read_dataset(data).train]
    images = torch.cat([processor([path], return_tensors="pt")["pixel_values"] for path in paths])
    model, facts = train_rival(name, options.shared / WEIGHTS, images, options.budget, seed)
    seconds = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "linux" else 2**30)
    report = evaluate(model, processor, data)  # type: ignore[arg-type]
    return {
        **report,
        "dataset": dataset,
        "seed": seed,
        "model": name,
        "train_seconds": round(seconds, 1),
        "peak_memory_gib": round(memory, 2),
        "ms_per_image": latency(model),
        "training": {**facts, "images": len(images)},
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Model -> data set, or `mean` over the data sets where all are there -> metric -> mean and spread over seeds."""
    keys = (*METRIC_KEYS, "train_seconds", "ms_per_image", "peak_memory_gib")
    table: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for name in dict.fromkeys(run["model"] for run in runs):
        own = [run for run in runs if run["model"] == name]
        for dataset in DATASETS:
            rows = [run for run in own if run["dataset"] == dataset]
            if rows:
                table.setdefault(name, {})[dataset] = {
                    key: _mean_and_spread([row[key] for row in rows]) for key in keys
                }
        seeds = sorted({run["seed"] for run in own})
        full = [[r for r in own if r["seed"] == seed] for seed in seeds]
        full = [rows for rows in full if len(rows) == len(DATASETS)]
        if full:
            means = {key: [statistics.mean(row[key] for row in rows) for rows in full] for key in keys}
            table[name]["mean"] = {key: _mean_and_spread(values) for key, values in means.items()}
    return table


def _mean_and_spread(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "spread": max(values) - min(values), "seeds": len(values)}


def main() -> None:
    """Run what is missing, each in a process of its own, and write the results after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/peers", help="runs and checkpoints go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/peers.json")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", type=float, default=600, help="seconds of a gradient-trained rival (default: 600)")
    parser.add_argument("--only", nargs=3, metavar=("MODEL", "DATASET", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.only:
        name, dataset, seed = options.only[0], options.only[1], int(options.only[2])
        result = run_one(name, dataset, seed, options)
        (options.work / f"{name}-{dataset}-{seed}.json").write_text(json.dumps(result, indent=1))
        return
    for seed in options.seeds:
        for dataset in options.datasets:
            for name in options.models:
                if (options.work / f"{name}-{dataset}-{seed}.json").exists():
                    continue
                places = ["--shared", options.shared, "--work", options.work, "--budget", options.budget]
                command = [sys.executable, __file__, *places, "--only", name, dataset, seed]
                subprocess.run([str(part) for part in command], check=True)
                write(options)
    write(options)


def write(options: argparse.Namespace) -> None:
    """All runs there are, with their summary."""
    paths = [options.work / f"{m}-{d}-{s}.json" for m in NAMES for d in DATASETS for s in options.seeds]
    runs = [json.loads(path.read_text()) for path in paths if path.exists()]
    report = {
        "command": " ".join(["python", *sys.argv]),
        "notes": NOTES,
        "budget_seconds": options.budget,
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, **_anomalib()},
        "date": datetime.date.today().isoformat(),
        "summary": summarise(runs),
        "runs": runs,
    }
    options.output.write_text(json.dumps(report, indent=1) + "\n")


def _anomalib() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"anomalib": version("anomalib")}
    except PackageNotFoundError:
        return {}


if __name__ == "__main__":
    main()
