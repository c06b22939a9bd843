"""Put the tables of docs/results/ into the documents: `python benchmarks/render.py`; --check only says whether they are in."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundled import BUNDLED
from tables_cluster import billion, cluster
from tables_datasets import datasets, names, presets, scaling
from tables_methods import figures, latency, models, on_gpu, six_sets, small_types, solar
from tables_page import load, neighbour, teach
from tables_parts import (
    ablation,
    ablation_turned,
    backbone,
    bundled,
    claim,
    left_out,
    posteriors,
    restored,
    steps,
    texture_photos,
)
from tables_predict import big_photos, throughput
from tables_provenance import provenance
from tables_uncertainty import uncertainty
from tables_verdicts import unknown, verdicts

from ura_hf.benchmark.table import as_markdown

ROOT = Path(__file__).resolve().parent.parent
ALL = "docs/results"
README, FIGURES, HOW, WEIGHTS = "README.md", "docs/results.md", "docs/reproduce.md", "weights_card/README.md"
MANY = "docs/deploy.md"
TABLES: dict[str, tuple[str, Callable[[Any], str], str]] = {
    "figures": (f"{ALL}/peers.json", figures, README),
    "peers": (f"{ALL}/peers.json", models, FIGURES),
    "peers-open": (f"{ALL}/peers-open.json", models, FIGURES),
    "six-sets": (f"{ALL}/peers-open.json", six_sets, FIGURES),
    "small-types": (f"{ALL}/peers.json", small_types, FIGURES),
    "any-rotation": (f"{ALL}/any_rotation.json", models, FIGURES),
    "fifty": (f"{ALL}/fifty.json", models, FIGURES),
    "few-shot": (f"{ALL}/few_shot.json", models, FIGURES),
    "verdicts": (f"{ALL}/verdicts.json", verdicts, FIGURES),
    "unknown": (f"{ALL}/unknown.json", unknown, FIGURES),
    "uncertainty": (f"{ALL}/uncertainty.json", uncertainty, FIGURES),
    "latency": (f"{ALL}/latency.json", latency, FIGURES),
    "latency-gpu": (f"{ALL}/gpu/latency.json", latency, FIGURES),
    "claim": (f"{ALL}/claim.json", claim, FIGURES),
    "ablation": (f"{ALL}/ablation.json", ablation, FIGURES),
    "ablation-turned": (f"{ALL}/ablation-turned.json", ablation_turned, FIGURES),
    "left-out": (f"{ALL}/ablation.json", left_out, FIGURES),
    "restored": (f"{ALL}/restored.json", restored, FIGURES),
    "posteriors": (f"{ALL}/posteriors.json", posteriors, FIGURES),
    "steps": (f"{ALL}/steps.json", steps, FIGURES),
    "backbone": (f"{ALL}/backbone.json", backbone, FIGURES),
    **{f"bundled-{name}": (f"{ALL}/bundled-{name}.json", bundled, FIGURES) for name in BUNDLED},
    **{
        f"benchmark-{name}": (f"{ALL}/benchmark-{name}.json", as_markdown, FIGURES)
        for name in ("mvtec", "btad", "oct2017")
    },
    "load": (f"{ALL}/load.json", load, FIGURES),
    "neighbour": (f"{ALL}/neighbour.json", neighbour, FIGURES),
    "throughput": (f"{ALL}/throughput.json", throughput, FIGURES),
    "cluster": (f"{ALL}/cluster.json", cluster, MANY),
    "billion": (f"{ALL}/cluster.json", billion, MANY),
    "big-photos": (f"{ALL}/big_photos.json", big_photos, FIGURES),
    "teach": (f"{ALL}/teach.json", teach, FIGURES),
    "scaling": (f"{ALL}/scaling.json", scaling, FIGURES),
    "texture-photos": (f"{ALL}/texture_photos.json", texture_photos, HOW),
    "solar": (f"{ALL}/peers-solar.json", solar, FIGURES),
    "presets": (f"{ALL}/presets.json", presets, HOW),
    "datasets": ("ura_hf/assets/datasets.json", datasets, HOW),
    "names": (ALL, names, WEIGHTS),
    "on-gpu": (f"{ALL}/peers.json", on_gpu, HOW),
    "provenance": (ALL, provenance, HOW),
}
"""Name of the markers in a document -> result file, or the folder of all, how it is rendered, and the document."""


def main() -> int:
    """Write, or with --check compare; 1 where a document is behind."""
    behind = 0
    for name, (results, render, document) in TABLES.items():
        source, target = ROOT / results, ROOT / document
        if not source.exists():
            continue
        text = target.read_text()
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
        if begin not in text or end not in text:
            print(
                f"{document} lacks the lines <!-- {name} --> and <!-- end {name} -->: add them where the table belongs."
            )
            return 1
        head, rest = text.split(begin, 1)
        wanted = head + begin + render(read(source)) + end + rest.split(end, 1)[1]
        behind |= int(wanted != text)
        if "--check" not in sys.argv:
            target.write_text(wanted)
    return behind if "--check" in sys.argv else 0


def read(source: Path) -> dict[str, Any]:
    """A result file, or of a folder all of them by their paths in it."""
    if source.is_dir():
        return {str(path.relative_to(source)): json.loads(path.read_text()) for path in sorted(source.rglob("*.json"))}
    found: dict[str, Any] = json.loads(source.read_text())
    return found


if __name__ == "__main__":
    sys.exit(main())
