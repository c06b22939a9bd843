"""Detectors side by side: the figures of `evaluate`, from a zip however it was packed, or from drawn parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ura_hf import UserError
from ura_hf.data.reader import read_dataset
from ura_hf.evaluation import compare as comparison
from ura_hf.evaluation.compare import compare, draw_test_set, unpack_test_set
from ura_hf.evaluation.evaluate import evaluate
from ura_hf.hub.load import load_detector


@pytest.fixture(scope="module")
def detector(checkpoint):
    return load_detector(checkpoint)


def packed(category, tmp_path, *folders: str, inside: str = "disc"):
    """A zip of some of a category's folders, below `inside`."""
    root = tmp_path / "pack"
    for folder in folders:
        shutil.copytree(category / folder, root / inside / folder)
    return shutil.make_archive(str(tmp_path / "set"), "zip", root)


def test_each_detector_has_the_figures_of_evaluate(category, detector):
    heard = []
    found = compare({"a": detector, "b": detector}, category, lambda *event: heard.append(event))
    expected = evaluate(detector, category, curves=True)
    assert found["a"] == found["b"] == expected
    assert json.loads(json.dumps(found)) == found
    assert heard[-1] == ("evaluation of b", 8, 8) and ("evaluation of a", 8, 8) in heard
    assert len(expected["curves"]["scores"]["good"]) == 4 and expected["curves"]["pro"]["x"][-1] == pytest.approx(0.3)


@pytest.mark.parametrize("inside", ["disc", "a/b/disc", ""])
def test_a_zip_is_read_however_deep_it_was_packed(category, tmp_path, inside):
    archive = Path(packed(category, tmp_path, "test", "ground_truth", inside=inside))
    samples = read_dataset(unpack_test_set(archive, tmp_path / "out"), for_training=False).test
    assert len(samples) == 8 and sum(sample.mask is not None for sample in samples) == 4


@pytest.mark.parametrize("names", [("OK", "NG", "masks"), ("Good", "Spot", "Ground_Truth")])
def test_folders_beside_each_other_are_all_for_testing(category, tmp_path, names):
    root = tmp_path / "pack/Parts"
    for source, name in zip(("test/good", "test/spot", "ground_truth"), names, strict=True):
        shutil.copytree(category / source, root / name)
    (root / names[2] / "spot").rename(root / names[2] / names[1])
    archive = Path(shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "pack"))
    samples = read_dataset(unpack_test_set(archive, tmp_path / "out"), for_training=False).test
    assert sum(sample.label for sample in samples) == sum(sample.mask is not None for sample in samples) == 4
    assert len(samples) == 8


def test_masks_of_good_images_are_no_category(category, tmp_path):
    shutil.copytree(category / "test/good", tmp_path / "pack/disc/ground_truth/good")
    archive = Path(packed(category, tmp_path, "test"))
    assert len(read_dataset(unpack_test_set(archive, tmp_path / "out"), for_training=False).test) == 8


def test_a_strangers_set_is_no_table(category, detector, tmp_path, monkeypatch):
    """A table of `datasets` may name any file of the server and any address."""
    shutil.copytree(category, tmp_path / "disc")
    (tmp_path / "disc/state.json").write_text("{}")
    archive = Path(packed(tmp_path / "disc", tmp_path, "test", "ground_truth", inside=""))
    root = unpack_test_set(archive, tmp_path / "out")
    (root / "state.json").write_text("{}")
    monkeypatch.setattr("ura_hf.data.hub_datasets._load", lambda *_: pytest.fail("the table was opened"))
    assert compare({"a": detector}, root)["a"]["n_images"] == 8


def test_wrong_sets_are_said(category, detector, tmp_path):
    archive = Path(packed(category, tmp_path / "1", "test/good"))
    with pytest.raises(UserError, match="has no anomalous images: put good ones in test/good"):
        compare({"a": detector}, unpack_test_set(archive, tmp_path / "1/out"))
    archive = Path(packed(category, tmp_path / "2", "test/spot"))
    with pytest.raises(UserError, match="has no good images: put good ones in test/good"):
        compare({"a": detector}, unpack_test_set(archive, tmp_path / "2/out"))
    archive = Path(packed(category / "test", tmp_path / "2b", "spot"))
    with pytest.raises(UserError, match="no folder of good test images"):
        unpack_test_set(archive, tmp_path / "2b/out")
    for name in ("bottle", "pill"):
        archive = Path(packed(category, tmp_path / "3", "test", inside=name))
    with pytest.raises(UserError, match=r"several categories \(bottle, pill\)"):
        unpack_test_set(archive, tmp_path / "3/out")


def test_drawn_sets_have_masks(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "DRAWN_GOOD", 1)
    monkeypatch.setattr(comparison, "DRAWN_EACH", 1)
    samples = read_dataset(draw_test_set("cloth", tmp_path), for_training=False).test
    assert len(samples) == 1 + 6 and all(sample.mask for sample in samples if sample.label)
    assert Image.open(samples[0].image).size == (256, 256)
    with pytest.raises(UserError, match="kind must be one of ring"):
        draw_test_set("../secret", tmp_path)
