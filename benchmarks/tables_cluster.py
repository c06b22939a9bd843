"""Markdown tables of many workers, from the results of `cluster.py`: what was measured, and a billion photos on paper."""

from __future__ import annotations

from statistics import median
from typing import Any

from tables_captions import caption, table

CORES, MACHINES, SHARE = 64, 16, 0.8  # of a machine, such machines, and the share of their cores that does the work
CORE_HOUR, MILLION_READS = (
    0.04,
    0.40,
)  # assumed prices: dollars for a core-hour, and for a million requests to an object store
PHOTO_KB = 200  # assumed size of a photo
SIZES = {"a million photos": 1e6, "a billion photos": 1e9}


def cluster(report: dict[str, Any]) -> str:
    """What `benchmarks/cluster.py` measured, a row a run."""
    rows = []
    for run in report["runs"]:
        memory = [f"{quarter['worker_mib']:,}" for quarter in run["memory"]]
        figures = [f"{run['images_per_second']:.1f}", f"{run['own_cores']:.2f}", f"{run['other_cores']:.2f}"]
        figures += [f"{_per_core(run):.1f}", f"{run['worker_ms_per_image']:.1f}"]
        rows.append([str(run["workers"]), f"{run['images']:,}", *figures, ", ".join(memory)])
    head = ["workers", "photos", "photos per second", "cores that Ray got", "that other work took"]
    head += ["photos per second and core got", "processor ms per photo"]
    workers = max(run["workers"] for run in report["runs"])
    alone, together = (
        median(_per_core(run) for run in report["runs"] if run["workers"] == count) for count in (1, workers)
    )
    data = (
        f"{report['distinct']} drawn rings under many names, `{report['checkpoint']}`, a core each; {workers} workers gave "
        f"{report['share']:.0%} of {workers} times one worker's photos per second, "
        f"and {together / alone:.0%} for each core that they got"
    )
    lines = table([*head, "MiB of a worker, in each quarter of the run"], rows)
    return "\n".join([*lines, "", caption(report, report["command"], data)])


def _per_core(run: dict[str, Any]) -> float:
    """Photos per second for each core that the run got."""
    rate: float = run["images_per_second"] / run["own_cores"]
    return rate


def billion(report: dict[str, Any]) -> str:
    """What many photos take, computed from the processor time that was measured."""
    milliseconds = median(run["worker_ms_per_image"] for run in report["runs"])
    row_bytes = median(run["row_bytes"] for run in report["runs"])
    columns = []
    for photos in SIZES.values():
        core_hours = photos * milliseconds / 3.6e6
        hours = core_hours / (MACHINES * CORES * SHARE)
        columns.append(
            [
                f"{core_hours:,.0f}",
                f"{hours:,.2f}" if hours < 1 else f"{hours:,.0f}",
                f"${core_hours * CORE_HOUR:,.2f}",
                f"${photos / 1e6 * MILLION_READS:,.2f}",
                f"{photos * PHOTO_KB / 1e9:,.1f} TB",
                f"{photos * PHOTO_KB / 1e6 / (hours * 3600):,.1f} GB/s",
                f"{photos * row_bytes / 1e9:,.2f} GB",
                f"{photos * report['name_bytes'] / 1e9:,.1f} GB",
            ]
        )
    names = [
        f"core-hours ({milliseconds:.1f} ms a photo)",
        f"hours on {MACHINES} machines of {CORES} cores, of which {SHARE:.0%} do the work",
        f"cost of these cores, at ${CORE_HOUR} a core-hour",
        f"cost of requests, one a photo, at ${MILLION_READS:.2f} a million",
        f"to read, at {PHOTO_KB} KB a photo",
        "in that time",
        f"results ({row_bytes:.0f} bytes a row)",
        f"memory of the command, for names ({report['name_bytes']} bytes each)",
    ]
    lines = table(["", *SIZES], [list(row) for row in zip(names, *columns, strict=True)])
    data = f"computed from the median of {len(report['runs'])} runs"
    return "\n".join([*lines, "", caption(report, report["command"], data)])
