"""Markdown tables of the method's own parts: bundled backbone and checkpoints, ablation, claim."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from tables_captions import caption, seeds_of, table

from ura_hf.data.drawn.parts import LOGICAL
from ura_hf.data.records import METRICS as COLUMNS

CLAIMED = {"uranet": "URA-Net", "without_uncertainty": "without uncertainty", "plain": "plain"}


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


def bundled(report: dict[str, Any]) -> str:
    """Table of one checkpoint of `benchmarks/bundled.py`: every defect type, the logical ones named so."""
    keys = [key for key in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro") if report[key] is not None]
    rows = []
    for name, row in {"all": report, **report["per_type"]}.items():
        label = f"{name} (logical)" if name in LOGICAL else name
        rows.append([label, *(f"{row[key]:.3f}" for key in keys)])
    at, training = report["at_threshold"], report["training"]
    fitted, minutes = training["images"]["fitted"], training["seconds"] / 60
    data = (
        f"{report['n_normal']} good and {report['n_anomalous']} defective test images, "
        f"{at['false_alarm_rate']:.1%} false alarms, {at['miss_rate']:.1%} misses · "
        f"{fitted} good images to train on, {report['checkpoint_bytes'] / 1e6:.1f} MB, seed {training['seed']}, "
        f"trained in {minutes:.0f} min"
    )
    lines = table(["type", *(COLUMNS[key] for key in keys)], rows)
    return "\n".join([*lines, "", caption({**training, **report}, report["command"], data)])


def ablation_turned(report: dict[str, Any]) -> str:
    """The same of parts in any rotation."""
    sets = " ".join(dict.fromkeys(run["dataset"] for run in report["runs"]))
    output = "docs/results/ablation-turned.json"
    return ablation(report, f"python benchmarks/ablation.py --sets {sets} --seeds 0 --output {output}")


def ablation(report: dict[str, Any], command: str = "python benchmarks/ablation.py") -> str:
    """Tables of `benchmarks/ablation.py`: every row on every data set, image AUROC, then pixel AP; then means of all figures."""
    runs = report["runs"]
    lines: list[str] = []
    for key in ("image_auroc", "pixel_ap"):
        found = _of_rows(runs, key)
        rows = []
        for label, values in found.items():
            mean = _over_sets(values)
            rows.append([label, *map(_with_spread, values.values()), "" if mean is None else f"{mean:.3f}"])
        places = list(next(iter(found.values())))
        lines += [f"**{COLUMNS[key]}**", "", *table(["what is scored", *places, "mean"], rows), ""]
    lines += ["**Means over the data sets**", "", *_means(runs), ""]
    steps = ", ".join(str(n) for n in sorted({run["steps"] for run in runs}))
    return "\n".join([*lines, caption(report, command, f"{steps} steps, {seeds_of(runs)}")])


def _of_rows(runs: list[dict[str, Any]], key: str) -> dict[str, dict[str, list[float]]]:
    """A figure of every row that has it: label -> data set -> values of the seeds."""
    known = {run["dataset"] for run in runs for row in run["rows"].values() if row[key] is not None}
    places = [name for name in dict.fromkeys(run["dataset"] for run in runs) if name in known]
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for row, figures in run["rows"].items():
            if figures[key] is not None:
                label = row if run["variant"] == "default" else f"{row}, {run['variant']}"
                found.setdefault(label, {name: [] for name in places})[run["dataset"]].append(figures[key])
    return found


def _over_sets(values: dict[str, list[float]]) -> float | None:
    """Mean over the data sets of the means over seeds; None where a data set has no value."""
    return fmean(fmean(several) for several in values.values()) if all(values.values()) else None


def _means(runs: list[dict[str, Any]]) -> list[str]:
    """All figures of every row that all data sets have."""
    found = {key: _of_rows(runs, key) for key in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")}
    rows = []
    for label in next(iter(found.values())):
        means = [_over_sets(rows_of[label]) if label in rows_of else None for rows_of in found.values()]
        if means[0] is not None:
            rows.append([label, *("" if mean is None else f"{mean:.3f}" for mean in means)])
    return table(["what is scored", *(COLUMNS[key] for key in found)], rows)


def left_out(report: dict[str, Any]) -> str:
    """What would be scored had a data set not been looked at: of the rows of `ablation`, the best in the mean of the others."""
    runs = [run for run in report["runs"] if run["variant"] == "default"]
    lines: list[str] = []
    for key in ("image_auroc", "pixel_ap"):
        found: dict[str, dict[str, float]] = {}  # row -> data set -> mean over seeds
        for row in [name for name in runs[0]["rows"] if all(name in run["rows"] for run in runs)]:
            values: dict[str, list[float]] = {}
            for run in runs:
                if run["rows"][row][key] is not None:
                    values.setdefault(run["dataset"], []).append(run["rows"][row][key])
            if values:
                found[row] = {name: fmean(several) for name, several in values.items()}
        places = list(found["the score"])
        rows, chosen = [], []
        for name in places:
            best = max(found, key=lambda row: fmean(found[row][one] for one in places if one != name))
            chosen.append(found[best][name])
            rows.append([name, best, f"{found[best][name]:.3f}", f"{found['the score'][name]:.3f}"])
        rows.append(["mean", "", f"{fmean(chosen):.3f}", f"{fmean(found['the score'].values()):.3f}"])
        lines += [
            f"**{COLUMNS[key]}**",
            "",
            *table(["left out", "best on the others", "there", "the score there"], rows),
            "",
        ]
    return "\n".join([*lines, caption(report, "python benchmarks/render.py", f"the runs above, {seeds_of(runs)}")])


def restored(report: dict[str, Any]) -> str:
    """Tables of `benchmarks/restored.py`: pictures of good parts, of artificial defects, and what the decoder costs."""
    runs = report["runs"]

    def rows_of(kind: str) -> list[list[str]]:
        names = dict.fromkeys(name for run in runs for name in run[kind])
        found = {name: [run[kind][name] for run in runs] for name in names}
        found = {name: [one.get("all", one) for one in values] for name, values in found.items()}
        return [
            [name, *(f"{one['psnr']:.1f} dB, {one['ssim']:.3f}" for one in values)] for name, values in found.items()
        ]

    sets = [run["dataset"] for run in runs]
    costs = [f"{run['decoder_cpu_seconds']:.0f} CPU s, {run['decoder_bytes'] / 1e6:.2f} MB" for run in runs]
    lines = ["Held-out good photos, PSNR and SSIM:", "", *table(["picture", *sets], rows_of("good")), ""]
    lines += ["Artificial defects in them, against the undamaged photo, inside the defect:", ""]
    lines += [*table(["picture", *sets], rows_of("defects")), ""]
    lines += ["What the decoder adds:", "", *table(["to", *sets], [["training and checkpoint", *costs]]), ""]
    data = f"{runs[0]['steps']} steps, seed {runs[0]['seed']}"
    return "\n".join([*lines, caption(report, f"python benchmarks/restored.py --sets {' '.join(sets)}", data)])


def texture_photos(report: dict[str, Any]) -> str:
    """Table of `benchmarks/texture_photos.py`: what each trained view finds alone, by the source of textures."""
    found: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for run in report["runs"]:
        found.setdefault((run["dataset"], run["steps"], run["source"]), []).append(run)
    figures = [(view, key) for view in ("restored", "perceived") for key in ("image_auroc", "pixel_ap")]
    rows = []
    for (dataset, length, source), runs in sorted(found.items(), key=lambda item: item[0][:2]):
        cells = [f"{fmean(run[view][key] for run in runs):.3f}" for view, key in figures]
        rows.append([dataset, str(length), source, *cells])
    head = ["data", "steps", "textures", *(f"{view}, {COLUMNS[key]}" for view, key in figures)]
    data = f"defects drawn into held-out good photos, 128 pixels, {seeds_of(report['runs'])}"
    return "\n".join([*table(head, rows), "", caption(report, "python benchmarks/texture_photos.py --steps N", data)])


def steps(report: dict[str, Any]) -> str:
    """Table of `benchmarks/ablation.py --steps N`: what the trained parts find alone, by the length of the training."""
    keys = ("image_auroc", "pixel_auroc", "pixel_ap")
    rows = []
    for run in sorted(report["runs"], key=lambda run: (run["dataset"], run["steps"])):
        cells = [run["dataset"], str(run["steps"]), f"{run['training']['cpu_seconds']:.0f}"]
        for row in ("restoration alone", "perception alone", "the score"):
            cells.append(" / ".join(f"{run['rows'][row][key]:.3f}" for key in keys))
        rows.append(cells)
    head = ["data", "steps", "train CPU s", "restoration alone", "perception alone", "the score"]
    sets = " ".join(dict.fromkeys(run["dataset"] for run in report["runs"]))
    command = f"python benchmarks/ablation.py --steps N --sets {sets} --seeds 0 --output docs/results/steps.json"
    data = "image AUROC / pixel AUROC / pixel AP, " + seeds_of(report["runs"])
    return "\n".join([*table(head, rows), "", caption(report, command, data)])


def _with_spread(values: list[float]) -> str:
    """Mean, and half the range over seeds where there are several."""
    if not values:
        return ""
    return f"{fmean(values):.3f}" + (f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else "")


def claim(report: dict[str, Any]) -> str:
    """Table of `benchmarks/claim.py`: errors in and around anomalies, and means over sets; networks that all runs have."""
    runs, kinds = report["runs"], {"synthesis": "`self` and `noise` in the features", "drawn": "drawn into the image"}
    models = {name: words for name, words in CLAIMED.items() if all(name in run["drawn"] for run in runs)}
    rows = []
    for kind, title in kinds.items():
        sets = [(run["dataset"], [run[kind]]) for run in runs]
        for name, found in [*sets, ("mean", [run[kind] for run in runs])]:
            values = [fmean(one[model][where] for one in found) for where in ("inside", "outside") for model in models]
            rows.append([title, name, *(f"{value:.3f}" for value in values)])
    head = [f"{where}: {words}" for where in ("inside", "outside") for words in models.values()]
    command = f"python benchmarks/claim.py --steps {runs[0]['steps']}"
    lines = table(["artificial anomalies", "data", *head], rows)
    return "\n".join([*lines, "", caption(report, command, seeds_of(runs))])


def posteriors(report: dict[str, Any]) -> str:
    """Table of `benchmarks/posteriors.py`: means over data sets, and of other parts the worst."""
    runs = report["runs"]
    rows = []
    for name in runs[0]["posteriors"]:
        for how in runs[0]["posteriors"][name]:
            found = [run["posteriors"][name][how] for run in runs]
            means = [fmean(one[key] for one in found) for key in ("image_auroc", "pixel_auroc", "ece", "brier")]
            area, least = fmean(one["area"] for one in found), min(one["other_parts"] for one in found)
            rows.append([f"{name}, {how}", *(f"{mean:.3f}" for mean in means), f"{area:.4f}", f"{least:.3f}"])
    head = [
        "posterior",
        "image AUROC",
        "pixel AUROC",
        "calibration error",
        "Brier score",
        "errors of its own pixels",
        OTHERS,
    ]
    data = f"{', '.join(dict.fromkeys(run['dataset'] for run in runs))}, {seeds_of(runs)}"
    return "\n".join([*table(head, rows), "", caption(report, "python benchmarks/posteriors.py", data)])


OTHERS = "other parts, least AUROC of epistemic"
