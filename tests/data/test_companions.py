"""Masks and heatmaps that lie beside photos, or in folders of other names than ground_truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_part
from PIL import Image

from ura_hf.cli.main import main
from ura_hf.data.companions import companions, has_few_colours, looks_like_a_mask, masks_beside
from ura_hf.data.folder import list_images, list_pictures
from ura_hf.data.layouts import plain
from ura_hf.data.reader import read_dataset


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_part(seed)[0]).save(path)
    return path


def mask(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((48, 64), np.uint8)
    values[10:20, 10:20] = 255
    Image.fromarray(values).save(path)
    return path


def test_companions_by_name(tmp_path):
    one, two = photo(tmp_path / "000.jpg"), photo(tmp_path / "Part.PNG", 1)
    own = [mask(tmp_path / name) for name in ("000_mask.png", "000-gt.png", "part label.png", "PART_Heatmap.png")]
    alone = [photo(tmp_path / name, 2) for name in ("road_map_mask.png", "mask.png", "unmasked.png", "000_maskx.png")]
    assert companions([one, two, *own, *alone]) == {own[0]: one, own[1]: one, own[2]: two, own[3]: two}
    assert masks_beside([one, *own[:2], two, own[3]]) == {one: own[1]}
    assert list_images(tmp_path) == [path for path in list_pictures(tmp_path) if path not in own]


def test_companions_by_content(tmp_path):
    """x.png beside x.jpg is a mask where it looks like one; two photos of one name are two photos."""
    one, own = photo(tmp_path / "a.jpg"), mask(tmp_path / "a.png")
    others = [
        photo(tmp_path / "b.jpg"),
        photo(tmp_path / "b.png", 1),
        mask(tmp_path / "c.png"),
        mask(tmp_path / "c.bmp"),
    ]
    assert companions([one, own, *others]) == {own: one} and masks_beside([one, own]) == {one: own}
    assert has_few_colours(own) and not has_few_colours(one)
    (tmp_path / "d.png").write_bytes(b"no image")
    assert not has_few_colours(tmp_path / "d.png")


def test_a_picture_that_is_damaged_or_too_large_is_no_mask(tmp_path, monkeypatch):
    """Whoever reads it says so; nothing is decoded here that may not be."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400), np.uint8)).save(path := tmp_path / "a.png")
    data = bytearray(path.read_bytes())
    second = data.index(b"IDAT", data.index(b"IDAT") + 4)
    data[second - 4 : second + 60] = bytes(64)
    path.write_bytes(data)
    assert not has_few_colours(path) and not looks_like_a_mask(path)
    flat = mask(tmp_path / "b.png")
    assert has_few_colours(flat) and looks_like_a_mask(flat)
    monkeypatch.setattr("ura_hf.model.image_checks.MAX_PIXELS", 10)
    assert not has_few_colours(flat) and not looks_like_a_mask(flat)


def test_photos_with_names_of_masks_are_photos(tmp_path):
    """The label side of a part, and the 16-bit original of a preview; a mask as JPEG is one all the same."""
    front, label = photo(tmp_path / "0.png"), photo(tmp_path / "0_label.png", 1)
    preview, deep = photo(tmp_path / "1.jpg", 2), tmp_path / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(500, 3500, (48, 64)).astype(np.uint16)).save(deep)
    lossy = mask(tmp_path / "0_mask.jpg")
    assert companions([front, label, preview, deep, lossy]) == {lossy: front}
    own = mask(tmp_path / "0.bmp")  # a second mask, which owns none
    assert companions([front, own, lossy]) == {lossy: front, own: front}


@pytest.mark.parametrize("kind", ["label", "mask", "gt"])
def test_a_defect_type_may_be_called_as_a_folder_of_masks(tmp_path, kind):
    for index in range(4):
        photo(tmp_path / f"good/{index}.png", index)
        photo(tmp_path / f"{kind}/{index}.png", 10 + index)
        photo(tmp_path / f"scratch/{index}.png", 20 + index)
    found = read_dataset(tmp_path).test
    assert {sample.defect_type for sample in found} == {kind, "scratch"} and not any(sample.mask for sample in found)


def test_train_learns_photos_alone_and_says_so(tmp_path, resnet18_weights, capsys):
    for index in range(6):
        photo(tmp_path / f"data/{index}.png", index)
        mask(tmp_path / f"data/{index}_mask.png")
    photo(tmp_path / "data/masks/0.png")
    fields = ("image_size=64", "grid_size=8", "hidden_size=32", "memory_cells=32", "memory_tokens=16")
    command = ["train", "--data", tmp_path / "data", "--output", tmp_path / "o", "--steps", 1, "--backbone", "resnet18"]
    command += ["--backbone-weights", resnet18_weights, *(f"--set={field}" for field in fields)]
    assert main([str(word) for word in command]) == 0
    said = capsys.readouterr().out
    assert (
        "calibrated on 6 good images" in said
        and "left out  6  masks or heatmaps of images beside them (0_mask.png" in said
    )
    assert json.loads((tmp_path / "o/training.json").read_text())["left_out"]["companions"]["count"] == 6


def test_predict_does_not_read_what_it_wrote(checkpoint, tmp_path, capsys):
    for index in range(2):
        photo(tmp_path / f"{index}.png", index)
    for _ in range(2):
        assert main(["predict", str(checkpoint), str(tmp_path), "--output", str(tmp_path)]) == 0
        found = capsys.readouterr()
        assert len(found.out.splitlines()) == 2
    assert (
        "left out  2  masks or heatmaps of images beside them" in found.err
        and len(list(tmp_path.glob("*_heatmap.png"))) == 2
    )


@pytest.mark.parametrize(
    "place",
    ["masks/crack/{0}.png", "GT/{0}.png", "label/{0}_mask.png", "crack/{0}_mask.png", "mask/crack/{0}_mask.png"],
)
def test_masks_are_used_wherever_they_lie(tmp_path, place):
    for index in range(3):
        photo(tmp_path / f"good/g{index}.png", index)
        photo(tmp_path / f"crack/c{index}.jpg", 10 + index)
    wanted = [mask(tmp_path / place.format(f"c{index}")) for index in range(3)]
    data = read_dataset(tmp_path)
    assert [sample.mask for sample in data.test] == wanted and {sample.defect_type for sample in data.test} == {"crack"}
    assert len(data.train) == 3


def test_predict_reads_subfolders_but_no_masks_and_nothing_that_it_wrote(checkpoint, tmp_path, capsys):
    """With --recursive, an output folder inside of what is read, and a second call; --strict sees all folders."""
    photo(tmp_path / "p/a/0.png")
    photo(tmp_path / "p/b/1.png", 1)
    mask(tmp_path / "p/ground_truth/crack/0_mask.png")
    table, line = tmp_path / "r.csv", ["predict", str(checkpoint), str(tmp_path / "p"), "--recursive"]
    for _ in range(2):
        assert main([*line, "--output", str(tmp_path / "p/out"), "--csv", str(table)]) == 0
        assert len(table.read_text().splitlines()) == 3
    said = capsys.readouterr().err
    assert "used      2  image files" in said and "left out  3  masks or heatmaps of images beside them" in said
    assert main([*line, "--output", str(tmp_path / "p")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    (tmp_path / "p/b/notes.txt").touch()
    assert main([*line, "--strict"]) != 0
    said = capsys.readouterr().err
    assert "notes.txt" in said and "0_heatmap.png" in said
    assert [sample.image.name for sample in plain.read(tmp_path / "p", True).train] == ["0.png", "1.png"]


def test_calibration_refuses_a_folder_with_defective_parts_below_it(checkpoint, tmp_path, capsys):
    for index in range(6):
        photo(tmp_path / f"p/good/{index}.png", index)
        photo(tmp_path / f"p/NG/{index}.png", 10 + index)
    assert main(["calibrate", str(checkpoint), "--good", str(tmp_path / "p"), "--recursive"]) != 0
    assert "must hold good images only" in capsys.readouterr().err
