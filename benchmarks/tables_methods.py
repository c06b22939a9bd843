"""Markdown tables of peers, backbones, ablation and the claim, from the results that their commands wrote."""

from __future__ import annotations

from detection import DATASETS

from ura_hf.data.drawn.parts import LOGICAL
from ura_hf.data.records import METRICS as COLUMNS

SHORT = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
ROW_COMMAND = (
    "`python benchmarks/ablation.py --steps STEPS --datasets DATA --rows NAME`, its name as in the result file"
)
FEWEST = "Epochs: the fewest of any run, of those documented; fewer where the time ran out."


def figures(report: dict) -> str:
    """Short table of `benchmarks/peers.py`: the mean over the data sets and the image AUROC of each, for models run on all."""
    summary = report["summary"]
    datasets = list(DATASETS)
    head = [
        "model",
        "seeds",
        "epochs",
        *(COLUMNS[key] for key in SHORT),
        *(f"image AUROC, {name}" for name in datasets),
    ]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for model, table in summary.items():
        if "mean" in table:
            figures = [table["mean"][key] for key in SHORT] + [table[name]["image_auroc"] for name in datasets]
            seeds = table["mean"]["image_auroc"]["seeds"]
            others = [f" ({figure['seeds']} seeds)" * (figure["seeds"] != seeds) for figure in figures]
            cells = [_with_spread(figure) + other for figure, other in zip(figures, others, strict=True)]
            lines.append(f"| {model} | {seeds} | {_epochs(report, model, datasets)} | " + " | ".join(cells) + " |")
    note = (
        f"Mean over {', '.join(datasets)}; ± is half of largest minus smallest over seeds. {FEWEST} ResNet-18, 256x256, "
        f"last step, {report['hardware']}, {_dates(report)}; commits of the runs of uranet: "
        f"{_commits(report, datasets)}.{_on_gpu(report)} "
        "Command: `python benchmarks/peers.py`; more metrics, defect types and "
        "settings: `docs/comparison.md` and `docs/results/peers.json`."
    )
    return "\n".join([*lines, "", note])


def peers(report: dict) -> str:
    """Markdown tables of `benchmarks/peers.py` and the settings that could favour one side."""
    notes = ["Settings that could favour one side:", "", *(f"- {note}" for note in report["notes"])]
    return "\n".join([models(report), *notes])


def models(report: dict) -> str:
    """Markdown tables of the models: the mean over the data sets, each of them, and URA-Net's verdicts."""
    head = [*COLUMNS.values(), "epochs", "train CPU s", "ms/image", "GiB"]
    lines = []
    datasets = list(dict.fromkeys(run["dataset"] for run in report["runs"]))
    for place in ["mean", *datasets]:
        rows = {model: table[place] for model, table in report["summary"].items() if place in table}
        if not rows:
            continue
        title, places = _places(place, list(DATASETS))
        lines += [f"**{title}**", "", "| model | seeds | " + " | ".join(head) + " |", "|---" * (len(head) + 2) + "|"]
        for model, row in rows.items():
            cells = [_with_spread(row[k]) for k in COLUMNS]
            cells.append(_epochs(report, model, places))
            cells += [
                _cost(row, "train_cpu_seconds", "train_gpu_seconds", 0),
                f"{row['ms_per_image']['mean']:.0f}" if "ms_per_image" in row else "",
                _cost(row, "peak_memory_gib", "peak_gpu_memory_gib", 1),
            ]
            lines.append(f"| {model} | {row['image_auroc']['seeds']} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += _verdicts(report)
    lines += [f"± is half of largest minus smallest over seeds. {made_on(report)}."]
    lines[-1] += f" {FEWEST} Commits of the runs of uranet: {_commits(report, datasets)}.{_on_gpu(report)}"
    return "\n".join(lines)


def _on_gpu(report: dict) -> str:
    """Sentence on the runs that a GPU made, each model with its data sets and seeds; empty where there are none."""
    runs = [run for run in report["runs"] if "gpu" in run]
    if not runs:
        return ""
    named: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        named.setdefault(run["model"], {}).setdefault(run["dataset"], []).append(str(run["seed"]))
    which = []
    for model, sets in named.items():
        places = ", ".join(f"{dataset} {' '.join(seeds)}" for dataset, seeds in sets.items())
        which.append(f"{model} ({places})")
    used = sorted({f"{run['gpu']}, torch {run['versions']['torch']}" for run in runs})
    return f" On a GPU ({'; '.join(used)}; `--device cuda`) by data set and seeds: {'; '.join(which)}."


def _cost(row: dict, on_cpu: str, on_gpu: str, digits: int) -> str:
    """A cost on the CPUs, else on a GPU and named so, else nothing: not all runs know it."""
    if on_cpu in row:
        return f"{row[on_cpu]['mean']:.{digits}f}"
    return f"GPU {row[on_gpu]['mean']:.{digits}f}" if on_gpu in row else ""


def _verdicts(report: dict) -> list[str]:
    """Table of what the calibrated threshold of our own runs says of the test images, a run a line."""
    lines = ["**URA-Net's verdicts at its calibrated threshold**", ""]
    lines += ["| data | seed | good images held out for it | false alarms | misses |", "|---|---|---|---|---|"]
    for run in report["runs"]:
        if run["model"] == "uranet":
            at, counts = run["at_threshold"], (run["n_normal"], run["n_anomalous"])
            rates = (at["false_alarm_rate"], at["miss_rate"])
            cells = [f"{rate:.1%} of {count}" for rate, count in zip(rates, counts, strict=True)]
            held_out = run["training"]["images"]["held_out"]
            lines.append(f"| {run['dataset']} | {run['seed']} | {held_out} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def latency(report: dict) -> str:
    """Markdown table of `benchmarks/latency.py`: ms an image and that over URA-Net's, a data set and number of threads or GPU."""
    runs = {(run["dataset"], run["threads"], run["model"]): run for run in report["runs"]}
    places = list(dict.fromkeys(key[:2] for key in runs))
    heads = [
        f"{dataset}, {report.get('gpu') or f'{threads} thread' + 's' * (threads > 1)}" for dataset, threads in places
    ]
    lines = ["| model | " + " | ".join(heads) + " |", "|---" * (len(places) + 1) + "|"]
    for model in dict.fromkeys(key[2] for key in runs):
        found = [runs.get((*place, model)) for place in places]
        digits = 1 if "gpu" in report else 0
        cells = [f"{run['median_ms']:.{digits}f} ({run['times_of_uranet']:.1f})" if run else "" for run in found]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    note = (
        f"ms of one 256x256 image, the model alone: median of {report['rounds']} rounds in which all take turns, each in its "
        "faster memory format; in brackets: times URA-Net's in the same round, median. "
        f"{made_on(report)}, commit {report['commit']}. "
        f"Command: `{report['command']}`."
    )
    return "\n".join([*lines, "", note])


def made_on(report: dict) -> str:
    """Hardware, versions and date of a report."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"{report['hardware']}, {versions}, {_dates(report)}"


def _dates(report: dict) -> str:
    """First and last day of the runs, where these know theirs, else that of the report."""
    days = sorted({run["date"] for run in report.get("runs", []) if "date" in run}) or [report["date"]]
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _places(place: str, real: list[str]) -> tuple[str, list[str]]:
    """Title of a table, and the data sets whose runs are in it."""
    return (f"Mean over {', '.join(real)}", real) if place == "mean" else (place, [place])


def _commits(report: dict, places: list[str]) -> str:
    """Each commit of our own runs on some data sets, with these and their seeds."""
    runs = [run for run in report["runs"] if run["model"] == "uranet" and run["dataset"] in places]
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(run["commit"], []).append(f"{run['dataset']} {run['seed']}")
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{commit} ({', '.join(which)})" for commit, which in found.items())


def _with_spread(figure: dict) -> str:
    """Mean, and half of largest minus smallest where there are several seeds."""
    spread = f" ± {figure['spread'] / 2:.3f}" if figure["seeds"] > 1 else ""
    return f"{figure['mean']:.3f}{spread}"


def _epochs(report: dict, model: str, places: list[str]) -> str:
    """Fewest epochs of the model's runs on some data sets, of those documented; empty for what isn't trained by epochs."""
    runs = [run for run in report["runs"] if run["model"] == model and run["dataset"] in places]
    trained = [run["training"] for run in runs if "documented_epochs" in run["training"]]
    if not trained:
        return ""
    fewest = min(trained, key=lambda training: training["epochs"])
    return f"{fewest['epochs']:.0f} of {fewest['documented_epochs']}"


def backbone(report: dict) -> str:
    """Markdown table of `benchmarks/backbone.py`: figures of each backbone, its distance from the teacher, latency and size."""
    names = {
        "teacher": f"{report['teacher']} (teacher)",
        "uranet-small": "uranet-small",
        "untrained": "the same, untrained",
    }
    datasets = list(report["summary"]["teacher"])
    head = [f"{name} {COLUMNS[key]}" for name in datasets for key in ("image_auroc", "pixel_auroc")]
    lines = ["| backbone | " + " | ".join(head) + " | ms | times faster | parameters |", "|---" * (len(head) + 4) + "|"]
    for row, label in names.items():
        cells = []
        for name in datasets:
            for key in ("image_auroc", "pixel_auroc"):
                figure = report["summary"].get(row, {}).get(name, {}).get(key)
                away = f" ({figure['minus_teacher']:+.3f})" if figure and row != "teacher" else ""
                cells.append(f"{figure['mean']:.3f}{away}" if figure else "not yet")
        speed = report["latency"][row]
        cells += [f"{speed['median_ms']:.1f}", f"{speed['teacher_median_over_this']:.1f}"]
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {report['parameters'][row] / 1e6:.2f} M |")
    seeds = sorted({run["seed"] for run in report["runs"]})
    note = (
        f"In brackets: minus the teacher. Seeds {', '.join(map(str, seeds))}; ms: median of one 256x256 image through the "
        f"backbone alone, {report['latency']['threads']} threads, {report['hardware']}, torch {report['torch']}, "
        f"{report['date']}. Command: `{report['command']}`; all metrics and settings: `docs/results/backbone.json`. "
        f"The file of uranet-small has {report['file_bytes'] / 1e6:.2f} MB."
    )
    return "\n".join([*lines, "", note])


SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap")


def _cells(row: dict) -> list[str]:
    return ["-" if row[key] is None else f"{row[key]:.3f}" for key in SHOWN]


def _mean(rows: list[dict]) -> dict:
    """Mean of the shown metrics; None where a row lacks one."""
    columns = {key: [row[key] for row in rows] for key in SHOWN}
    return {key: None if None in values else sum(values) / len(values) for key, values in columns.items()}


def demo(report: dict) -> str:
    """Markdown table of one kind of `benchmarks/demo.py`: every defect type, the logical ones named so."""
    lines = ["| type | image AUROC | pixel AUROC | pixel AP | AUPRO |", "|---" * 5 + "|"]
    for name, row in {"all": report, **report["per_type"]}.items():
        label = f"{name} (logical)" if name in LOGICAL else name
        cells = [f"{row[key]:.3f}" for key in ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    at, training = report["at_threshold"], report["training"]
    note = (
        f"{report['n_normal']} good and {report['n_anomalous']} defective drawings not seen in training; at the threshold "
        f"calibrated on {training['images']['held_out']} more good ones {at['false_alarm_rate']:.1%} false alarms and "
        f"{at['miss_rate']:.1%} misses. Checkpoint of "
        f"{report['checkpoint_bytes'] / 1e6:.1f} MB, seed {training['seed']}, trained in {training['seconds'] / 60:.0f} min on "
        f"{training['hardware']}, {report['date']}. Command: `{report['command']}`."
    )
    return "\n".join([*lines, "", note])


def ablation(report: dict) -> str:
    """Markdown tables of `benchmarks/ablation.py`: the mean over those of DATASETS, and each data set."""
    runs = report["runs"]
    datasets = list(dict.fromkeys(run["dataset"] for run in runs))
    real = [name for name in datasets if name in DATASETS]
    head = ["change", "training", *(f"held-out: {COLUMNS[k]}" for k in SHOWN), *(f"test: {COLUMNS[k]}" for k in SHOWN)]
    lines = []
    for steps in dict.fromkeys(run["steps"] for run in runs):
        for place in ["mean"] * (len(real) > 1) + datasets:
            table = []
            title, places = _places(place, real)
            for name, group in report["groups"].items():
                own = [r for r in runs if r["row"] == name and r["steps"] == steps and r["dataset"] in places]
                if {r["dataset"] for r in own} == set(places):
                    cells = [*_cells(_mean([r["held_out"] for r in own])), *_cells(_mean([r["test"] for r in own]))]
                    spent = [r["train_cpu_seconds"] for r in own]
                    cost = "none" if None in spent else f"{sum(spent) / len(spent):.0f} CPU s"
                    change = name if name == group else f"{group}: {name.split(': ')[-1]}"
                    table.append(f"| {change} | {cost} | " + " | ".join(cells) + " |")
            if table:
                lines += [f"**{title}, {steps} steps**", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
                lines += [*table, ""]
    seeds = ", ".join(map(str, sorted({run["seed"] for run in runs})))
    lines.append(f"Seeds {seeds}. {made_on(report)}. Command of a row: {ROW_COMMAND}.")
    return "\n".join(lines)


def claim(report: dict) -> str:
    """Markdown table of `benchmarks/claim.py`."""
    lines = ["| data | artificial anomalies | inside: URA-Net | inside: plain | outside: URA-Net | outside: plain |"]
    lines.append("|---" * 6 + "|")
    for run in report["runs"]:
        for kind, title in (("synthesis", "`self` and `noise` in the features"), ("drawn", "drawn into the image")):
            values = [run[kind][model][where] for where in ("inside", "outside") for model in ("uranet", "plain")]
            lines.append(f"| {run['dataset']} | {title} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    steps = report["runs"][0]["steps"]
    command = f"python benchmarks/claim.py --steps {steps}"
    made = ", ".join(f"{run['dataset']} {run['commit']}" for run in report["runs"])
    seeds = ", ".join(map(str, sorted({run["seed"] for run in report["runs"]})))
    lines += ["", f"{steps} steps, seed {seeds}, {made_on(report)}; commits: {made}. Command: `{command}`."]
    return "\n".join(lines)


SMALL_TYPES = (("magnetic_tile", "blowhole"), ("magnetic_tile", "crack"), ("pill", "crack"), ("pill", "scratch"))


def small_types(report: dict) -> str:
    """Markdown table of the small defects in a report of `benchmarks/peers.py`."""
    found = [(d, t) for d, t in SMALL_TYPES if any(r["dataset"] == d and t in r["per_type"] for r in report["runs"])]
    lines = ["| model | " + " | ".join(f"{dataset} {kind}" for dataset, kind in found) + " |"]
    lines.append("|---" * (len(found) + 1) + "|")
    for model in dict.fromkeys(run["model"] for run in report["runs"]):
        cells = []
        for dataset, kind in found:
            rows = [r["per_type"][kind] for r in report["runs"] if (r["model"], r["dataset"]) == (model, dataset)]
            cells.append(" / ".join(_cells(_mean(rows))) if rows else "-")
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", "Image AUROC / pixel AUROC / pixel AP of the type against all good test images, mean over seeds."]
    )
