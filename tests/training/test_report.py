"""What a training ends with: words and pictures that say which photos to look at; photos that tell nothing are refused."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from conftest import draw_part, tiny_config
from PIL import Image
from scipy import stats

from ura_hf import TrainingOptions, URANetImageProcessor, UserError, train
from ura_hf.data.drawn.parts import demo_image
from ura_hf.model.frames import Frame
from ura_hf.training import calibration
from ura_hf.training.report import FalseAlarms, sentences, write_report


def drawn(folder, count):
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(draw_part(300 + index)[0]).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Fourteen rings, one of which came twice and one of which has a red patch: the record, the output and the report."""
    root = tmp_path_factory.mktemp("report")
    pictures = {f"{index:02d}.png": demo_image("ring", 800 + index, side=128)[0] for index in range(15)}
    spoilt = pictures.pop("14.png").copy()
    spoilt[20:50, 70:100] = (200, 40, 40)
    (photos := root / "photos").mkdir()
    for name, picture in {**pictures, "again.jpg": pictures["03.png"], "spoilt.png": spoilt}.items():
        Image.fromarray(picture).save(photos / name)
    config = tiny_config(backbone="uranet-small", image_size=128, grid_size=16)
    return train(TrainingOptions(photos, root / "o", steps=2), config, report=root / "said"), root


def test_a_training_says_which_photos_to_look_at(trained):
    record, root = trained
    assert record["most_unusual"][0]["file"] == "spoilt.png" and record["outlying"] == ["spoilt.png"]
    assert record["near_copies"] == [["again.jpg", "03.png"]]
    low, high = record["halves"]
    assert 0 < low < 0.05 < high < 1
    lines = sentences(record, FalseAlarms.of(16, 0.05))
    assert lines[1].startswith("Halves of these photos would set the threshold for") and "make it surer" in lines[1]
    assert "1 photo shows what another one shows and tells nothing new: again.jpg (as 03.png)." in lines
    assert "spoilt.png is unlike all others and hardly counts for the threshold: look for a defect." in lines
    assert FalseAlarms.of_record(record) == FalseAlarms.of(15, 0.05)  # a photo that came twice counts once
    assert json.loads((root / "o/training.json").read_text()) == record


def test_the_report_shows_where_they_are_unusual(trained):
    record, root = trained
    said = {path.name for path in (root / "said").iterdir()}
    names = [one["file"].split(".")[0] for one in record["most_unusual"]]
    assert said == {"report.txt", *(f"{number}_{name}.jpg" for number, name in enumerate(names, 1))}
    assert "spoilt.png is unlike all others" in (root / "said/report.txt").read_text()
    plain = np.asarray(Image.open(root / "photos/spoilt.png")).astype(float)
    glow = np.abs(np.asarray(Image.open(root / "said/1_spoilt.jpg")) - plain).max(2) > 60
    assert glow[25:45, 75:95].mean() > 0.8 and glow[64:].mean() < 0.05


def test_a_map_without_anything_unusual_does_not_glow(tmp_path):
    path = drawn(tmp_path / "photos", 1) / "00.png"
    write_report(tmp_path / "said", ["words"], [(path, torch.full((64, 64), -1.0))], URANetImageProcessor())
    shown = np.asarray(Image.open(tmp_path / "said/1_00.jpg")).astype(float)
    assert np.abs(shown - np.asarray(Image.open(path))).mean() < 4


def test_pages_and_names_that_are_no_text_are_shown(tmp_path):
    pages = [Image.fromarray(draw_part(index)[0]) for index in range(2)]
    pages[0].save(file := tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    heat = torch.zeros(64, 64)
    write_report(tmp_path / "said", ["St\udcfcck.png"], [(Frame(file, 2), heat)], URANetImageProcessor())
    assert {path.name for path in (tmp_path / "said").iterdir()} == {"report.txt", "1_scan#2.jpg"}
    assert (tmp_path / "said/report.txt").read_text() == "St\\udcfcck.png\n"


def test_photos_that_all_show_the_same_are_refused_before_anything_is_written(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for quality in range(60, 70):
        Image.fromarray(draw_part(0)[0]).save(photos / f"{quality}.jpg", quality=quality)
    with pytest.raises(UserError, match=r"the 10 good images in .* all show the same: add images of other good parts"):
        train(TrainingOptions(photos, tmp_path / "o"), tiny_config(backbone="uranet-small"))
    assert not (tmp_path / "o").exists()


def test_few_photos_are_said(tmp_path, caplog):
    options = TrainingOptions(drawn(tmp_path / "photos", 4), tmp_path / "o", steps=1)
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING), pytest.raises(UserError, match="can't be written"):
        train(options, tiny_config(backbone="uranet-small"), report=tmp_path / "file/said")
    record = json.loads((tmp_path / "o/training.json").read_text())  # the checkpoint is there all the same
    assert "4 different good images tell next to nothing of other parts: 5 are the fewest" in caplog.text
    assert "4 photos are too few to rely on: take 5 or more, better 20." in sentences(record, FalseAlarms.of(4, 0.05))
    assert record["halves"] is not None


@pytest.mark.parametrize(("count", "words"), [(12, "would make it surer"), (400, "would change it little")])
def test_halves_tell_whether_more_photos_help(count, words):
    scores = torch.randn(count, generator=torch.Generator().manual_seed(1))
    low, high = calibration.rates_of_halves(scores, 0.05)
    assert low < 0.05 < high
    assert words in sentences({"halves": [low, high]}, FalseAlarms.of(count, 0.05))[1]


def test_a_rate_of_halves_is_the_share_above_their_bound(monkeypatch):
    """By Student's distribution of all scores, for the one half that is drawn first."""
    monkeypatch.setattr(calibration, "HALVES", 1)
    scores = torch.randn(40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    half = scores[torch.randperm(40, generator=torch.Generator().manual_seed(0))[:20]]
    at_half, one = calibration.bound(scores, 0.5), calibration.bound(scores, 0.1)
    wide = (one - at_half) / stats.t(39).isf(0.1)
    wanted = stats.t(39, at_half, wide).sf(calibration.bound(half, 0.05))
    assert calibration.rates_of_halves(scores, 0.05) == pytest.approx((wanted, wanted))


def test_outlying_scores_are_named_from_the_highest():
    scores = torch.cat([torch.randn(30, generator=torch.Generator().manual_seed(0)), torch.tensor([12.0, 90.0, -50.0])])
    assert calibration.outlying(scores) == [31, 30]


def test_scores_without_a_spread_are_refused():
    with pytest.raises(UserError, match="all 20 photos of good parts get the same score"):
        calibration.require_spread(1.7 + 1e-3 * torch.rand(20))
    calibration.require_spread(torch.tensor([0.0, 0.1]))
    calibration.require_spread(torch.tensor([1.0]))
