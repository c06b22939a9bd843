"""Photos of scikit-image as a source of artificial anomalies: the pieces, and what is said of the runs."""

from __future__ import annotations

import socket

import pytest
from PIL import Image
from texture_photos import FIGURES, PHOTOS, SIDE, SOURCES, VIEWS, gains, write_photos


def test_pieces_of_the_photos_need_no_network(tmp_path, monkeypatch):
    pytest.importorskip("skimage")

    def refused(*_: object) -> None:
        raise OSError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refused)
    write_photos(tmp_path / "photos")
    pieces = sorted((tmp_path / "photos").iterdir())
    assert {path.name.split("-")[0] for path in pieces} == set(PHOTOS) and len(pieces) > 30
    assert {Image.open(path).size for path in pieces} == {(SIDE, SIDE)}


def test_gains_are_of_the_same_data_set_and_seed():
    values = {("a", 0): (0.5, 0.6, 0.8), ("a", 1): (0.5, 0.7, 0.6)}
    runs = [
        {"dataset": name, "seed": seed, "source": source, **{view: dict.fromkeys(FIGURES, value) for view in VIEWS}}
        for (name, seed), row in values.items()
        for source, value in zip(SOURCES, row, strict=True)
    ]
    found = gains(runs)
    assert len(found) == 2 * len(VIEWS) * len(FIGURES)
    assert found["photos - generated, restored, pixel_ap"] == {"mean": 0.05, "least": -0.1, "most": 0.2}
    assert found["photos - none, perceived, image_auroc"] == {"mean": 0.2, "least": 0.1, "most": 0.3}
