"""Folders and tables as people have them: what is for training, what for testing, and which masks belong to what."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import write

from ura_hf.data.check import check_category
from ura_hf.data.left_out import left_out_of
from ura_hf.data.masks import defect_of
from ura_hf.data.opening import open_dataset
from ura_hf.data.reader import is_category, read_dataset
from ura_hf.model.errors import UserError


def photos(folder: Path, count: int, first: int = 0, suffix: str = "png") -> None:
    """Different photos 000.png and so on; seeds from `first` on."""
    for index in range(count):
        write(folder / f"{index:03d}.{suffix}", first + index, first >= 100)


def mask(path: Path, column: int = 0) -> Path:
    """A mask of one marked column of pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((48, 64), np.uint8)
    values[:, column] = 255
    Image.fromarray(values).save(path)
    return path


def summary(data) -> tuple[int, int, dict[str, int], int]:
    """Images to train on, good ones to test on, defective ones by type, and masks."""
    types = Counter(sample.defect_type for sample in data.test if sample.label)
    good = sum(not sample.label for sample in data.test)
    return len(data.train), good, dict(types), sum(sample.mask is not None for sample in data.test)


@pytest.mark.parametrize(
    ("good", "bad"),
    [("OK", "NG"), ("good", "bad"), ("Normal", "Abnormal"), ("pass", "fail"), ("Good", "defect"), ("ok", "defective")],
)
def test_folders_of_good_and_defective_images_beside_each_other(tmp_path, good, bad):
    photos(tmp_path / good, 10)
    photos(tmp_path / bad, 3, 100)
    mask(tmp_path / "Masks" / bad / "001.png")
    found = read_dataset(tmp_path)
    assert summary(found) == (8, 2, {bad: 3}, 1) and is_category(tmp_path)
    assert found.notes == [
        "one folder holds all good images: a fixed seed keeps 2 of 10 for testing, in training and in evaluation alike."
    ]
    again = read_dataset(tmp_path, for_training=False)
    assert [sample.image for sample in again.test] == [sample.image for sample in found.test]
    assert not {sample.image for sample in found.train} & {sample.image for sample in found.test}


def test_copies_do_not_lie_on_both_sides_of_the_split(tmp_path):
    photos(tmp_path / "OK", 10)
    for index in range(10):
        (tmp_path / f"OK/{index}-copy.png").write_bytes((tmp_path / f"OK/{index:03d}.png").read_bytes())
    photos(tmp_path / "NG", 1, 100)
    found = read_dataset(tmp_path)
    assert summary(found)[:2] == (8, 2) and len(found.train_left_out["copies"]) == 10


def test_good_images_alone_are_all_for_training(tmp_path):
    photos(tmp_path / "OK", 10)
    assert summary(read_dataset(tmp_path)) == (10, 0, {}, 0)
    photos(tmp_path, 6, 50)  # now they may be an older set of the plain folder's
    assert summary(read_dataset(tmp_path)) == (6, 0, {}, 0)
    photos(tmp_path / "NG", 1, 100)
    found = read_dataset(tmp_path)
    assert summary(found) == (8, 2, {"NG": 1}, 0) and len(found.train_left_out["loose"]) == 6


def test_train_and_test_in_any_letter_case(tmp_path):
    photos(tmp_path / "Train/OK", 4)
    photos(tmp_path / "Train/NG", 2, 100)
    photos(tmp_path / "TEST/Ok", 2, 50)
    photos(tmp_path / "TEST/Scratch", 2, 200)
    mask(tmp_path / "Ground_Truth/scratch/000_mask.png")
    found = read_dataset(tmp_path)
    assert summary(found) == (4, 2, {"Scratch": 2}, 1)
    assert len(found.train_left_out["defective"]) == 2 and "defective" not in found.test_left_out


def test_loco_has_several_masks_of_an_image(tmp_path):
    root = tmp_path / "juice_bottle"
    photos(root / "train/good", 4)
    photos(root / "validation/good", 3, 10)
    photos(root / "test/good", 2, 20)
    for kind in ("logical_anomalies", "structural_anomalies"):
        photos(root / "test" / kind, 2, 100)
        mask(root / f"ground_truth/{kind}/000/000.png", 3)
        mask(root / f"ground_truth/{kind}/001/000.png", 5)
        mask(root / f"ground_truth/{kind}/001/001.png", 7)
    found = read_dataset(root, for_training=False)
    assert summary(found) == (4, 2, {"logical_anomalies": 2, "structural_anomalies": 2}, 4)
    marked = [np.flatnonzero(defect_of(sample, (48, 64))[0]).tolist() for sample in found.test if sample.label]
    assert marked == [[3], [5, 7], [3], [5, 7]]
    assert found.notes == ["2 image(s) have several masks: the defect is where one of them marks it."]
    assert len(found.test_left_out["validation"]) == len(found.train_left_out["validation"]) == 3
    assert not check_category("folder", "juice_bottle", root).problems


def test_mvtec_ad_2(tmp_path):
    photos(tmp_path / "train/good", 4)
    photos(tmp_path / "validation/good", 1, 10)
    photos(tmp_path / "test_public/good", 2, 20)
    photos(tmp_path / "test_public/bad", 2, 100)
    own = [mask(tmp_path / f"test_public/ground_truth/bad/{index:03d}_mask.png") for index in range(2)]
    photos(tmp_path / "test_private", 3, 30)
    photos(tmp_path / "test_private_mixed", 3, 40)
    found = read_dataset(tmp_path, for_training=False)
    assert summary(found) == (4, 2, {"bad": 2}, 2) and [s.mask for s in found.test if s.label] == own
    assert {reason: len(files) for reason, files in found.test_left_out.items()} == {"validation": 1, "unlabelled": 6}


def test_bmad_with_images_and_labels_in_a_type(tmp_path):
    photos(tmp_path / "train/good", 4)
    for split in ("valid", "test"):
        photos(tmp_path / split / "good/img", 2, 20)
        photos(tmp_path / split / "Ungood/img", 2, 100)
        for index in range(2):
            mask(tmp_path / split / f"good/label/{index:03d}.png")
            mask(tmp_path / split / f"Ungood/label/{index:03d}.png")
    found = read_dataset(tmp_path, for_training=False)
    assert summary(found) == (4, 2, {"Ungood": 2}, 2)
    assert [s.mask.name for s in found.test if s.label] == ["000.png", "001.png"]
    mask(tmp_path / "test/Ungood/label/777.png")
    with pytest.raises(UserError, match=r"1 mask\(s\) .* match no test image, e\.g\. test/Ungood/label/777\.png"):
        read_dataset(tmp_path, for_training=False)
    assert len(read_dataset(tmp_path).train_left_out["unmatched_masks"]) == 1


ROWS = [
    *({"image": f"pictures/{index:03d}.png", "label": "OK", "split": "train"} for index in range(4)),
    {"image": "pictures/004.png", "label": "normal", "split": "test"},
    {"image": "pictures/005.png", "label": "0", "split": "validation"},
    {"image": "pictures/006.png", "label": "Scratch", "split": "test", "mask": "marks/6.png"},
    {"image": "pictures/007.png", "label": "1", "split": "test"},
    {"image": "pictures/008.png", "label": "Scratch", "split": "train"},
]


def table(path: Path, rows=ROWS, separator: str = ",") -> Path:
    """Rows as CSV or JSON Lines."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [separator.join(columns), *(separator.join(row.get(key, "") for key in columns) for row in rows)]
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


@pytest.fixture
def pictures(tmp_path) -> Path:
    photos(tmp_path / "pictures", 9)
    mask(tmp_path / "marks/6.png")
    return tmp_path


@pytest.mark.parametrize("name", ["parts.csv", "parts.jsonl"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_a_table_of_images(pictures, name, separator):
    found = open_dataset(table(pictures / name, separator=separator), for_training=False)
    assert summary(found) == (4, 1, {"Scratch": 1, "anomalous": 1}, 1) and found.name == "parts"
    assert {reason: len(files) for reason, files in found.train_left_out.items() if files} == {
        "validation": 1,
        "defective": 1,
    }
    assert found.test[1].mask == pictures / "marks/6.png"


def test_a_table_with_few_columns(pictures):
    names = [{"Image": f"pictures/{index:03d}.png"} for index in range(9)]
    assert summary(open_dataset(table(pictures / "all.csv", names))) == (9, 0, {}, 0)
    labelled = [row | {"label": "good" if index < 8 else "dent"} for index, row in enumerate(names)]
    found = open_dataset(table(pictures / "manifest.jsonl", labelled))
    assert summary(found) == (7, 1, {"dent": 1}, 0) and "1 of 8 for testing" in found.notes[0]
    assert open_dataset(pictures).train == found.train  # found in its folder, too


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file": "pictures/000.png"}], "must name an image in every row, but line 2 does not"),
        ([{"image": "pictures/none.png"}], r"1 image\(s\) .* missing, e\.g\. .*none\.png"),
        ([{"image": "pictures/000.png"}] * 2, "twice"),
        (
            [{"image": "pictures/000.png", "split": "later"}],
            "line 2: split must be train, test or validation, but got 'later'",
        ),
        ([{"image": "pictures/000.png", "label": ""}], "line 2: label is empty"),
        ([{"image": "../000.png"}], "leads outside of its folder"),
        ([], "must name an image"),
    ],
)
def test_tables_that_can_not_be_used(pictures, rows, message):
    table(pictures / "manifest.csv", rows)
    with pytest.raises(UserError, match=message):
        open_dataset(pictures)


@pytest.mark.parametrize("text", ["{", "[1]\n", "\xff"])
def test_files_that_are_no_tables(tmp_path, text):
    (tmp_path / "a.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.jsonl (is no table that can be read|must hold one JSON object a line)"):
        open_dataset(tmp_path / "a.jsonl")


def test_a_missing_mask_keeps_nobody_from_training(pictures):
    (pictures / "marks/6.png").unlink()
    path = table(pictures / "parts.csv")
    assert open_dataset(path).train_left_out["missing_masks"] == [pictures / "marks/6.png"]
    with pytest.raises(UserError, match=r"1 mask\(s\) that .*parts\.csv names are missing"):
        open_dataset(path, for_training=False)


def test_subfolders_of_good_images(tmp_path):
    photos(tmp_path, 2)
    photos(tmp_path / "monday/early", 3, 10)
    photos(tmp_path / "monday/late", 3, 20)
    mask(tmp_path / "monday/late/masks/000.png")
    assert summary(open_dataset(tmp_path)) == (2, 0, {}, 0)
    found = open_dataset(tmp_path, recursive=True)
    assert summary(found) == (8, 0, {}, 0) and len(found.train_left_out["companions"]) == 1
    photos(tmp_path / "tuesday/NG", 1, 100)
    with pytest.raises(UserError, match=r"by its name .*tuesday/NG holds defective ones"):
        open_dataset(tmp_path, recursive=True)


def test_links_to_folders_multiply_no_photo(tmp_path):
    photos(tmp_path / "a/z", 3)
    photos(root := tmp_path / "a", 2, 10)
    photos(tmp_path / "away", 2, 20)
    for name, target in (("loop", "."), ("b", "z"), ("away", "../away"), ("again", "../away")):
        (root / name).symlink_to(target, target_is_directory=True)
    found = open_dataset(root, recursive=True)
    used = [sample.image for sample in found.train]
    assert Counter(str(image.parent.relative_to(root)) for image in used) == {".": 2, "z": 3, "again": 2}
    assert left_out_of(found.train_folders, used, found.train_left_out) == {}


def test_several_sources_are_read_together(tmp_path):
    photos(tmp_path / "a", 3)
    photos(tmp_path / "b/OK", 5, 10)
    photos(tmp_path / "b/NG", 2, 100)
    found = open_dataset([tmp_path / "a", tmp_path / "b"])
    assert summary(found) == (7, 1, {"NG": 2}, 0) and found.name == "a + b"
    assert found.notes[0].startswith("b: one folder holds all good images")
    with pytest.raises(UserError, match=r"names .*a twice"):
        open_dataset([tmp_path / "a", f"{tmp_path}/a/"])
    with pytest.raises(UserError, match="names nothing"):
        open_dataset([])


@pytest.mark.parametrize("name", ["labels", "class", "Defect_Type"])
def test_labels_of_a_table_may_have_another_name(tmp_path, name):
    """Else all its images would be good ones; columns that mean nothing here are said."""
    photos(tmp_path, 4)
    rows = "".join(f"00{index}.png,{'good' if index < 3 else 'scratch'},cam{index}\n" for index in range(4))
    (tmp_path / "t.csv").write_text(f"image,{name},camera\n{rows}")
    found = read_dataset(tmp_path / "t.csv")
    assert [sample.image.name for sample in found.test if sample.label] == ["003.png"] and len(found.train) < 4
    assert f"columns of {tmp_path / 't.csv'} that are not read: camera." in found.notes
