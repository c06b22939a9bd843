"""Measure `uranet-small` against its teacher and itself untrained: `python benchmarks/backbone.py`. Goes on where it stopped.

Every run is `uranet train` and `uranet evaluate` in processes of their own, with the package's defaults but for the backbone.
Latency is that of the backbone alone, one 256x256 image, all three in turn in this process. Writes docs/results/backbone.json;
`python benchmarks/render.py` puts its table into docs/results.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from detection import WEIGHTS
from latency import take_turns
from safetensors.torch import save_file
from sets import DATASETS

from ura_hf.data.files import ASSETS
from ura_hf.data.records import METRIC_KEYS
from ura_hf.model.backbone import SMALL, Backbone, create_network
from ura_hf.training.imagenet import load_imagenet

ROOT = Path(__file__).resolve().parent.parent
TEACHER = "resnet18"
ROUNDS = 60  # of latency


def untrained(path: Path, seed: int) -> Path:
    """Weights of the small backbone as timm initialises them."""
    torch.manual_seed(seed)
    state = create_network(SMALL, (1, 2, 3)).state_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    return path


def run(row: str, backbone: list[str], name: str, seed: int, shared: Path, work: Path, extra: list[str]) -> dict:
    """One training and its evaluation; results of an earlier call are used again."""
    output, result = work / f"{row}-{name}-{seed}", work / f"{row}-{name}-{seed}.json"
    uranet, data = [sys.executable, "-m", "ura_hf"], ["--data", str(shared / DATASETS[name])]
    if not (output / "training.json").exists():
        options = ["--seed", str(seed), "--textures", str(shared / "data/textures"), *backbone, *extra]
        subprocess.run([*uranet, "train", *data, "--output", str(output), *options], check=True)
    if not result.exists():
        subprocess.run([*uranet, "evaluate", str(output), *data, "--json", str(result)], check=True)
    training, found = json.loads((output / "training.json").read_text()), json.loads(result.read_text())
    kept = ("command", "seconds", "hardware", "precision", "versions", "date")
    figures = {key: found[key] for key in METRIC_KEYS}
    return {"row": row, "dataset": name, "seed": seed, **figures, "training": {k: training[k] for k in kept}}


def latencies(weights: dict[str, Path | None]) -> dict[str, dict[str, float]]:
    """Milliseconds of one 256x256 image through each backbone: median and least of rounds in which they take turns."""
    backbones = {}
    for row, path in weights.items():
        backbones[row] = Backbone(TEACHER if row == "teacher" else SMALL, (1, 2, 3), 32)
        load_imagenet(backbones[row], path)
        backbones[row].to(memory_format=torch.channels_last)
    picture = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        times = take_turns({row: backbone.raw for row, backbone in backbones.items()}, [picture], ROUNDS)
    return {
        row: {
            "median_ms": statistics.median(found),
            "least_ms": min(found),
            "teacher_median_over_this": statistics.median(times["teacher"]) / statistics.median(found),
            "teacher_least_over_this": min(times["teacher"]) / min(found),
        }
        for row, found in times.items()
    }


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Row -> dataset -> metric -> mean over seeds, largest - smallest, and mean minus the teacher's of the same seeds."""
    table: dict[str, dict[str, Any]] = {}
    for row in dict.fromkeys(r["row"] for r in runs):
        for name in DATASETS:
            own = {r["seed"]: r for r in runs if r["row"] == row and r["dataset"] == name}
            teacher = {r["seed"]: r for r in runs if r["row"] == "teacher" and r["dataset"] == name}
            if own:
                table.setdefault(row, {})[name] = {
                    key: {
                        "mean": statistics.mean(r[key] for r in own.values()),
                        "spread": max(r[key] for r in own.values()) - min(r[key] for r in own.values()),
                        "minus_teacher": statistics.mean(own[seed][key] - teacher[seed][key] for seed in own),
                    }
                    for key in METRIC_KEYS
                }
    return table


def main() -> None:
    """Run what is missing and write the results after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/backbone", help="checkpoints go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/backbone.json")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("extra", nargs="*", help="more options of `uranet train`, after --")
    options = parser.parse_args()
    random = untrained(options.work / "untrained.safetensors", seed=0)
    weights = {"teacher": options.shared / WEIGHTS, "uranet-small": None, "untrained": random}
    rows = {row: ["--backbone", TEACHER if row == "teacher" else SMALL] for row in weights}
    for row, path in weights.items():
        rows[row] += ["--backbone-weights", str(path)] if path else []
    speed, runs = latencies(weights), []
    own = ASSETS / f"{SMALL}.safetensors"
    parameters = {
        row: sum(p.numel() for p in create_network(chosen[1], (1, 2, 3)).parameters()) for row, chosen in rows.items()
    }
    for seed in options.seeds:
        for name in options.datasets:
            for row, backbone in rows.items():
                runs.append(run(row, backbone, name, seed, options.shared, options.work, options.extra))
                report = {
                    "command": " ".join(["python", *sys.argv]),
                    "teacher": TEACHER,
                    "distillation": json.loads(own.with_suffix(".json").read_text()),
                    "latency": {"threads": torch.get_num_threads(), "rounds": ROUNDS, **speed},
                    "parameters": parameters,
                    "file_bytes": own.stat().st_size,
                    "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})",
                    "torch": torch.__version__,
                    "date": datetime.date.today().isoformat(),
                    "summary": summarise(runs),
                    "runs": runs,
                }
                options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
