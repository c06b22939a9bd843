"""The command line: what it prints, writes and answers to wrong input."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, draw_part
from PIL import Image

import ura_hf
from ura_hf import TrainingOptions, URANetConfig
from ura_hf.cli.main import main
from ura_hf.cli.predict import output_names
from ura_hf.data.records import METRIC_KEYS
from ura_hf.evaluation.evaluate import IMAGE_COLUMNS
from ura_hf.model.verdicts import LABELS
from ura_hf.training.options import MAX_IMAGES, STEPS


def fails(capsys, *arguments: object) -> str:
    """The one line that a command with wrong input prints."""
    assert main([str(a) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("uranet: ")]
    assert lines, error
    return lines[-1]


def test_train_command_end_to_end(category, resnet18_weights, tmp_path, capsys):
    arguments = ["train", "--data", category, "--output", tmp_path / "o", "--backbone", "resnet18"]
    arguments += ["--backbone-weights", resnet18_weights, "--image-size", 64, "--grid-size", 8, "--steps", 2]
    fields = ("hidden_size=32", "num_hidden_layers=1", "memory_tokens=16", "memory_cells=32")
    arguments += [f"--set={field}" for field in fields]
    shutil.copytree(category, data := tmp_path / "disc")
    arguments[2] = data
    shutil.copy(data / "train/good/000.png", data / "train/good/copy.png")
    shutil.copytree(data / "test/good", data / "train/good/more")
    assert main([str(a) for a in arguments]) == 0
    assert "trained and calibrated on 12 good images" in (out := capsys.readouterr().out)
    assert "left out   1  copies of another image, byte by byte (copy.png)" in out
    assert "Expect 5.0 % of good parts to be called anomalous" in out and "what 12 photos can tell" in out
    unusual = json.loads((tmp_path / "o/training.json").read_text())["most_unusual"]
    assert len(unusual) == 5 and [one["rank"] for one in unusual] == sorted(
        (one["rank"] for one in unusual), reverse=True
    )
    assert f"are these really good? {unusual[0]['file']} (1 in {unusual[0]['rank']:.0f})" in out
    assert f"used      12  good images of {data}" in out
    assert "kept       8  for testing; 4 of them are defective, 4 of these have a mask" in out
    assert f"left out   {len(list((data / 'test/good').iterdir()))}  images in subfolders" in out
    config = json.loads((tmp_path / "o" / "config.json").read_text())
    assert (config["image_size"], config["grid_size"], config["hidden_size"]) == (64, 8, 32)
    assert config["image_threshold"] > 0


def test_train_says_when_it_leaves_images_out(category, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ura_hf.training.material.MAX_IMAGES", 8)
    arguments = ["train", "--data", category, "--output", tmp_path / "o", "--backbone", "uranet-small", "--steps", 1]
    fields = (
        "image_size=64",
        "grid_size=8",
        "hidden_size=32",
        "num_hidden_layers=1",
        "memory_tokens=16",
        "memory_cells=32",
    )
    assert main([str(a) for a in arguments] + [f"--set={field}" for field in fields]) == 0
    assert "left out  4  good images more than are used, not drawn by the seed" in capsys.readouterr().out


def test_evaluate_writes_the_promised_keys(checkpoint, category, tmp_path, capsys):
    files = ["--json", str(tmp_path / "r.json"), "--images", str(tmp_path / "r.csv")]
    assert main(["evaluate", str(checkpoint), "--data", str(category), *files]) == 0
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "r.json").read_text())
    with (tmp_path / "r.csv").open(newline="", encoding="utf-8-sig") as file:
        images = list(csv.DictReader(file))
    assert len(images) == result["n_images"] and set(images[0]) == set(IMAGE_COLUMNS)
    spots = [one for one in images if one["label"] == "1"]
    assert {one["defect_type"] for one in spots} == {"spot"} and all("/spot/" in one["image"] for one in spots)
    missed = [float(one["score"]) <= 0.5 for one in spots]
    assert sum(missed) / len(spots) == result["at_threshold"]["miss_rate"]
    assert all(
        (one["verdict"] == "anomalous") == (float(one["score"]) > 0.5) or one["verdict"] == "unknown" for one in images
    )
    assert set(METRIC_KEYS) <= set(result)
    assert list(result["per_type"]) == ["spot"]
    assert all(sum(result["verdicts"][kind].values()) == pytest.approx(1) for kind in ("good", "defective"))
    assert result["verdicts"]["good"]["anomalous"] <= result["at_threshold"]["false_alarm_rate"] + 1e-9
    assert result["image_auroc"] > 0.9 and result["pixel_auroc"] > 0.8
    assert f"{result['aupro']:.4f}" in printed and "spot" in printed and "false alarms" in printed


def test_predict_writes_heatmap_and_raw_map(checkpoint, category, tmp_path, capsys):
    image = category / "test/spot/000.png"
    assert main(["predict", str(checkpoint), str(image), "--output", str(tmp_path), "--maps", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["label"] in LABELS and 0 < shown["score"] < 1 and shown["rank"] > 1
    raw = np.load(shown["map"])
    assert raw.dtype == np.float32 and raw.shape == (48, 64)
    assert Image.open(shown["heatmap"]).size == (64, 48)
    mask = np.asarray(Image.open(category / "ground_truth/spot/000_mask.png")) > 0
    assert raw[mask].mean() > 1.4 * raw[~mask].mean()  # sums of logarithms: a ratio of residuals is a difference here


@pytest.mark.parametrize("more", [[], ["--output", "out"]])
def test_predict_decodes_every_image_once(checkpoint, category, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    opened, plain = [], Image.open

    def counting(source, *arguments, **keywords):
        if isinstance(source, io.BytesIO):  # what is decoded; pictures of the package are opened by their path
            opened.append(source.getvalue())
        return plain(source, *arguments, **keywords)

    monkeypatch.setattr(Image, "open", counting)
    images = sorted((category / "test/spot").iterdir())
    assert main(["predict", str(checkpoint), *map(str, images), *more]) == 0
    assert sorted(opened) == sorted(path.read_bytes() for path in images)


def test_predict_keeps_images_of_one_name_apart(checkpoint, category, tmp_path, capsys):
    images = [category / "test/spot/000.png", category / "test/good/000.png", category / "test/good/001.png"]
    shutil.copy(images[0], tmp_path / "a.png")
    shutil.copy(images[1], tmp_path / "a.bmp")
    out = tmp_path / "out"
    assert main(["predict", str(checkpoint), *map(str, images), "--output", str(out), "--maps"]) == 0
    assert {str(path.relative_to(out)) for path in out.rglob("*.npy")} == {
        "spot/000_map.npy",
        "good/000_map.npy",
        "good/001_map.npy",
    }
    assert not np.array_equal(np.load(out / "spot/000_map.npy"), np.load(out / "good/000_map.npy"))
    same = [str(tmp_path / "a.png"), str(tmp_path / "a.bmp")]
    assert main(["predict", str(checkpoint), *same, "--output", str(out), "--maps"]) == 0
    assert (out / "a.png_map.npy").exists() and (out / "a.bmp_map.npy").exists()
    names = output_names([tmp_path / name for name in ("a.png", "a.bmp", "a.png.png", "b.png")])
    assert list(names.values()) == ["a.png", "a.bmp", "a.png (2)", "b"]


def test_train_says_what_12_bit_images_need(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ura_hf.training.train.train", lambda *arguments, **more: pytest.fail("trained"))
    for folder, high in (("twelve", 4000), ("sixteen", 60000)):
        (tmp_path / folder).mkdir()
        for index in range(3):
            Image.fromarray(np.full((40, 40), high - index, np.uint16)).save(tmp_path / folder / f"{index}.png")
        arguments = ["train", "--data", tmp_path / folder, "--output", tmp_path / "o", "--backbone", "uranet-small"]
        with pytest.raises(pytest.fail.Exception):
            main([str(a) for a in arguments])
        assert ("train with --max-value 4095" in capsys.readouterr().err) == (folder == "twelve")


def test_evaluate_without_good_images_says_what_is_missing(checkpoint, category, tmp_path, capsys):
    shutil.copytree(category, tmp_path / "disc")
    shutil.rmtree(tmp_path / "disc/test/good")
    assert main(["evaluate", str(checkpoint), "--data", str(tmp_path / "disc")]) == 0
    out = capsys.readouterr().out
    assert "% misses" in out and "false alarms" not in out and "put some into test/good" in out


def test_evaluate_needs_no_training_images(checkpoint, category, tmp_path):
    shutil.copytree(category, tmp_path / "disc")
    shutil.rmtree(tmp_path / "disc/train")
    result = tmp_path / "result.json"
    assert main(["evaluate", str(checkpoint), "--data", str(tmp_path / "disc"), "--json", str(result)]) == 0
    assert json.loads(result.read_text())["n_images"] == 8


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are text")
def test_names_that_are_no_text_and_a_reader_who_has_enough(checkpoint, category, tmp_path, monkeypatch):
    """In a terminal that takes ASCII only; no traceback where nobody reads on."""
    for index in range(3):
        shutil.copy(category / "test/good/000.png", os.path.join(os.fsencode(tmp_path), b"pr\xfcf%d.png" % index))
    with monkeypatch.context() as patch:
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        patch.setattr(sys, "stdout", out)
        assert main(["predict", str(checkpoint), str(tmp_path)]) == 0
    out.flush()
    said = out.buffer.getvalue().decode("ascii")
    assert said.count("normal") + said.count("anomalous") == 3
    command = [sys.executable, "-m", "ura_hf", "predict", checkpoint, tmp_path]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    gone, end = os.pipe()
    os.close(gone)
    done = subprocess.run(command, env=environment, stdout=end, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    os.close(end)
    assert done.returncode == 141 and "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr


def test_figures_are_printed_where_they_can_not_be_written(checkpoint, category, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["evaluate", str(checkpoint), "--data", str(category), "--json", str(tmp_path / "file/r.json")]) == 2
    assert "image_auroc" in capsys.readouterr().out


def test_saved_figures_do_not_change_the_cache_of_the_hub(checkpoint, category, tmp_path):
    """There a file is a link to one that is named after what is in it."""
    shutil.copytree(checkpoint, tmp_path / "snapshot")
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "snapshot/evaluation.json").symlink_to(tmp_path / "blob")
    assert main(["evaluate", str(tmp_path / "snapshot"), "--data", str(category), "--save"]) == 0
    assert (tmp_path / "blob").read_text() == "{}"
    assert json.loads((tmp_path / "snapshot/evaluation.json").read_text())["image_auroc"] > 0


def test_predict_writes_the_restored_part_where_it_is_asked_for(checkpoint, category, tmp_path, capsys):
    from ura_hf.hub.load import load_detector

    image = category / "test/spot/000.png"
    assert main(["predict", str(checkpoint), str(image), "--output", str(tmp_path), "--restored", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    expected = load_detector(checkpoint)(str(image), return_restored=True)["restored_image"]
    with Image.open(result["restored"]) as picture:
        assert np.array_equal(np.asarray(picture), np.rint(expected * 255).astype(np.uint8))


def test_predict_says_why_there_is_no_restored_part(checkpoint, without_decoder, category, tmp_path, capsys):
    image = str(category / "test/spot/000.png")
    assert main(["predict", str(checkpoint), image, "--restored"]) == 2
    assert "--restored writes a file for each image: name a folder with --output" in capsys.readouterr().err
    assert main(["predict", str(without_decoder), image, "--output", str(tmp_path), "--restored"]) == 2
    assert "no decoder of pictures" in capsys.readouterr().err


@pytest.mark.parametrize("command, resumes", [("train", True), ("predict", False)])
def test_what_is_said_of_an_interruption(category, tmp_path, capsys, monkeypatch, command, resumes):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ura_hf.hub.load.load_detector", interrupt)
    monkeypatch.setattr("ura_hf.training.train.train", interrupt)
    rest = {"train": ["--data", category, "--output", tmp_path / "o"], "predict": ["uranet-demo-ring", category]}[
        command
    ]
    assert main([command, *map(str, rest)]) == 130
    assert ("go on where it was last saved" in capsys.readouterr().err) == resumes


def test_predict_goes_on_after_a_bad_file(checkpoint, category, tmp_path, capsys):
    (tmp_path / "note.png").write_text("not an image")
    good = category / "test/good/000.png"
    assert main(["predict", str(checkpoint), str(tmp_path / "note.png"), str(good)]) == 2
    captured = capsys.readouterr()
    assert f"{good}: " in captured.out and "threshold 0.5" in captured.out
    assert "note.png" in captured.err and "1 of 2 images" in captured.err


def test_predict_names_the_files_of_a_folder_that_it_leaves_out(checkpoint, category, tmp_path, capsys):
    shutil.copytree(category / "test/good", tmp_path / "photos")
    (tmp_path / "photos/000.png").rename(tmp_path / "photos/000.jfif")
    for index in range(6):
        (tmp_path / f"photos/photo{index}.psd").touch()
    assert main(["predict", str(checkpoint), str(tmp_path / "photos")]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("threshold 0.5") == 4 and "psd" not in captured.out
    assert captured.err.endswith(
        "used      4  image files\nleft out  6  pictures in a format that is not read: save them as PNG, JPEG or TIFF "
        "(photo0.psd, photo1.psd, photo2.psd, ...)\n"
    )
    assert main(["predict", str(checkpoint), str(category / "test/good")]) == 0
    assert "left out  0  files" in capsys.readouterr().err
    assert "--strict, but files are left out: 6 pictures" in fails(
        capsys, "predict", checkpoint, tmp_path / "photos", "--strict"
    )


def test_predict_says_what_lies_in_subfolders(checkpoint, category, capsys):
    tests = category / "test"
    assert main(["predict", str(checkpoint), str(tests / "good"), str(tests)]) == 0
    captured = capsys.readouterr()
    below = {*tests.rglob("*.png")} - {*(tests / "good").iterdir()}
    assert f"left out  {len(below)}  images in subfolders, without --recursive" in captured.err
    for places in ([tests, *tests.iterdir()], [tests, "--recursive"]):
        assert main(["predict", str(checkpoint), *map(str, places)]) == 0
        printed = capsys.readouterr()
        assert len(printed.out.splitlines()) == len([*tests.rglob("*.png")]) and "left out  0  files" in printed.err


def test_copies_teach_nothing(category, tmp_path, capsys):
    for index in range(6):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(category / "train/good/000.png", tmp_path / f"photos/{index}.png")
    message = fails(capsys, "train", "--data", tmp_path / "photos", "--output", tmp_path / "o")
    assert "the 6 good images in" in message and "are copies of one" in message


def test_a_folder_that_may_not_be_read(monkeypatch, tmp_path, capsys):
    def refuse(folder, recursive=False):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("ura_hf.data.layouts.plain.list_images", refuse)
    message = fails(capsys, "train", "--data", tmp_path, "--output", tmp_path / "o")
    assert f"{tmp_path} may not be read or written by you" in message


def test_every_unreadable_image_is_named_at_once(category, resnet18_weights, tmp_path, capsys):
    shutil.copytree(category / "train/good", tmp_path / "photos")
    for number in (3, 7):
        (tmp_path / f"photos/00{number}.png").write_bytes(b"\x89PNG" + bytes([number]))
    for pose in ("auto", "fixed"):
        arguments = ["--backbone", "resnet18", "--backbone-weights", resnet18_weights, "--pose", pose]
        assert (
            main([str(a) for a in ("train", "--data", tmp_path / "photos", "--output", tmp_path / "o", *arguments)])
            == 2
        )
        error = capsys.readouterr().err
        assert "2 of 12 images can't be read:" in error and "003.png" in error and "007.png" in error


def test_folder_without_images(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in fails(capsys, "train", "--data", tmp_path / "empty", "--output", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_missing_folder(tmp_path, capsys):
    assert "nowhere" in fails(capsys, "train", "--data", tmp_path / "nowhere", "--output", tmp_path / "o")


def test_one_image(category, tmp_path, capsys):
    (tmp_path / "one").mkdir()
    shutil.copy(category / "train/good/000.png", tmp_path / "one")
    assert "one image" in fails(capsys, "train", "--data", tmp_path / "one", "--output", tmp_path / "o")


def test_truncated_image(category, resnet18_weights, tmp_path, capsys):
    shutil.copytree(category / "train/good", tmp_path / "photos")
    bad = tmp_path / "photos" / "003.png"
    bad.write_bytes(bad.read_bytes()[:200])
    arguments = ["--backbone", "resnet18", "--backbone-weights", resnet18_weights, "--steps", 1]
    message = fails(capsys, "train", "--data", tmp_path / "photos", "--output", tmp_path / "o", *arguments)
    assert str(bad) in message


def test_masks_that_match_no_image(checkpoint, category, tmp_path, capsys):
    shutil.copytree(category, tmp_path / "disc")
    (tmp_path / "disc/ground_truth/spot/000_mask.png").rename(tmp_path / "disc/ground_truth/spot/other_mask.png")
    assert "other_mask.png" in fails(capsys, "evaluate", checkpoint, "--data", tmp_path / "disc")


def test_unknown_backbone(category, tmp_path, capsys):
    message = fails(capsys, "train", "--data", category, "--output", tmp_path / "o", "--backbone", "resnet1888")
    assert "resnet1888" in message and "timm" in message


def test_weights_of_another_architecture(category, shared_dir, tmp_path, capsys):
    other = shared_dir / "backbones" / "mobilenetv2_100_in1k_features.safetensors"
    arguments = ["--backbone", "resnet18", "--backbone-weights", other]
    message = fails(capsys, "train", "--data", category, "--output", tmp_path / "o", *arguments)
    assert str(other) in message


def test_unknown_config_field(category, tmp_path, capsys):
    message = fails(capsys, "train", "--data", category, "--output", tmp_path / "o", "--set", "hiden_size=3")
    assert "hiden_size" in message
    assert "--set hidden_size=VALUE" in fails(
        capsys, "train", "--data", category, "--output", tmp_path / "o", "--set", "hidden_size"
    )
    message = fails(capsys, "train", "--data", category, "--output", tmp_path / "o", "--set", "is_calibrated=1")
    assert "is_calibrated" in message


def test_data_without_test_images_is_named(checkpoint, category, tmp_path, capsys):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        shutil.copytree(category / "train", folder / "train")
    data = [word for folder in folders for word in ("--data", folder)]
    assert f"uranet: no test images in {folders[0]}, {folders[1]}: " in fails(capsys, "evaluate", checkpoint, *data)


def test_numbers_out_of_range(checkpoint, category, tmp_path, capsys):
    assert "batch_size" in fails(capsys, "evaluate", checkpoint, "--data", category, "--batch-size", 0)
    assert "good" in fails(capsys, "demo-data", "--kind", "ring", "--output", tmp_path / "d", "--good", -1)
    image = category / "test/good/000.png"
    assert "threshold" in fails(capsys, "predict", checkpoint, image, "--threshold", "nan")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda data: data[: len(data) // 2]),
        ("model.safetensors", lambda data: b"\xff" * 64 + data[64:]),
        ("config.json", lambda data: data[:40]),
        ("config.json", lambda data: data.replace(b'"grid_size": 8', b'"grid_size": -8')),
        ("preprocessor_config.json", lambda data: b"{"),
    ],
)
def test_damaged_checkpoint(checkpoint, category, tmp_path, capsys, name, damage):
    shutil.copytree(checkpoint, tmp_path / "broken")
    path = tmp_path / "broken" / name
    path.write_bytes(damage(path.read_bytes()))
    message = fails(capsys, "evaluate", tmp_path / "broken", "--data", category)
    assert str(tmp_path / "broken") in message


def test_missing_weights_file(checkpoint, category, tmp_path, capsys):
    shutil.copytree(checkpoint, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").unlink()
    assert str(tmp_path / "broken") in fails(capsys, "evaluate", tmp_path / "broken", "--data", category)


def test_not_a_checkpoint(category, capsys):
    assert "config.json" in fails(capsys, "evaluate", category, "--data", category)


def test_the_package_is_a_command():
    run = [sys.executable, "-m", "ura_hf", "--help"]
    assert "usage: uranet" in subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_warnings_of_the_package_read_like_the_other_messages(monkeypatch, capsys):
    def warn(*arguments, **options):
        logging.getLogger("ura_hf.training.somewhere").warning("few images")
        logging.getLogger("another.package").warning("not ours")
        return []

    monkeypatch.setattr("ura_hf.hub.listing.here", warn)
    for _ in range(2):
        assert main(["list", "--offline"]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if "few images" in line] == ["uranet: few images"]
        assert "uranet: not ours" not in lines


def test_the_library_prints_nothing():
    """It logs; only commands and scripts print."""
    calls = re.compile(r"^\s*(print|traceback\.print_\w+)\(", re.MULTILINE)
    paths = [
        path for path in (ROOT / "ura_hf").rglob("*.py") if path.parent.name != "cli" and path.name != "__main__.py"
    ]
    assert len(paths) > 50 and [path.name for path in paths if calls.search(path.read_text())] == []


def test_defaults_in_the_help_are_those_of_the_config_and_of_the_options(capsys):
    """The help takes them from `ura_hf.model.defaults`, as importing transformers for it would take seconds."""
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for flag, default in (
        ("--backbone NAME", URANetConfig.backbone),
        ("--image-size S", URANetConfig.image_size),
        ("--grid-size G", URANetConfig.grid_size),
        ("--false-positive-rate RATE", URANetConfig.false_positive_rate),
        ("--steps STEPS", STEPS),
        ("--batch-size BATCH_SIZE", TrainingOptions.batch_size),
        ("--learning-rate LEARNING_RATE", TrainingOptions.learning_rate),
        ("--save-every STEPS", TrainingOptions.save_every),
    ):
        assert re.search(rf"{flag} [^()]*\(default: {re.escape(str(default))}\b", told), flag
    assert f"of more than {MAX_IMAGES}, {MAX_IMAGES} drawn by the seed" in told


@pytest.mark.parametrize("name", ["train", "evaluate", "predict"])
def test_help_reads_like_a_manual(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    told = capsys.readouterr().out
    assert stop.value.code == 0 and f"usage: uranet {name}" in told
    assert "example:" in told and "--" in told


def test_devices_versions_and_names_that_no_system_takes(checkpoint, category, tmp_path, capsys):
    image = str(category / "test/spot/000.png")
    assert main(["predict", str(checkpoint), image, "--device", "cpu"]) == 0
    capsys.readouterr()
    for arguments, words in (
        (["predict", str(checkpoint), image, "--device", "abacus"], "device must be one that torch has here"),
        (["predict", str(checkpoint), "x" * 300 + ".png"], "can't be used (File name too long)"),
        (["evaluate", str(checkpoint), "--data", str(category), "--device", "cuda:99"], "device must be one"),
    ):
        assert main(arguments) == 2
        assert words in (said := capsys.readouterr().err) and len(said) < 300
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"uranet {ura_hf.__version__}\n"


def test_options_take_paths_as_strings(tmp_path):
    options = TrainingOptions(data="a", output=str(tmp_path), backbone_weights="b", textures="c", cache="d")
    assert (options.output, options.cache) == (tmp_path, Path("d")) and isinstance(options.backbone_weights, Path)


def test_data_that_are_given_twice_are_refused(category, tmp_path, capsys):
    message = fails(capsys, "train", "--data", category, "--output", tmp_path / "o", "--data", f"{category}/.")
    assert f"--data names {category} twice: give it once" in message


def several_pages(path: Path, *pictures: np.ndarray) -> Path:
    first, *others = map(Image.fromarray, pictures)
    first.save(path, save_all=True, append_images=others)
    return path


def test_predict_looks_at_every_page(checkpoint, tmp_path, monkeypatch, capsys):
    """A defect on the second page is found there, and is not hidden behind the good first page."""
    monkeypatch.chdir(tmp_path)
    several_pages(Path("parts.tif"), draw_part(100)[0], draw_part(200, True)[0], draw_part(101)[0])
    assert main(["predict", str(checkpoint), "parts.tif", "--json", "--output", ".", "--maps"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == ["parts.tif#1", "parts.tif#2", "parts.tif#3"]
    assert max(rows, key=lambda row: row["score"])["image"] == "parts.tif#2"
    assert [row["map"] for row in rows] == [f"parts#{n}_map.npy" for n in (1, 2, 3)]
    assert sorted(path.name for path in Path().glob("*.png")) == [f"parts#{n}_heatmap.png" for n in (1, 2, 3)]
    assert main(["predict", str(checkpoint), ".", "--frames", "every-2"]) == 0
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == ["parts.tif#1", "parts.tif#3"]
    assert "left out  3  masks or heatmaps of images beside them" in printed.err  # of its own pages
    assert "frames must be all, first or every-N" in fails(capsys, "predict", checkpoint, ".", "--frames", "2")


def test_evaluate_refuses_a_test_image_of_several_pages(checkpoint, category, tmp_path, capsys):
    shutil.copytree(category, data := tmp_path / "disc")
    several_pages(data / "test/good/two.tif", draw_part(1)[0], draw_part(2)[0])
    assert "two.tif holds 2 images, but a test image must be one" in fails(
        capsys, "evaluate", checkpoint, "--data", data
    )


def test_calibrate_and_monitor_take_every_page(checkpoint, tmp_path, capsys):
    several_pages(tmp_path / "good.tif", *(draw_part(300 + n)[0] for n in range(20)))
    assert main(["calibrate", str(checkpoint), "--good", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["good"] == 20
    assert main(["monitor", str(checkpoint), str(tmp_path), "--json"]) < 2
    assert json.loads(capsys.readouterr().out)["images"] == 20


@pytest.mark.parametrize(
    ("module", "command"), [("ura_hf.cli.train", "--help"), ("torch", "predict uranet-demo-ring x.png")]
)
def test_an_interruption_of_what_is_still_being_imported(tmp_path, module, command):
    """The process gets Ctrl+C's signal when it begins to import the module."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import os, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # else ignored where the tests run in the background

class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
"""
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    line = [sys.executable, "-m", "ura_hf", *command.split()]
    ended = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "uranet: interrupted.\n")


def test_a_full_disk_under_what_is_printed(checkpoint, category, capsys, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["predict", str(checkpoint), str(category / "test/good/000.png")]) == 2
        monkeypatch.undo()
        assert "uranet: no space left on the disk: make room, and repeat." in capsys.readouterr().err
        with contextlib.suppress(OSError):
            full.close()
