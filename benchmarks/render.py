"""Put the tables of docs/results/ into the README: `python benchmarks/render.py`; with --check, only say whether they are in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "aupro": "AUPRO",
}


def detection(report: dict) -> str:
    """Markdown table of `benchmarks/detection.py`: mean over seeds, and largest minus smallest."""
    runs = report["runs"]
    seeds = sorted({run["seed"] for run in runs})
    lines = ["| data | " + " | ".join(COLUMNS.values()) + " | training | peak memory |"]
    lines.append("|---" * (len(COLUMNS) + 3) + "|")
    for name, row in report["summary"].items():
        cells = [f"{row[key]['mean']:.3f} (spread {row[key]['spread']:.3f})" for key in COLUMNS]
        training, memory = row["train_seconds"]["mean"] / 60, row["peak_memory_gib"]["mean"]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {training:.0f} min | {memory:.1f} GiB |")
    first = runs[0]["training"]
    note = (
        f"Mean over seeds {', '.join(map(str, seeds))}; spread is largest minus smallest. ResNet-18, 256x256, last step, "
        f"{first['hardware']}, {first['precision']}, torch {first['versions']['torch']}, {runs[-1]['date']}. "
        "Command: `python benchmarks/detection.py`; data and settings: `docs/results/detection.json`."
    )
    return "\n".join([*lines, "", note])


TABLES = {"detection": detection}


def main() -> int:
    """Write, or with --check compare; 1 where the README is behind."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    for name, render in TABLES.items():
        source = ROOT / "docs/results" / f"{name}.json"
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
        if source.exists() and begin in text:
            head, rest = text.split(begin, 1)
            text = head + begin + render(json.loads(source.read_text())) + end + rest.split(end, 1)[1]
    if "--check" in sys.argv:
        return int(text != readme.read_text())
    readme.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
