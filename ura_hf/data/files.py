"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..model.errors import UserError

ASSETS = Path(__file__).parent.parent / "assets"
"""What the package brings along: weights, dataset facts, the template of cards."""


def write(path: Path, fill: Any) -> None:
    """Call `fill` with a path whose folder is there.

    Raises:
        UserError: It can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fill(path)
    except OSError as error:
        raise UserError(f"{path} can't be written ({error.strerror}): choose another place.") from error


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


def files_fingerprint(images: Sequence[Path]) -> str:
    """Changes with the names, sizes and times of the files and their order."""
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in images]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:20]
