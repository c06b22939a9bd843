"""The page: `page.build_demo` lays it out, `render` turns a prediction into pictures and words, `style` holds its looks."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

SPACES = import_module("spaces") if find_spec("spaces") else None
"""Hugging Face's package on a Space with a GPU; it must be there before a tensor goes to the GPU."""
