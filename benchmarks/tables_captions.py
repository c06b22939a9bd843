"""The line under a table: command, data, hardware and date. Versions and commits are in docs/reproduce.md."""

from __future__ import annotations

import re
from typing import Any

OWN_PLACE = re.compile(r" --(?:work|output|shared) /\S+")
"""A folder of whoever ran a command; without it results lie where the command has them by itself."""


def shown(command: str) -> str:
    """A command as anybody runs it, in code."""
    return f"`{OWN_PLACE.sub('', command).strip()}`"


def caption(report: dict[str, Any], command: str, data: str) -> str:
    """One line: the command in code, then what it was measured on, the hardware and the days."""
    return f"{shown(command)} · {data} · {report.get('gpu', report['hardware'])} · {dates(report)}"


def seeds_of(runs: list[dict[str, Any]]) -> str:
    """`seed 0`, or `seeds 0, 1, 2`."""
    numbers = sorted({run["seed"] for run in runs})
    return f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def made_on(report: dict[str, Any]) -> str:
    """Hardware, versions and days of a report."""
    versions = report.get("versions") or {"torch": report["torch"]}
    known = [report["hardware"], *(f"{name} {version}" for name, version in versions.items()), dates(report)]
    return ", ".join(known)


def dates(report: dict[str, Any]) -> str:
    """First and last day of the runs, where these know theirs, else that of the report."""
    days = sorted({run["date"] for run in report.get("runs", []) if "date" in run}) or [report["date"]]
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return [*lines, *("| " + " | ".join(cells) + " |" for cells in rows)]
