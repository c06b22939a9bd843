"""The three folder layouts, and what is said about folders that have none of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from ura_hf.data.folder import distinct, images_below, list_images, other_files
from ura_hf.data.reader import read_dataset
from ura_hf.model.errors import UserError


def images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("L", (4, 4)).save(folder / name)


@pytest.fixture
def mvtec(tmp_path) -> Path:
    root = tmp_path / "bottle"
    images(root / "train" / "good", "10.png", "2.png", "1.JPG")
    images(root / "test" / "good", "0.png")
    images(root / "test" / "crack", "0.png", "1.png", "2.png")
    images(root / "test" / "scratch", "0.png")
    images(root / "ground_truth" / "crack", "0_mask.png", "1.bmp")
    return root


def test_mvtec_layout(mvtec):
    dataset = read_dataset(mvtec)
    assert dataset.name == "bottle" and dataset.root == mvtec
    assert [s.image.name for s in dataset.train] == ["1.JPG", "2.png", "10.png"]
    assert {(s.label, s.defect_type, s.mask) for s in dataset.train} == {(0, "good", None)}
    masks = mvtec / "ground_truth" / "crack"
    assert [(s.image.name, s.label, s.defect_type, s.mask) for s in dataset.test] == [
        ("0.png", 1, "crack", masks / "0_mask.png"),
        ("1.png", 1, "crack", masks / "1.bmp"),
        ("2.png", 1, "crack", None),
        ("0.png", 0, "good", None),
        ("0.png", 1, "scratch", None),
    ]


def test_name_comes_from_the_resolved_folder(mvtec, monkeypatch):
    monkeypatch.chdir(mvtec)
    assert read_dataset(".").name == "bottle"


def test_mvtec_layout_without_masks_and_without_test(tmp_path):
    images(tmp_path / "train" / "good", "a.png", "b.png")
    assert read_dataset(tmp_path).test == []
    images(tmp_path / "test" / "hole", "a.png")
    assert [s.mask for s in read_dataset(tmp_path).test] == [None]


def test_good_and_defect_folders(tmp_path):
    images(tmp_path / "good", "a.png", "b.png")
    images(tmp_path / "hole", "x.png")
    images(tmp_path / "ground_truth" / "hole", "x.png")
    dataset = read_dataset(str(tmp_path))
    assert [s.image.name for s in dataset.train] == ["a.png", "b.png"]
    assert [(s.defect_type, s.label, s.mask) for s in dataset.test] == [
        ("hole", 1, tmp_path / "ground_truth" / "hole" / "x.png")
    ]


def test_plain_folder_takes_only_its_own_images(tmp_path):
    images(tmp_path, "b10.png", "b9.png", "._b1.png")
    images(tmp_path / "old", "c.png")
    dataset = read_dataset(tmp_path)
    assert [s.image.name for s in dataset.train] == ["b9.png", "b10.png"] and dataset.test == []


def test_list_images_recursive(tmp_path):
    images(tmp_path, "2.png")
    images(tmp_path / "sub", "1.tiff")
    (tmp_path / "notes.txt").touch()
    assert list_images(tmp_path) == [tmp_path / "2.png"]
    assert set(list_images(tmp_path, recursive=True)) == {tmp_path / "2.png", tmp_path / "sub" / "1.tiff"}
    (tmp_path / "sub/.ipynb_checkpoints").mkdir()
    shutil.copy(tmp_path / "2.png", tmp_path / "sub/.ipynb_checkpoints/1-checkpoint.png")
    assert len(list_images(tmp_path, recursive=True)) == 2
    (tmp_path / ".kept/photos").mkdir(parents=True)  # a hidden folder that is asked for is read
    shutil.copy(tmp_path / "2.png", tmp_path / ".kept/photos")
    assert len(list_images(tmp_path / ".kept/photos", recursive=True)) == 1


def test_no_image_is_passed_over_for_its_ending(tmp_path):
    names = ["a.jfif", "b.JPE", "c.jp2", "d.j2k", "e.pnm", "f.pbm", "g.dib"]
    images(tmp_path, *names)
    for name in ("note2.txt", "note10.txt", ".hidden"):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == names
    assert other_files(tmp_path) == [tmp_path / "note2.txt", tmp_path / "note10.txt"]


def test_odd_digits_in_names_sort(tmp_path):
    images(tmp_path, "a².png", "a2.png", "2.png", "b.png")
    assert [p.name for p in list_images(tmp_path)] == ["2.png", "a2.png", "a².png", "b.png"]


def test_missing_folder_and_file(tmp_path):
    with pytest.raises(UserError, match=r"not found: .*none"):
        read_dataset(tmp_path / "none")
    images(tmp_path, "a.png")
    with pytest.raises(UserError, match=r"must be a folder or a table .*, but got another file: .*a\.png"):
        read_dataset(tmp_path / "a.png")


def test_no_images_says_what_was_found(tmp_path):
    with pytest.raises(UserError, match=r"^\S+ is empty: put images of good parts there, or correct the path$"):
        read_dataset(tmp_path)
    for name in ("a.txt", "b.txt", "c.csv"):
        (tmp_path / name).touch()
    (tmp_path / "docs").mkdir()
    with pytest.raises(UserError, match=r"found 3 other file\(s\) \(\.txt, \.csv\) and subfolder\(s\) docs in"):
        read_dataset(tmp_path)


def test_folder_of_datasets_suggests_one(mvtec):
    with pytest.raises(UserError, match=r"did you mean .*bottle"):
        read_dataset(mvtec.parent)


@pytest.mark.parametrize("make", [False, True])
def test_train_without_good(tmp_path, make):
    images(tmp_path / "train" / "fine", "a.png", "b.png")
    if make:
        (tmp_path / "train" / "good").mkdir()
    with pytest.raises(UserError, match=r"/good is empty: " if make else r"no good training images in .*good"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("folder", ["train/good", "good", "."])
def test_one_training_image_is_too_few(tmp_path, folder):
    images(tmp_path / folder, "a.png")
    with pytest.raises(UserError, match=r"only one image in .*at least 2 .*20 or more"):
        read_dataset(tmp_path)


def test_masks_that_match_no_image(mvtec):
    images(mvtec / "ground_truth" / "crack", "8_mask.png", "9_mask.png")
    images(mvtec / "ground_truth" / "dent", "10_mask.png")
    with pytest.raises(UserError, match=r"3 mask\(s\) in .*ground_truth match no test image, e\.g\. crack/8_mask\.png"):
        read_dataset(mvtec, for_training=False)
    left_out = read_dataset(mvtec).train_left_out  # wrong masks are said, and do not keep from training
    assert len(left_out["unmatched_masks"]) == 3


def test_masks_outside_a_type_folder_match_no_image(mvtec):
    images(mvtec / "ground_truth", "0_mask.png")
    with pytest.raises(UserError, match=r"1 mask\(s\).*e\.g\. 0_mask\.png"):
        read_dataset(mvtec, for_training=False)


def test_a_mask_of_two_images_is_nobodys(mvtec):
    images(mvtec / "test" / "crack", "0.bmp")
    with pytest.raises(
        UserError, match=r"crack holds 2 images named 0, so it is not known whose mask .*0_mask\.png is"
    ):
        read_dataset(mvtec, for_training=False)
    assert [sample.mask for sample in read_dataset(mvtec).test if sample.image.stem == "0"] == [None] * 4
    images(mvtec / "test" / "scratch", "0.bmp")  # without masks names need not differ
    (mvtec / "test/crack/0.bmp").unlink()
    assert sum(sample.defect_type == "scratch" for sample in read_dataset(mvtec).test) == 2


def test_copies_and_images_below(tmp_path):
    images(tmp_path, "a.png", "b.png")
    Image.new("L", (4, 4)).save(tmp_path / "a.bmp")
    Image.new("L", (4, 4), 9).save(tmp_path / "c.bmp")  # as many bytes, and others
    Image.new("L", (5, 5)).save(tmp_path / "c.png")
    images(tmp_path / "sub/deeper", "d.png")
    images(tmp_path / ".hidden", "e.png")
    assert [path.name for path in distinct(list_images(tmp_path))] == ["a.bmp", "a.png", "c.bmp", "c.png"]
    assert [path.name for path in images_below(tmp_path)] == ["d.png"]


def test_masks_of_good_images_are_passed_over(mvtec):
    images(mvtec / "ground_truth" / "good", "0_mask.png", "77_mask.png")
    assert all(s.mask is None for s in read_dataset(mvtec).test if s.label == 0)


def test_test_images_outside_a_type_folder(mvtec):
    images(mvtec / "test", "stray.png")
    with pytest.raises(UserError, match=r"1 directly in it, e\.g\. stray\.png"):
        read_dataset(mvtec)


def test_real_dataset(shared_dir):
    roots = sorted(path.parent.parent for path in (shared_dir / "data").glob("**/train/good"))
    if not roots:
        pytest.skip(f"no train/good below {shared_dir / 'data'}")
    dataset = read_dataset(roots[0])
    assert len(dataset.train) > 2 and {s.label for s in dataset.test} == {0, 1}
