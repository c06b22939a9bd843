"""Markdown tables of datasets, scaling and presets, from the results that their commands wrote."""

from __future__ import annotations

from typing import Any

from bundled import BUNDLED
from tables_captions import caption, table

from ura_hf.data.datasets import facts
from ura_hf.hub.names import PUBLISHED, dataset_key, making_command


def datasets(known: dict[str, Any]) -> str:
    """Table of the datasets that `uranet benchmark` knows."""
    head = [
        "`--dataset`",
        "name",
        "categories",
        "good to train on",
        "test: good / anomalous",
        "masks",
        "licence",
        "source",
    ]
    rows = []
    for key, entry in known.items():
        if entry.get("categories"):
            first = [category["counts"][0] for category in entry["categories"].values()]
            test = f"{sum(c['good'] for c in first)} / {sum(sum(c['types'].values()) for c in first)}"
            cells = [f"`{key}`", entry["name"], str(len(first)), f"{sum(c['train'] for c in first):,}", test]
            cells += ["yes" if entry["masks"] else "no", entry["license_note"], f"{entry['citation']} {entry['url']}"]
            rows.append(cells)
    note = "From `ura_hf/assets/datasets.json`, which has the counts of every category and defect type."
    return "\n".join([*table(head, rows), "", note])


def names(reports: dict[str, dict[str, Any]]) -> str:
    """A row a checkpoint of the paper's datasets: the command that makes it, and whether one was trained here."""
    rows = []
    for name in PUBLISHED:
        key, category = str(dataset_key(name)), name.split("-", 2)[-1]
        runs = reports.get(f"benchmark-{key}.json", {}).get("runs", [])
        trained = any(run["category"] == category for run in runs)
        told = (
            f"once, with figures in `benchmark-{key}.json`; its weights are not kept" if trained else "not trained here"
        )
        made = making_command(key, category)
        if name in BUNDLED:
            made, told = f"python benchmarks/bundled.py {name}", "in the package, with the backbone `uranet-small`"
        rows.append([f"`{name}`", facts()[key]["name"], f"`{made}`", told])
    return "\n".join(table(["Name", "Data", "Made by", "Weights"], rows))


def scaling(report: dict[str, Any]) -> str:
    """Tables of `benchmarks/scaling.py`."""
    rows = []
    for row in report["evaluation"]:
        each = 1000 * row["cpu_seconds"] / row["images"]
        cells = [str(row["images"]), f"{row['peak_mib']:.0f} MiB", f"{row['cpu_seconds']:.1f} s", f"{each:.1f} ms"]
        rows.append(cells)
    lines = table(["test images", "peak memory of the process", "processor time", "per image"], rows)
    for key, head in (("images", "good images, 4 epochs"), ("categories", "categories, 40 steps each")):
        rows = [
            [str(row[key]), str(row["steps"]), f"{row['cpu_seconds']:.0f} s", f"{row['data_wait_share']:.1%}"]
            for row in report[key]
        ]
        lines += ["", *table([head, "steps", "processor time", "longest wait for data"], rows)]
    data = f"{report['data'].split(';')[0]}, small model, seed {report['seed']}"
    return "\n".join([*lines, "", caption(report, report["command"], data)])


def presets(report: dict[str, Any]) -> str:
    """Table of `benchmarks/presets.py`."""
    places = list(next(iter(report["presets"].values()))["runs"])
    head = ["preset", "trained parameters", "memory of a step", "arithmetic of a step"]
    rows = []
    for name, row in report["presets"].items():
        cells = [f"`{name}`", f"{row['trained_parameters'] / 1e6:.1f} M", f"{row['step_gib']:.1f} GiB"]
        cells.append(f"{row['step_tflop']:.2f} TFLOP")
        for run in row["runs"].values():
            cells.append(f"{run['steps']:,}; > {run['minutes_at_least']:.1f}; {run['features_gb']} GB")
        rows.append(cells)
    lines = table([*head, *(f"{place}: steps; minutes; features" for place in places)], rows)
    return "\n".join([*lines, "", caption(report, report["command"], "batch of 8, computed and not measured")])
