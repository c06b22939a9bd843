"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..model.errors import UserError

ASSETS = Path(__file__).parent.parent / "assets"
"""What the package brings along: weights, dataset facts, the template of cards."""


def write(path: Path, fill: Any) -> None:
    """Call `fill` with a path whose folder is there.

    Raises:
        UserError: It can't be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around code that writes a file or a folder.

    Raises:
        UserError: It can't be written; where the disk is full, this is said.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if is_full(error):
            raise UserError(
                f"{path} can't be written (no space left on the disk): make room, or choose another place."
            ) from error
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(f"{path} can't be written ({reason}): choose another place.") from error


def is_full(error: Exception) -> bool:
    """Whether an error of writing says that there is no space left, in whichever words of a library."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    said = str(error)  # NumPy says how many items were written, safetensors what the system said
    return os.strerror(errno.ENOSPC) in said or re.search(r"\d+ requested and \d+ written", said) is not None


def as_text(name: str) -> str:
    """A name of a file as text: what is none is written in ASCII."""
    return name.encode(errors="backslashreplace").decode()


def write_whole(path: Path, fill: Callable[[Path], Any]) -> None:
    """Let `fill` write a file in one step: a killed process leaves none of its name, or a whole one; safe beside other processes.

    `fill` gets a path that ends in .partial; what it left there is removed where it fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        fill(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text."""
    write_whole(path, lambda partial: partial.write_text(text))


def read_json(path: Path) -> Any:
    """What `write_json` left there; None without the file, which another process may remove at any moment."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Any) -> None:
    """`write_text` of JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def files_fingerprint(images: Sequence[os.PathLike[str]]) -> str:
    """Changes with the names, sizes and times of the files and their order."""
    files = [(str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in images]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:20]


def contents_digest(files: Sequence[Path]) -> str:
    """Changes with the names of the files, whatever folder they lie in, and with what is in them."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:20]
