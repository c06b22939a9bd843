"""URA-Net on a data set of the benchmarks: `uranet train` and `uranet evaluate`, the package's defaults but for the backbone."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from turned import write_turned

ROOT = Path(__file__).resolve().parent.parent
DATASETS = {"bottle": "data/mvtec/bottle", "pill": "data/mvtec/pill", "magnetic_tile": "data/magnetic_tile"}
TURNED = {"pill_turned": 1.0, "pill_turned_small": 0.5}
"""Pills in any rotation (`turned.py`), and how large they are in the picture against the original."""
GENERATED = ROOT / "runs/generated"
WEIGHTS = "backbones/resnet18_in1k_stages1-3.safetensors"


def data_folder(name: str, shared: Path) -> Path:
    """Folder of a data set; turned pills are written under GENERATED where they are missing."""
    if name in DATASETS:
        return shared / DATASETS[name]
    return written_once(GENERATED / name, lambda folder: write_turned(shared / DATASETS["pill"], folder, TURNED[name]))


def written_once(folder: Path, write: Callable[[Path], Any]) -> Path:
    """A folder that `write` fills where it is missing; never half of one. Of several processes the first to finish is kept."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            partial = Path(scratch) / folder.name
            write(partial)
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    return folder


def run(name: str, seed: int, shared: Path, work: Path, extra: list[str]) -> dict[str, Any]:
    """One training and its evaluation; results of an earlier call are used again."""
    output = work / f"{name}-{seed}"
    result = work / f"{name}-{seed}.json"
    uranet = [sys.executable, "-m", "ura_hf"]
    data = ["--data", str(data_folder(name, shared))]
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
    return {"dataset": name, "seed": seed, **json.loads(result.read_text()), "training": {k: training[k] for k in kept}}
