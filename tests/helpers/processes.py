"""Processes that start at once: forked from a server that has imported the package, as those of `uranet benchmark` are."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from ura_hf.benchmark.job import ALSO_IMPORTED
from ura_hf.cli.main import main
from ura_hf.hub.load import load_detector


def uranet(
    *arguments: object,
    output: str | Path = os.devnull,
    errors: str | Path = os.devnull,
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """`uranet ARGUMENTS`, started; what it prints and what it says on standard error go to files.

    Variables of `environment` come too late for what is read while the package is imported.
    """
    return _forked(_call, list(map(str, arguments)), output, errors, dict(environment or {}))


def loading(name: str, cache: Path, image: str, score: Path) -> BaseProcess:
    """A started process that fetches a checkpoint into a cache and writes the image's score to a file."""
    return _forked(_load, name, cache, image, score)


def _forked(function: Callable[..., object], *arguments: object) -> BaseProcess:
    multiprocessing.set_forkserver_preload(["ura_hf.benchmark.run", __name__, *ALSO_IMPORTED])
    process = multiprocessing.get_context("forkserver").Process(target=function, args=arguments)
    process.start()
    return process


def _call(arguments: list[str], output: str | Path, errors: str | Path, environment: dict[str, str]) -> None:
    gc.freeze()  # what was imported stays: no collection need look at it
    os.environ.update(environment)
    with open(output, "w") as sys.stdout, open(errors, "w") as sys.stderr:
        code = main(arguments)
    sys.exit(code)


def _load(name: str, cache: Path, image: str, score: Path) -> None:
    score.write_text(str(load_detector(name, cache_dir=cache)(image)["image_score"]))
