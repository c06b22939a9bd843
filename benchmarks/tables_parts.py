"""Markdown tables of the method's own parts: bundled backbone and checkpoints, ablation, claim."""

from __future__ import annotations

from typing import Any

from detection import DATASETS
from tables_captions import caption, seeds_of, table
from tables_methods import SHOWN, mean_of, metric_cells

from ura_hf.data.drawn.parts import LOGICAL
from ura_hf.data.records import METRICS as COLUMNS


def backbone(report: dict[str, Any]) -> str:
    """Table of `benchmarks/backbone.py`: figures of each backbone, its distance from the teacher, latency and size."""
    names = {
        "teacher": f"{report['teacher']} (teacher)",
        "uranet-small": f"uranet-small ({report['file_bytes'] / 1e6:.2f} MB)",
        "untrained": "the same, untrained",
    }
    datasets = list(report["summary"]["teacher"])
    head = [f"{name} {COLUMNS[key]}" for name in datasets for key in ("image_auroc", "pixel_auroc")]
    rows = []
    for row, label in names.items():
        cells = []
        for name in datasets:
            for key in ("image_auroc", "pixel_auroc"):
                figure = report["summary"].get(row, {}).get(name, {}).get(key)
                away = f" ({figure['minus_teacher']:+.3f})" if figure and row != "teacher" else ""
                cells.append(f"{figure['mean']:.3f}{away}" if figure else "not yet")
        speed = report["latency"][row]
        cells += [f"{speed['median_ms']:.1f}", f"{speed['teacher_median_over_this']:.1f}"]
        rows.append([label, *cells, f"{report['parameters'][row] / 1e6:.2f} M"])
    data = f"in brackets minus the teacher, {seeds_of(report['runs'])}, ms of one image on {report['latency']['threads']} threads"
    lines = table(["backbone", *head, "ms", "times faster", "parameters"], rows)
    return "\n".join([*lines, "", caption(report, report["command"], data)])


def demo(report: dict[str, Any]) -> str:
    """Table of one kind of `benchmarks/demo.py`: every defect type, the logical ones named so."""
    rows = []
    for name, row in {"all": report, **report["per_type"]}.items():
        label = f"{name} (logical)" if name in LOGICAL else name
        rows.append([label, *(f"{row[key]:.3f}" for key in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro"))])
    at, training = report["at_threshold"], report["training"]
    data = (
        f"{report['n_normal']} good and {report['n_anomalous']} defective drawings, "
        f"threshold from {training['images']['held_out']} others: {at['false_alarm_rate']:.1%} false alarms, "
        f"{at['miss_rate']:.1%} misses · {report['checkpoint_bytes'] / 1e6:.1f} MB, seed {training['seed']}, trained in "
        f"{training['seconds'] / 60:.0f} min"
    )
    lines = table(["type", "image AUROC", "pixel AUROC", "pixel AP", "AUPRO"], rows)
    return "\n".join([*lines, "", caption({**training, **report}, report["command"], data)])


def ablation(report: dict[str, Any]) -> str:
    """Tables of `benchmarks/ablation.py`: the mean over those of DATASETS, and each data set."""
    runs = report["runs"]
    datasets = list(dict.fromkeys(run["dataset"] for run in runs))
    real = [name for name in datasets if name in DATASETS]
    head = ["change", "training", *(f"held-out: {COLUMNS[k]}" for k in SHOWN), *(f"test: {COLUMNS[k]}" for k in SHOWN)]
    lines: list[str] = []
    for steps in dict.fromkeys(run["steps"] for run in runs):
        for place in ["mean"] * (len(real) > 1) + datasets:
            title, places = (f"Mean over {', '.join(real)}", real) if place == "mean" else (place, [place])
            rows = []
            for name, group in report["groups"].items():
                own = [r for r in runs if r["row"] == name and r["steps"] == steps and r["dataset"] in places]
                if {r["dataset"] for r in own} == set(places):
                    cells = [*metric_cells(mean_of([r["held_out"] for r in own]))]
                    cells += metric_cells(mean_of([r["test"] for r in own]))
                    spent = [r["train_cpu_seconds"] for r in own]
                    cost = "none" if None in spent else f"{sum(spent) / len(spent):.0f} CPU s"
                    change = name if name == group else f"{group}: {name.split(': ')[-1]}"
                    rows.append([change, cost, *cells])
            if rows:
                lines += [f"**{title}, {steps} steps**", "", *table(head, rows), ""]
    return "\n".join([*lines, caption(report, "python benchmarks/ablation.py --steps STEPS", seeds_of(runs))])


def claim(report: dict[str, Any]) -> str:
    """Table of `benchmarks/claim.py`."""
    rows = []
    for run in report["runs"]:
        for kind, title in (("synthesis", "`self` and `noise` in the features"), ("drawn", "drawn into the image")):
            values = [run[kind][model][where] for where in ("inside", "outside") for model in ("uranet", "plain")]
            rows.append([run["dataset"], title, *(f"{value:.3f}" for value in values)])
    command = f"python benchmarks/claim.py --steps {report['runs'][0]['steps']}"
    places = ("inside: URA-Net", "inside: plain", "outside: URA-Net", "outside: plain")
    lines = table(["data", "artificial anomalies", *places], rows)
    return "\n".join([*lines, "", caption(report, command, seeds_of(report["runs"]))])
