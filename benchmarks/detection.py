"""Train and evaluate on real images with several seeds: `python benchmarks/detection.py`. Goes on where it stopped.

Every run is `uranet train` and `uranet evaluate` in processes of their own, with the package's defaults but for the backbone.
Writes docs/results/detection.json; `python benchmarks/render.py` puts its table into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from ura_hf.metrics import METRIC_KEYS

ROOT = Path(__file__).resolve().parent.parent
DATASETS = {"bottle": "data/mvtec/bottle", "pill": "data/mvtec/pill", "magnetic_tile": "data/magnetic_tile"}
WEIGHTS = "backbones/resnet18_in1k_stages1-3.safetensors"


def run(name: str, seed: int, shared: Path, work: Path, extra: list[str]) -> dict[str, Any]:
    """One training and its evaluation; results of an earlier call are used again."""
    output = work / f"{name}-{seed}"
    result = work / f"{name}-{seed}.json"
    uranet = [sys.executable, "-m", "ura_hf"]
    data = ["--data", str(shared / DATASETS[name])]
    if not (output / "training.json").exists():
        options = ["--backbone", "resnet18", "--backbone-weights", str(shared / WEIGHTS), "--seed", str(seed)]
        textures = ["--textures", str(shared / "data/textures")]
        subprocess.run([*uranet, "train", *data, "--output", str(output), *options, *textures, *extra], check=True)
    if not result.exists():
        subprocess.run([*uranet, "evaluate", str(output), *data, "--json", str(result)], check=True)
    training = json.loads((output / "training.json").read_text())
    kept = (
        "command",
        "images",
        "seconds",
        "cpu_seconds",
        "peak_memory_gib",
        "hardware",
        "precision",
        "versions",
        "date",
    )
    return {"dataset": name, "seed": seed, **json.loads(result.read_text()), "training": {k: training[k] for k in kept}}


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean over seeds and spread (largest - smallest) of every metric of every dataset."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in DATASETS:
        own = [r for r in runs if r["dataset"] == name]
        if own:
            columns = {key: [r[key] for r in own] for key in METRIC_KEYS}
            columns["train_seconds"] = [r["training"]["seconds"] for r in own]
            columns["peak_memory_gib"] = [r["training"]["peak_memory_gib"] for r in own]
            table[name] = {k: {"mean": statistics.mean(v), "spread": max(v) - min(v)} for k, v in columns.items()}
    return table


def main() -> None:
    """Run what is missing and write the results after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/detection", help="checkpoints go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/detection.json")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("extra", nargs="*", help="more options of `uranet train`, after --")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        for name in options.datasets:
            runs.append(run(name, seed, options.shared, options.work, options.extra))
            report = {
                "command": " ".join(["python", *sys.argv]),
                "data": "see the README of the shared material: MVTec AD bottle and pill at 320x320, magnetic tile as published",
                "summary": summarise(runs),
                "runs": runs,
            }
            options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
