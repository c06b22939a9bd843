"""Files by their addresses, on a disk or wherever fsspec reads and writes: `s3://`, `hf://datasets/` and others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..model.errors import UserError


@dataclass(frozen=True, eq=False)
class Fetched:
    """The bytes of an image, or why there are none, as a source for `load_image`; its text is the image's name."""

    name: str
    data: bytes = field(default=b"", repr=False)
    problem: str = ""

    def __str__(self) -> str:
        return self.name

    def read(self) -> bytes:
        """The bytes.

        Raises:
            UserError: There are none.
        """
        if self.problem:
            raise UserError(self.problem)
        return self.data


def open_address(address: str) -> tuple[Any, str]:
    """The file system of fsspec that an address names, and the path in it.

    Raises:
        UserError: No package here knows such addresses.
    """
    import fsspec

    try:
        files, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise UserError(f"{address} can't be opened ({_reason(error)}): install the package, or correct it.") from error
    return files, path


@contextmanager
def asking(address: str) -> Iterator[None]:
    """Around requests to whatever stores an address.

    Raises:
        UserError: One failed.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every store has errors of its own
        raise UserError(f"{address} can't be used ({_reason(error)}): check it, and your rights there.") from error


def is_remote(address: str) -> bool:
    """Whether it is no path of this machine's disk."""
    return "://" in address


def is_disk(files: Any) -> bool:
    """Whether a file system of fsspec is this machine's."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(files, LocalFileSystem)


def full_address(files: Any, path: str) -> str:
    """The address of a path in a file system, and the absolute path on a disk."""
    return os.path.abspath(path) if is_disk(files) else str(files.unstrip_protocol(path))


def beside(table: str, name: str) -> str:
    """The full address of what a table names, which is relative to the table's folder."""
    if is_remote(name):
        return name
    if is_remote(table) and not name.startswith("/"):
        return f"{table.rpartition('/')[0]}/{name}"
    return os.path.abspath(os.path.join(os.path.dirname(table), name))


def fetch(address: str) -> Fetched:
    """The bytes at an address, or why there are none."""
    try:
        with asking(address):
            files, path = open_address(address)
            return Fetched(address, files.cat_file(path))
    except UserError as error:
        return Fetched(address, problem=str(error))


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
