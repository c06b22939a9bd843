"""Runs in processes of their own, whose results are gathered in one file that is committed."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Key = tuple[Any, ...]


def device_here(name: str) -> str:
    """Type of the option --device: cpu, or cuda where there is a GPU."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("cuda needs a GPU that torch sees, but there is none here: leave it out")
    return name


def run_missing(
    script: str, keys: Sequence[Key], work: Path, jobs: int, options: Sequence[Any], add: Callable[[Key, Any], None]
) -> None:
    """Call `script OPTIONS --only KEY...` for every key, `jobs` at a time, and `add` each result as it comes.

    The call writes its result to `part(work, key)`; one that an interrupted run left there is used again. A failed run is
    named at the end, after all others.
    """
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def run_apart(key: Key) -> bool:
        command = [sys.executable, script, *options, "--only", *key]
        done = part(work, key).exists()
        return done or subprocess.run([str(word) for word in command], env=environment).returncode == 0

    work.mkdir(parents=True, exist_ok=True)
    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(run_apart, key): key for key in keys}
        for future in as_completed(waiting):
            if future.result():
                add(waiting[future], json.loads(part(work, waiting[future]).read_text()))
            else:
                failed.append(waiting[future])
    if failed:
        sys.exit(
            f"{len(failed)} runs failed, their messages are above: {failed}. Repeat the command to try them again."
        )


def part(work: Path, key: Key) -> Path:
    """File of one run's result."""
    return work / f"{slug(key)}.result.json"


def slug(key: Key) -> str:
    """A file name's worth of a key."""
    return re.sub(r"[^\w.]+", "_", "-".join(map(str, key)))


def read_runs(output: Path, key: Sequence[str]) -> dict[Key, dict[str, Any]]:
    """Finished runs of a result file by the values of their `key` fields; none where there is no file."""
    found = json.loads(output.read_text())["runs"] if output.exists() else []
    return {tuple(run[name] for name in key): run for run in found}


def write_report(output: Path, report: dict[str, Any]) -> None:
    """Write a report (what it gives itself stands) with the command, versions, hardware and date in front; never half of one."""
    facts = {
        "command": shlex.join(["python", *told(sys.argv)]),
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "versions": versions("torch", "transformers"),
        "date": datetime.date.today().isoformat(),
    }
    partial = output.with_suffix(".partial")
    partial.write_text(json.dumps({**facts, **report}, indent=1) + "\n")
    partial.replace(output)


def told(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command without --work and its folder, which say nothing of what was measured."""
    return [one for one, before in zip(arguments, ["", *arguments], strict=False) if "--work" not in (one, before)]


def versions(*packages: str) -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def commit() -> str | None:
    """The commit of the checkout, marked where the code differs from it; outside of one what URA_HF_COMMIT says, if anything."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)

    if not (found := git("rev-parse", "--short", "HEAD").stdout.strip()):
        return os.environ.get("URA_HF_COMMIT")
    return found + "-dirty" * git("diff", "--quiet", "HEAD", "--", "ura_hf", "benchmarks").returncode


def cpu_seconds() -> float:
    """CPU seconds of this process, its threads and its finished children."""
    return sum(os.times()[:4])
