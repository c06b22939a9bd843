"""Markdown tables of datasets, scaling and presets, from the results that their commands wrote."""

from __future__ import annotations


def datasets(facts: dict) -> str:
    """Markdown table of the datasets that `uranet benchmark` knows."""
    lines = [
        "| `--dataset` | name | categories | good to train on | test: good / anomalous | masks | licence | source |"
    ]
    lines.append("|---" * 8 + "|")
    for key, entry in facts.items():
        if entry.get("categories"):
            first = [category["counts"][0] for category in entry["categories"].values()]
            test = f"{sum(c['good'] for c in first)} / {sum(sum(c['types'].values()) for c in first)}"
            cells = [f"`{key}`", entry["name"], str(len(first)), f"{sum(c['train'] for c in first):,}", test]
            cells += ["yes" if entry["masks"] else "no", entry["license_note"], f"{entry['citation']} {entry['url']}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(
        [*lines, "", "From `weights_card/datasets.json`, which has the counts of every category and defect type."]
    )


def scaling(report: dict) -> str:
    """Markdown tables of `benchmarks/scaling.py`."""
    lines = ["| test images | peak memory of the process | processor time | a image |", "|---|---|---|---|"]
    for row in report["evaluation"]:
        each = 1000 * row["cpu_seconds"] / row["images"]
        lines.append(f"| {row['images']} | {row['peak_mib']:.0f} MiB | {row['cpu_seconds']:.1f} s | {each:.1f} ms |")
    for key, head in (("images", "good images, 4 epochs"), ("categories", "categories, 40 steps each")):
        lines += ["", f"| {head} | steps | processor time | longest wait for data |", "|---|---|---|---|"]
        for row in report[key]:
            cells = [str(row[key]), str(row["steps"]), f"{row['cpu_seconds']:.0f} s", f"{row['data_wait_share']:.1%}"]
            lines.append("| " + " | ".join(cells) + " |")
    how = f"{report['hardware']}, torch {report['torch']}, seed {report['seed']}, {report['date']}; {report['data']}."
    return "\n".join([*lines, "", f"{how} Command: `python benchmarks/scaling.py`."])


def presets(report: dict) -> str:
    """Markdown table of `benchmarks/presets.py`."""
    places = list(next(iter(report["presets"].values()))["runs"])
    head = ["preset", "trained parameters", "memory of a step", "arithmetic of a step"]
    lines = ["| " + " | ".join([*head, *(f"{place}: steps; minutes; features" for place in places)]) + " |"]
    lines.append("|---" * (len(head) + len(places)) + "|")
    for name, row in report["presets"].items():
        cells = [f"`{name}`", f"{row['trained_parameters'] / 1e6:.1f} M", f"{row['step_gib']:.1f} GiB"]
        cells.append(f"{row['step_tflop']:.2f} TFLOP")
        for run in row["runs"].values():
            cells.append(f"{run['steps']:,}; > {run['minutes_at_least']:.1f}; {run['features_gb']} GB")
        lines.append("| " + " | ".join(cells) + " |")
    paper, fast = (
        report["presets"][name]["runs"]["all 15 of MVTec AD"]["minutes_at_least"] for name in ("paper", "fast")
    )
    lines += ["", f"On all of MVTec AD `paper` is {paper / fast:.0f} times the arithmetic of `fast`."]
    how = f"Batch of 8. {report['note'][0].upper()}{report['note'][1:]}"
    return "\n".join([*lines, "", f"{how} {report['date']}, torch {report['torch']}. Command: `{report['command']}`."])
