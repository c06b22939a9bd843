"""The table of what was used and left out, in every command that ends with it, and --strict."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_config
from PIL import Image
from trees import write

from ura_hf import TrainingOptions, UserError, evaluate, train
from ura_hf.cli.main import main
from ura_hf.data.left_out import as_record, joined, left_out_of, require_nothing_left_out, used_table
from ura_hf.hub.load import load_detector

TINY = ("image_size=64", "grid_size=8", "hidden_size=32", "memory_cells=16", "memory_tokens=16", "perception_size=16")


def stack(path: Path, pages: int) -> None:
    first, *more = [Image.fromarray(np.full((48, 64), 20 * page, np.uint8)) for page in range(pages)]
    first.save(path, save_all=True, append_images=more)


@pytest.fixture
def messy(tmp_path) -> Path:
    """Four good photos and one of everything else that lies around in folders."""
    root = tmp_path / "photos"
    for index in range(4):
        write(root / f"{index}.png", index)
    shutil.copy(root / "0.png", root / "copy.png")
    shutil.copy(root / "0.png", root / "0_heatmap.png")
    write(root / "old/9.png", 9)
    for name in ("phone.CR2", "scan.psd", "notes.txt", "Thumbs.db", ".hidden"):
        (root / name).touch()
    (root / "broken.png").symlink_to("nowhere.png")
    stack(root / "stack.tif", 3)
    stack(root / "single.tif", 1)
    stack(root / "film.gif", 2)
    return root


def test_what_lies_in_a_folder(messy):
    used = [messy / name for name in ("0.png", "1.png", "2.png", "3.png", "stack.tif", "single.tif", "film.gif")]
    found = left_out_of([messy], used, {"copies": [messy / "copy.png"]})
    assert {reason: sorted(file.name for file in files) for reason, files in found.items()} == {
        "copies": ["copy.png"],
        "companions": ["0_heatmap.png"],
        "in_subfolders": ["9.png"],
        "unreadable_formats": ["phone.CR2", "scan.psd"],
        "broken_links": ["broken.png"],
        "other_files": ["notes.txt"],
    }


def test_the_table():
    record = as_record({"other_files": [Path(f"{index}.txt") for index in range(4)], "copies": [Path("a/b.png")]})
    assert used_table({"good images": 12}, record, {"for testing": 8}).splitlines() == [
        "used      12  good images",
        "kept       8  for testing",
        "left out   1  copies of another image, byte by byte (b.png)",
        "left out   4  files that are no images by name (0.txt, 1.txt, 2.txt, ...)",
    ]
    assert used_table({"good images": 2}, {}) == "used      2  good images\nleft out  0  files"
    assert list(joined({"copies": [Path("a")]}, {"companions": [], "copies": [Path("a")]})) == ["copies"]
    require_nothing_left_out({"copies": []})


def command(tmp_path, *data: Path, more: tuple[str, ...] = ()) -> list[str]:
    places = [word for place in data for word in ("--data", str(place))]
    model = ["--backbone", "uranet-small", "--steps", "1", *(f"--set={field}" for field in TINY)]
    return ["train", *places, "--output", str(tmp_path / "o"), *model, *more]


def test_training_on_several_folders_ends_with_the_table(messy, tmp_path, capsys):
    for index in range(3):
        write(tmp_path / f"more/{index}.png", 20 + index)
    assert main(command(tmp_path, messy, tmp_path / "more", more=("--recursive", "--frames", "first"))) == 0
    said = capsys.readouterr().out
    assert f"used      8  good images of {messy}\nused      3  good images of {tmp_path / 'more'}\n" in said
    assert (
        said.splitlines()[-1]
        == "left out  2  files of whose pages or frames not all are read: --frames chooses (film.gif, stack.tif)"
    )
    record = json.loads((tmp_path / "o/training.json").read_text())
    assert [one["images"] for one in record["sources"]] == [8, 3]
    assert {reason: files["count"] for reason, files in record["left_out"].items()} == {
        "copies": 1,
        "companions": 1,
        "unreadable_formats": 2,
        "broken_links": 1,
        "other_files": 1,
        "later_pages": 2,
    }


def test_strict_training_refuses_before_it_begins(messy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ura_hf.training.train.extract", lambda *given: pytest.fail("trained"))
    assert main(command(tmp_path, messy, more=("--strict",))) == 2
    said = capsys.readouterr().err
    assert "--strict, but files are left out: 1 copies of another image, byte by byte (copy.png); 1 masks" in said
    with pytest.raises(UserError, match="2 good images more than are used, not drawn by the seed"):
        write(tmp_path / "two/a.png", 1), [write(tmp_path / f"two/{index}.png", index + 2) for index in range(3)]
        train(TrainingOptions(tmp_path / "two", tmp_path / "p", limit=2, strict=True), tiny_config())
    assert not (tmp_path / "o/training.json").exists()


def test_evaluation_counts_images_and_masks(checkpoint, category, tmp_path, capsys):
    data = tmp_path / "disc"
    shutil.copytree(category, data)
    arguments = ["evaluate", str(checkpoint), "--data", str(data)]
    assert main([*arguments, "--strict"]) == 0
    used = ("good images", "defective images", "defective images with masks")
    assert capsys.readouterr().out.endswith("".join(f"used      4  {what}\n" for what in used) + "left out  0  files\n")
    (data / "ground_truth/spot/000_mask.png").unlink()
    Image.new("L", (64, 48)).save(data / "ground_truth/spot/001_mask.png")
    (data / "test/spot/readme.txt").touch()
    assert main([*arguments, "--json", str(tmp_path / "r.json")]) == 0
    assert (
        "left out  1  defective images without a mask, which the pixel figures leave out (000.png)"
        in capsys.readouterr().out
    )
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["used"] == {"good images": 4, "defective images": 4, "defective images with masks": 3}
    assert {reason: files["count"] for reason, files in report["left_out"].items()} == {
        "other_files": 1,
        "unmasked": 1,
        "black_masks": 1,
    }
    assert main([*arguments, "--strict"]) == 2
    assert "1 masks that mark nothing" in capsys.readouterr().err
    both = evaluate(load_detector(checkpoint), [category, data])
    assert (both["n_images"], both["dataset"]) == (16, "disc")


def test_calibration_counts_its_photos(checkpoint, category, tmp_path, capsys):
    shutil.copytree(category / "train/good", tmp_path / "good")
    shutil.copytree(category / "test/good", tmp_path / "good/later")
    (tmp_path / "good/notes.txt").touch()
    arguments = ["calibrate", str(checkpoint), "--good", str(tmp_path / "good")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "used      12  good photos\n" in said and "left out   4  images in subfolders" in said
    assert main([*arguments, "--recursive", "--output", str(tmp_path / "o")]) == 0
    assert "used      16  good photos\n" in capsys.readouterr().out
    record = json.loads((tmp_path / "o/training.json").read_text())["recalibrated"]
    assert record["left_out"] == {"other_files": {"count": 1, "first": ["notes.txt"]}}
    assert main([*arguments, "--strict"]) == 2 and "notes.txt" in capsys.readouterr().err
