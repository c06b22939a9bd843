"""Photos of scikit-image as textures: where they are, and the pieces they are cut into."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ura_hf.data import textures
from ura_hf.data.textures import PHOTOS, SIDE, STRIDE, cut_into_pieces, packaged_photos


def test_the_photos_are_files_of_the_package():
    """Which is not imported, as that takes a second."""
    pytest.importorskip("skimage", reason="scikit-image is not installed")
    code = "import sys; from ura_hf.data.textures import *; print(len(packaged_photos()), 'skimage' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == [str(len(PHOTOS)), "False"]
    assert all(min(Image.open(photo).size) >= SIDE for photo in packaged_photos())


@pytest.mark.parametrize("missing", ["package", "file"])
def test_there_are_all_photos_or_none(tmp_path, monkeypatch, missing):
    package = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(textures, "find_spec", lambda name: None if missing == "package" else package)
    (tmp_path / "data").mkdir()
    for name in PHOTOS[1:]:
        (tmp_path / f"data/{name}.png").touch()
    assert packaged_photos() == []


def test_pieces_overlap_and_are_written_once(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (400, 520, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "brick.png")
    pieces = cut_into_pieces([tmp_path / "brick.png"], tmp_path / "cache")
    assert len(pieces) == 2 * 3 and len({piece.name for piece in pieces}) == 6
    assert np.array_equal(np.asarray(Image.open(pieces[-1])), pixels[STRIDE:, 2 * STRIDE :][:SIDE, :SIDE])
    before = [piece.stat().st_ino for piece in pieces]
    assert cut_into_pieces([tmp_path / "brick.png"], tmp_path / "cache") == pieces
    assert [piece.stat().st_ino for piece in pieces] == before
