"""A digest that travels in a weights file, so that a bit that flipped on a disk does not change verdicts unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from .errors import UserError

KEY = "uranet_sha256"
"""Of the digest in the metadata of a safetensors file."""


def add_digest(path: Path) -> None:
    """Write the digest of a safetensors file into its metadata; the file is replaced in one step.

    The header is JSON, padded with spaces to 8 bytes, behind its length in 8 bytes (https://github.com/huggingface/safetensors).
    Its keys are written in order, as the package writes metadata in any.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with path.open("rb") as file, partial.open("wb") as written:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            metadata = {**header.pop("__metadata__", {}), KEY: _digest(path)[0]}
            text = json.dumps(
                {"__metadata__": dict(sorted(metadata.items())), **header}, separators=(",", ":")
            ).encode()
            text += b" " * (-len(text) % 8)
            written.write(len(text).to_bytes(8, "little") + text)
            shutil.copyfileobj(file, written)
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
