"""A whole benchmark: which runs are left, one process each, several jobs side by side without talking to each other.

Every launched process (`torchrun`, `accelerate launch`, or the same command in a second terminal) goes through the same list and
takes whatever run nobody holds; a file lock says who works on what and is freed by the system when a process dies. Gradients are
never exchanged, so a run gives the same checkpoint whoever made it.
"""

from __future__ import annotations

import datetime
import json
import logging
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..data.datasets import locate_categories
from ..data.files import read_json, write_json
from ..data.folder import RECOMMENDED_TRAIN_IMAGES
from ..data.records import MAIN_METRICS
from ..model.device import pick_device
from ..model.errors import UserError
from .run import INTERRUPTED, execute, fingerprint
from .settings import Run, Settings
from .table import write_tables

logger = logging.getLogger(__name__)

SETTINGS = "benchmark.json"
POLL_SECONDS = 1.0
LAUNCH_VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME"),
)
LAUNCH_PREFIXES = ("TORCHELASTIC_", "ACCELERATE_")
ALSO_IMPORTED = ("ura_hf.training.trainer", "sklearn.metrics", "matplotlib.figure", "matplotlib.backends.backend_agg")
"""What a run imports when it first needs it."""


@dataclass(frozen=True)
class Place:
    """This process among those that were launched together."""

    rank: int = 0
    processes: int = 1


def take_place() -> Place:
    """Read rank and number of processes from the launcher's environment, then leave it, and keep one GPU.

    Every run is then an ordinary single-process training.
    """
    place = Place(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cpu = os.environ.get("ACCELERATE_USE_CPU")
    for name in list(os.environ):
        if name in LAUNCH_VARIABLES or name.startswith(LAUNCH_PREFIXES):
            del os.environ[name]
    if cpu is not None:
        os.environ["ACCELERATE_USE_CPU"] = cpu
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = gpus.split(",") if gpus else [str(index) for index in range(torch.cuda.device_count())]
    if gpus != "" and names:
        os.environ["CUDA_VISIBLE_DEVICES"] = names[local % len(names)]
    return place


def plan(settings: Settings, output: Path, categories: list[str] | None, seeds: list[int]) -> list[Run]:
    """All runs, seed by seed, so that a table of every category is there first.

    Raises:
        UserError: The root, a category, a field or the output folder can't be used, or the images of a finished run changed.
    """
    settings.model()
    folders = locate_categories(settings.dataset, Path(settings.root) if settings.root else None, categories)
    runs = [Run(settings.dataset, name, seed, data, output) for seed in seeds for name, data in folders.items()]
    settings.options(runs[0].data, runs[0].checkpoint, runs[0].seed, RECOMMENDED_TRAIN_IMAGES)
    path = output / SETTINGS
    now = settings.as_json()
    before = json.loads(path.read_text()) if path.exists() else now
    if changed := sorted(
        key for key in (before | now).keys() - {"partial", "strict"} if before.get(key) != now.get(key)
    ):
        raise UserError(
            f"{output} holds a benchmark with another {', '.join(changed)}: repeat its command to go on (its settings are "
            f"in {path}), or choose another --output."
        )
    for run in runs:
        if run.result.exists() and _differs(run):
            raise UserError(
                f"the images of {run.category} changed since {run.name} was done: remove {run.result} and {run.checkpoint} "
                "to do it again."
            )
    try:
        write_json(path, now)
    except OSError as error:
        raise UserError(f"{output} can't be written ({error.strerror}): choose another --output.") from error
    return runs


def _differs(run: Run) -> bool:
    """Whether the images of a finished run are others now; where they can't be read any more, its figures stay as they are."""
    try:
        return bool(json.loads(run.result.read_text())["fingerprint"] != fingerprint(run.data))
    except UserError:
        return False


def work(
    runs: list[Run], settings: Settings, command: str, place: Place, say: Callable[[str], None] = logger.info
) -> bool:
    """Do what is left of `runs`; the first process then waits for the others and writes the tables.

    `say` is called with a line when a run is over. Returns whether all runs succeeded.
    """
    started, spent = time.time(), []
    if place.rank == 0:
        say(f"{len(runs)} runs, {sum(run.result.exists() for run in runs)} done before")
    while left := [run for run in runs if not _settled(run, started)]:
        idle = True
        for run in left:
            with _claimed(run) as ours:
                if not ours or _settled(run, started):
                    continue
                idle = False
                began = time.monotonic()
                _in_process(run, settings, command)
                spent.append(time.monotonic() - began)
            waiting = sum(not _settled(other, started) for other in runs)
            left_seconds = statistics.mean(spent) * waiting / place.processes
            say(_progress(run, len(runs) - waiting, len(runs), left_seconds))
            if place.rank == 0:
                write_tables(runs, settings, command)
        if idle and place.rank:
            return True
        if idle:
            time.sleep(POLL_SECONDS)
    if place.rank == 0:
        write_tables(runs, settings, command)
    return not any(run.failure.exists() for run in runs)


def _settled(run: Run, started: float) -> bool:
    failure = read_json(run.failure)
    return run.result.exists() or bool(failure and failure["time"] >= started)


@contextmanager
def _claimed(run: Run) -> Iterator[bool]:
    """Whether the run is ours for the time of the context."""
    run.lock.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _in_process(run: Run, settings: Settings, command: str) -> None:
    """Execute a run in a process of its own: its memory is measured alone, and a crash ends it only."""
    run.failure.unlink(missing_ok=True)
    # forking from a server that has imported everything saves seconds a run, but a GPU that is in use does not survive a fork
    multiprocessing.set_forkserver_preload([execute.__module__, *ALSO_IMPORTED])
    context: Any = multiprocessing.get_context("forkserver" if pick_device().type == "cpu" else "spawn")
    process = context.Process(target=execute, args=(run, settings, command), name=run.name)
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        process.terminate()
        process.join()
        raise
    if process.exitcode == INTERRUPTED:
        raise KeyboardInterrupt
    if not run.result.exists() and not run.failure.exists():
        reason = f"its process ended with code {process.exitcode}; -9 mostly means that the memory ran out"
        write_json(run.failure, {"reason": reason, "time": time.time()})


def _progress(run: Run, done: int, total: int, seconds: float) -> str:
    if run.failure.exists():
        outcome = f"failed: {json.loads(run.failure.read_text())['reason']}"
    else:
        result = json.loads(run.result.read_text())
        figures = [f"{key} {result[key]:.4f}" for key in MAIN_METRICS if result[key] is not None]
        outcome = ", ".join([*figures, f"{result['training']['seconds']:.0f} s of training", *result["notes"]])
    left = f", about {datetime.timedelta(seconds=round(seconds))} left" if done < total else ""
    return f"[{done}/{total}] {run.name}: {outcome}{left}"
