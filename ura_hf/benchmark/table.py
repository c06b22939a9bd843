"""The results of a benchmark as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import datetime
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.datasets import facts
from ..data.files import read_json, write_json, write_text
from ..data.records import METRIC_KEYS, METRICS
from .settings import Run, Settings

COSTS = ("training", "evaluation", "memory")
RESULTS, CSV, MARKDOWN = "results.json", "results.csv", "results.md"


def write_tables(runs: Sequence[Run], settings: Settings, command: str) -> None:
    """Write results.json, results.csv and results.md of the runs that are there into the benchmark's folder."""
    report = collect(runs, settings, command)
    output = runs[0].output
    write_json(output / RESULTS, report)
    for name, text in ((CSV, as_csv(report)), (MARKDOWN, as_markdown(report) + "\n")):
        write_text(output / name, text)


def collect(runs: Sequence[Run], settings: Settings, command: str) -> dict[str, Any]:
    """Everything that is known of a benchmark: results in the order of the runs, what failed and why, what is missing."""
    results = {run.name: content for run in runs if (content := read_json(run.result))}
    reasons = {
        run.name: content["reason"] for run in runs if run.name not in results and (content := read_json(run.failure))
    }
    failed = [
        {"category": run.category, "seed": run.seed, "reason": reasons[run.name]} for run in runs if run.name in reasons
    ]
    return {
        "command": command,
        "dataset": settings.dataset,
        "settings": {k: v for k, v in settings.as_json().items() if k != "root"},
        "date": datetime.date.today().isoformat(),
        "runs": list(results.values()),
        "failed": failed,
        "missing": [run.name for run in runs if run.name not in {**results, **reasons}],
    }


def as_csv(report: dict[str, Any]) -> str:
    """One row a run; the columns `best_on_test_*` are upper envelopes, chosen on the test images."""
    best = [f"best_on_test_{key}" for key in METRIC_KEYS] if report["settings"]["best_on_test"] else []
    costs = ["train_seconds", "resumed", "evaluation_seconds", "peak_memory_gib", "peak_gpu_memory_gib", "notes"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["category", "seed", *METRIC_KEYS, *best, *costs])
    for run in report["runs"]:
        training = run["training"]
        row = [run["category"], run["seed"], *(run[key] for key in METRIC_KEYS)]
        row += [run["best_on_test"][key] for key in METRIC_KEYS] if best else []
        row += [training["seconds"], training["resumed"], run["evaluation_seconds"], run["peak_memory_gib"]]
        writer.writerow([*row, training["peak_gpu_memory_gib"], "; ".join(run["notes"])])
    return text.getvalue()


def as_markdown(report: dict[str, Any]) -> str:
    """A row a category and their mean, published means beside them, then notes, failures, and how it was measured."""
    entry = facts().get(report["dataset"], {})
    runs: list[dict[str, Any]] = report["runs"]
    categories = list(dict.fromkeys(run["category"] for run in runs))
    notes = list(dict.fromkeys(f"{run['category']}: {note}" for run in runs for note in run["notes"]))
    lines = [_line(["category", "seeds", *METRICS.values(), *COSTS]), "|---" * (len(METRICS) + 2 + len(COSTS)) + "|"]
    for name in categories:
        own = [run for run in runs if run["category"] == name]
        mark = "".join(f" [{index}]" for index, note in enumerate(notes, 1) if note.startswith(f"{name}: "))
        lines.append(_line([name + mark, str(len(own)), *_metrics(own), *_costs(own)]))
    lines += [_line([f"**{title}**", "", *_mean(chosen), "", "", ""]) for title, chosen in _means(runs, entry)]
    for anchor in entry.get("published", []):
        cells = [f"{anchor[key]:.3f}" if key in anchor else "" for key in METRICS]
        lines.append(_line([f"{anchor['name']}, published", "", *cells, "", "", ""]))
    if report["settings"]["best_on_test"] and runs:
        lines += [
            "",
            _envelope_title(report),
            "",
            _line(["category", *METRICS.values()]),
            "|---" * (len(METRICS) + 1) + "|",
        ]
        for name in categories:
            own = [run["best_on_test"] for run in runs if run["category"] == name]
            lines.append(_line([name, *_metrics(own)]))
    lines += ["", _how(report)]
    if entry.get("published"):
        lines += ["", _anchors(entry)]
    lines += ["", *(f"[{index}] {note}." for index, note in enumerate(notes, 1))] if notes else []
    if report["failed"]:
        lines += ["", "Failed:", "", *(f"- {f['category']}, seed {f['seed']}: {f['reason']}" for f in report["failed"])]
    if report["missing"]:
        lines += ["", f"Not done yet: {', '.join(report['missing'])}."]
    return "\n".join(lines)


def _anchors(entry: dict[str, Any]) -> str:
    sources = "; ".join(f"{anchor['name']}: {anchor['source']}" for anchor in entry["published"])
    return (
        f"Published rows are means over all {len(entry['categories'])} categories as their authors report them, with other "
        f"backbones, input sizes and epochs; their empty cells were not looked up. {sources}."
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _metrics(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Mean over seeds, and with several half of largest minus smallest."""
    cells = []
    for key in METRICS:
        values = [run[key] for run in runs if run[key] is not None]
        spread = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):.3f}{spread}" if values else "-")
    return cells


def _costs(runs: Sequence[dict[str, Any]]) -> list[str]:
    more = "> " if any(run["training"]["resumed"] for run in runs) else ""
    gpu = [run["training"]["peak_gpu_memory_gib"] for run in runs]
    memory = f"{max(gpu):.1f} GiB GPU" if all(gpu) else f"{max(run['peak_memory_gib'] for run in runs):.1f} GiB"
    train = statistics.mean(run["training"]["seconds"] for run in runs)
    return [f"{more}{train:.0f} s", f"{statistics.mean(run['evaluation_seconds'] for run in runs):.0f} s", memory]


def _means(runs: list[dict[str, Any]], entry: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Titles and runs of the mean rows; of all categories, of textures and of objects only where none is missing."""
    done = {run["category"] for run in runs}
    published: dict[str, Any] = entry.get("categories", {})
    if len(done) < 2:
        return []
    rows = [(f"mean of all {len(done)}" if set(published) <= done else f"mean of these {len(done)}", runs)]
    for kind in ("texture", "object"):
        names = {name for name, facts_of in published.items() if facts_of["kind"] == kind}
        if names and names <= done and names != done:
            rows.append((f"mean of {len(names)} {kind}s", [run for run in runs if run["category"] in names]))
    return rows


def _mean(runs: list[dict[str, Any]]) -> list[str]:
    """Mean over the categories of their means over seeds; nothing where a category has no value."""
    cells = []
    for key in METRICS:
        values: dict[str, list[float]] = {}
        for run in runs:
            values.setdefault(run["category"], []).append(run[key])
        whole = all(value is not None for column in values.values() for value in column)
        cells.append(f"{statistics.mean(map(statistics.mean, values.values())):.3f}" if whole else "-")
    return cells


def _envelope_title(report: dict[str, Any]) -> str:
    return (
        f"**Upper envelope, not a result**: the largest value of every metric at {report['settings']['best_on_test']} steps of "
        "training, chosen on the test images, each metric at its own step; before the last step the detector is not calibrated."
    )


def _how(report: dict[str, Any]) -> str:
    settings, runs = report["settings"], report["runs"]
    if not runs:
        return "No run is done."
    seeds = sorted({run["seed"] for run in runs})
    training = runs[0]["training"]
    spread = "; ± is half of largest minus smallest" if len(seeds) > 1 else ""
    resumed = (
        " `>`: the run was resumed, and counted from there." if any(r["training"]["resumed"] for r in runs) else ""
    )
    waits = [run["training"]["data_wait_share"] for run in runs]
    return (
        f"Last step, seed(s) {', '.join(map(str, seeds))}{spread}. Preset `{settings['preset']}`, "
        f"{_changed(settings)}{training['hardware']}, {training['precision']}, torch {training['versions']['torch']}, "
        f"{report['date']}. The model waited for data in {min(waits):.1%} to {max(waits):.1%} of the training time.{resumed} "
        f"Command: `{report['command']}`."
    )


def _changed(settings: dict[str, Any]) -> str:
    changed = {**settings["config"], **settings["training"]}
    shown = ", ".join(f"{k} {Path(v).name if isinstance(v, str) else v}" for k, v in changed.items() if v is not None)
    return f"with {shown}; " if shown else ""
