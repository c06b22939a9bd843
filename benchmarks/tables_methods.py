"""Markdown tables of URA-Net beside other models, from the results that their commands wrote."""

from __future__ import annotations

import json
from statistics import fmean
from typing import Any

from detection import RESNET
from sets import DATASETS, GOOD_CELLS, ROOT, SOLAR
from tables_captions import caption, seeds_of, table

from ura_hf.data.records import METRICS as COLUMNS

SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap")
IMAGE = ("image_auroc", "image_ap", "image_f1max")
SHORT = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
README_MODELS = {
    "uranet": "**URA-Net**",
    "patchcore_0.01": "PatchCore (keeps 1 % of what it saw)",
    "padim": "PaDiM",
    "dfm": "DFM",
    "fre": "FRE",
}
"""The models of the README's table, and what it calls them."""
OPEN = "ball_screw", "cookies", "elpv_mono"
COMMANDS = {10: "python benchmarks/few_shot.py", 50: "python benchmarks/few_shot.py --limit 50"}
"""By the number of good images; other reports of models are of all of them."""


def figures(report: dict[str, Any]) -> str:
    """The README's table of `benchmarks/peers.py`: five models, means over the data sets and the image AUROC of each."""
    summary, datasets = report["summary"], list(DATASETS)
    head = ["model", *(COLUMNS[key] for key in SHORT), *(f"image AUROC, {name.replace('_', ' ')}" for name in datasets)]
    rows = []
    for model, label in README_MODELS.items():
        places = summary[model]
        cells = [places["mean"][key] for key in SHORT] + [places[name]["image_auroc"] for name in datasets]
        rows.append([label, *map(_with_spread, cells)])
    seeds = sorted({summary[model]["mean"]["image_auroc"]["seeds"] for model in README_MODELS})
    shown = f"{' or '.join(map(str, seeds))} seed{'s' * (seeds[-1] > 1)}, ± half the range of several"
    data = f"mean of three data sets, then each, {shown} · ResNet-18, 256x256"
    return "\n".join([*table(head, rows), "", caption(report, "python benchmarks/peers.py", data)])


def models(report: dict[str, Any]) -> str:
    """Tables of the models: the mean over the data sets, each of them, and URA-Net's verdicts."""
    head = ["model", "seeds", *COLUMNS.values(), "epochs", "train CPU s", "ms/image", "GiB"]
    lines: list[str] = []
    datasets = list(dict.fromkeys(run["dataset"] for run in report["runs"]))
    for place in ["mean", *datasets]:
        found = {model: each[place] for model, each in report["summary"].items() if place in each}
        if not found:
            continue
        title, places = _places(place, list(DATASETS))
        rows = []
        for model, row in found.items():
            cells = [model, str(row["image_auroc"]["seeds"]), *(_with_spread(row.get(key)) for key in COLUMNS)]
            cells += [
                _epochs(report, model, places),
                _cost(row, "train_cpu_seconds", "train_gpu_seconds", 0),
                f"{row['ms_per_image']['mean']:.0f}" if "ms_per_image" in row else "",
                _cost(row, "peak_memory_gib", "peak_gpu_memory_gib", 1),
            ]
            rows.append(cells)
        lines += [f"**{title}**", "", *table(head, rows), ""]
    turned = any("turned" in name for name in datasets)
    command = COMMANDS.get(report["limit"]) or f"python benchmarks/{'any_rotation' if turned else 'peers'}.py"
    command += f" --datasets {' '.join(OPEN)} --output docs/results/peers-open.json" * {*OPEN}.issuperset(datasets)
    few = f", {report['limit']} good images" if report["limit"] else ""
    data = f"{', '.join(datasets)}{few}, {seeds_of(report['runs'])}"
    return "\n".join([*lines, *_verdicts(report), caption(report, command, data)])


def solar(report: dict[str, Any]) -> str:
    """Table of `benchmarks/peers_solar.py`: figures of images alone, since the cells have no masks."""
    head = ["model", *(COLUMNS[key] for key in IMAGE)]
    rows = []
    for model, places in report["summary"].items():
        row = places[SOLAR]
        rows.append([README_MODELS.get(model, model), *(_with_spread(row[key]) for key in IMAGE)])
    own = f" --backbone {report['backbone']}" * (report["backbone"] != RESNET)
    data = f"{GOOD_CELLS} good cells, {seeds_of(report['runs'])} · {report['backbone']}"
    return "\n".join([*table(head, rows), "", caption(report, f"python benchmarks/peers_solar.py{own}", data)])


def six_sets(report: dict[str, Any]) -> str:
    """Table of the models that ran on all six data sets, means over seeds: of this report, of `OPEN`, and of `peers.json`."""
    parts = [json.loads((ROOT / "docs/results/peers.json").read_text()), report]
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in (run for part in parts for run in part["runs"]):
        runs.setdefault((run["model"], run["dataset"]), []).append(run)
    places = [*DATASETS, *OPEN]
    complete = [
        name for name in dict.fromkeys(name for name, _ in runs) if all((name, place) in runs for place in places)
    ]
    lines: list[str] = []
    for key in ("image_auroc", *SHORT[1:]):
        shown = [place for place in places if runs["uranet", place][0][key] is not None]
        rows = []
        for model in complete:
            values = [fmean(run[key] for run in runs[model, place]) for place in shown]
            rows.append([model, *(f"{value:.3f}" for value in [*values, fmean(values)])])
        lines += [f"**{COLUMNS[key]}**", "", *table(["model", *shown, "mean"], rows), ""]
    days = max(str(part["date"]) for part in parts)
    own = [run for (model, _), found in runs.items() if model in complete for run in found]
    data = f"six data sets, means over {seeds_of(own)}"
    return "\n".join([*lines, caption({**parts[1], "date": days}, "python benchmarks/peers.py", data)])


def on_gpu(report: dict[str, Any]) -> str:
    """Table of the runs that a GPU made, a model a row; one sentence where there are none."""
    runs = [run for run in report["runs"] if "gpu" in run]
    if not runs:
        return "None."
    named: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        named.setdefault(run["model"], {}).setdefault(run["dataset"], []).append(str(run["seed"]))
    rows = []
    for model, sets in named.items():
        used = sorted({f"{r['gpu']}, torch {r['versions']['torch']}" for r in runs if r["model"] == model})
        which = "; ".join(f"{dataset} {', '.join(seeds)}" for dataset, seeds in sets.items())
        rows.append([model, which, "; ".join(used)])
    return "\n".join(table(["model", "data set and seeds", "GPU"], rows))


def _cost(row: dict[str, Any], on_cpu: str, on_gpu: str, digits: int) -> str:
    """A cost on the CPUs, else on a GPU and named so, else nothing: not all runs know it."""
    if on_cpu in row:
        return f"{row[on_cpu]['mean']:.{digits}f}"
    return f"GPU {row[on_gpu]['mean']:.{digits}f}" if on_gpu in row else ""


def _verdicts(report: dict[str, Any]) -> list[str]:
    """Table of what the calibrated threshold of our own runs says of the test images, a run a line."""
    rows = []
    for run in report["runs"]:
        if run["model"] == "uranet":
            at, counts = run["at_threshold"], (run["n_normal"], run["n_anomalous"])
            rates = (at["false_alarm_rate"], at["miss_rate"])
            cells = [f"{rate:.1%} of {count}" for rate, count in zip(rates, counts, strict=True)]
            images = run["training"]["images"]
            rows.append([run["dataset"], str(run["seed"]), str(images.get("held_out", images["fitted"])), *cells])
    head = ["data", "seed", "good images behind it", "false alarms", "misses"]
    return ["**URA-Net's verdicts at its calibrated threshold**", "", *table(head, rows), ""]


def latency(report: dict[str, Any]) -> str:
    """Table of `benchmarks/latency.py`: ms a call and that over URA-Net's, a data set, batch and number of threads or GPU."""
    runs = {(run["dataset"], run.get("batch", 1), run["threads"], run["model"]): run for run in report["runs"]}
    places = list(dict.fromkeys(key[:3] for key in runs))
    heads = []
    for dataset, batch, threads in places:
        many = f", {batch} images" * (batch > 1)
        heads.append(f"{dataset}{many}, {report.get('gpu') or f'{threads} thread' + 's' * (threads > 1)}")
    rows = []
    for model in dict.fromkeys(key[3] for key in runs):
        found = [runs.get((*place, model)) for place in places]
        digits = 1 if "gpu" in report else 0
        cells = [f"{run['median_ms']:.{digits}f} ({run['times_of_uranet']:.1f})" if run else "" for run in found]
        rows.append([model, *cells])
    device = " --device cuda" if "gpu" in report else ""
    rounds = report["rounds"]
    rounds = rounds if isinstance(rounds, int) else " and ".join(map(str, rounds.values()))
    data = f"ms, model alone, median of {rounds} rounds in turns (times URA-Net's)"
    line = caption(report, f"python benchmarks/latency.py{device}", data)
    return "\n".join([*table(["model", *heads], rows), "", line])


def small_types(report: dict[str, Any]) -> str:
    """Table of the small defects in a report of `benchmarks/peers.py`."""
    found = [(d, t) for d, t in SMALL_TYPES if any(r["dataset"] == d and t in r["per_type"] for r in report["runs"])]
    rows = []
    for model in dict.fromkeys(run["model"] for run in report["runs"]):
        cells = [model]
        for dataset, kind in found:
            own = [r["per_type"][kind] for r in report["runs"] if (r["model"], r["dataset"]) == (model, dataset)]
            cells.append(" / ".join(metric_cells(mean_of(own))) if own else "-")
        rows.append(cells)
    data = "image AUROC / pixel AUROC / pixel AP of the type against all good test images, mean over seeds"
    lines = table(["model", *(f"{dataset} {kind}" for dataset, kind in found)], rows)
    return "\n".join([*lines, "", caption(report, "python benchmarks/peers.py", data)])


SMALL_TYPES = (("magnetic_tile", "blowhole"), ("magnetic_tile", "crack"), ("pill", "crack"), ("pill", "scratch"))


def _places(place: str, real: list[str]) -> tuple[str, list[str]]:
    """Title of a table, and the data sets whose runs are in it."""
    return (f"Mean over {', '.join(real)}", real) if place == "mean" else (place, [place])


def _with_spread(figure: dict[str, Any] | None) -> str:
    """Mean, and half of largest minus smallest where there are several seeds."""
    if figure is None:
        return "-"
    spread = f" ± {figure['spread'] / 2:.3f}" if figure["seeds"] > 1 else ""
    return f"{figure['mean']:.3f}{spread}"


def _epochs(report: dict[str, Any], model: str, places: list[str]) -> str:
    """Fewest epochs of the model's runs on some data sets, of those documented; empty for what isn't trained by epochs."""
    runs = [run for run in report["runs"] if run["model"] == model and run["dataset"] in places]
    trained = [run["training"] for run in runs if "documented_epochs" in run["training"]]
    if not trained:
        return ""
    fewest = min(trained, key=lambda training: training["epochs"])
    return f"{fewest['epochs']:.0f} of {fewest['documented_epochs']}"


def metric_cells(row: dict[str, Any]) -> list[str]:
    """The figures of SHOWN as text."""
    return ["-" if row[key] is None else f"{row[key]:.3f}" for key in SHOWN]


def mean_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the figures of SHOWN; None where a row lacks one."""
    columns = {key: [row[key] for row in rows] for key in SHOWN}
    return {key: None if None in values else sum(values) / len(values) for key, values in columns.items()}
