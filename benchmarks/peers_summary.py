"""Means over seeds and data sets of the runs of `peers.py`."""

from __future__ import annotations

from statistics import mean
from typing import Any

from sets import DATASETS, SETS, TURNED

from ura_hf.data.records import METRIC_KEYS

ALL = (*SETS, *TURNED)
COSTS = ("train_cpu_seconds", "train_gpu_seconds", "ms_per_image", "peak_memory_gib", "peak_gpu_memory_gib")
Runs = list[dict[str, Any]]


def summarise(runs: Runs) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Model -> data set, or `mean` over DATASETS where all are there -> metric -> mean and spread over seeds."""
    summary: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for name in dict.fromkeys(run["model"] for run in runs):
        own = [run for run in runs if run["model"] == name]
        for dataset in ALL:
            if rows := [run for run in own if run["dataset"] == dataset]:
                summary.setdefault(name, {})[dataset] = _means([[row] for row in rows])
        seeds = sorted({run["seed"] for run in own})
        full = [[r for r in own if r["seed"] == seed and r["dataset"] in DATASETS] for seed in seeds]
        if full := [rows for rows in full if len(rows) == len(DATASETS)]:
            summary[name]["mean"] = _means(full)
    return summary


def _means(seeds: list[Runs]) -> dict[str, dict[str, float]]:
    """Mean and spread over seeds of what the rows of a seed have in the mean."""
    rows = [row for seed in seeds for row in seed]
    found = {}
    for key in _figures(rows):
        values = [mean(row[key] for row in seed) for seed in seeds if all(key in row for row in seed)]
        if values:
            found[key] = {"mean": mean(values), "spread": max(values) - min(values), "seeds": len(values)}
    return found


def _figures(rows: Runs) -> list[str]:
    """Names of the metrics and costs that all rows know; those of pixels need masks."""
    known = [key for key in METRIC_KEYS if all(row[key] is not None for row in rows)]
    return [*known, *(key for key in COSTS if all(key in row for row in rows))]
