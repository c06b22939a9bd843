"""Tables of `benchmarks/uncertainty.py`."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from tables_captions import caption, seeds_of, table

Runs = list[dict[str, Any]]
KINDS = ("total", "aleatoric", "epistemic")


def uncertainty(report: dict[str, Any]) -> str:
    """Reliability, deferral, and what the maps answer to; each cell a mean over seeds."""
    runs: Runs = [run for run in report["runs"] if not run["count"]]
    sets = list(dict.fromkeys(run["dataset"] for run in runs))
    blocks = [_detection(runs, sets), _reliability(runs, sets)]
    blocks += [_deferral(runs, sets, "images"), _deferral(runs, sets, "pixels"), _own(runs, sets), _regions(runs, sets)]
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


def _detection(runs: Runs, sets: list[str]) -> list[str]:
    rows = []
    for method in runs[0]["detection"]:
        kinds = ("image_auroc", "pixel_auroc")
        cells = [", ".join(f"{_mean(runs, s, 'detection', method, kind):.3f}" for kind in kinds) for s in sets]
        rows.append([method, *cells])
    return ["Image and pixel AUROC of the probability alone:", "", *table(["probability", *sets], rows)]


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
    shares = ["share of defective pixels", *(f"{_mean(runs, s, 'defect_share'):.3f}" for s in sets)]
    return [
        "Expected calibration error and Brier score of the pixel probability:",
        "",
        *table(["probability", *sets], [*rows, shares]),
    ]


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
    times = [[_mean(runs, s, "milliseconds", what) for s in sets] for what in ("uncertainty", "verdict")]
    shares = [f"{100 * maps / verdict:.1f} %" for maps, verdict in zip(*times, strict=True)]
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
