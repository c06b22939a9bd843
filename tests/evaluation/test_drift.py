"""Whether the order of scores matters: false alarms, changes that are found, and tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import ROOT, draw_part
from PIL import Image

from ura_hf.cli.main import main
from ura_hf.evaluation.drift import ALARM, FEWEST, drift, read_scores
from ura_hf.model.errors import UserError


def test_lines_without_a_change_seldom_alarm():
    """At most one in a hundred; here of 300 lines of 200 scores, of any distribution and with ties."""
    rng = np.random.default_rng(0)
    lines = [rng.standard_exponential(200).round(1) for _ in range(150)] + [
        rng.standard_normal(200) for _ in range(150)
    ]
    assert np.mean([drift(line, seed).alarm is not None for seed, line in enumerate(lines)]) <= 0.01


@pytest.mark.parametrize("step", [1.5, -1.5])
def test_a_step_is_found_where_it_was(step):
    rng, found = np.random.default_rng(1), []
    for _ in range(20):
        line = rng.standard_normal(400)
        line[200:] += step
        result = drift(line)
        assert result.alarm is not None and result.alarm >= 200 and result.evidence[result.alarm] >= ALARM
        found.append(result.began)
    assert np.abs(np.median(found) - 200) < 10


def test_a_slow_drift_is_found():
    line = np.random.default_rng(2).standard_normal(500) + np.linspace(0, 3, 500)
    assert drift(line).alarm is not None


def test_only_the_order_of_the_scores_counts():
    line = np.random.default_rng(3).standard_normal(300) + np.r_[np.zeros(150), np.ones(150)]
    np.testing.assert_allclose(drift(np.exp(line)).evidence, drift(line).evidence)


@pytest.mark.parametrize("scores", [[], [1.0] * (FEWEST - 1)])
def test_too_little_is_said(scores):
    with pytest.raises(UserError, match=f"at least {FEWEST} scores"):
        drift(scores)


def test_no_numbers_are_counted():
    with pytest.raises(UserError, match="1 of 31 are none"):
        drift([1.0] * 30 + [float("nan")])


def test_evidence_stays_a_number():
    """Of a change that lasts, for days."""
    assert np.isfinite(drift(np.arange(3000.0)).evidence).all()


def test_equal_scores_do_not_hide_where_a_step_is():
    line = np.random.default_rng(4).standard_normal(200).round(1) + np.repeat([0.0, 2.0], 100)
    assert abs(drift(line).began - 100) < 10


def test_tables(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(
        "\ufefffile,label,score,image_score\na,normal,0.2,1.5\nb,,,\nc,anomalous,0.9,9\n", encoding="utf-8"
    )
    assert read_scores(table) == (["a", "c"], [1.5, 9.0], ["normal", "anomalous"])
    table.write_text("file,score\n10.png,3\n9.png,2\n1.png,1\n")
    assert read_scores(table)[:2] == (["1.png", "9.png", "10.png"], [1, 2, 3])
    table.write_text("image,score\nx/10.png,3\nx/9.png,2\n")
    assert read_scores(table)[:2] == (["x/9.png", "x/10.png"], [2, 3])
    table.write_text("score\n5\n4\n")
    assert read_scores(table) == (["1", "2"], [5, 4], ["", ""])
    for content, words in (("file,x\na,1\n", "no column"), ("score\nabc\n", "give numbers"), ("", "no column")):
        table.write_text(content)
        with pytest.raises(UserError, match=words):
            read_scores(table)
    with pytest.raises(UserError, match="can't be read"):
        read_scores(tmp_path / "missing.csv")


def test_the_command_reads_tables_and_folders(checkpoint, tmp_path, capsys):
    """Discs, of which the later ones are darker."""
    folder = tmp_path / "line"
    folder.mkdir()
    for index in range(90):
        picture = draw_part(500 + index, index % 10 == 3)[0]
        light = 1.0 if index < 45 else 0.75
        Image.fromarray((picture * light).astype(np.uint8)).save(folder / f"{index:02d}.png")
    assert main(["monitor", str(checkpoint), str(folder), "--json", "--plot", str(tmp_path / "p.png")]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == sum(found["labels"].values()) == 90 and 40 <= int(found["began_at"][:2]) <= 50
    assert Image.open(tmp_path / "p.png").size[0] > 500
    rows = [f"{index},normal,{0.1 + 0.01 * (index % 7) + (0.3 if index >= 100 else 0)}" for index in range(200)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,score", *rows, "x,anomalous,0.99"]))
    assert main(["monitor", str(checkpoint), str(tmp_path / "t.csv")]) == 1
    said = capsys.readouterr().out
    assert "201 images: 200 normal, 1 anomalous" in said and "look different from about 100 on" in said
    (tmp_path / "t.csv").write_text("\n".join(["file,label,score", *rows[:100]]))
    assert main(["monitor", str(checkpoint), str(tmp_path / "t.csv")]) == 0
    assert "no change" in capsys.readouterr().out


def test_the_fewest_photos_are_said_beforehand(capsys):
    with pytest.raises(SystemExit):
        main(["monitor", "--help"])
    said = f"at least {FEWEST} photos"
    assert said in capsys.readouterr().out.lower().replace("\n", " ")
    assert said in (ROOT / "docs/photos-and-thresholds.md").read_text()
