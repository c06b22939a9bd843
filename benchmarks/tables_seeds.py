"""Markdown tables of what rows of the ablation change: seed by seed, and in one table what decided each default."""

from __future__ import annotations

from statistics import mean
from typing import Any, NamedTuple

from tables_captions import caption, table

from ura_hf.data.records import METRICS

DEFAULTS = "defaults"
SHOWN = ("image_auroc", "pixel_ap", "aupro")
PLACES = {"held_out": "held-out", "test": "test"}
Runs = dict[tuple[str, str, int], dict[str, Any]]
"""Runs of an ablation by data set, row and seed."""


class Choice(NamedTuple):
    """A default and what was tried in its place: the result file, the data set and the rows of it, and why the default stays."""

    default: str
    file: str
    dataset: str
    rows: tuple[str, ...]
    reason: str


SEEDS, ONE, SCORE = "ablation-seeds.json", "ablation.json", "ablation-score.json"
CHOICES = (
    Choice(
        "restoration and perception in the map",
        SEEDS,
        "pill",
        ("without restoration and perception",),
        "pixel AP falls without them, here and in four of six figures over three data sets",
    ),
    Choice(
        "query take-out, key weights, normal tokens",
        SEEDS,
        "pill",
        ("plain reconstruction (both, no normal tokens)",),
        "held-out pixel AP; restored features keep less of the defect",
    ),
    Choice("key weights", ONE, "pill", ("keys not weighed",), "the paper's; no figure depends on it"),
    Choice(
        "Bayesian perception",
        SEEDS,
        "pill",
        ("deterministic perception",),
        "the paper's; it gives the epistemic uncertainty, not a better detector",
    ),
    Choice(
        "uncertainty in the suspicion",
        SEEDS,
        "pill",
        ("no uncertainty in the suspicion",),
        "the paper's; no figure depends on it",
    ),
    Choice("memory of all levels", SEEDS, "pill", ("without the memory of all levels",), "pixel AP"),
    Choice(
        "memory of the shallowest level",
        SEEDS,
        "pill",
        ("without the memory of the shallowest level",),
        "image AUROC and AUPRO, for less held-out pixel AP",
    ),
    Choice("subspace of whole images", SEEDS, "pill", ("without the subspace",), "test image AUROC and pixel AP"),
    Choice("its share in the image score", SEEDS, "pill", ("image score: the map alone",), "test image AUROC"),
    Choice(
        "share weighed by spreads",
        SCORE,
        "pill_turned_small",
        ("image score: spreads not weighed",),
        "image AUROC of small defects",
    ),
    Choice(
        "weights by reliability",
        ONE,
        "pill",
        ("weights not adapted", "all"),
        "image AUROC; pixel AP prefers fixed ones",
    ),
    Choice(
        "mixed sources of anomalies",
        ONE,
        "pill",
        ("source: texture only", "source: self only", "source: noise only"),
        "test figures; real defects are not known beforehand",
    ),
    Choice(
        "mixed families of masks",
        ONE,
        "pill",
        ("masks: large only", "masks: small only", "masks: thin only"),
        "as for the sources",
    ),
    Choice("grid of 32", ONE, "pill", ("grid 16",), "small defects, such as cracks and spots of a few pixels"),
    Choice("grid of 32", ONE, "pill", ("grid 64, tokens of 4x4",), "training and look-up take a third of the time"),
    Choice(
        "2 restoration blocks",
        ONE,
        "pill",
        ("1 restoration blocks", "4 restoration blocks", "8 restoration blocks"),
        "one seed does not tell them apart; more cost time",
    ),
    Choice(
        "levels 1, 2, 3",
        ONE,
        "pill",
        ("levels 2, 3", "levels 1, 2", "level 1", "level 2", "level 3"),
        "test image AUROC and pixel AP",
    ),
    Choice(
        "maximum of the map as image score",
        ONE,
        "pill",
        ("image score: standard deviation", "image score: mean of the largest 1 %"),
        "image AUROC",
    ),
    Choice(
        "turned copies where parts lie in any rotation",
        ONE,
        "pill_turned",
        ("pose fixed",),
        "nothing is gained with 200 images; see the next row",
    ),
)
TEN_TURNED = ("turned copies, ten good images", "pill_turned", "10 good images", "10 good images, pose fixed")


def seeds(report: dict[str, Any]) -> str:
    """The defaults' figures, and of every other row the difference to those of the same seed: mean, least and largest."""
    runs = _by_key(report)
    head = ["change", "seeds", *(f"{place}: {METRICS[key]}" for place in PLACES.values() for key in SHOWN)]
    lines: list[str] = []
    for dataset in dict.fromkeys(key[0] for key in runs):
        rows = []
        for row in report["groups"]:
            if paired := _pairs(runs, dataset, row):
                cells = [_cell(row, [(a[p][k], b[p][k]) for a, b in paired]) for p in PLACES for k in SHOWN]
                rows.append([row, str(len(paired)), *cells])
        lines += [f"**{dataset}, {report['runs'][0]['steps']} steps**", "", *table(head, rows), ""]
    numbers = ", ".join(map(str, sorted({run["seed"] for run in report["runs"]})))
    data = f"difference to the defaults of the same seed, mean (least to largest), seeds {numbers}"
    command = "python benchmarks/ablation.py --steps 200 --datasets pill --seeds 0 1"
    return "\n".join([*lines, caption(report, command, data)])


def decisions(reports: dict[str, dict[str, Any]]) -> str:
    """What decided each default: differences of the alternatives to it, from the ablation's reports by file name."""
    head = ["default", "instead", "data", "seeds", *(f"{p}: {METRICS[k]}" for p in PLACES.values() for k in SHOWN)]
    rows = []
    for choice in CHOICES:
        runs = _by_key(reports[choice.file])
        for number, row in enumerate(choice.rows):
            first = number == 0
            pairs = _pairs(runs, choice.dataset, row)
            alternative = {"all": "equal weights"}.get(row, row.split(": ")[-1])
            named = [choice.default * first, alternative, choice.dataset, *_differences(pairs), choice.reason * first]
            rows.append(named)
    default, dataset, ours, other = TEN_TURNED
    runs = _by_key(reports[ONE])
    pairs = [(runs[dataset, other, 0], runs[dataset, ours, 0])]
    rows.append([default, "pose fixed", dataset, *_differences(pairs), "image AUROC where photos are few"])
    data = "difference to the default, 200 steps, mean over seeds"
    line = caption(reports[ONE], "python benchmarks/ablation.py --steps 200", data)
    return "\n".join([*table([*head, "the default stays for"], rows), "", line])


def _by_key(report: dict[str, Any]) -> Runs:
    return {(run["dataset"], run["row"], run["seed"]): run for run in report["runs"]}


def _pairs(runs: Runs, dataset: str, row: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Runs of a row, each with the defaults' of the same seed."""
    return [
        (run, runs[dataset, DEFAULTS, seed])
        for (place, name, seed), run in runs.items()
        if (place, name) == (dataset, row) and (dataset, DEFAULTS, seed) in runs
    ]


def _differences(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """Number of seeds, and the mean difference of every figure."""
    cells = [_signed(mean(a[p][k] - b[p][k] for a, b in pairs)) for p in PLACES for k in SHOWN]
    return [str(len(pairs)), *cells]


def _cell(row: str, pairs: list[tuple[float, float]]) -> str:
    """Of the defaults mean and half of largest minus smallest; of another row what it adds to them."""
    if row == DEFAULTS:
        values = [value for value, _ in pairs]
        return f"{mean(values):.3f} ± {(max(values) - min(values)) / 2:.3f}"
    changes = [changed - base for changed, base in pairs]
    return f"{_signed(mean(changes))} ({_signed(min(changes))} to {_signed(max(changes))})"


def _signed(change: float) -> str:
    shown = f"{change:+.3f}"
    return "0.000" if shown in ("+0.000", "-0.000") else shown
