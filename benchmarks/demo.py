"""Draw kinds, train their bundled checkpoints, evaluate them on unseen drawings: `python benchmarks/demo.py ring cloth board`.

A checkpoint goes to ura_hf/assets/uranet-demo-KIND, its figures to docs/results/demo-KIND.json, with the types that miss the
aims (image AUROC 0.99, pixel AUROC 0.98; logical ones have none). `python benchmarks/render.py` puts them into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ura_hf.data.drawn.parts import KINDS, LOGICAL
from ura_hf.data.files import ASSETS

ROOT = Path(__file__).resolve().parent.parent
FIELDS = (
    "hidden_size=64",
    "num_hidden_layers=2",
    "memory_tokens=32",
    "memory_cells=1024",
    "subspace_rank=16",
    "perception_size=64",
    "smoothing_sigma=4",
)
"""So small that all bundled weights stay below 12 MB."""
AIMS = {"image_auroc": 0.99, "pixel_auroc": 0.98}


def main() -> None:
    """Each kind from nothing to its figures; what an earlier call left is made again. 1 where a type misses the aims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", choices=KINDS, metavar="KIND", help="of " + ", ".join(KINDS))
    parser.add_argument("--weights", type=Path, default=ASSETS, help="the checkpoints go there")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    missed = [f"{kind} {name}" for kind in options.kinds for name in make(kind, options)]
    if missed:
        sys.exit(f"These types miss {AIMS}: {', '.join(missed)}")


def make(kind: str, options: argparse.Namespace) -> list[str]:
    """Draw, train and evaluate one kind; the types that miss the aims."""
    data, output = ROOT / "runs/demo-data" / kind, options.weights / f"uranet-demo-{kind}"
    result = options.results / f"demo-{kind}.json"
    for old in (data, output):
        shutil.rmtree(old, ignore_errors=True)

    def uranet(*arguments: str | Path) -> None:
        shown = [os.path.relpath(a, ROOT) if isinstance(a, Path) else a for a in arguments]
        subprocess.run([sys.executable, "-m", "ura_hf", *shown], cwd=ROOT, check=True)

    uranet("demo-data", "--kind", kind, "--output", data, "--train", "320", "--good", "40", "--each", "15")
    settings = ["--backbone", "uranet-small", "--steps", str(options.steps), "--held-out", "0.4", "--half"]
    fields = [f"--set={field}" for field in FIELDS]
    uranet("train", "--data", data, "--output", output, "--false-positive-rate", "0.02", *settings, *fields)
    uranet("evaluate", output, "--data", data, "--save", "--json", result)
    report, training = json.loads(result.read_text()), json.loads((output / "training.json").read_text())
    kept = ("command", "images", "seconds", "hardware", "precision", "versions", "date")
    report["command"] = " ".join(["python", *sys.argv])
    report["training"] = {"seed": training["options"]["seed"], **{key: training[key] for key in kept}}
    report["checkpoint_bytes"] = (output / "model.safetensors").stat().st_size
    result.write_text(json.dumps(report, indent=1) + "\n")
    bounded = {name: figures for name, figures in report["per_type"].items() if name not in LOGICAL}
    return [name for name, figures in bounded.items() if any(figures[key] < aim for key, aim in AIMS.items())]


if __name__ == "__main__":
    main()
