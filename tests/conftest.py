"""Fixtures that every test file shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real backbones and images (``URA_HF_SHARED``, default ``../shared``); skips where it is absent."""
    folder = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real material at {folder}: set URA_HF_SHARED to the folder that holds data/ and backbones/")
    return folder
