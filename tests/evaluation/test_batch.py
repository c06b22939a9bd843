"""A batch: every file a row, with the verdict of the pipeline or the reason why there is none; CSV and overlays as said."""

from __future__ import annotations

import csv
import io
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_part
from PIL import Image

from ura_hf import UserError, frames
from ura_hf.data.archives import Gathered, Upload, gather
from ura_hf.evaluation.batch import (
    BatchRow,
    predict_batch,
    summary,
    with_frames,
    worst_first,
    write_csv,
    write_overlays,
)
from ura_hf.evaluation.visualization import overlay
from ura_hf.hub.load import load_detector
from ura_hf.model.images import load_image


@pytest.fixture(scope="module")
def detector(checkpoint):
    return load_detector(checkpoint)


def huge_png(width: int, height: int) -> bytes:
    """A well-formed PNG of one grey, small as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(picture: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory) -> Gathered:
    folder = tmp_path_factory.mktemp("odd")
    picture, _ = draw_part(7, True)
    contents = {
        "text.png": b"no image at all",
        "torn.jpg": encoded(picture, "JPEG")[:700],
        "empty.png": b"",
        "huge.png": huge_png(20000, 18000),
        "deep.tif": encoded(picture[..., 0].astype(np.uint16) * 257, "TIFF"),
        "dot.png": encoded(picture[:1, :1], "PNG"),
        "fine.png": encoded(picture, "PNG"),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return gather([folder / name for name in contents], folder / "unpacked")


@pytest.fixture(scope="module")
def odd_rows(detector, odd_files, tmp_path_factory) -> dict[str, BatchRow]:
    return {row.file: row for row in predict_batch(detector, odd_files, tmp_path_factory.mktemp("overlays"))}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.png", "not an image that can be read: text.png"),
        ("torn.jpg", "torn.jpg"),
        ("empty.png", "empty \\(0 bytes\\): empty.png"),
        ("huge.png", "too large: huge.png"),
    ],
)
def test_a_bad_file_is_a_row_with_its_reason(odd_rows, odd_files, name, words):
    row = odd_rows[name]
    assert row.label is row.score is row.overlay is None
    assert row.problem is not None and re.search(words, row.problem)
    assert str(odd_files.files[0].path.parent) not in row.problem and "/" not in row.problem.replace("and/or", "")


@pytest.mark.parametrize("name", ["deep.tif", "dot.png", "fine.png"])
def test_an_unusual_image_has_the_verdict_of_the_pipeline(odd_rows, odd_files, detector, name):
    path = next(file.path for file in odd_files.files if file.name == name)
    expected, row = detector(str(path)), odd_rows[name]
    assert row.problem is None and row.label == expected["label"]
    assert row.score == pytest.approx(expected["score"], rel=1e-4)
    assert row.image_score == pytest.approx(expected["image_score"], rel=1e-4)


def test_overlays_glow_as_on_a_single_image(odd_rows, odd_files, detector):
    path = next(file.path for file in odd_files.files if file.name == "fine.png")
    wanted = overlay(load_image(path), detector(str(path))["score_map"]).astype(float)
    shown = np.asarray(Image.open(odd_rows["fine.png"].overlay)).astype(float)
    assert shown.shape == wanted.shape and np.abs(shown - wanted).mean() < 6  # JPEG


def test_large_images_get_small_overlays(detector, tmp_path):
    picture = np.asarray(Image.fromarray(draw_part(3)[0]).resize((2400, 1200)))
    Image.fromarray(picture).save(tmp_path / "large.jpg")
    files = Gathered([Upload("large.jpg", tmp_path / "large.jpg")])
    (row,) = predict_batch(detector, files, tmp_path / "out")
    assert Image.open(row.overlay).size == (1024, 512)
    assert row.image_score == pytest.approx(detector(picture)["image_score"], rel=0.2)


def test_rows_of_damaged_files_come_too(detector, tmp_path):
    rows = list(predict_batch(detector, Gathered([], [("a/1.png", "damaged in a.zip: pack it again")]), tmp_path))
    assert rows == [BatchRow("a/1.png", problem="damaged in a.zip: pack it again")]


def test_an_uncalibrated_checkpoint_is_said(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(detector.model.config, "image_threshold", None)
    with pytest.raises(UserError, match="no calibrated thresholds"):
        next(predict_batch(detector, Gathered(), tmp_path))


ROWS = [
    BatchRow("b.png", "normal", 0.2, None, 1.0, 0.0),
    BatchRow("=1+1.png", problem="not an image"),
    BatchRow("a.png", "anomalous", 0.9, 300.0, 9.0, 0.1),
]


def test_worst_first_and_counts():
    assert [row.file for row in worst_first(ROWS)] == ["a.png", "b.png", "=1+1.png"]
    assert summary(ROWS) == {"images": 3, "anomalous": 1, "normal": 1, "review": 0, "unknown": 0, "not_checked": 1}


def test_csv_holds_every_row_and_no_formula(tmp_path):
    write_csv(worst_first(ROWS), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # else Excel garbles umlauts
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "file": "a.png",
        "label": "anomalous",
        "score": "0.9",
        "rank": "300.0",
        "image_score": "9.0",
        "anomalous_fraction": "0.1",
        "problem": "",
    }
    assert rows[2]["file"] == "'=1+1.png" and rows[2]["label"] == "" and rows[2]["problem"] == "not an image"


def test_the_zip_of_overlays_keeps_folders_and_every_name(tmp_path):
    picture = tmp_path / "p.jpg"
    Image.fromarray(draw_part(1)[0]).save(picture)
    names = ["x/1.png", "x/1.jpg", "y/1.png", "1.png", "X/1.PNG"]
    rows = [BatchRow(name, "normal", 0.1, 2.0, 1.0, 0.0, overlay=picture) for name in names] + [ROWS[1]]
    write_overlays(rows, tmp_path / "o.zip")
    with zipfile.ZipFile(tmp_path / "o.zip") as archive:
        found = archive.namelist()
        assert archive.read(found[0]) == picture.read_bytes()
    wanted = ["x/1_heatmap.jpg", "x/1_2_heatmap.jpg", "y/1_heatmap.jpg", "1_heatmap.jpg", "X/1_3_heatmap.jpg"]
    assert found == wanted and not any(Path(name).is_absolute() for name in found)


def test_every_page_of_a_file_is_a_row(detector, tmp_path):
    pages = [Image.fromarray(draw_part(seed, defect)[0]) for seed, defect in ((100, False), (200, True))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:9000])
    gathered = gather([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path)
    rows = list(predict_batch(detector, with_frames(gathered), tmp_path / "overlays"))  # as the page calls it
    assert [row.file for row in rows] == ["a.tif#1", "a.tif#2", "b.tif"]
    assert rows[1].score > rows[0].score and "truncated or damaged: b.tif" in rows[2].problem
    assert [one["score"] for one in detector(frames(tmp_path / "a.tif"))] == pytest.approx(
        [row.score for row in rows[:2]]
    )
    write_overlays(rows, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.namelist() == ["a#1_heatmap.jpg", "a#2_heatmap.jpg"]
    with pytest.raises(UserError, match="at most 2 images are taken at once, but the files hold 3"):
        with_frames(gathered, 2)
