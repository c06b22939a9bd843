"""Put the tables of docs/results/ into the documents: `python benchmarks/render.py`; --check only says whether they are in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ura_hf.data.demo_parts import KINDS, LOGICAL

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


def peers(report: dict) -> str:
    """Markdown tables of `benchmarks/peers.py`: the mean over the data sets, then each of them."""
    head = [*COLUMNS.values(), "train s", "ms/image", "GiB"]
    keys = [*COLUMNS, "train_seconds", "ms_per_image", "peak_memory_gib"]
    lines = []
    places = ["mean", *(name for name in dict.fromkeys(run["dataset"] for run in report["runs"]))]
    for place in places:
        rows = {model: table[place] for model, table in report["summary"].items() if place in table}
        if not rows:
            continue
        title = "Mean over the data sets" if place == "mean" else place
        lines += [f"**{title}**", "", "| model | seeds | " + " | ".join(head) + " |", "|---" * (len(head) + 2) + "|"]
        for model, row in rows.items():
            cells = [f"{row[k]['mean']:.3f} ± {row[k]['spread'] / 2:.3f}" for k in COLUMNS]
            cells += [f"{row[k]['mean']:.{1 if k == 'peak_memory_gib' else 0}f}" for k in keys[len(COLUMNS) :]]
            lines.append(f"| {model} | {row['image_auroc']['seeds']} | " + " | ".join(cells) + " |")
        lines.append("")
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines += [f"± is half of largest minus smallest over seeds. {report['hardware']}, {versions}, {report['date']}."]
    lines += ["Settings that could favour one side:", "", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines)


def backbone(report: dict) -> str:
    """Markdown table of `benchmarks/backbone.py`: figures of each backbone, its distance from the teacher, latency and size."""
    names = {
        "teacher": f"{report['teacher']} (teacher)",
        "uranet-small": "uranet-small",
        "untrained": "the same, untrained",
    }
    datasets = list(report["summary"]["teacher"])
    head = [f"{name} {COLUMNS[key]}" for name in datasets for key in ("image_auroc", "pixel_auroc")]
    lines = ["| backbone | " + " | ".join(head) + " | ms | times faster | parameters |", "|---" * (len(head) + 4) + "|"]
    for row, label in names.items():
        cells = []
        for name in datasets:
            for key in ("image_auroc", "pixel_auroc"):
                figure = report["summary"].get(row, {}).get(name, {}).get(key)
                away = f" ({figure['minus_teacher']:+.3f})" if figure and row != "teacher" else ""
                cells.append(f"{figure['mean']:.3f}{away}" if figure else "not yet")
        speed = report["latency"][row]
        cells += [f"{speed['median_ms']:.1f}", f"{speed['teacher_median_over_this']:.1f}"]
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {report['parameters'][row] / 1e6:.2f} M |")
    seeds = sorted({run["seed"] for run in report["runs"]})
    note = (
        f"In brackets: minus the teacher. Seeds {', '.join(map(str, seeds))}; ms: median of one 256x256 image through the "
        f"backbone alone, {report['latency']['threads']} threads, {report['hardware']}, torch {report['torch']}, "
        f"{report['date']}. Command: `{report['command']}`; all metrics and settings: `docs/results/backbone.json`. "
        f"The file of uranet-small has {report['file_bytes'] / 1e6:.2f} MB."
    )
    return "\n".join([*lines, "", note])


def demo(report: dict) -> str:
    """Markdown table of one kind of `benchmarks/demo.py`: every defect type, the logical ones named so."""
    lines = ["| type | image AUROC | pixel AUROC | pixel AP | AUPRO |", "|---" * 5 + "|"]
    for name, row in {"all": report, **report["per_type"]}.items():
        label = f"{name} (logical)" if name in LOGICAL else name
        cells = [f"{row[key]:.3f}" for key in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    at, training = report["at_threshold"], report["training"]
    note = (
        f"{report['n_normal']} good and {report['n_anomalous']} defective drawings not seen in training; at the calibrated "
        f"threshold {at['false_alarm_rate']:.1%} false alarms and {at['miss_rate']:.1%} misses. Checkpoint of "
        f"{report['checkpoint_bytes'] / 1e6:.1f} MB, seed {training['seed']}, trained in {training['seconds'] / 60:.0f} min on "
        f"{training['hardware']}, {report['date']}. Command: `{report['command']}`."
    )
    return "\n".join([*lines, "", note])


TABLES = {
    "detection": (detection, "README.md"),
    "peers": (peers, "docs/comparison.md"),
    "backbone": (backbone, "docs/backbone.md"),
    **{f"demo-{kind}": (demo, "docs/demo.md") for kind in KINDS},
}
"""Result file -> how it is rendered, and the document with its markers."""


def main() -> int:
    """Write, or with --check compare; 1 where a document is behind."""
    behind = 0
    for name, (render, document) in TABLES.items():
        source, target = ROOT / "docs/results" / f"{name}.json", ROOT / document
        if not source.exists():
            continue
        text = target.read_text()
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
        head, rest = text.split(begin, 1)
        wanted = head + begin + render(json.loads(source.read_text())) + end + rest.split(end, 1)[1]
        behind |= int(wanted != text)
        if "--check" not in sys.argv:
            target.write_text(wanted)
    return behind if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
