"""Draw a demo kind, train its bundled checkpoint, evaluate it on unseen drawings: `python benchmarks/demo.py ring`.

The checkpoint goes to ura_hf/weights/uranet-demo-KIND, the figures to docs/results/demo-KIND.json.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIELDS = (
    "hidden_size=96",
    "num_hidden_layers=2",
    "memory_tokens=64",
    "memory_cells=2048",
    "perception_size=64",
    "smoothing_sigma=4",
)


def main() -> None:
    """One kind from nothing to its figures; what an earlier call left is made again."""
    kind = sys.argv[1]
    data, output = f"runs/demo-data/{kind}", ROOT / f"ura_hf/weights/uranet-demo-{kind}"
    for old in (ROOT / data, output):
        shutil.rmtree(old, ignore_errors=True)

    def uranet(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "ura_hf", *arguments], cwd=ROOT, check=True)

    uranet("demo-data", "--kind", kind, "--output", data, "--train", "320", "--good", "40", "--each", "15")
    settings = [
        "--backbone",
        "uranet-small",
        "--steps",
        "1600",
        "--held-out",
        "0.4",
        "--false-positive-rate",
        "0.02",
        "--half",
    ]
    checkpoint = str(output.relative_to(ROOT))
    uranet("train", "--data", data, "--output", checkpoint, *settings, *(f"--set={field}" for field in FIELDS))
    uranet("evaluate", checkpoint, "--data", data, "--save", "--json", f"docs/results/demo-{kind}.json")


if __name__ == "__main__":
    main()
