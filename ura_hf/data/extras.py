"""Packages that only some tasks need; they are installed with the extras of pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..model.errors import UserError


@contextmanager
def needs_extra(extra: str, task: str) -> Iterator[None]:
    """Around the import of optional packages: where one is not installed, say which command installs it.

    Args:
        extra: Name of the extra in pyproject.toml: train, demo, datasets, export or benchmarks.
        task: What needs the package; the sentence starts with it.

    Raises:
        UserError: A package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise UserError(
            f'{task} needs the package {package}, which is not installed: pip install "ura-hf[{extra}]"'
        ) from error
