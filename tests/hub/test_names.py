"""Bundled checkpoints by name, the page without arguments, and what the README promises about the figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_config
from PIL import Image
from safetensors.torch import load_file

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, URANetPipeline, UserError
from ura_hf.data.drawn.parts import KINDS, demo_image
from ura_hf.data.files import ASSETS
from ura_hf.demo.analysis import analyse
from ura_hf.demo.examples import example_images, has_examples
from ura_hf.demo.page import build_demo
from ura_hf.demo.render import overlay
from ura_hf.demo.store import Detectors
from ura_hf.demo.tabs import batch, detect
from ura_hf.hub.download import checkpoint_folder
from ura_hf.hub.load import load_checkpoint, load_detector
from ura_hf.hub.names import bundled, local, local_folder
from ura_hf.training.train import TrainingOptions, train

RING = "uranet-demo-ring"


def test_bundled_names_and_folders(tmp_path):
    assert RING in bundled()
    assert checkpoint_folder(RING) == ASSETS / RING
    with pytest.raises(UserError, match="Did you mean uranet-demo-ring"):
        checkpoint_folder("uranet-demo-rign", local_files_only=True)
    with pytest.raises(UserError, match=str(tmp_path)):
        load_checkpoint(tmp_path)


def test_a_file_in_place_of_a_folder(checkpoint, tmp_path, monkeypatch):
    """It is not looked for on the Hub, also where its path could be a name there."""
    monkeypatch.chdir(checkpoint.parent)
    for path in (checkpoint / "model.safetensors", f"{checkpoint.name}/model.safetensors"):
        for load in (load_detector, URANetForAnomalyDetection.from_pretrained):
            with pytest.raises(
                UserError, match=rf"is a file, but a checkpoint is a folder: pass its folder, .*{checkpoint.name}\."
            ):
                load(path)
    (tmp_path / "alone.safetensors").touch()
    with pytest.raises(UserError, match=r"alone\.safetensors is a file.*: pass the folder that `uranet train` wrote"):
        load_detector(tmp_path / "alone.safetensors")
    (tmp_path / "ring.onnx").touch()
    with pytest.raises(UserError, match=r"ring\.onnx is a file.*needs the checkpoint that it was exported from"):
        load_checkpoint(tmp_path / "ring.onnx")


def test_a_name_of_the_papers_datasets_comes_with_the_command_that_makes_it(monkeypatch):
    monkeypatch.delenv("URA_HF_NAMESPACE", raising=False)
    commands = {
        "uranet-btad-02": "--dataset btad .* --categories 02`",
        "uranet-oct2017": "--dataset oct2017 [^`]*oct2017`",
    }
    for name, command in commands.items():
        with pytest.raises(UserError, match=f"`uranet benchmark {command} trains it"):
            checkpoint_folder(name)


def test_only_folders_that_can_be_named_are_listed(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("URA_HF_CHECKPOINTS", str(tmp_path))
    for name in ("part-1", "my part", "Prüfring", "ring--2", "teil_"):
        shutil.copytree(checkpoint, tmp_path / name)
    assert local() == [name for name in local() if local_folder(name) == tmp_path / name] and "part-1" in local()
    assert {described["name"] for described in Detectors().describe()} >= set(local())


def test_bundled_weights_stay_small():
    assert sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()) < 20e6


def test_bundled_detector_finds_unseen_defects():
    """Seeds that neither training nor the published evaluation used."""
    detector = load_detector(RING)
    assert detector.model.dtype == torch.float32
    good = [detector(Image.fromarray(demo_image("ring", 70_000 + i)[0])) for i in range(6)]
    assert sum(result["label"] == "normal" for result in good) >= 5
    found = []
    for index, defect in enumerate(KINDS["ring"][2] * 2):
        pixels, mask = demo_image("ring", 70_100 + index, defect)
        result = detector(Image.fromarray(pixels))
        y, x = np.unravel_index(result["anomaly_map"].argmax(), mask.shape)
        rows, columns = np.nonzero(mask)
        found.append(result["label"] == "anomalous" and np.hypot(rows - y, columns - x).min() < 16)
    assert sum(found) >= 0.85 * len(found)


def test_loads_by_name():
    assert URANetForAnomalyDetection.from_pretrained(RING).config.is_calibrated
    assert URANetConfig.from_pretrained(RING).backbone == "uranet-small"
    assert URANetImageProcessor.from_pretrained(RING).size.height == 256
    assert URANetPipeline.from_pretrained(RING).model.config.is_calibrated


def test_the_page_shows_images_of_twelve_bits_as_bright_as_they_are(tmp_path):
    detector = load_detector(RING)
    grey = demo_image("ring", 70_000)[0][..., 0]
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 16).save(tmp_path / "12.png")
    plain = analyse(detector, str(tmp_path / "8.png"), RING)
    detector.image_processor.max_value = 255 * 16
    deep = analyse(detector, str(tmp_path / "12.png"), RING)
    assert deep.about["image_score"] == pytest.approx(plain.about["image_score"], rel=1e-3)
    shown = [overlay(found, 0.5, 0.85).astype(int) for found in (deep, plain)]
    assert np.abs(shown[0] - shown[1]).mean() < 2


def test_half_stores_float16_and_calibrates_what_it_stored(category, resnet18_weights, tmp_path):
    options = TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=3, batch_size=4, half=True)
    record = train(options, tiny_config())
    stored = load_file(tmp_path / "o" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} <= {torch.float16, torch.int64}
    loaded = URANetForAnomalyDetection.from_pretrained(tmp_path / "o")
    assert loaded.dtype == torch.float32
    assert loaded.config.image_threshold == record["thresholds"]["image"]


def test_examples_are_a_good_part_and_every_defect():
    paths = example_images(RING)
    assert paths[0].stem == "good" and len(paths) == 8
    assert Image.open(paths[1]).size == (256, 256)
    assert example_images("runs/ring") == []
    assert has_examples(RING) and not has_examples("runs/ring") and not has_examples("uranet-demo-own")


def test_examples_are_not_drawn_before_the_page_opens(monkeypatch):
    def refuse(checkpoint):
        raise AssertionError(f"drew {checkpoint}")

    for tab in (batch, detect):
        monkeypatch.setattr(tab, "example_images", refuse)
    build_demo(Detectors(), RING)


def test_app_parses_its_arguments_before_it_loads_torch():
    script = "import app, sys; assert not {'torch', 'gradio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_what_is_loaded_when_the_page_starts(tmp_path):
    (tmp_path / "spaces.py").write_text("def GPU(duration): return lambda function: function")
    script = """if True:
        import sys
        from transformers import Pipeline, Trainer
        loaded = set(sys.modules)
        sys.argv = ["app.py"]
        import app
        from ura_hf.demo import examples, store

        def stop(self, name):
            seen.append(("loads", "spaces" in sys.modules))
            raise KeyboardInterrupt

        seen = []
        examples.draw_early = lambda name: seen.append(("draws", "gradio" in sys.modules))
        store.Detectors.get = stop
        try:
            app.serve(app.parse_arguments())
        except KeyboardInterrupt:
            pass
        assert seen == [("draws", False), ("loads", True)], "beside Gradio's import; after the package of a ZeroGPU Space"
        import ura_hf.demo.page
        assert not {"scipy.stats", "sklearn", "matplotlib.pyplot", "matplotlib.figure"} & (set(sys.modules) - loaded)
    """
    paths = os.pathsep.join(map(str, (tmp_path, ROOT)))
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, check=True)
