"""Many images on many workers of Ray: `python benchmarks/cluster.py`.

`uranet predict --engine ray` on generated photos, with one worker of one core and with several, in turns; a worker has the same
number of photos in both. Measured are images a second from the first part of the results to the last, so without the start;
processor time; memory as the run goes on; and how many cores other work on the machine took meanwhile.
Writes docs/results/cluster.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pyarrow.parquet
from PIL import Image
from runs import ROOT, commit, versions, write_report

from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.many_images import find_images

CHECKPOINT = "uranet-demo-ring"
EVERY = 1.0  # seconds between two looks at the processes
QUARTERS = 4


def draw(folder: Path, images: int, distinct: int) -> Path:
    """So many photos in folders of a thousand; after `distinct` ones they come again, under names of their own."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for index in range(distinct):
        defect = "scratch" if index % 10 == 0 else None
        Image.fromarray(demo_image("ring", index, defect)[0]).save(pictures / f"{index}.png")
    for index in range(images):
        photo = folder / f"photos/{index // 1000:04d}/{index:07d}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        os.link(pictures / f"{index % distinct}.png", photo)
    return folder / "photos"


def processes(driver: psutil.Process) -> dict[str, list[psutil.Process]]:
    """The processes of a run: those with a model, the one of the command, and the rest of Ray."""
    found: dict[str, list[psutil.Process]] = {"worker": [], "command": [driver], "ray": []}
    for child in driver.children(recursive=True):
        try:
            found["worker" if "MapWorker" in " ".join(child.cmdline()) else "ray"].append(child)
        except psutil.Error:  # it has ended
            continue
    return found


def look(driver: psutil.Process) -> dict[str, float]:
    """Largest memory of a worker and memory of the others [MiB], and processor seconds, all of this moment."""
    seen = {"worker_mib": 0.0, "command_mib": 0.0, "ray_mib": 0.0, "worker_seconds": 0.0, "all_seconds": 0.0}
    for kind, group in processes(driver).items():
        for one in group:
            try:
                memory, times = one.memory_info().rss / 2**20, one.cpu_times()
            except psutil.Error:
                continue
            seconds = times.user + times.system
            seen["all_seconds"] += seconds
            seen["worker_seconds"] += seconds if kind == "worker" else 0.0
            seen[f"{kind}_mib"] = max(seen[f"{kind}_mib"], memory) if kind == "worker" else seen[f"{kind}_mib"] + memory
    return seen


def parts(folder: Path) -> list[Path]:
    """The files of results, in the order in which they were written."""
    return sorted(folder.glob("part-*.parquet"), key=lambda path: path.stat().st_mtime)


def busy() -> float:
    """Processor seconds of the whole machine so far."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def watch(command: list[str], output: Path) -> Iterator[dict[str, float]]:
    """Run a command and look at it every second while it writes results."""
    with subprocess.Popen(command, cwd=ROOT) as run:
        driver = psutil.Process(run.pid)
        while run.poll() is None:
            written = len(parts(output)) if output.exists() else 0
            if written:
                yield {"parts": written, "time": time.time(), "busy": busy(), **look(driver)}
            time.sleep(EVERY)
    if run.returncode:
        sys.exit(f"the run ended with code {run.returncode}, its message is above")


def measure(photos: list[Path], output: Path, workers: int) -> dict[str, Any]:
    """One run: images a second from the first part to the last, and what the processes took."""
    command = [sys.executable, "-m", "ura_hf", "predict", CHECKPOINT, *map(str, photos), "--engine", "ray"]
    command += ["--workers", str(workers), "--worker-cores", "1", "--output", str(output)]
    began = time.time()
    seen = list(watch(command, output))
    seconds = time.time() - began
    files = parts(output)
    counts = [pyarrow.parquet.read_metadata(path).num_rows for path in files]
    writing = files[-1].stat().st_mtime - files[0].stat().st_mtime
    seen = seen[: seen.index(max(seen, key=lambda one: one["worker_seconds"])) + 1]  # then workers end
    first, last = seen[0], seen[-1]
    between, done = last["time"] - first["time"], sum(counts[int(first["parts"]) : int(last["parts"])])
    own = last["all_seconds"] - first["all_seconds"]
    memory = []
    for quarter in range(QUARTERS):
        looks = seen[quarter * len(seen) // QUARTERS : (quarter + 1) * len(seen) // QUARTERS]
        memory.append(
            {name: round(max(one[name] for one in looks)) for name in ("worker_mib", "command_mib", "ray_mib")}
        )
    return {
        "workers": workers,
        "images": sum(counts),
        "seconds": round(seconds, 1),
        "images_per_second": round(sum(counts[1:]) / writing, 2),
        "worker_ms_per_image": round(1000 * (last["worker_seconds"] - first["worker_seconds"]) / done, 1),
        "own_cores": round(own / between, 2),
        "other_cores": round((last["busy"] - first["busy"] - own) / between, 2),
        "row_bytes": round(sum(path.stat().st_size for path in files) / sum(counts)),
        "memory": memory,
    }


def listing(folder: Path, count: int) -> int:
    """Bytes of memory that the command needs for each name of a Parquet file of addresses."""
    table = folder / "names.parquet"
    names = [f"s3://bucket/photos/{index // 1000:04d}/{index:07d}.png" for index in range(count)]
    pyarrow.parquet.write_table(pyarrow.table({"path": names}), table)
    del names
    tracemalloc.start()
    find_images([str(table)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(peak / count)


def main() -> None:
    """Measure all and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="for all workers together (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of one core each (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of both runs, in turns (default: %(default)s)")
    parser.add_argument("--distinct", type=int, default=500, help="photos that differ (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/cluster.json")
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as name:
        name_bytes = listing(Path(name), options.images)
        folder = draw(Path(name), options.images, options.distinct)
        folders = sorted(folder.iterdir())
        for turn in range(options.rounds):
            for workers in (1, options.workers):
                photos = folders[: max(1, len(folders) * workers // options.workers)]
                runs.append(measure(photos, Path(name, f"results-{turn}-{workers}"), workers))
    rates = {
        count: median(run["images_per_second"] for run in runs if run["workers"] == count)
        for count in (1, options.workers)
    }
    facts = {"checkpoint": CHECKPOINT, "images": options.images, "distinct": options.distinct, "rounds": options.rounds}
    facts |= {
        "name_bytes": name_bytes,
        "share": round(rates[options.workers] / (options.workers * rates[1]), 3),
        "commit": commit(),
    }
    write_report(options.output, {"versions": versions("torch", "transformers", "ray"), **facts, "runs": runs})


if __name__ == "__main__":
    main()
