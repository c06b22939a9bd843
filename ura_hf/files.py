"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write a file in one step, so that a killed process leaves none or a whole one; safe beside other processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(path)


def read_json(path: Path) -> Any:
    """What `write_json` left there; None without the file, which another process may remove at any moment."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Any) -> None:
    """`write_text` of JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")
