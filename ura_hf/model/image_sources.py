"""Reads the bytes of an image file from a path, an open file, memory or a URL."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from .errors import UserError

URL_STARTS = ("http://", "https://")
WAIT_SECONDS = 20.0  # for a server's next bytes
MAX_URL_SECONDS = 120.0  # for all bytes of one image
MAX_URL_BYTES = 1 << 30


def read_bytes(source: Any) -> tuple[bytes, str]:
    """The bytes of a file and the name that error messages use.

    Args:
        source: a path, a URL that starts with http:// or https://, bytes, or an open binary file.

    Raises:
        UserError: There is nothing to read, or it can't be read.
    """
    if isinstance(source, str) and source.startswith(URL_STARTS):
        data, name = _fetch(source), source
    elif isinstance(source, (str, Path)):
        data, name = _read_file(source), str(source)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), "bytes of an image"
    elif hasattr(source, "read"):
        data, name = source.read(), str(getattr(source, "name", "open file"))
    else:
        raise UserError(
            "image must be a path, a URL, the bytes of a file, an open binary file, a PIL image, a numpy array or a torch "
            f"tensor, but got {type(source).__name__}; convert it first"
        )
    if not data:
        raise UserError(f"image file is empty (0 bytes): {name}; replace it or remove it")
    return data, name


def _read_file(source: str | Path) -> bytes:
    path = Path(source)
    shown = str(path) if len(str(path)) <= 200 else f"{str(path)[:80]}... ({len(str(path))} characters)"
    try:
        if path.is_dir():
            raise UserError(f"expected an image file, but got a folder: {shown}; give the path of one image in it")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"image file not found: {shown}; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"image file cannot be read: {shown}: {reason}; give the path of a file you may read"
        ) from error


def _fetch(url: str) -> bytes:
    """Fetch with the standard library, as a checkpoint's code may run where no other HTTP client is installed."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "uranet"})
        with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
            return _read_answer(answer, url)
    except UserError:
        raise
    except urllib.error.HTTPError as error:
        raise UserError(f"no image at {url}: the server answered {error.code}; check the address") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: no valid address
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"image at {url} could not be fetched ({reason}); check the address and the network") from error


def _read_answer(answer: Any, url: str) -> bytes:
    """All bytes of an answer; UserError if there are too many or they take too long."""
    data, until = bytearray(), time.monotonic() + MAX_URL_SECONDS
    while block := answer.read1(1 << 16):
        data += block
        if len(data) > MAX_URL_BYTES:
            raise UserError(f"image at {url} is larger than {MAX_URL_BYTES >> 20} MiB; download and crop it first")
        if time.monotonic() > until:
            raise UserError(f"image at {url} took longer than {MAX_URL_SECONDS:.0f} seconds; download it first")
    return bytes(data)
