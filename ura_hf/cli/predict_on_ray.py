"""`uranet predict --engine ray`: images anywhere, many machines, and a folder of Parquet files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..model.errors import UserError

RAY, HERE = "ray", "here"
OF_RAY = ("address", "workers", "worker_cores")
NOT_OF_RAY = ("masks", "maps", "restored", "csv", "boxes", "json", "frames", "recursive")
NOT_GIVEN = (None, False, "all")  # as the parser has them
ENGINE_HELP = """

With --engine ray many workers do it, on this machine or on a cluster. IMAGE is then also a pattern, a
CSV, JSON Lines or Parquet table of paths, or a Parquet file of images, and all may be addresses such as s3://bucket/photos.
DIR gets Parquet files with the columns of --csv. Folders are read with their subfolders, and of a file with several pages or
frames the first one."""


def path_or_address(text: str) -> Path | str:
    """Type of a path, which may be an address of fsspec."""
    return text if "://" in text else Path(text)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the options of `--engine ray`."""
    parser.add_argument("--engine", choices=(HERE, RAY), default=HERE, help="what runs it (default: %(default)s)")
    parser.add_argument(
        "--address", metavar="A", help="with ray: of a cluster, HOST:PORT or auto (default: this machine)"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="with ray: models in memory (default: as there is room)"
    )
    parser.add_argument(
        "--worker-cores", type=int, metavar="N", help="with ray: cores of each (default: 1, with a GPU up to 4)"
    )


def check_engine(options: argparse.Namespace) -> None:
    """Raise UserError where the engine does not take an option or an address, or nobody takes the number."""
    if options.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, but got {options.batch_size}: correct it.")
    on_ray = options.engine == RAY
    given = [name for name in (NOT_OF_RAY if on_ray else OF_RAY) if getattr(options, name) not in NOT_GIVEN]
    if flag := f"--{given[0].replace('_', '-')}" if given else "":
        raise UserError(
            f"--engine ray writes verdicts alone, of whole files: leave {flag} out."
            if on_ray
            else f"{flag} is of --engine ray: add that, or leave {flag} out."
        )
    if on_ray and options.output is None:
        raise UserError("--engine ray writes Parquet files: name a folder or an address for them with --output.")
    if on_ray and options.device not in (None, "cpu", "cuda"):
        raise UserError(
            f"--device must be cpu or cuda with --engine ray, which numbers GPUs itself, but got {options.device}."
        )
    if on_ray and min(n for n in (1, options.workers, options.worker_cores) if n is not None) < 1:
        raise UserError("--workers and --worker-cores must be at least 1: correct them.")
    far = [one for one in (*options.images, options.output) if isinstance(one, str)]
    if far and not on_ray:
        raise UserError(f"{far[0]} is not on this machine's disk: add --engine ray, which takes addresses.")


def predict_on_ray(
    options: argparse.Namespace, checkpoint: Path, rates: Mapping[str, float | None], settings: Mapping[str, Any]
) -> None:
    """Let the workers of a cluster answer what is missing in the folder of results."""
    from tqdm import tqdm

    from ..data.left_out import as_record, require_nothing_left_out, used_table
    from ..data.many_images import find_images
    from ..deploy.archive import Task, answer_archive, connected, missing_images, plan_workers
    from ..evaluation.results_folder import ResultsFolder

    folder = ResultsFolder(os.path.abspath(options.output) if isinstance(options.output, Path) else options.output)
    found, left_out = find_images(map(str, options.images))
    if options.strict:
        require_nothing_left_out(left_out)
    images = missing_images(found, folder, settings)
    total, missing = (sum(len(group.names) for group in groups) for groups in (found, images))
    if missing < total:
        print(f"uranet: {options.output} has {total - missing:,} of {total:,} images, going on", file=sys.stderr)
    unread, before = 0, folder.counts().total()
    task = Task(folder.address, options.batch_size, options.threshold, rates)
    if missing:
        with connected(options.address), tqdm(initial=total - missing, total=total, unit="image", disable=None) as bar:
            workers = plan_workers(options.workers, options.worker_cores, options.device)
            for done, failed in answer_archive(checkpoint, images, task, workers):
                unread += failed
                bar.update(done)
        folder.end()
    counts = folder.counts()
    print(f"{options.output}: {', '.join(f'{count:,} {label}' for label, count in sorted(counts.items()))}")
    left_out |= {"no_verdict": folder.unread(name for group in found for name in group.names)}
    print(used_table({"images": total - unread}, as_record(left_out)), file=sys.stderr)
    if counts.total() < before + missing:
        raise UserError(
            f"{options.output} has {counts.total():,} rows, but {before + missing:,} were written: where machines have disks of "
            "their own, give an address such as s3://bucket/results with --output."
        )
    if unread:
        raise UserError(
            f"{unread:,} of {total:,} images have no verdict, see unread-*.parquet there: replace or leave them out."
        )
