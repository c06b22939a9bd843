"""Checks of photos before teaching: copies, odd sizes, unreadable files, obvious defects are found; good sets are left alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from ura_hf.data.archives import Upload
from ura_hf.data.drawn.parts import demo_image
from ura_hf.training.photo_checks import check_photos, strangeness


@pytest.fixture(scope="module")
def rings() -> list[Image.Image]:
    return [Image.fromarray(demo_image("ring", seed, side=128)[0]) for seed in range(700, 716)]


def saved(pictures, folder, kind="png") -> list[Upload]:
    uploads = []
    for index, picture in enumerate(pictures):
        path = folder / f"{index:02d}.{kind}"
        picture.save(path)
        uploads.append(Upload(path.name, path))
    return uploads


def test_good_photos_are_left_alone(rings, tmp_path):
    heard = []
    report = check_photos(saved(rings, tmp_path), lambda *event: heard.append(event))
    assert report.readable == list(range(16)) and report.count == 16
    assert report.flagged("duplicate", "size", "unreadable") == []
    assert len(report.flagged("defect")) <= 1
    assert heard == [("checking", index, 16) for index in range(1, 17)]


def jpeg(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=70)
    return Image.open(stream).convert("RGB")


@pytest.mark.parametrize(
    "change", [lambda p: p, jpeg, lambda p: ImageEnhance.Brightness(p).enhance(1.03), lambda p: p.reduce(2)]
)
def test_copies_are_found_however_they_were_saved(rings, tmp_path, change):
    report = check_photos(saved([*rings[:9], change(rings[3])], tmp_path))
    (problem,) = [problem for problem in report.problems if problem.kind == "duplicate"]
    assert problem.photo == 9 and "03.png" in problem.sentence


def test_odd_sizes_are_found(rings, tmp_path):
    odd = [rings[9].resize((128, 100)), rings[10].resize((600, 600)), rings[11].rotate(90)]
    report = check_photos(saved([*rings[:9], *odd], tmp_path))
    assert report.flagged("size") == [9, 10]
    sentences = [problem.sentence for problem in report.problems if problem.kind == "size"]
    assert "another shape" in sentences[0] and "128x100 pixels instead of about 128x128" in sentences[0]
    assert "another resolution" in sentences[1]


def test_unreadable_files_are_found_and_the_others_used(rings, tmp_path):
    photos = saved(rings[:4], tmp_path)
    for name, data in (("text.png", b"text"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(data)
        photos.insert(1, Upload(name, tmp_path / name))
    rings[5].resize((8, 8)).save(tmp_path / "tiny.png")
    photos.append(Upload("tiny.png", tmp_path / "tiny.png"))
    report = check_photos(photos)
    assert report.flagged("unreadable") == [1, 2, 6] and report.readable == [0, 3, 4, 5]
    assert not any(str(tmp_path) in problem.sentence for problem in report.problems)
    assert "tiny.png has only 8x8 pixels" in report.problems[-1].sentence


def test_an_obvious_defect_is_found_where_it_is(rings, tmp_path):
    spoilt = np.asarray(rings[15]).copy()
    spoilt[20:50, 70:100] = (200, 40, 40)
    report = check_photos(saved([*rings[:15], Image.fromarray(spoilt)], tmp_path))
    found = {problem.photo: problem for problem in report.problems if problem.kind == "defect"}
    assert 15 in found and len(found) <= 2
    cells = found[15].cells
    assert cells.shape == (16, 16) and cells.max() == 1
    row, column = np.unravel_index(cells.argmax(), cells.shape)
    assert 20 <= 8 * row + 4 < 58 and 62 <= 8 * column + 4 < 108


def test_few_photos_say_nothing_of_defects(rings, tmp_path):
    spoilt = np.asarray(rings[3]).copy()
    spoilt[20:50, 70:100] = 255
    assert check_photos(saved([*rings[:3], Image.fromarray(spoilt)], tmp_path)).flagged("defect") == []
    assert check_photos([]).problems == []


def test_strangeness_is_the_distance_to_the_other_photos():
    """A cell that one photo alone has is strange; one that two have is not; brute force gives the same order."""
    features = torch.zeros(4, 8, 6, 6)
    features += 0.01 * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    features[1, :, 2, 2] += 3
    features[2, :, 4, 4] += torch.tensor([3.0, -3.0] * 4)
    features[3, :, 1, 1] += torch.tensor([3.0, -3.0] * 4)
    maps = strangeness(features, [8])
    assert maps.shape == (4, 6, 6) and (maps > 0).all()
    assert np.unravel_index(maps.argmax(), maps.shape) == (1, 2, 2)
    assert maps[1, 2, 2] > 20 * max(maps[2].max(), maps[3].max())
