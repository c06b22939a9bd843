"""Markdown tables of what the page was measured at, from the results of `load.py` and `teach.py`."""

from __future__ import annotations

from typing import Any

from tables_captions import caption, table


def load(report: dict[str, Any]) -> str:
    """Table of `benchmarks/load.py`."""
    every = report["memory_every_15_seconds_mib"]
    rows = {
        "start to the first page": f"{report['first_page_seconds']} s",
        "start to the first verdict in a browser": f"{report['first_verdict_seconds']} s",
        f"answers to {report['users']} users in {report['seconds']:.0f} s": f"{report['answered']} of {report['sent']}",
        "answers of another image": str(len(report["wrong"])),
        "seconds per answer, median; 95 %": f"{report['seconds_median']}; {report['seconds_95_percent']}",
        "longest queue": str(report["longest_queue"]),
        "memory before, at most, after": (
            f"{report['memory_before_mib']}, {report['memory_peak_mib']}, {report['memory_after_mib']} MiB"
        ),
        "of the last, mapped files of libraries": f"{report['memory_after_of_mapped_files_mib']} MiB",
        "memory every 15 s": f"{', '.join(map(str, every))} MiB",
    }
    return _table(rows, report, f"`{report['checkpoint']}`")


def teach(report: dict[str, Any]) -> str:
    """Table of `benchmarks/teach.py`."""
    found = report["found"]
    rows = {
        "photos fitted, kept apart": f"{report['photos']['fitted']}, {report['photos']['held_out']}",
        "seconds, checks of the photos included": str(report["seconds"]),
        "expected false alarms": f"at most {report['false_alarms_foretold']['expected']:.0%}",
        "false alarms on good parts never seen": f"{report['false_alarms_seen']:.0%} of {report['good_parts_tried']}",
        "defects found, by type": ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in found.items()),
        "memory of the page afterwards": f"{report['memory_of_the_page_mib']} MiB",
    }
    return _table(rows, report, "drawn rings")


def _table(rows: dict[str, str], report: dict[str, Any], data: str) -> str:
    lines = table(["what", "measured"], [list(row) for row in rows.items()])
    return "\n".join([*lines, "", caption(report, report["command"], data)])


def neighbour(report: dict[str, Any]) -> str:
    """Table of `benchmarks/neighbour.py`: one image alone and beside a busy neighbour, by how long waiting threads spin."""
    times = {(case["spin"], case["busy_neighbour"]): case for case in report["cases"]}
    rows = []
    for policy in dict.fromkeys(case["spin"] for case in report["cases"]):
        words = f"{policy}, as `uranet` and the page have it" if policy == "briefly" else policy
        cells = [
            f"{times[policy, busy]['median_ms']:.0f}, {times[policy, busy]['worst_ms']:.0f}" for busy in (False, True)
        ]
        rows.append([words, *cells])
    lines = table(["waiting threads spin", "alone, ms: median, worst", "busy neighbour, ms: median, worst"], rows)
    data = f"{report['images']} drawn rings, `uranet-demo-ring`"
    return "\n".join([*lines, "", caption(report, report["command"], data)])
