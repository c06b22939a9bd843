"""Thresholds set anew on other photos, through the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import draw_part
from PIL import Image

from ura_hf import load_detector
from ura_hf.cli.main import main
from ura_hf.data.archives import Upload
from ura_hf.training.recalibrate import measure, save_recalibrated


@pytest.fixture
def photos(tmp_path):
    """Thirty good discs under half of the light, and eight with a spot."""
    for kind, count, defect in (("good", 30, False), ("bad", 8, True)):
        (tmp_path / kind).mkdir()
        for index in range(count):
            picture = draw_part(900 + index + 50 * defect, defect)[0]
            Image.fromarray((0.6 * picture).astype(np.uint8)).save(tmp_path / kind / f"{index:02d}.png")
    return tmp_path


def test_new_thresholds_fit_the_new_photos(checkpoint, photos, capsys):
    output = photos / "new"
    command = ["calibrate", str(checkpoint), "--good", str(photos / "good"), "--bad", str(photos / "bad")]
    assert main([*command, "--max-false-alarms", "0.1", "--output", str(output), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    before, after = load_detector(checkpoint), load_detector(output)
    assert before.model.config.image_threshold != after.model.config.image_threshold
    assert after.model.config.false_positive_rate == report["asked"] == 0.1 and report["low"] < 0.1 < report["high"]
    good = [str(path) for path in sorted((photos / "good").iterdir())]
    bad = [str(path) for path in sorted((photos / "bad").iterdir())]
    for paths, bounds in ((good, (0, 6)), (bad, None)):
        raw = [(one["image_score"], one["score"]) for one in after(paths, maps=(), max_review=0)]
        assert [score for score, _ in raw] == pytest.approx([one["image_score"] for one in before(paths, maps=())])
        alarms = sum(score > 0.5 for _, score in raw)
        if bounds:
            assert bounds[0] <= alarms <= bounds[1]
        else:
            assert report["misses"] == pytest.approx(1 - alarms / len(bad)) and report["bad"] == 8
    assert report["best"]["misses"] + report["best"]["false_alarms"] <= report["misses"] + 0.1 + 1e-9
    names = [one["file"] for one in report["most_unusual"]]
    assert len(names) == 5 and {*names} <= {path.name for path in (photos / "good").iterdir()}
    assert json.loads((output / "training.json").read_text())["recalibrated"] == report
    assert main(command) == 0
    assert "are these really good?" in (said := capsys.readouterr().out) and "of 8 defective parts it misses" in said


def test_photos_that_came_again_count_once(checkpoint, photos, capsys):
    command = ["calibrate", str(checkpoint), "--good", str(photos / "good"), "--json"]
    assert main(command) == 0
    once = json.loads(capsys.readouterr().out)
    for path in sorted((photos / "good").iterdir())[:3]:
        Image.open(path).save(photos / f"good/z{path.stem}.bmp")
    assert main(command) == 0
    again = json.loads(capsys.readouterr().out)
    assert len(again["near_copies"]) == 3 + len(once["near_copies"])
    assert again | {"near_copies": once["near_copies"], "left_out": once["left_out"]} == once


def test_beyond_what_the_photos_tell_no_share_is_named(checkpoint, photos, capsys):
    command = ["calibrate", str(checkpoint), "--good", str(photos / "good"), "--bad", str(photos / "bad")]
    for threshold, words in (("0.001", "Expect 50 % of good parts or more"), ("0.999", "of good parts or less")):
        assert main([*command, "--threshold", threshold]) == 0
        assert words in (said := capsys.readouterr().out) and "confidence" not in said


def test_the_best_threshold_is_told_as_the_option_takes_it(checkpoint, photos, capsys):
    command = ["calibrate", str(checkpoint), "--good", str(photos / "good"), "--bad", str(photos / "bad"), "--json"]
    assert main(command) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert main([*command, "--threshold", repr(best["threshold"])]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["misses"] == best["misses"] and report["asked"] == pytest.approx(best["false_alarms"], rel=1e-3)


def test_what_can_not_be_calibrated_is_said(checkpoint, photos, capsys):
    for path in sorted((photos / "good").iterdir())[4:]:
        path.unlink()
    command = ["calibrate", str(checkpoint), "--good"]
    for arguments, words in (
        ([photos / "good"], "at least 5 photos"),
        ([photos / "missing"], "no folder of images"),
        ([photos / "bad", "--output", photos], "is there already"),
        ([photos / "bad", "--max-false-alarms", "2"], "between 1e-06 and 0.999"),
    ):
        assert main([*command, *map(str, arguments)]) == 2
        assert words in capsys.readouterr().err


def test_photos_of_another_part_do_not_count(checkpoint, photos, capsys):
    """They are named and left out; where most are of another part, that is said."""
    command = ["calibrate", str(checkpoint), "--good", str(photos / "good"), "--json"]
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    if plain["unknown"]:
        pytest.skip("the small detector knows none of the darker discs")
    for index in range(3):
        Image.fromarray(noise[index]).save(photos / f"good/noise-{index}.png")
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unknown"] == [f"noise-{index}.png" for index in range(3)]
    assert found["left_out"]["unknown"]["count"] == 3
    assert found | {"unknown": [], "left_out": {}} == plain
    for index in range(3, 30):
        Image.fromarray(noise[index]).save(photos / f"good/noise-{index}.png")
    for path in sorted((photos / "good").glob("[0-9]*"))[5:]:
        path.unlink()
    assert main(command) == 2 and "do not look like the part" in capsys.readouterr().err


def test_a_threshold_can_be_chosen_and_drawn(checkpoint, photos, capsys):
    """On the present scale; what is drawn and what is said belong to it, and the old checkpoint stays."""
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()}
    command = ["calibrate", str(checkpoint), "--good", str(photos / "good"), "--bad", str(photos / "bad")]
    output, plot = photos / "new", photos / "scores.png"
    assert main([*command, "--threshold", "0.6", "--output", str(output), "--plot", str(plot), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    old, new = (load_detector(folder).model.config for folder in (checkpoint, output))
    assert new.image_threshold == pytest.approx(old.image_threshold * 0.6 / 0.4) and report["threshold"] == 0.6
    assert new.false_positive_rate == report["asked"] and new.pixel_threshold != old.pixel_threshold
    assert Image.open(plot).size == (1080, 480)
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir() if path.is_file()} == before
    assert not list(photos.glob("*.partial"))
    assert main([*command, "--threshold", "0.6", "--max-false-alarms", "0.1"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_nothing_is_left_of_a_checkpoint_that_can_not_be_written(checkpoint, photos, monkeypatch):
    detector = load_detector(checkpoint)
    found = measure(detector, [Upload(path.name, path) for path in sorted((photos / "good").iterdir())])
    monkeypatch.setattr("ura_hf.training.recalibrate.write_record", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_recalibrated(detector, checkpoint, photos / "new", found)
    assert {path.name for path in photos.iterdir()} == {"good", "bad"}


def test_the_lines_follow_the_threshold(checkpoint, photos):
    """The detector stays as it was, whatever is asked."""
    detector = load_detector(checkpoint)
    config = detector.model.config.to_dict()
    uploads = [[Upload(path.name, path) for path in sorted((photos / kind).iterdir())] for kind in ("good", "bad")]
    found = measure(detector, *uploads)
    good, bad = map(np.array, found.scaled())
    suggested = found.at()
    assert suggested["threshold"] == found.suggested and suggested["false_alarms"] == 0.05
    rates = []
    for threshold in (0.2, 0.5, found.suggested, 0.95):
        there = found.at(threshold)
        assert there["alarms"] == (good > threshold).sum() and there["misses"] == (bad <= threshold).sum()
        assert there["review"] <= threshold and 0 <= there["reviewed"] <= there["misses"]
        rates.append((threshold, there["false_alarms"]))
    assert [rate for _, rate in sorted(rates)] == sorted((rate for _, rate in rates), reverse=True)
    assert detector.model.config.to_dict() == config


def test_photos_that_tell_nothing_are_said(checkpoint, photos, capsys):
    command = ["calibrate", str(checkpoint), "--good", str(photos / "good"), "--output", str(photos / "new")]
    for name in ("text.png", "empty.png"):
        (photos / "good" / name).write_bytes(b"text"[: len(name) - 8])
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "2 of 32 photos can't be read, replace or leave them out: " in said
    assert "text.png" in said and "empty.png" in said and str(photos) not in said
    for path in (photos / "good").iterdir():
        path.unlink()
    for brightness in range(10):
        picture = (0.6 + 0.03 * brightness) * draw_part(900)[0]
        Image.fromarray(picture.astype(np.uint8)).save(photos / f"good/{brightness}.png")
    assert main(command) == 2
    assert "at least 5 photos that show different good parts are needed" in capsys.readouterr().err
    assert not (photos / "new").exists()


def test_a_defect_among_the_good_photos_is_named(checkpoint, photos, capsys):
    """As one that hardly counts, or as not the part at all."""
    spoilt = (0.6 * draw_part(950)[0]).astype(np.uint8)
    spoilt[8:40, 20:44] = 255
    Image.fromarray(spoilt).save(photos / "good/spoilt.png")
    assert main(["calibrate", str(checkpoint), "--good", str(photos / "good")]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "spoilt.png" in line and "1 in" not in line]
    assert "hardly counts for the threshold" in line or "left out" in line
