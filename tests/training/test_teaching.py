"""Teaching from photos: a checkpoint that loads and detects, an honest rate, nothing left of a run that fails or is cancelled."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile
from PIL import Image

from ura_hf import UserError
from ura_hf.data.archives import Gathered, Upload
from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.progress import Cancelled
from ura_hf.demo.looked import chosen
from ura_hf.demo.tabs.teach import _findings
from ura_hf.evaluation.batch import with_frames
from ura_hf.hub.load import load_detector
from ura_hf.hub.push import write_checkpoint_zip
from ura_hf.model.frames import Frame
from ura_hf.model.images import load_image
from ura_hf.training import teaching
from ura_hf.training.photo_checks import PhotoReport
from ura_hf.training.teaching import FalseAlarms, teach

QUICK = {"image_size": 64, "grid_size": 8, "hidden_size": 32, "num_attention_heads": 2, "memory_cells": 128}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The settings of the page at a size that trains in seconds."""
    monkeypatch.setattr(teaching, "CONFIG", {**teaching.CONFIG, **QUICK})
    monkeypatch.setattr(teaching, "OPTIONS", {**teaching.OPTIONS, "steps": 20, "batch_size": 4})


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Upload]:
    """Twelve rings in two folders that share file names, one without a known suffix, as uploads come."""
    folder = tmp_path_factory.mktemp("uploads")
    uploads = []
    for index in range(12):
        path = folder / str(index % 2) / (f"{index // 2}.png" if index else "ring.photo")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(demo_image("ring", 800 + index, side=96)[0]).save(path, "PNG")
        uploads.append(Upload(path.name, path))
    return uploads


def test_a_taught_checkpoint_detects_and_travels_as_a_zip(photos, tmp_path):
    heard = []
    taught = teach(photos, tmp_path / "ring", lambda *event: heard.append(event))
    assert taught.record["images"] == {"fitted": 12}
    assert taught.false_alarms == FalseAlarms.of(12, 0.05)
    assert {event[0] for event in heard} >= {"training", "calibration"}
    write_checkpoint_zip(taught.folder, "my-ring", tmp_path / "my-ring.zip")
    with zipfile.ZipFile(tmp_path / "my-ring.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
        everything = b"".join(archive.read(name) for name in archive.namelist() if not name.endswith("safetensors"))
    assert b"/tmp" not in everything and str(tmp_path).encode() not in everything
    assert b"my-ring" in (tmp_path / "elsewhere/my-ring/README.md").read_bytes()
    spoilt = demo_image("ring", 830, side=96)[0].copy()
    spoilt[30:60, 50:80] = (220, 30, 30)
    detector = load_detector(tmp_path / "elsewhere/my-ring")
    found, here = detector(spoilt), load_detector(taught.folder)(spoilt)
    assert np.array_equal(found["anomaly_map"], here["anomaly_map"])
    good = detector(demo_image("ring", 830, side=96)[0])
    assert found["image_score"] > good["image_score"] and good["label"] in ("normal", "review")
    assert json.loads((taught.folder / "training.json").read_text())["options"]["data"] == "photos"


def test_pages_are_photos_of_their_own(tmp_path):
    rings = [Image.fromarray(demo_image("ring", 800 + index, side=96)[0]) for index in range(12)]
    rings[0].save(tmp_path / "a.tif", save_all=True, append_images=[*rings[1:], rings[3]])
    ((note, _, ticks, *_),) = [
        found for found in _findings([str(tmp_path / "a.tif")], Event()) if isinstance(found[4], list)
    ]
    assert "13 photos, all readable" in note and "a.tif#13" in ticks.value
    gathered = with_frames(Gathered([Upload("a.tif", tmp_path / "a.tif")]))
    taught = teach(gathered.files[:11], tmp_path / "ring")
    assert taught.record["images"] == {"fitted": 11}
    assert {one["file"].partition("#")[0] for one in taught.record["most_unusual"]} == {"a.tif"}


@pytest.mark.parametrize("mode", ["uint8", "uint16", "float32", "grey", "alpha"])
def test_a_page_is_staged_as_it_is(tmp_path, mode):
    kind = mode if mode in ("uint16", "float32") else "uint8"
    page = np.random.default_rng(0).random((2, 40, 50, {"grey": 1, "alpha": 4}.get(mode, 3)))
    page = (page if kind == "float32" else page * np.iinfo(kind).max).astype(kind).squeeze()
    alpha = {"extrasamples": ["unassalpha"]} if mode == "alpha" else {}
    tifffile.imwrite(tmp_path / "a.tif", page, photometric="minisblack" if mode == "grey" else "rgb", **alpha)
    frame = Frame(tmp_path / "a.tif", 2)
    teaching._stage([Upload("a.tif#2", frame)], tmp_path)
    assert np.array_equal(load_image(tmp_path / "0000.tif"), load_image(frame))


@pytest.mark.parametrize("stage", ["training features", "training"])
def test_nothing_is_left_of_a_cancelled_run(photos, tmp_path, stage):
    def stop(now, done, total, losses=None):
        if now == stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        teach(photos, tmp_path / "ring", stop)
    assert not (tmp_path / "ring").exists()


def test_a_folder_that_is_there_is_left_as_it_is(photos, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already, but a new folder is needed"):
        teach(photos, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_wrong_photos_are_said(photos, tmp_path):
    with pytest.raises(UserError, match="10 to 300 photos of good parts are needed, but got 3: add more"):
        teach(photos[:3], tmp_path / "few")
    (tmp_path / "text.png").write_bytes(b"text")
    with pytest.raises(UserError, match="not an image"):
        teach([*photos, Upload("text.png", tmp_path / "text.png")], tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("count", "unreadable", "ticked", "words"),
    [
        (10, 0, 1, "10 photos came, 1 is ticked to be left out and 9 remain, but at least 10 .*: untick it or add"),
        (12, 1, 2, "12 photos came, 1 can't be read, 2 are ticked to be left out and 9 remain, .*: untick some"),
        (9, 0, 1, "9 photos came, 1 is ticked to be left out and 8 remain, but at least 10 are needed: add more"),
    ],
)
def test_what_ticks_leave_is_counted(count, unreadable, ticked, words):
    files = [Upload(f"{index}.png", Path(f"{index}.png")) for index in range(count)]
    found = PhotoReport(count, list(range(unreadable, count)), [])
    names = [file.name for file in files]
    with pytest.raises(UserError, match=words):
        chosen(Gathered(files), found, names[-ticked:])
    assert chosen(Gathered(files), found, []) == files[unreadable:]


def test_the_rate_is_told_in_a_sentence():
    few, many = FalseAlarms.of(9, 0.05), FalseAlarms.of(99, 0.05)
    assert few.sentence().startswith("Expect 5.0 % of good parts to be called anomalous, 0.1 % to 21 % with 95 %")
    assert many.sentence().startswith("Expect 5.0 % of good parts to be called anomalous, 2.")
    assert "what 99 photos can tell" in many.sentence()
