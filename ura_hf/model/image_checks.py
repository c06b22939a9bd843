"""What every reader of images refuses: files that are too large or damaged, and ones whose package is not installed."""

from __future__ import annotations

import struct
import zlib
from importlib import import_module
from typing import Any

from .errors import UserError

MAX_PIXELS = 200_000_000
"""Largest image [pixels] that is decoded; files stop earlier, at Pillow's own limit of about 179 megapixels."""
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What decoders raise for damaged files."""


def check_pixels(width: int, height: int, name: str) -> None:
    """Raise UserError for an image of more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"image is too large: {name}: {width}x{height} pixels, but at most {MAX_PIXELS // 10**6} megapixels are "
            "read; crop it or make it smaller"
        )


def damaged(name: str, error: Exception) -> UserError:
    """The error of a file that a decoder stopped at."""
    return UserError(f"image file is truncated or damaged: {name}: {error}; replace it or remove it")


def optional_package(module: str, package: str, what: str) -> Any:
    """Import a module of an optional package, by name: transformers would ask for all that an import statement names.

    Raises:
        UserError: The package, by its name on PyPI, is not installed; the sentence starts with `what`.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"{what} needs the package {package}, which is not installed: run pip install {package}."
        ) from error
