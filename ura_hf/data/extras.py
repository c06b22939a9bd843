"""Packages that only some tasks need; they are installed with the extras of pyproject.toml."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from ..model.errors import UserError

EXTRAS = ("train", "demo", "datasets", "examples", "export", "formats", "ray", "benchmarks")


def install_command(extra: str) -> str:
    """The command that installs an extra. It names the folder and not the package, whose name on PyPI is not ours."""
    return f"pip install '.[{extra}]'"


@contextmanager
def needs_extra(extra: str, task: str) -> Iterator[None]:
    """Around the import of optional packages: where one is not installed, say which command installs it.

    Args:
        extra: Name of the extra in pyproject.toml, one of `EXTRAS`.
        task: What needs the package; the sentence starts with it.

    Raises:
        UserError: A package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise UserError(
            f"{task} needs the package {package}, which is not installed: run {install_command(extra)} in a clone of the "
            "repository."
        ) from error


def require(module: str, extra: str, task: str) -> None:
    """Import an optional module before a task begins that needs it at its end; arguments and errors as in `needs_extra`."""
    with needs_extra(extra, task):
        import_module(module)
