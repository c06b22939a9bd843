"""A digest that travels in a weights file, so that a bit that flipped on a disk does not change verdicts unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from .errors import UserError

KEY = "uranet_sha256"
"""Of the digest in the metadata of a safetensors file."""


def add_digest(path: Path) -> None:
    """Write the digest of a safetensors file into its metadata; the file is replaced in one step."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file(load_file(path), partial, metadata={**metadata, KEY: _digest(path)[0]})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_digest(path: Path) -> None:
    """Raise UserError unless a safetensors file is as it was written; a file without a digest passes."""
    found, noted = _digest(path)
    if noted not in (None, found):
        raise UserError(
            f"{path.name} is damaged: its bytes are not those that were written. Fetch or train the checkpoint again."
        )


def _digest(path: Path) -> tuple[str, str | None]:
    """SHA-256 of names, types, shapes and values of the tensors, and the digest that the metadata note, if any."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        noted = header.pop("__metadata__", {}).get(KEY)
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest(), noted
