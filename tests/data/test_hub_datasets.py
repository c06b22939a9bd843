"""Training and test images from datasets of the package `datasets`: on disk, as Parquet, and on the (test) Hub."""

from __future__ import annotations

import io
import json
import shutil
import sys

import datasets
import numpy as np
import pytest
from conftest import HUB, draw_part, tiny_config
from PIL import Image

from ura_hf import TrainingOptions, UserError, train
from ura_hf.cli.main import main
from ura_hf.data.files import files_fingerprint
from ura_hf.data.hub_datasets import is_table
from ura_hf.data.opening import open_dataset
from ura_hf.evaluation.evaluate import evaluate
from ura_hf.hub.load import load_detector

FEATURES = datasets.Features(
    image=datasets.Image(), mask=datasets.Image(), label=datasets.ClassLabel(names=["Good", "spot"])
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """So that no test finds the images that another one wrote."""
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))


def encoded(picture: np.ndarray, kind: str = "PNG") -> dict[str, object]:
    sink = io.BytesIO()
    Image.fromarray(picture).save(sink, format=kind)
    return {"bytes": sink.getvalue(), "path": None}


def table(good: int, spotted: int = 0, first: int = 0) -> datasets.Dataset:
    """Good discs, then spotted ones with masks, as they are in `category`."""
    rows = [draw_part(first + index) for index in range(good)]
    rows += [draw_part(first + 200 + index, defect=True) for index in range(spotted)]
    masks = [encoded(mask.astype(np.uint8) * 255) if mask.any() else None for _, mask in rows]
    columns = {"image": [encoded(picture) for picture, _ in rows], "mask": masks, "label": [0] * good + [1] * spotted}
    return datasets.Dataset.from_dict(columns, FEATURES)


def plain(images: list[dict[str, object]], **columns: list[object]) -> datasets.Dataset:
    features = {"image": datasets.Image()}
    features |= {name: datasets.Value("string" if isinstance(v[0], str) else "int64") for name, v in columns.items()}
    return datasets.Dataset.from_dict({"image": images, **columns}, datasets.Features(features))


@pytest.fixture(scope="module")
def discs() -> datasets.DatasetDict:
    return datasets.DatasetDict(train=table(6, 2), test=table(3, 3, first=100))


def saved(discs, folder):
    discs.save_to_disk(folder)
    return folder


def as_parquet(discs, folder):
    for name, split in discs.items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        split.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def on_the_hub(discs, folder):
    files = {f"data/{path.name}": path.read_bytes() for path in (as_parquet(discs, folder) / "data").iterdir()}
    HUB.add_repo("datasets/tester/discs", files)
    return "tester/discs"


@pytest.mark.parametrize("place", [saved, as_parquet, on_the_hub])
def test_images_come_as_they_are_encoded(discs, tmp_path, place):
    data = place(discs, tmp_path / "discs")
    assert is_table(data)
    found = open_dataset(data)
    assert found.name == "discs" and found.test == []
    assert [path.name for path in found.train_left_out["defective"]] == ["000006", "000007"]
    wanted = discs["train"].cast_column("image", datasets.Image(decode=False))["image"][:6]
    assert [sample.image.read_bytes() for sample in found.train] == [image["bytes"] for image in wanted]
    found = open_dataset(data, for_training=False)
    assert [(sample.label, sample.defect_type) for sample in found.test] == [(0, "good")] * 3 + [(1, "spot")] * 3
    assert [sample.mask is not None for sample in found.test] == [False] * 3 + [True] * 3
    assert np.array_equal(np.asarray(Image.open(found.test[-1].mask)) > 0, draw_part(302, defect=True)[1])


def test_the_same_dataset_gives_the_same_files_also_where_they_were_lost(discs, tmp_path):
    data = saved(discs, tmp_path / "discs")
    first = [sample.image for sample in open_dataset(data).train]
    before = files_fingerprint(first)
    times = [path.stat().st_ctime_ns for path in first]
    assert [sample.image for sample in open_dataset(data).train] == first
    assert [path.stat().st_ctime_ns for path in first] == times  # not written again
    for path in first:
        path.unlink()
    first[0].parent.rmdir(), first[0].parent.parent.rmdir(), first[0].parent.parent.parent.rmdir()
    again = [sample.image for sample in open_dataset(data).train]
    assert again == first and files_fingerprint(again) == before
    other = saved(datasets.DatasetDict(train=table(5, first=50)), tmp_path / "others" / "discs")
    assert len(open_dataset(other).train) == 5  # same name, other images


def test_an_interrupted_writing_begins_again(discs, tmp_path, monkeypatch):
    data = saved(discs, tmp_path / "discs")
    write, written = "ura_hf.data.hub_datasets._write_file", []

    def stop(stem, file):
        written.append(stem)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(write, stop)
        with pytest.raises(KeyboardInterrupt):
            open_dataset(data)
    assert written and len(open_dataset(data).train) == 6


@pytest.mark.parametrize("name", ["discs", "tester/discs"])
def test_train_and_evaluate(discs, tmp_path, resnet18_weights, capsys, name):
    """A killed run goes on, as the images are the same files; the checkpoint's records name the dataset and no cache."""
    on_disk = name == "discs"
    data = saved(discs, tmp_path / name) if on_disk else on_the_hub(discs, tmp_path / "files")
    options = TrainingOptions(data, tmp_path / "o", resnet18_weights, steps=2, batch_size=2)

    def stop(stage, done, total, losses=None):
        if stage == "calibration":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options, tiny_config(), progress=stop)
    record = train(options, tiny_config())
    assert record["resumed"] and record["good_images"] == 6 and record["options"]["data"] == str(data)
    assert evaluate(load_detector(tmp_path / "o"), data)["n_images"] == 6
    arguments = ["evaluate", tmp_path / "o", "--data", data, "--json", tmp_path / "figures.json"]
    assert main([str(argument) for argument in arguments]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["dataset"] == "discs" and list(figures["per_type"]) == ["spot"]
    assert "spot" in capsys.readouterr().out


def test_the_train_command_takes_a_name_of_the_hub(discs, tmp_path, capsys):
    data = on_the_hub(discs, tmp_path / "files")
    small = (
        "image_size=64",
        "grid_size=8",
        "hidden_size=32",
        "num_hidden_layers=1",
        "memory_tokens=16",
        "memory_cells=32",
    )
    arguments = ["train", "--data", data, "--output", tmp_path / "o", "--backbone", "uranet-small", "--steps", 1]
    assert main([str(a) for a in arguments] + [f"--set={field}" for field in small]) == 0
    assert "trained and calibrated on 6 good images" in capsys.readouterr().out


def test_without_labels_all_images_are_good(tmp_path):
    images = [encoded(draw_part(index)[0]) for index in range(4)]
    data = saved(plain(images), tmp_path / "photos")
    assert len(open_dataset(data).train) == 4
    with pytest.raises(UserError, match="has no column label or labels"):
        open_dataset(data, for_training=False)


@pytest.mark.parametrize(
    ("labels", "types"),
    [
        ({"label": [0, 0, 0, 1]}, ["anomalous"]),
        ({"labels": ["ok", "NORMAL", "good", "../bad kind"]}, ["bad_kind"]),
        ({"label": ["good", "good", "good", "ground_truth"]}, ["anomalous"]),
    ],
)
def test_labels_without_class_names(tmp_path, labels, types):
    data = saved(plain([encoded(draw_part(index)[0]) for index in range(4)], **labels), tmp_path / "photos")
    assert len(open_dataset(data).train) == 3
    test = sorted(open_dataset(data, for_training=False).test, key=lambda sample: sample.image.name)
    assert [sample.defect_type for sample in test] == types  # of three good images none is for testing
    assert all(sample.image.is_relative_to(tmp_path / "assets") for sample in test)


def test_a_table_without_splits_is_divided_alike_in_training_and_evaluation(tmp_path):
    """As a folder with OK and NG is: a fifth of the good images is for testing, and a copy for neither."""
    images = [encoded(draw_part(index, index > 9)[0]) for index in range(12)]
    data = saved(plain([*images, images[3]], label=[0] * 10 + [1, 1, 0]), tmp_path / "photos")
    train_part, test_part = open_dataset(data), open_dataset(data, for_training=False)
    learnt = {sample.image.read_bytes() for sample in train_part.train}
    tested = {sample.image.read_bytes() for sample in test_part.test if not sample.label}
    assert len(learnt) == 8 and len(tested) == 2 and not learnt & tested
    assert sum(sample.label for sample in test_part.test) == 2
    assert "a fixed seed keeps 2 of 10 for testing" in train_part.notes[-1] == test_part.notes[-1]
    assert len(train_part.train_left_out["copies"]) == len(test_part.test_left_out["copies"]) == 1


def test_a_row_without_an_image_is_named(tmp_path):
    data = saved(plain([encoded(draw_part(0)[0]), None]), tmp_path / "photos")
    with pytest.raises(UserError, match="row 1 holds no image: fill it or remove it"):
        open_dataset(data)


def test_what_the_labels_do_not_say(tmp_path):
    images = [encoded(draw_part(index)[0]) for index in range(3)]
    for number, labels in enumerate(([0, 0, 2], [0, None, 1], [-1, 0, 0])):
        data = saved(plain(images, label=labels), tmp_path / str(number))
        with pytest.raises(
            UserError, match="label must hold names of classes, or 0 for good images and 1 for others, but"
        ):
            open_dataset(data)
    with pytest.raises(UserError, match="no good images in its split train"):
        open_dataset(saved(plain(images, label=[1, 1, 1]), tmp_path / "bad"))
    unnamed = table(3).cast_column("label", datasets.ClassLabel(names=["cat", "dog"]))
    with pytest.raises(UserError, match="must be named good or ok or normal or pass, but the classes are cat, dog"):
        open_dataset(saved(unnamed, tmp_path / "unnamed"))


@pytest.mark.parametrize("kind", ["large_string", "string_view"])
def test_text_of_every_type_is_a_label(tmp_path, kind):
    split = plain([encoded(draw_part(index)[0]) for index in range(3)], label=["good", "good", "spot"])
    try:
        split = split.cast_column("label", datasets.Value(kind))
    except Exception as error:  # of a version of pyarrow that can't cast to it
        pytest.skip(str(error))
    data = saved(split, tmp_path / "photos")
    assert [sample.defect_type for sample in open_dataset(data, for_training=False).test] == ["spot"]
    assert [sample.defect_type for sample in open_dataset(data).train] == ["good", "good"]


@pytest.mark.parametrize(
    ("values", "feature"),
    [([0.0, 1.0, 0.0], datasets.Value("float64")), ([[0], [1], [0]], datasets.List(datasets.Value("int64")))],
)
def test_labels_of_other_types_are_refused(tmp_path, values, feature):
    split = datasets.Dataset.from_dict({"image": [encoded(draw_part(index)[0]) for index in range(3)], "label": values})
    split = split.cast(datasets.Features(image=datasets.Image(), label=feature))
    with pytest.raises(
        UserError, match="label must hold names of classes, or 0 for good images and 1 for others, but it"
    ):
        open_dataset(saved(split, tmp_path / "photos"))


def test_which_column_holds_the_images(tmp_path):
    pictures = table(3).select_columns(["image", "mask"])
    assert len(open_dataset(saved(pictures.rename_column("image", "photo"), tmp_path / "one")).train) == 3
    two = pictures.add_column("depth", [None] * 3, feature=datasets.Image())
    assert len(open_dataset(saved(two, tmp_path / "two")).train) == 3
    with pytest.raises(UserError, match=r"but 2 of its columns photo, mask, depth hold images"):
        open_dataset(saved(two.rename_column("image", "photo"), tmp_path / "unclear"))
    with pytest.raises(UserError, match="but none of its columns text hold images"):
        open_dataset(saved(datasets.Dataset.from_dict({"text": ["a"]}), tmp_path / "text"))


def test_files_that_the_dataset_names(tmp_path):
    """Paths in place of bytes, other formats, and what is no image: that one is named when it is read."""
    Image.fromarray(draw_part(0)[0]).save(tmp_path / "disc.bmp")
    images = [{"bytes": None, "path": str(tmp_path / "disc.bmp")}, encoded(draw_part(1)[0], "JPEG")]
    found = open_dataset(saved(plain([*images, {"bytes": b"text", "path": None}]), tmp_path / "photos"))
    assert [sample.image.suffix for sample in found.train] == [".bmp", ".jpg", ".png"]
    assert found.train[0].image.read_bytes() == (tmp_path / "disc.bmp").read_bytes()


def test_splits_that_are_missing(discs, tmp_path):
    only_train = saved(datasets.DatasetDict(train=discs["train"]), tmp_path / "train")
    with pytest.raises(UserError, match="has the splits train, but the split test is needed"):
        open_dataset(only_train, for_training=False)
    only_test = saved(datasets.DatasetDict(test=discs["test"]), tmp_path / "test")
    with pytest.raises(UserError, match="has the splits test, but the split train is needed"):
        open_dataset(only_test)
    named = saved(datasets.DatasetDict(everything=discs["train"]), tmp_path / "one")
    assert len(open_dataset(named).train) == 6
    as_parquet({"train": discs["train"]}, tmp_path / "files")
    loaded = datasets.load_dataset(str(tmp_path / "files"), split="train")
    with pytest.raises(UserError, match="is the split train, but a test split is needed"):
        open_dataset(saved(loaded, tmp_path / "alone"), for_training=False)
    as_parquet({"test": discs["test"]}, tmp_path / "more")
    loaded = datasets.load_dataset(str(tmp_path / "more"), split="test")
    with pytest.raises(UserError, match="is the split test, but a train split is needed"):
        open_dataset(saved(loaded, tmp_path / "tested"))


def test_what_can_not_be_loaded_is_said(tmp_path, monkeypatch, capsys):
    assert main(["train", "--data", "tester/nothing", "--output", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert "There is no folder tester/nothing, so the Hugging Face Hub is asked" in said
    assert "there is no folder tester/nothing, and the Hugging Face Hub has no dataset of this name" in said
    assert HUB.requests.count(("GET", "/api/datasets/tester/nothing")) == 1
    HUB.fail_next = 1
    with pytest.raises(UserError, match=r"can't be asked for a dataset of this name .*HF_HUB_OFFLINE=1"):
        open_dataset("tester/unreachable")
    assert HUB.fail_next == 0
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/train.parquet").write_bytes(b"text")
    with pytest.raises(UserError, match="broken: it could not be loaded"):
        open_dataset(tmp_path / "broken")


def test_a_mistyped_path_is_no_name_of_the_hub(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    HUB.reset()
    assert main(["train", "--data", "data/bottel", "--output", "o"]) == 2
    assert "uranet: dataset folder not found: data/bottel; check the path" in capsys.readouterr().err
    assert HUB.requests == []


def test_the_package_that_is_needed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets, .*: run pip install '\.\[datasets\]'"):
        open_dataset("tester/discs")


def test_folders_of_images_are_read_as_before(category, tmp_path):
    assert not any(is_table(folder) for folder in (category, tmp_path, category / "nowhere", "../nowhere", "nowhere"))
    assert len(open_dataset(category).train) == 12 and open_dataset(category).test
    tests = tmp_path / "tests"
    shutil.copytree(category / "test", tests / "test")
    (tests / "test/notes.parquet").touch()
    assert not is_table(tests) and len(open_dataset(tests, for_training=False).test) == 8
