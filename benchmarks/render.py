"""Put the tables of docs/results/ into the documents: `python benchmarks/render.py`; --check only says whether they are in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tables_datasets import datasets, presets, scaling
from tables_methods import ablation, backbone, claim, demo, figures, latency, models, peers, small_types
from tables_page import load, teach
from tables_seeds import seeds

from ura_hf.benchmark.table import as_markdown
from ura_hf.data.drawn.parts import KINDS

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "docs/results"
TABLES = {
    "figures": (f"{RESULTS}/peers.json", figures, "README.md"),
    "peers": (f"{RESULTS}/peers.json", peers, "docs/comparison.md"),
    "small-types": (f"{RESULTS}/peers.json", small_types, "docs/comparison.md"),
    "latency": (f"{RESULTS}/latency.json", latency, "docs/comparison.md"),
    "latency-gpu": (f"{RESULTS}/gpu/latency.json", latency, "docs/comparison.md"),
    "few-shot": (f"{RESULTS}/few_shot.json", models, "docs/comparison.md"),
    "fifty": (f"{RESULTS}/fifty.json", models, "docs/comparison.md"),
    "any-rotation": (f"{RESULTS}/any_rotation.json", models, "docs/comparison.md"),
    "backbone": (f"{RESULTS}/backbone.json", backbone, "docs/backbone.md"),
    **{f"demo-{kind}": (f"{RESULTS}/demo-{kind}.json", demo, "docs/demo.md") for kind in KINDS},
    "ablation": (f"{RESULTS}/ablation.json", ablation, "docs/ablation.md"),
    "ablation-score": (f"{RESULTS}/ablation-score.json", ablation, "docs/ablation.md"),
    "ablation-seeds": (f"{RESULTS}/ablation-seeds.json", seeds, "docs/ablation.md"),
    "claim": (f"{RESULTS}/claim.json", claim, "docs/method.md"),
    "benchmark-mvtec": (f"{RESULTS}/benchmark-mvtec.json", as_markdown, "docs/benchmark.md"),
    "benchmark-btad": (f"{RESULTS}/benchmark-btad.json", as_markdown, "docs/benchmark.md"),
    "benchmark-oct2017": (f"{RESULTS}/benchmark-oct2017.json", as_markdown, "docs/benchmark.md"),
    "load": (f"{RESULTS}/load.json", load, "docs/space.md"),
    "teach": (f"{RESULTS}/teach.json", teach, "docs/space.md"),
    "scaling": (f"{RESULTS}/scaling.json", scaling, "docs/benchmark.md"),
    "presets": (f"{RESULTS}/presets.json", presets, "docs/benchmark.md"),
    "datasets": ("weights_card/datasets.json", datasets, "docs/benchmark.md"),
}
"""Name of the markers in a document -> result file, how it is rendered, and the document."""


def main() -> int:
    """Write, or with --check compare; 1 where a document is behind."""
    behind = 0
    for name, (results, render, document) in TABLES.items():
        source, target = ROOT / results, ROOT / document
        if not source.exists():
            continue
        text = target.read_text()
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
        if begin not in text:
            print(
                f"{document} lacks the lines <!-- {name} --> and <!-- end {name} -->: add them where the table belongs."
            )
            return 1
        head, rest = text.split(begin, 1)
        wanted = head + begin + render(json.loads(source.read_text())) + end + rest.split(end, 1)[1]
        behind |= int(wanted != text)
        if "--check" not in sys.argv:
            target.write_text(wanted)
    return behind if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
