"""Tables of `benchmarks/uncertainty.py`."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from tables_captions import caption, seeds_of, table

Runs = list[dict[str, Any]]
KINDS = ("total", "aleatoric", "epistemic")


def uncertainty(report: dict[str, Any]) -> str:
    """Reliability, deferral, and what the maps answer to; each cell a mean over seeds."""
    runs: Runs = [run for run in report["runs"] if not run["count"]]
    sets = list(dict.fromkeys(run["dataset"] for run in runs))
    blocks = [_aims(runs, sets), _detection(runs, sets), _reliability(runs, sets), _said(runs, sets)]
    blocks += [
        _decisions(runs, sets),
        _deferral(runs, sets, "images"),
        _deferral(runs, sets, "pixels"),
        _own(runs, sets),
        _regions(runs, sets),
    ]
    blocks += [_places(runs, sets), _changes(runs), _counts([run for run in report["runs"] if run["count"]])]
    steps = ", ".join(map(str, sorted({run["steps"] for run in runs})))
    data = f"{', '.join(sets)}, {seeds_of(runs)}, {steps} steps"
    return "\n".join([*(line for block in blocks if block for line in (*block, "")), caption(report, COMMAND, data)])


COMMAND = "python benchmarks/uncertainty.py"


def _mean(runs: Runs, name: str, *path: str) -> float:
    values = []
    for run in runs:
        if run["dataset"] == name:
            value: Any = run
            for key in path:
                value = value[key]
            values.append(float(value))
    return fmean(values)


def _aims(runs: Runs, sets: list[str]) -> list[str]:
    """Each aim, the figure of the worst set (of deferral the mean over sets), and whether it is reached."""
    ece = max(_mean(runs, s, "reliability", "posterior", "ece") for s in sets)
    other = min(part["epistemic"] for run in runs for part in run["other_parts"].values())
    edges = min(_mean(runs, s, "edge_share", "aleatoric") for s in sets)
    cost = 100 * max(_cost(runs, s) for s in sets)
    rows = [
        ["calibration error of the probability", f"{ece:.3f}", "at most 0.03", ece <= 0.03],
        ["epistemic: other parts, AUROC", f"{other:.3f}", "at least 0.99", other >= 0.99],
        ["aleatoric: near edges, 1 is chance", f"{edges:.1f}", "at least 3", edges >= 3],
        ["processor time of the maps, of a verdict's", f"{cost:.1f} %", "at most 10 %", cost <= 10],
    ]
    rows += _deferral_aims(runs, sets)
    costs = [run["milliseconds"] for run in runs if "ensemble" in run["milliseconds"]]
    third = fmean(cost["uncertainty"] / cost["ensemble"] for cost in costs) if costs else math.nan
    title = "processor time of the maps, of three networks' (mean over sets)"
    rows.append([title, f"{100 * third:.0f} %", "at most 33 %", third <= 1 / 3])
    areas = {by: fmean(_mean(runs, s, "decisions", by, "area") for s in sets) for by in runs[0]["decisions"]}
    best = min(areas[by] for by in ("none", "deterministic", "dropout"))
    words = "error rate of verdicts by the score with the probability, deferred by its distance to the threshold"
    aim = f"at most {best:.4f}, the best of no and of one network without a posterior"
    rows.append([words, f"{areas['posterior']:.4f}", aim, areas["posterior"] <= best])
    lines = [[*map(str, row[:3]), "yes" if row[3] else "no"] for row in rows]
    title = "Aims, with the figure of the worst set, and of deferral the mean over sets:"
    return [title, "", *table(["", "measured", "aim", "reached"], lines)]


def _deferral_aims(runs: Runs, sets: list[str]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for what, words in RISKS.items():
        means = {by: fmean(_mean(runs, s, "risk", what, by) for s in sets) for by in runs[0]["risk"][what]}
        own = min(value for by, value in means.items() if by.startswith("posterior"))
        best = min(value for by, value in means.items() if by.startswith(BASELINES) and "posterior" not in by)
        most = 1.1 * min(value for by, value in means.items() if by.startswith("ensemble"))
        shown = f"{own:.4f}"
        rows.append([words, shown, f"at most {best:.4f}, the best of one network without a posterior", own <= best])
        rows.append(["the same, beside three networks", shown, f"at most {most:.4f}, theirs and 10 %", own <= most])
    return rows


RISKS = {
    "images": "error rate of verdicts on images, deferred by the posterior's best map",
    "pixels": "error rate of verdicts on pixels, deferred by the posterior's best map",
    "own_pixels": "error rate of the probability's own pixels, deferred by its total uncertainty",
}
BASELINES = ("distance to the threshold", "deterministic", "dropout")


def _cost(runs: Runs, name: str) -> float:
    return _mean(runs, name, "milliseconds", "uncertainty") / _mean(runs, name, "milliseconds", "verdict")


def _detection(runs: Runs, sets: list[str]) -> list[str]:
    rows = []
    for method in runs[0]["detection"]:
        kinds = ("image_auroc", "pixel_auroc")
        cells = [", ".join(f"{_mean(runs, s, 'detection', method, kind):.3f}" for kind in kinds) for s in sets]
        rows.append([method, *cells])
    return ["Image and pixel AUROC of the probability alone:", "", *table(["probability", *sets], rows)]


def _decisions(runs: Runs, sets: list[str]) -> list[str]:
    keys = ("image_auroc", "errors", "area")
    rows = [
        [method, *(", ".join(f"{_mean(runs, s, 'decisions', method, key):.3f}" for key in keys) for s in sets)]
        for method in runs[0]["decisions"]
    ]
    title = "Scores with each probability: image AUROC, errors, and area under risk and coverage by distance to the threshold:"
    return [title, "", *table(["probability", *sets], rows)]


def _own(runs: Runs, sets: list[str]) -> list[str]:
    rows = [
        [method, *(f"{_mean(runs, s, 'risk', 'own_pixels', method):.4f}" for s in sets)]
        for method in runs[0]["risk"]["own_pixels"]
    ]
    title = (
        "The same of each probability's own decisions on pixels, above or below 0.5, deferred by its total uncertainty:"
    )
    return [title, "", *table(["probability", *sets], rows)]


def _regions(runs: Runs, sets: list[str]) -> list[str]:
    counts = {"regions that touch a defect": "true", "others": "false"}
    rows = [[words, *(f"{_mean(runs, s, 'risk', 'regions', key):.0f}" for s in sets)] for words, key in counts.items()]
    told = [run for run in runs if run["risk"]["regions"]["auroc"]]
    for name in ("peak", *KINDS):
        values = [
            f"{_mean(told, s, 'risk', 'regions', 'auroc', name):.3f}" if any(r["dataset"] == s for r in told) else ""
            for s in sets
        ]
        rows.append([f"{name}, AUROC", *values])
    title = "Regions above the pixel threshold, and how well peak and mean uncertainty tell those on defects from the others:"
    return [title, "", *table(["", *sets], rows)]


def _reliability(runs: Runs, sets: list[str]) -> list[str]:
    rows = []
    for how in runs[0]["reliability"]:
        cells = [
            f"{_mean(runs, s, 'reliability', how, 'ece'):.3f}, {_mean(runs, s, 'reliability', how, 'brier'):.3f}"
            for s in sets
        ]
        rows.append([how, *cells])
    known = [_mean(runs, s, "defect_share") for s in sets]
    rows.append(["the share of defective pixels, everywhere", *(f"0.000, {p * (1 - p):.3f}" for p in known)])
    shares = ["share of defective pixels", *(f"{p:.3f}" for p in known)]
    return [
        "Expected calibration error and Brier score of the pixel probability:",
        "",
        *table(["probability", *sets], [*rows, shares]),
    ]


def _said(runs: Runs, sets: list[str]) -> list[str]:
    """What the probability says in fifths of its range, and how many of these pixels are defective; pooled over seeds."""
    fifths = [(low / 5, (low + 1) / 5) for low in range(5)]
    rows = []
    for low, high in fifths:
        cells = []
        for name in sets:
            bins = [b for run in runs if run["dataset"] == name for b in run["reliability"]["posterior"]["bins"]]
            inside = [b for b in bins if low <= b[1] < high or b[1] == high == 1]
            share = sum(b[0] for b in inside)
            count = sum(run["dataset"] == name for run in runs)
            said, true = (sum(b[0] * b[k] for b in inside) / share if share else 0.0 for k in (1, 2))
            cells.append(f"{said:.2f}, {true:.2f} ({share / count:.2%})" if share else "")
        rows.append([f"{low:.1f} to {high:.1f}", *cells])
    title = (
        "Reliability: what the probability says, how many of these pixels are defective, and their share of all pixels:"
    )
    return [title, "", *table(["probability", *sets], rows)]


def plot(report: dict[str, Any], path: Path) -> None:
    """Reliability by data set, and risk against coverage in the mean over sets, into a PNG file."""
    from matplotlib.figure import Figure

    runs: Runs = [run for run in report["runs"] if not run["count"] and "curves" in run["risk"]]
    sets = list(dict.fromkeys(run["dataset"] for run in runs))
    if not sets:
        return
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for name in sets:
        own = [run["reliability"]["posterior"]["bins"] for run in runs if run["dataset"] == name]
        axes[0].plot([b[1] for b in own[0]], [b[2] for b in own[0]], "o-", markersize=3, label=name)
    axes[0].plot([0, 1], [0, 1], color="#98a2b3", linestyle="--")
    axes[0].set(xlabel="probability", ylabel="share of defective pixels", title="Reliability, first seed")
    for axis, what in zip(axes[1:], ("images", "pixels"), strict=True):
        for by in runs[0]["risk"]["curves"][what]:
            of_sets = [
                [
                    fmean(at)
                    for at in zip(*(r["risk"]["curves"][what][by] for r in runs if r["dataset"] == s), strict=True)
                ]
                for s in sets
            ]
            means = [fmean(at) for at in zip(*of_sets, strict=True)]
            axis.plot([(k + 1) / len(means) for k in range(len(means))], means, label=by)
        axis.set(
            xlabel="share kept", ylabel="error rate of the verdict", title=f"{what.capitalize()}, mean over data sets"
        )
    for axis in axes:
        axis.legend(fontsize=8)
    figure.savefig(path, format="png", dpi=100)


def _deferral(runs: Runs, sets: list[str], what: str) -> list[str]:
    digits = 3 if what == "images" else 4
    rows = [
        [by, *(f"{_mean(runs, s, 'risk', what, by):.{digits}f}" for s in sets)]
        for by in runs[0]["risk"][what]
        if all(by in run["risk"][what] for run in runs)
    ]
    errors = f"{what.removesuffix('s')}_errors"
    rows.append(["nothing deferred", *(f"{_mean(runs, s, 'risk', errors):.{digits}f}" for s in sets)])
    title = (
        f"Error rate of the verdict on {what}, mean over all shares kept (area under risk and coverage), deferred by:"
    )
    return [title, "", *table(["deferred by", *sets], rows)]


def _places(runs: Runs, sets: list[str]) -> list[str]:
    rows = []
    for kind in KINDS:
        rows.append(
            [
                f"{kind}: within 5 pixels of an edge, 1 is chance",
                *(f"{_mean(runs, s, 'edge_share', kind):.1f}" for s in sets),
            ]
        )
    for kind in KINDS:
        worst = [
            min(min(part[kind] for part in run["other_parts"].values()) for run in runs if run["dataset"] == s)
            for s in sets
        ]
        rows.append([f"{kind}: other parts, least AUROC", *(f"{value:.3f}" for value in worst)])
    shares = [f"{100 * _cost(runs, s):.1f} %" for s in sets]
    rows.append(["processor time of the maps, of that of a verdict with heatmap", *shares])
    return ["Where uncertainty is, and what it costs:", "", *table(["", *sets], rows)]


def _changes(runs: Runs) -> list[str]:
    rows = []
    for change in runs[0]["changed"]:
        rows.append([change, *(_nats(fmean(run["changed"][change][kind] for run in runs)) for kind in KINDS)])
    inside = [figures for run in runs for figures in run["inside_defects"].values()]
    rows.append(["inside real defects", *(_nats(fmean(one[kind] for one in inside)) for kind in KINDS)])
    return [
        "Mean uncertainty of good photos that were changed, in nats, over all sets:",
        "",
        *table(["photos", *KINDS], rows),
    ]


def _counts(runs: Runs) -> list[str]:
    if not runs:
        return []
    rows = []
    for count in dict.fromkeys(run["count"] for run in runs):
        found = [run["good"] for run in runs if run["count"] == count]
        rows.append([str(count), *(_nats(fmean(one[kind] for one in found)) for kind in KINDS)])
    title = (
        f"Mean uncertainty of good photos of {runs[0]['dataset']} that were not learnt from, by how many were, in nats:"
    )
    return [title, "", *table(["good photos", *KINDS], rows)]


def _nats(value: float) -> str:
    return f"{value:.4f}"
