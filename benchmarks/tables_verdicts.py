"""Table and picture of `benchmarks/verdicts.py`."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from tables_captions import caption, table

SHIFTED = "ball_screw"
"""Its test images are of other wear than those to train on; it has a row of its own."""
Runs = list[dict[str, Any]]


def verdicts(report: dict[str, Any]) -> str:
    """Asked and realised false alarms, misses beside the least possible, and the four verdicts; means over sets and draws."""
    runs: Runs = report["runs"]
    counts = list(dict.fromkeys(run["count"] for run in runs))
    head = ["good photos", "asked", "false alarms", "most in a draw", "misses", "at a perfect threshold"]
    lines = table(head, [_rates(runs, count, place) for count in counts for place in (0, 2, 3)])
    head = [
        "good photos",
        "good to review",
        "defective to review",
        "misses, no review",
        "misses left",
        "false alarms",
        "unknown: good, defective",
    ]
    lines += ["", *table(head, [_labels(runs, count) for count in counts])]
    head = ["data set", "false alarms", "misses", "at a perfect threshold"]
    lines += ["", "By data set, 50 photos, 5 % asked:", ""]
    lines += table(head, [_set(runs, name) for name in dict.fromkeys(run["dataset"] for run in runs)])
    if moved := [run for run in runs if "shift" in run]:
        head = ["good photos", "false alarms", "to review", "noticed after", "false alarms after `uranet calibrate`"]
        lines += ["", "Good parts of another wear (ball_screw), 5 % asked:", "", *table(head, _shifts(moved))]
    draws = sorted({run["draw"] for run in runs})
    data = f"{len({run['dataset'] for run in runs})} data sets, draws {', '.join(map(str, draws))}"
    return "\n".join([*lines, "", caption(report, "python benchmarks/verdicts.py", data)])


def _of(runs: Runs, count: int) -> Runs:
    return [run for run in runs if run["count"] == count]


def _rates(runs: Runs, count: int, place: int) -> list[str]:
    found = [run["rates"][place] for run in _of(runs, count)]
    alarms = [one["false_alarms"] for one in found]
    misses, least = (fmean(one[name] for one in found) for name in ("misses", "least"))
    cells = [fmean(alarms), max(alarms), misses, least]
    return [str(count or "all"), f"{found[0]['asked']:.0%}", f"{cells[0]:.1%}", *(f"{cell:.0%}" for cell in cells[1:])]


def _labels(runs: Runs, count: int) -> list[str]:
    found = [run["verdicts"] for run in _of(runs, count)]

    def mean(kind: str, *labels: str) -> float:
        return fmean(sum(one[kind][label] for label in labels) for one in found)

    shares = [mean("good", "review"), mean("defective", "review"), mean("defective", "normal", "review")]
    shares += [mean("defective", "normal"), mean("good", "anomalous")]
    unknown = f"{mean('good', 'unknown'):.1%}, {mean('defective', 'unknown'):.1%}"
    return [str(count or "all"), *(f"{share:.0%}" for share in shares), unknown]


def _set(runs: Runs, name: str) -> list[str]:
    found = [run["rates"][2] for run in _of(runs, 50) if run["dataset"] == name]
    return [
        name,
        *(f"{fmean(one[key] for one in found):.0%}" if found else "" for key in ("false_alarms", "misses", "least")),
    ]


def _shifts(runs: Runs) -> list[list[str]]:
    rows = []
    for count in dict.fromkeys(run["count"] for run in runs):
        found = [run["shift"] for run in _of(runs, count)]
        early = sum(one["noticed"] is not None and one["noticed"] <= 0 for one in found)  # before the other parts came
        noticed = [one["noticed"] for one in found if (one["noticed"] or 0) > 0]
        spread = f"{min(noticed)} to {max(noticed)} parts" if noticed else "-"
        missed = len(found) - len(noticed) - early
        spread += f", falsely before in {early} of {len(found)} draws" * (early > 0)
        never = f", never in {missed} of {len(found)} draws" * (missed > 0)
        rates = (
            fmean(one["false_alarms"] for one in found),
            fmean(one["verdicts"]["review"] for one in found),
            fmean(one["calibrated"] for one in found),
        )
        rows.append([str(count), *(f"{rate:.0%}" for rate in rates[:2]), spread + never, f"{rates[2]:.0%}"])
    return rows


def plot(report: dict[str, Any], path: Path) -> None:
    """Asked against realised rates, a line a number of photos, into a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axis = figure.subplots()
    runs: Runs = report["runs"]
    for count in dict.fromkeys(run["count"] for run in runs):
        rows = [run["rates"] for run in _of(runs, count)]
        asked = [one["asked"] for one in rows[0]]
        axis.plot(
            asked,
            [fmean(row[at]["false_alarms"] for row in rows) for at in range(len(asked))],
            "o-",
            label=str(count or "all"),
        )
    axis.plot([0.005, 0.25], [0.005, 0.25], color="#98a2b3", linestyle="--")
    axis.set(
        xscale="log", yscale="log", xlabel="asked share of false alarms", ylabel="realised, mean of sets and draws"
    )
    axis.legend(title="good photos")
    figure.savefig(path, format="png", dpi=110)


def unknown(report: dict[str, Any]) -> str:
    """Table of `benchmarks/unknown.py`: the share of each kind of image that is called unknown."""
    runs: Runs = report["runs"]
    rows = [["AUROC, other parts and photos", *(f"{run['auroc']:.3f}" for run in runs)]]
    rows += [[words, *(f"{run['unknown'][words]:.0%}" for run in runs)] for words in runs[0]["unknown"]]
    lines = table(["called `unknown`", *(run["dataset"] for run in runs)], rows)
    return "\n".join([*lines, "", caption(report, report["command"], "50 good photos fitted, seed 0")])
