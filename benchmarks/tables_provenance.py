"""Markdown table of where each result file comes from: commands, commits, hardware, versions and days."""

from __future__ import annotations

from typing import Any

from tables_captions import made_on, shown, table

LONG = 120  # characters of a command beyond which the file itself must be read
OURS = "uranet"


def provenance(reports: dict[str, dict[str, Any]]) -> str:
    """A row a result file: the last command that filled it, the commits of its runs, hardware, versions and days."""
    rows = []
    for name, report in reports.items():
        if name == "gpu/uranet-training.json":  # the record of one training, whose run is in gpu/uranet.json
            continue
        command = shown(report["command"])
        told = command if len(command) <= LONG else "see `command` in the file"
        rows.append([f"`{name}`", told, commits(report), made_on(_with_hardware(report))])
    return "\n".join(table(["file", "last command", "commits", "made on"], rows))


def commits(report: dict[str, Any]) -> str:
    """Each commit with the data sets and seeds of its runs: of URA-Net's runs where the report has some, else of all."""
    known = [run for run in report.get("runs", []) if "commit" in run]
    runs = [run for run in known if run.get("model", OURS) == OURS] or known
    found: dict[str, dict[str, set[int]]] = {}
    for run in runs:
        number = run["seed"] if "seed" in run else run["draw"]
        found.setdefault(run["commit"], {}).setdefault(run["dataset"], set()).add(number)
    if not found:
        return str(report.get("commit", "not recorded"))
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{commit} ({', '.join(_place(p, s) for p, s in sets.items())})" for commit, sets in found.items())


def _place(dataset: str, seeds: set[int]) -> str:
    return f"{dataset} {' '.join(map(str, sorted(seeds)))}"


def _with_hardware(report: dict[str, Any]) -> dict[str, Any]:
    """The report with hardware and versions, which some keep with a training of theirs."""
    training = report.get("training") or next(
        (run["training"] for run in report.get("runs", []) if "training" in run), {}
    )
    known = {"hardware": training.get("hardware"), "versions": training.get("versions")}
    return {**{name: value for name, value in known.items() if value}, **report}
