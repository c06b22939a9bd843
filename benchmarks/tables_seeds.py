"""Markdown table of what rows of the ablation change, seed by seed."""

from __future__ import annotations

from statistics import mean

from tables_methods import made_on

from ura_hf.data.records import METRICS

DEFAULTS = "defaults"
SHOWN = ("image_auroc", "pixel_ap", "aupro")
PLACES = {"held_out": "held-out", "test": "test"}


def seeds(report: dict) -> str:
    """The defaults' figures, and of every other row the difference to those of the same seed: mean, least and largest."""
    runs = {(run["dataset"], run["row"], run["seed"]): run for run in report["runs"]}
    head = ["change", "seeds", *(f"{place}: {METRICS[key]}" for place in PLACES.values() for key in SHOWN)]
    lines = []
    for dataset in dict.fromkeys(key[0] for key in runs):
        lines += [f"**{dataset}, {report['runs'][0]['steps']} steps**", "", "| " + " | ".join(head) + " |"]
        lines.append("|---" * len(head) + "|")
        for row in report["groups"]:
            paired = [
                (run, runs[dataset, DEFAULTS, seed])
                for (place, name, seed), run in runs.items()
                if (place, name) == (dataset, row) and (dataset, DEFAULTS, seed) in runs
            ]
            if paired:
                cells = [_cell(row, [(a[p][k], b[p][k]) for a, b in paired]) for p in PLACES for k in SHOWN]
                lines.append(f"| {row} | {len(paired)} | " + " | ".join(cells) + " |")
        lines.append("")
    commits = ", ".join(dict.fromkeys(run["commit"] for run in report["runs"]))
    numbers = ", ".join(map(str, sorted({run["seed"] for run in report["runs"]})))
    return "\n".join([*lines, f"Seeds {numbers}, commit {commits}. {made_on(report)}. Command: `{report['command']}`."])


def _cell(row: str, pairs: list[tuple[float, float]]) -> str:
    """Of the defaults mean and half of largest minus smallest; of another row what it adds to them."""
    if row == DEFAULTS:
        values = [value for value, _ in pairs]
        return f"{mean(values):.3f} ± {(max(values) - min(values)) / 2:.3f}"
    changes = [changed - base for changed, base in pairs]
    return f"{mean(changes):+.3f} ({min(changes):+.3f} to {max(changes):+.3f})"
