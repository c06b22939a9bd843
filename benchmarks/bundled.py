"""Train the checkpoints that the package brings along, and measure each: `python benchmarks/bundled.py NAME...`.

`uranet-demo-KIND` learns from drawings, `uranet-elpv-KIND` from the solar cells of the package elpv-dataset, and
`uranet-mvtec-CATEGORY` from a folder of MVTec AD. A checkpoint goes to ura_hf/assets, its card beside it where its data has a
licence of its own, its figures to docs/results/bundled-NAME.json. `python benchmarks/render.py` puts them into docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ura_hf.data.drawn.parts import KINDS
from ura_hf.data.elpv import elpv_name
from ura_hf.data.files import ASSETS, write_json
from ura_hf.hub.load import load_detector

ROOT = Path(__file__).resolve().parent.parent
DRAWN, SOLAR, MVTEC = "uranet-demo-", "uranet-elpv-", "uranet-mvtec-"
BUNDLED = ("uranet-demo-ring", "uranet-elpv-mono", "uranet-elpv-poly", "uranet-mvtec-bottle", "uranet-mvtec-pill")
NAMES = (*BUNDLED, *(DRAWN + kind for kind in KINDS if DRAWN + kind not in BUNDLED))
FIELDS = (
    "hidden_size=64",
    "num_hidden_layers=2",
    "memory_tokens=32",
    "memory_cells=1024",
    "components=96",
    "place_components=16",
    "image_rank=32",
    "perception_size=64",
)
"""So small that all bundled weights stay below 20 MB."""


def main() -> None:
    """Each checkpoint from nothing to its figures; what an earlier call left is made again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=NAMES, metavar="NAME", help="of " + ", ".join(NAMES))
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--mvtec", type=Path, default=shared / "data/mvtec", help="folder with bottle/ and pill/")
    parser.add_argument("--weights", type=Path, default=ASSETS, help="the checkpoints go there")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    for name in options.names:
        make(name, options)


def make(name: str, options: argparse.Namespace) -> None:
    """Train and measure one checkpoint."""
    output, result = options.weights / name, options.results / f"bundled-{name}.json"
    shutil.rmtree(output, ignore_errors=True)
    data = data_of(name, options.mvtec)
    settings = ["--backbone", "uranet-small", "--steps", str(options.steps), "--half"]
    settings += ["--false-positive-rate", "0.02"] if name.startswith(DRAWN) else []
    fields = [f"--set={field}" for field in FIELDS]
    uranet("train", "--data", data, "--output", output, *settings, *fields)
    uranet("evaluate", output, "--data", data, "--save", "--json", result)
    if not name.startswith(DRAWN):
        card = [line for line in uranet("card", output).splitlines() if not line.startswith("![")]
        (output / "README.md").write_text("\n".join(card) + "\n")
    if name.startswith(SOLAR):
        write_opening(output)
    report, training = json.loads(result.read_text()), json.loads((output / "training.json").read_text())
    kept = ("command", "images", "seconds", "hardware", "precision", "versions", "date")
    report["command"] = f"python benchmarks/bundled.py {name}"
    report["training"] = {"seed": training["options"]["seed"], **{key: training[key] for key in kept}}
    report["checkpoint_bytes"] = (output / "model.safetensors").stat().st_size
    result.write_text(json.dumps(report, indent=1) + "\n")


def write_opening(checkpoint: Path) -> None:
    """What a checkpoint of solar cells finds on the photo that the page opens with, for the page to show at once."""
    from ura_hf.demo.analysis import analyse
    from ura_hf.demo.examples import OPENING, opens_with

    photo = opens_with(checkpoint.name)
    assert photo is not None
    found = analyse(load_detector(checkpoint, device="cpu"), photo, checkpoint.name).summary()
    write_json(
        checkpoint / OPENING, {key: value for key, value in found.items() if key not in ("device", "milliseconds")}
    )


def data_of(name: str, mvtec: Path) -> str | Path:
    """What `uranet train --data` takes; drawings are made."""
    for start in (SOLAR, MVTEC):
        if name.startswith(start):
            rest = name.removeprefix(start)
            return elpv_name(rest) if start == SOLAR else mvtec / rest
    kind = name.removeprefix(DRAWN)
    folder = ROOT / "runs/demo-data" / kind
    shutil.rmtree(folder, ignore_errors=True)
    uranet("demo-data", "--kind", kind, "--output", folder, "--train", "320", "--good", "40", "--each", "15")
    return folder


def uranet(*arguments: str | Path) -> str:
    """Run a command of `uranet` as it is written in documents, with paths from the repository's folder; what it prints."""
    shown = [os.path.relpath(a, ROOT) if isinstance(a, Path) else a for a in arguments]
    run = subprocess.run(
        [sys.executable, "-m", "ura_hf", *shown], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    print(run.stdout, flush=True)
    return run.stdout


if __name__ == "__main__":
    main()
