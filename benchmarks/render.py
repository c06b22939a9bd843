"""Put the tables of docs/results/ into the documents: `python benchmarks/render.py`; --check only says whether they are in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ura_hf.benchmark.table import as_markdown

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


def datasets(facts: dict) -> str:
    """Markdown table of the datasets that `uranet benchmark` knows."""
    lines = [
        "| `--dataset` | name | categories | good to train on | test: good / anomalous | masks | licence | source |"
    ]
    lines.append("|---" * 8 + "|")
    for key, entry in facts.items():
        if entry.get("categories"):
            first = [category["counts"][0] for category in entry["categories"].values()]
            test = f"{sum(c['good'] for c in first)} / {sum(sum(c['types'].values()) for c in first)}"
            cells = [f"`{key}`", entry["name"], str(len(first)), f"{sum(c['train'] for c in first):,}", test]
            cells += ["yes" if entry["masks"] else "no", entry["license_note"], f"{entry['citation']} {entry['url']}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", "From `weights_card/datasets.json`, which has the counts of every category and defect type."]
    )


def scaling(report: dict) -> str:
    """Markdown tables of `benchmarks/scaling.py`."""
    lines = ["| test images | peak memory of the process | processor time | a image |", "|---|---|---|---|"]
    for row in report["evaluation"]:
        each = 1000 * row["cpu_seconds"] / row["images"]
        lines.append(f"| {row['images']} | {row['peak_mib']:.0f} MiB | {row['cpu_seconds']:.1f} s | {each:.1f} ms |")
    for key, head in (("images", "good images, 4 epochs"), ("categories", "categories, 40 steps each")):
        lines += ["", f"| {head} | steps | processor time | longest wait for data |", "|---|---|---|---|"]
        for row in report[key]:
            cells = [str(row[key]), str(row["steps"]), f"{row['cpu_seconds']:.0f} s", f"{row['data_wait_share']:.1%}"]
            lines.append("| " + " | ".join(cells) + " |")
    how = f"{report['hardware']}, torch {report['torch']}, seed {report['seed']}, {report['date']}; {report['data']}."
    return "\n".join([*lines, "", f"{how} Command: `python benchmarks/scaling.py`."])


def presets(report: dict) -> str:
    """Markdown table of `benchmarks/presets.py`."""
    places = list(next(iter(report["presets"].values()))["runs"])
    head = ["preset", "trained parameters", "memory of a step", "arithmetic of a step"]
    lines = ["| " + " | ".join([*head, *(f"{place}: steps; minutes; features" for place in places)]) + " |"]
    lines.append("|---" * (len(head) + len(places)) + "|")
    for name, row in report["presets"].items():
        cells = [f"`{name}`", f"{row['trained_parameters'] / 1e6:.1f} M", f"{row['step_gib']:.1f} GiB"]
        cells.append(f"{row['step_tflop']:.2f} TFLOP")
        for run in row["runs"].values():
            cells.append(f"{run['steps']:,}; > {run['minutes_at_least']:.1f}; {run['features_gb']} GB")
        lines.append("| " + " | ".join(cells) + " |")
    paper, fast = (
        report["presets"][name]["runs"]["all 15 of MVTec AD"]["minutes_at_least"] for name in ("paper", "fast")
    )
    lines += ["", f"On all of MVTec AD `paper` is {paper / fast:.0f} times the arithmetic of `fast`."]
    how = f"Batch of 8. {report['note'][0].upper()}{report['note'][1:]}"
    return "\n".join([*lines, "", f"{how} {report['date']}, torch {report['torch']}. Command: `{report['command']}`."])


TABLES = {
    "detection": (detection, "README.md"),
    "peers": (peers, "docs/comparison.md"),
    "benchmark-mvtec": (as_markdown, "docs/benchmark.md"),
    "benchmark-btad": (as_markdown, "docs/benchmark.md"),
    "benchmark-oct2017": (as_markdown, "docs/benchmark.md"),
    "scaling": (scaling, "docs/benchmark.md"),
    "presets": (presets, "docs/benchmark.md"),
    "datasets": (datasets, "docs/benchmark.md"),
}
"""Result file -> how it is rendered, and the document with its markers."""
ELSEWHERE = {"datasets": "weights_card/datasets.json"}


def main() -> int:
    """Write, or with --check compare; 1 where a document is behind."""
    behind = 0
    for name, (render, document) in TABLES.items():
        source, target = ROOT / ELSEWHERE.get(name, f"docs/results/{name}.json"), ROOT / document
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
