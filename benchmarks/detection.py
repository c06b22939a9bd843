"""URA-Net on a data set of the benchmarks: `uranet train` and `uranet evaluate`, the package's defaults but for the backbone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sets import data_folder

WEIGHTS = "backbones/resnet18_in1k_stages1-3.safetensors"


def run(name: str, seed: int, shared: Path, work: Path, extra: list[str]) -> dict[str, Any]:
    """One training and its evaluation; results of an earlier call are used again."""
    output = work / f"{name}-{seed}"
    result = work / f"{name}-{seed}.json"
    uranet = [sys.executable, "-m", "ura_hf"]
    data = ["--data", str(data_folder(name, shared, seed))]
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
        "pose",
        "seconds",
        "cpu_seconds",
        "peak_memory_gib",
        "peak_gpu_memory_gib",
        "data_wait_share",
        "hardware",
        "precision",
        "versions",
        "date",
    )
    return {**json.loads(result.read_text()), "dataset": name, "seed": seed, "training": {k: training[k] for k in kept}}
