"""What `uranet predict` writes for other programs: tables, masks and boxes; and that an interrupted run goes on."""

from __future__ import annotations

import csv
import json
import os
import sys
import time
import weakref
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_part
from filelock import FileLock
from PIL import Image
from processes import uranet
from tqdm import tqdm

from ura_hf.cli import predict as predict_module
from ura_hf.cli.main import main
from ura_hf.data.drawn.parts import demo_image
from ura_hf.evaluation import answers
from ura_hf.evaluation.results_file import HEADER
from ura_hf.hub.load import load_detector

RING = "uranet-demo-ring"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def predict(*words: object) -> int:
    return main(["predict", RING, *map(str, words)])


@pytest.fixture(scope="module")
def rings(tmp_path_factory) -> Path:
    """Six rings, two of them scratched; a file that is no image; and a name that a spreadsheet would compute."""
    folder = tmp_path_factory.mktemp("rings")
    for index in range(6):
        picture = demo_image("ring", 40 + index, "scratch" if index % 3 == 0 else None)[0]
        Image.fromarray(picture).save(folder / f"{index}.png")
    (folder / "3.png").rename(folder / "=1+1.png")
    (folder / "torn.png").write_text("no image")
    return folder


def test_a_table_has_a_row_for_each_image(rings, tmp_path, capsys):
    table = tmp_path / "new/t.csv"
    assert predict(rings, "--csv", table) == 2
    out, error = capsys.readouterr()
    assert out.splitlines() == [f"{table}: 2 anomalous, 4 normal, 1 not checked"]
    assert "torn.png" in error and "1 of 7 images have no verdict" in error
    counted = "used      6  image files\nleft out  1  images without a verdict, for the reasons given (torn.png)\n"
    assert counted in error
    assert predict(rings, "--csv", table, "--strict") == 2 and counted in capsys.readouterr().err
    found = {Path(row["image"]).name: row for row in rows_of(table)}
    assert list(next(iter(found.values()))) == list(HEADER) and len(found) == 7
    assert found["torn.png"]["label"] == "" and "not an image" in found["torn.png"]["problem"]
    wanted = load_detector(RING)(str(rings / "0.png"))
    scratched = found["0.png"]
    assert scratched["label"] == wanted["label"] == "anomalous" and scratched["problem"] == ""
    for name in ("score", "rank", "image_score"):
        assert float(scratched[name]) == pytest.approx(wanted[name], rel=1e-4)
    assert float(scratched["anomalous_fraction"]) == pytest.approx((wanted["score_map"] > 0.5).mean(), rel=0.02)


def test_texts_that_a_spreadsheet_would_compute_are_guarded(rings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(rings)
    table = tmp_path / "t.csv"
    assert predict("=1+1.png", "--csv", table) == 0
    assert [row["image"] for row in rows_of(table)] == ["'=1+1.png"]
    assert predict("=1+1.png", "--csv", table) == 0 and "1 of 1 images, going on" in capsys.readouterr().err


@pytest.fixture(scope="module")
def answered(rings, tmp_path_factory):
    """All that is written, in batches of 3; beside it, what was printed."""
    out = tmp_path_factory.mktemp("out")
    words = ["predict", RING, rings, "--output", out, "--masks", "--maps", "--boxes", out / "boxes.json", "--json"]
    printed, said = (tmp_path_factory.mktemp("said") / name for name in ("printed", "errors"))
    process = uranet(*words, "--csv", out / "t.csv", "--batch-size", 3, output=printed, errors=said)
    process.join()
    assert process.exitcode == 2 and "image/s" not in said.read_text()  # a bar is for terminals
    return out, [json.loads(line) for line in printed.read_text().splitlines()]


def test_masks_and_boxes_lie_on_the_defect(answered, rings):
    out, printed = answered
    _, defect = demo_image("ring", 40, "scratch")
    mask = np.asarray(Image.open(out / "0_mask.png"))
    assert mask.shape == defect.shape and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
    wanted = load_detector(RING)(str(rings / "0.png"))["score_map"] > 0.5
    assert np.mean((mask > 0) != wanted) < 1e-3
    (line,) = [line for line in printed if line["image"].endswith("/0.png")]
    assert line["mask"] == str(out / "0_mask.png") and line["image_size"] == [256, 256]
    largest = max(line["boxes"], key=lambda box: box["area"])
    rows, columns = np.nonzero(defect)
    left, top, width, height = largest["box"]
    middle = (left + width / 2, top + height / 2)
    assert columns.min() <= middle[0] <= columns.max() and rows.min() <= middle[1] <= rows.max()
    assert abs(columns.min() - left) < 40 and abs(columns.max() - left - width) < 40
    assert sum(box["area"] for box in line["boxes"]) == wanted.sum() == pytest.approx((mask > 0).sum(), rel=0.02)
    assert 0.5 < largest["score"] < 1


def test_boxes_are_coco(answered):
    out, printed = answered
    found = json.loads((out / "boxes.json").read_text())
    images = {one["file_name"]: one for one in found["images"]}
    verdicts = [line for line in printed if "problem" not in line]
    assert len(printed) == 7 and list(images) == [line["image"] for line in verdicts]
    assert found["categories"] == [{"id": 1, "name": "anomaly"}]
    assert [one["id"] for one in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    for line in verdicts:
        image = images[line["image"]]
        own = [one for one in found["annotations"] if one["image_id"] == image["id"]]
        assert [image["height"], image["width"]] == line["image_size"]
        assert [one["bbox"] for one in own] == [box["box"] for box in line["boxes"]]
        assert [(one["area"], one["score"]) for one in own] == [(box["area"], box["score"]) for box in line["boxes"]]
        assert all(one["category_id"] == 1 and one["iscrowd"] == 0 for one in own)


def test_boxes_need_no_table(rings, tmp_path, capsys):
    assert predict(rings / "0.png", rings / "1.png", "--boxes", tmp_path / "b.json", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = json.loads((tmp_path / "b.json").read_text())
    assert len(found["annotations"]) == sum(len(line["boxes"]) for line in lines) > 0 and len(found["images"]) == 2


def test_batches_change_no_verdict(answered, rings, tmp_path, capsys):
    assert predict(rings, "--json", "--batch-size", 1) == 2
    alone = {line["image"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    for line in answered[1]:
        other = alone[line["image"]]
        assert line.get("label") == other.get("label") and line.get("problem") == other.get("problem")
        assert line.get("score", 0) == pytest.approx(other.get("score", 0), rel=1e-4)


def test_heatmaps_of_large_photos_are_small_jpegs(tmp_path, capsys):
    Image.fromarray(demo_image("ring", 7, "scratch")[0]).resize((2600, 1300)).save(tmp_path / "large.png")
    assert predict(tmp_path / "large.png", "--output", tmp_path / "out", "--masks", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    with Image.open(told["heatmap"]) as heatmap, Image.open(told["mask"]) as mask:
        assert heatmap.format == "JPEG" and heatmap.size == (1300, 650) and mask.size == (2600, 1300)
    assert predict(tmp_path / "large.png", "--output", tmp_path / "none", "--no-heatmaps", "--maps") == 0
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["large_map.npy"]


def test_a_second_run_does_what_is_missing(rings, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("0.png", "1.png", "torn.png"):
        (folder / name).write_bytes((rings / name).read_bytes())
    words = [folder, "--csv", tmp_path / "t.csv", "--boxes", tmp_path / "b.json"]
    assert predict(*words) == 2
    before = rows_of(tmp_path / "t.csv")
    (folder / "torn.png").write_bytes((rings / "2.png").read_bytes())  # mended
    (folder / "3.png").write_bytes((rings / "4.png").read_bytes())
    seen = []
    plain = answers.find
    monkeypatch.setattr(
        answers,
        "find",
        lambda detector, images, *rest, **more: (seen.extend(images), plain(detector, images, *rest, **more))[1],
    )
    capsys.readouterr()
    assert predict(*words) == 0
    assert [path.name for path in seen] == ["3.png", "torn.png"]
    after = rows_of(tmp_path / "t.csv")
    assert [row for row in before if row["label"]] == after[:2] and len(after) == 4
    assert [Path(one["file_name"]).name for one in json.loads((tmp_path / "b.json").read_text())["images"]] == [
        "0.png",
        "1.png",
        "3.png",
        "torn.png",
    ]
    assert "2 of 4 images, going on" in capsys.readouterr().err


def test_a_photo_that_was_overwritten_is_done_again(checkpoint, tmp_path, capsys):
    """Cameras begin to count anew every day."""
    for index in range(2):
        Image.fromarray(draw_part(100 + index)[0]).save(tmp_path / f"{index}.png")
    command = ["predict", str(checkpoint), str(tmp_path), "--csv", str(table := tmp_path / "t.csv")]
    assert main(command) == 0
    before = table.read_text()
    Image.fromarray(draw_part(200, True)[0]).save(photo := tmp_path / "1.png")
    os.utime(photo, (table.stat().st_mtime + 1,) * 2)
    assert main(command) == 0
    assert "has 1 of 2 images, going on" in capsys.readouterr().err
    assert len(table.read_text().splitlines()) == 3 and table.read_text() != before


def test_other_photos_of_the_same_names_overwrite_no_picture(checkpoint, tmp_path):
    """Cameras begin to count anew in every folder."""
    out, table = tmp_path / "o", tmp_path / "t.csv"
    for index, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        Image.fromarray(draw_part(100 + index)[0]).save(tmp_path / folder / "0.png")
    command = ["predict", str(checkpoint), "--csv", str(table), "--output", str(out), "--masks"]
    assert main([*command, str(tmp_path / "a")]) == 0
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([*command, str(tmp_path / "b")]) == 0
    assert {name: (out / name).read_bytes() for name in first} == first
    assert sorted(path.name for path in out.iterdir()) == [
        *("0 (2)_heatmap.png", "0 (2)_mask.png", "0_heatmap.png", "0_mask.png")
    ]
    Image.fromarray(draw_part(200)[0]).save(photo := tmp_path / "b/0.png")
    os.utime(photo, (table.stat().st_mtime + 1,) * 2)
    second = (out / "0 (2)_heatmap.png").read_bytes()
    assert main([*command, str(tmp_path / "b"), str(tmp_path / "a")]) == 0  # done again, under its own name
    assert len([*out.iterdir()]) == 4 and (out / "0 (2)_heatmap.png").read_bytes() != second
    table.unlink()
    assert main([*command, str(tmp_path / "b")]) == 0  # a new table
    assert (out / "0_heatmap.png").read_bytes() == (out / "0 (2)_heatmap.png").read_bytes()


def test_rows_of_photos_that_are_not_called_stay(checkpoint, tmp_path, capsys):
    """Whatever became of their files; and those without a verdict are tried again when they are called."""
    table = tmp_path / "t.csv"
    for index, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        Image.fromarray(draw_part(100 + index)[0]).save(tmp_path / folder / "0.png")
    (tmp_path / "a/torn.png").write_text("no image")
    command = ["predict", str(checkpoint), "--csv", str(table), "--boxes", str(tmp_path / "b.json")]
    assert main([*command, str(tmp_path / "a")]) == 2
    first = rows_of(table)
    os.utime(tmp_path / "a/0.png", (table.stat().st_mtime + 60,) * 2)
    assert main([*command, str(tmp_path / "b")]) == 0
    assert rows_of(table)[:2] == first and len(rows_of(table)) == 3
    assert "1 not checked" in capsys.readouterr().out.splitlines()[-1]
    Image.fromarray(draw_part(103)[0]).save(tmp_path / "a/torn.png")
    assert main([*command, str(tmp_path / "a")]) == 0
    assert len(rows_of(table)) == 3 and not any(row["problem"] for row in rows_of(table))
    assert len(json.loads((tmp_path / "b.json").read_text())["images"]) == 3


def test_relative_names_are_of_one_folder(checkpoint, tmp_path, monkeypatch, capsys):
    """A camera that begins to count anew every day, and a command that is called in the folder of the day."""
    table = tmp_path / "t.csv"
    for index, day in enumerate("ab"):
        (tmp_path / day).mkdir()
        Image.fromarray(draw_part(100 + index)[0]).save(tmp_path / day / "0.png")
    for day, code in (("a", 0), ("a", 0), ("b", 2)):
        monkeypatch.chdir(tmp_path / day)
        assert main(["predict", str(checkpoint), ".", "--csv", str(table)]) == code
    assert "was begun with another working folder: give another --csv" in capsys.readouterr().err
    assert [row["image"] for row in rows_of(table)] == ["0.png"]


def test_one_run_at_a_time_writes_a_table(checkpoint, tmp_path, capsys):
    Image.fromarray(draw_part(100)[0]).save(photo := tmp_path / "0.png")
    command = ["predict", str(checkpoint), str(photo), "--csv", str(table := tmp_path / "t.csv")]
    with FileLock(f"{table}.lock"):
        assert main(command) == 2
    assert f"another run is at work on {table}: wait for it" in capsys.readouterr().err and not table.exists()
    assert main(command) == main(command) == 0


def test_a_torn_last_row_is_done_again(rings, tmp_path, capsys):
    table = tmp_path / "t.csv"
    words = [rings / "0.png", rings / "1.png", rings / "2.png", "--csv", table]
    assert predict(*words) == 0
    whole = table.read_bytes()
    for cut in (1, 2, 3, 8, 30):
        table.write_bytes(whole[:-cut])
        assert predict(*words) == 0
        assert sorted(row["image"] for row in rows_of(table)) == sorted(map(str, words[:3]))
        assert table.read_bytes().endswith(b"\r\n")


def test_another_checkpoint_or_option_is_refused(rings, checkpoint, tmp_path, capsys):
    table, image = tmp_path / "t.csv", rings / "0.png"
    assert predict(image, "--csv", table) == 0
    kept = table.read_bytes()
    assert predict(image, "--csv", table, "--threshold", 0.6) == 2
    assert "was begun with another --threshold: give another --csv" in capsys.readouterr().err
    assert main(["predict", str(checkpoint), str(image), "--csv", str(table)]) == 2
    assert "was begun with another checkpoint" in capsys.readouterr().err and table.read_bytes() == kept
    (tmp_path / "mine.csv").write_text("a,b\n")
    assert predict(image, "--csv", tmp_path / "mine.csv") == 2
    assert "is not the CSV of an earlier run" in capsys.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "a,b\n"
    assert predict(image, "--masks") == 2 and "name a folder with --output" in capsys.readouterr().err


def test_a_killed_run_goes_on_with_every_image_once(tmp_path):
    folder, table = tmp_path / "photos", tmp_path / "t.csv"
    folder.mkdir()
    for index in range(60):
        Image.fromarray(draw_part(index)[0]).save(folder / f"{index}.png")
    words = [
        "predict",
        RING,
        folder,
        "--csv",
        table,
        "--output",
        tmp_path / "o",
        "--masks",
        "--boxes",
        tmp_path / "b.json",
    ]
    run = uranet(*words, "--batch-size", 2)
    while run.is_alive() and (not table.exists() or table.read_bytes().count(b"\n") < 6):
        time.sleep(0.01)
    run.kill()
    run.join()
    left = table.read_bytes()
    assert 5 <= left.count(b"\n") - 1 < 60
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "o").glob("*_mask.png")}
    assert len(written) - (left.count(b"\n") - 1) <= 1  # what is answered is in the table at once
    assert main(list(map(str, words))) == 0
    images = [row["image"] for row in rows_of(table)]
    assert len(images) == len(set(images)) == 60 and table.read_bytes().startswith(left)
    assert len(list((tmp_path / "o").glob("*_mask.png"))) == 60
    again = [path for path, when in written.items() if path.stat().st_mtime_ns != when]
    assert len(again) <= 1
    assert len(json.loads((tmp_path / "b.json").read_text())["images"]) == 60


def test_few_pictures_are_held_at_a_time(tmp_path, monkeypatch, capsys):
    """Of any number of images: those of the batch, those read for the next one, and those being written."""
    for index in range(40):
        Image.fromarray(draw_part(index)[0]).save(tmp_path / f"{index}.png")
    plain, kept, alive = answers.Answers.keep, [], []

    def counting(self, image):
        kept.append(weakref.ref(image))
        alive.append(sum(one() is not None for one in kept))
        return plain(self, image)

    monkeypatch.setattr(answers.Answers, "keep", counting)
    assert predict(tmp_path, "--output", tmp_path / "out", "--batch-size", 2) == 0
    assert len(alive) == 40 and max(alive) <= 3 * 2 + 3


def test_a_bar_is_shown_on_a_terminal(rings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("tqdm.tqdm.__init__", partialmethod(tqdm.__init__, mininterval=0))
    monkeypatch.setattr(predict_module, "SHOW_AFTER_SECONDS", 0)
    assert predict(rings / "0.png", "--csv", tmp_path / "t.csv") == 0
    assert "1/1" in capsys.readouterr().err
