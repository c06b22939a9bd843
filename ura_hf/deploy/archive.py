"""An archive of images through one detector on many machines, by Ray Data: parts of it go to workers, which write the results.

A part is done by one worker in one go. Where that worker is ended, Ray gives the part to another, which writes the same files.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ..data.extras import needs_extra
from ..data.files import as_text
from ..data.many_images import Images
from ..evaluation.answers import Answers, answer_all
from ..evaluation.results_folder import ResultsFolder
from ..hub.exported import is_exported
from ..hub.load import detector_files, load_detector
from ..model.errors import UserError

PART_IMAGES = 1000  # most images of a part
PARTS_PER_WORKER = 8  # at least, so that all workers end at about the same time
CONNECT_SECONDS = 10.0  # to wait for a cluster
MAX_GPU_CORES = 4  # cores that read images for a GPU
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what its C++ tells is no news to whoever runs a command
}
"""What Ray finds in the environment unless it says otherwise."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Of Ray on this machine alone: it listens on 127.0.0.1, as it does on macOS."""
WORKER_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}
"""Of a worker, whose threads come and go with each part: more arenas of glibc take 200 MiB that nobody uses."""


@dataclass(frozen=True)
class Workers:
    """How many processes hold a model, and what each has of the cluster.

    Args:
        count: Of processes.
        cores: Of each. Without a GPU the model computes on them.
        gpus: Of each, 0 or 1.
    """

    count: int
    cores: int
    gpus: int


@dataclass(frozen=True)
class Task:
    """What a worker does with each image.

    Args:
        output: Address of the `ResultsFolder`.
        batch_size: Images that go through the model at once.
        threshold: As `Finding.verdict` takes it.
        rates: As it takes them.
    """

    output: str
    batch_size: int = 8
    threshold: float | None = None
    rates: Mapping[str, float | None] = field(default_factory=dict)


class Worker:
    """A process of the cluster with the model in it."""

    def __init__(self, shipped: Sequence[Any], task: Task, workers: Workers) -> None:
        import ray

        if not workers.gpus:
            torch.set_num_threads(workers.cores)
        self._task, self._folder = task, TemporaryDirectory()
        contents = ray.get(shipped[0])
        files = [Path(self._folder.name, name) for name in contents]
        for file in files:
            file.write_bytes(contents[file.name])
        place = next(filter(is_exported, files), files[0].parent)
        self._detector = load_detector(place, device="cuda" if workers.gpus else "cpu")

    def __call__(self, batch: Mapping[str, Sequence[str]]) -> dict[str, list[Any]]:
        """Do the parts of a batch: how many images each had, how many of these have no verdict, and why it can't be done."""
        done = [self._do(Images(**json.loads(part))) for part in batch["part"]]
        return {name: [one[name] for one in done] for name in ("images", "unread", "problem")}

    def _do(self, part: Images) -> dict[str, Any]:
        task, names = self._task, defaultdict[Any, str](str)  # of files beside the table, which are not wanted
        results = [
            *answer_all(
                self._detector,
                part.read(),
                names,
                Answers(fraction=True),
                None,
                task.batch_size,
                task.threshold,
                **task.rates,
            )
        ]
        problem = ""
        try:
            ResultsFolder(task.output).write(part.names, results)
        except UserError as error:  # raised here, it would arrive as Ray's, without its words
            problem = str(error)
        return {"images": len(results), "unread": sum("problem" in one for one in results), "problem": problem}


def missing_images(found: Sequence[Images], folder: ResultsFolder, settings: Mapping[str, Any]) -> list[Images]:
    """Those of the images that have no verdict in the folder.

    Raises:
        UserError: As `ResultsFolder.begin`.
    """
    taken = folder.begin(settings, (name for group in found for name in group.names))
    return [Images([name for name in group.names if as_text(name) not in taken], group.table) for group in found]


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Within, Ray runs: the cluster at an address, such as ``10.0.0.1:6379`` or ``auto``; None: this machine alone.

    Raises:
        UserError: Ray is not installed, or there is no such cluster, or it ends the run.
    """
    for name, value in (ENVIRONMENT if address else ENVIRONMENT | LOOPBACK).items():
        os.environ.setdefault(name, value)
    with needs_extra("ray", "--engine ray"):
        import ray.data
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    here: dict[str, Any] = {} if address else {"include_dashboard": False}
    if address:
        _check_address(address)
    try:
        ray.init(address or "local", logging_level=logging.ERROR, log_to_driver=False, **here)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _unusable(address, error) from error
    try:
        yield
    except ray.exceptions.RayError as error:
        raise UserError(f"Ray ended the run ({_reason(error)}): mend that, and repeat the command to go on.") from error
    finally:
        ray.shutdown()


def plan_workers(count: int | None = None, cores: int | None = None, device: str | None = None) -> Workers:
    """As many workers as the nodes of the cluster have room for: one a GPU where there are any, else one a core.

    Args:
        count: Of workers, in place of that; more than there is room for wait for nodes to come.
        cores: Of each worker. By default 1, and for a GPU at most 4.
        device: ``cpu`` leaves GPUs alone, ``cuda`` insists on them.

    Raises:
        UserError: There is no room for any.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    cpus = sum(int(node.get("CPU", 0)) for node in nodes)
    takes_gpu = device == "cuda" or (device is None and gpus > 0)
    cores = cores or (max(1, min(MAX_GPU_CORES, cpus // max(1, gpus))) if takes_gpu else 1)
    rooms = [(int(node.get("CPU", 0)) // cores, int(node.get("GPU", 0))) for node in nodes]
    room = sum(min(both) if takes_gpu else both[0] for both in rooms)
    if not (count or room):
        raise UserError(
            f"a worker needs {cores} core(s){' and a GPU' if takes_gpu else ''} of one machine, but none of the cluster's "
            f"{len(nodes)} has that: ask for fewer, or add machines."
        )
    return Workers(count or room, cores, int(takes_gpu))


def answer_archive(
    checkpoint: Path, images: Sequence[Images], task: Task, workers: Workers
) -> Iterator[tuple[int, int]]:
    """Let workers write the results of images; yields of each part how many images it had, and how many have no verdict.

    Args:
        checkpoint: A checkpoint's folder or an exported file. The workers get it from here.

    Raises:
        UserError: A worker can't write the results.
    """
    import ray

    total = sum(len(group.names) for group in images)
    size = max(task.batch_size, min(PART_IMAGES, total // (PARTS_PER_WORKER * workers.count)))
    items = [{"part": json.dumps(asdict(part))} for group in images for part in group.parts(size)]
    ray.data.DataContext.get_current().enable_progress_bars = False
    shipped = ray.put({file.name: file.read_bytes() for file in detector_files(checkpoint)})
    done = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        Worker,
        fn_constructor_args=([shipped], task, workers),
        compute=ray.data.ActorPoolStrategy(size=min(workers.count, len(items))),
        batch_size=None,
        num_cpus=workers.cores,
        num_gpus=workers.gpus,
        runtime_env={"env_vars": WORKER_ENVIRONMENT},
    )
    for row in done.iter_rows():
        if row["problem"]:
            raise UserError(row["problem"])
        yield row["images"], row["unread"]


def _check_address(address: str) -> None:
    """Raise UserError where nothing listens, for which Ray would wait minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unusable(address, error) from error


def _unusable(address: str | None, error: Exception) -> UserError:
    return UserError(f"Ray can't be used at {address or 'this machine'} ({_reason(error)}): check --address.")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[-300:]
