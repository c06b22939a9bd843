"""Every script of benchmarks/ starts, and what no other test runs works on the smallest data."""

from __future__ import annotations

import argparse
import importlib
import json
import runpy
import shutil
import sys
from types import ModuleType, SimpleNamespace
from unittest import mock

import detection
import latency
import peers
import presets
import pytest
import scaling
import timm
import torch
from conftest import ROOT, tiny_config
from safetensors.torch import load_file
from torch import Tensor, nn
from wrapped import SIDE, Rival

from ura_hf import URANetForAnomalyDetection
from ura_hf.data.files import ASSETS
from ura_hf.model.backbone import OWN, SMALL, Backbone
from ura_hf.model.errors import UserError

FILES = sorted((ROOT / "benchmarks").glob("*.py"))
SCRIPTS = [path for path in FILES if "__main__" in path.read_text() and path.stem != "render"]  # which takes no --help


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_says_how_it_is_used(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert not ended.value.code and capsys.readouterr().out.startswith(f"usage: {path.name}")


class Anomalib:
    """Stands in for the package, which only the extra `benchmarks` installs."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.startswith("anomalib") else None

    def create_module(self, spec: object) -> ModuleType:
        return mock.MagicMock(__path__=[], __spec__=spec)

    def exec_module(self, module: ModuleType) -> None:
        pass


def test_rivals_are_those_of_the_comparison(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [Anomalib(), *sys.meta_path])
    before = set(sys.modules)
    rivals = importlib.import_module("rivals")
    for name in set(sys.modules) - before:
        if name == "rivals" or name.startswith("anomalib"):
            monkeypatch.delitem(sys.modules, name)
    assert set(rivals.RIVALS) == {*peers.FITTED, *peers.DESCENDED}
    asked = {"pretrained": True, "features_only": True, "out_indices": (2, 3)}
    for own in (OWN[SMALL], {}):  # in the place of a ResNet-18, with its channels, and without fetching weights
        network = rivals._create_without_weights(timm.create_model, own, rivals.BACKBONE, **asked)
        assert network.feature_info.channels() == [128, 256]
        assert ("conv1.weight" in network.state_dict()) == (not own)


def test_weights_come_from_the_shared_folder_else_once_from_the_hub(tmp_path, monkeypatch):
    fetch = mock.Mock()
    monkeypatch.setattr(detection, "load_imagenet", fetch)
    shared, work = tmp_path / "shared", tmp_path / "work"
    assert detection.weights_of(SMALL, shared, work) == ASSETS / f"{SMALL}.safetensors"
    fetched = detection.weights_of(detection.RESNET, shared, work)
    assert fetched.parent == work and detection.weights_of(detection.RESNET, shared, work) == fetched
    backbone = Backbone(detection.RESNET, (1, 2, 3), 8)
    assert set(load_file(fetched)) == set(backbone.cnn.state_dict()) and fetch.call_count == 1
    (shared / detection.WEIGHTS).parent.mkdir(parents=True)
    (shared / detection.WEIGHTS).touch()
    assert detection.weights_of(detection.RESNET, shared, work) == shared / detection.WEIGHTS


def test_one_file_holds_one_backbone_and_the_way_out_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(detection, "load_imagenet", mock.Mock(side_effect=UserError("no network")))
    options = argparse.Namespace(work=tmp_path, shared=tmp_path, output=tmp_path / "peers.json", backbone="resnet18")
    with pytest.raises(SystemExit, match="take --backbone uranet-small"):
        detection.require_weights(options)
    options.backbone = SMALL
    detection.require_weights(options)
    detection.require_backbone(options)
    assert options.work == tmp_path / SMALL
    options.output.write_text("{}")
    with pytest.raises(SystemExit, match="holds runs with resnet18"):
        detection.require_backbone(options)


class Bright(nn.Module):
    """A model as anomalib's are: the map is how bright the image is, the score its maximum."""

    def forward(self, pixels: Tensor) -> SimpleNamespace:
        brightness = pixels.mean(1, keepdim=True)
        return SimpleNamespace(pred_score=-brightness.amin((1, 2, 3)), anomaly_map=-brightness)


def test_a_rival_is_measured_as_we_are(category, tmp_path, monkeypatch):
    """By the same evaluation: here it finds the dark spots by their darkness."""
    fit = mock.Mock(return_value=(Rival(Bright(), torch.device("cpu")), {"coreset_ratio": 0.1}))
    monkeypatch.setitem(sys.modules, "rivals", SimpleNamespace(train_rival=fit))
    monkeypatch.setattr(peers, "data_folder", lambda *place: category)
    options = SimpleNamespace(work=tmp_path, shared=tmp_path, limit=None, device="cpu", budget=1, backbone=SMALL)
    found = peers.run_one("padim", "pill", 0, options)
    assert found["image_auroc"] == 1 and found["pixel_auroc"] > 0.85 and found["ms_per_image"] > 0
    assert found["training"]["images"] == 12 and fit.call_args.args[2].shape == (12, 3, SIDE, SIDE)
    assert json.loads(json.dumps(found))["n_images"] == 8


def test_a_step_of_two_images_costs_nearly_twice_that_of_one():
    model = URANetForAnomalyDetection(tiny_config(backbone="uranet-small")).train()
    (bytes_1, flops_1), (bytes_2, flops_2) = (presets.step(model, count) for count in (1, 2))
    assert 1.5 * bytes_1 < bytes_2 <= 2 * bytes_1 and 1.5 * flops_1 < flops_2 <= 2 * flops_1


def test_evaluation_of_drawn_images_is_counted(tmp_path, capsys):
    scaling.evaluate_only(scaling.category(tmp_path, 2, 4))
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["peak_mib"] > 0 and found["cpu_seconds"] >= 0


def test_a_trained_model_takes_part_in_both_formats(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(latency, "commit", lambda: "abc")
    shutil.copytree(checkpoint, tmp_path / "disc-resnet18-abc")
    options = argparse.Namespace(work=tmp_path, shared=tmp_path, device="cpu")
    model = latency.make(latency.OURS[0], tmp_path / "disc", torch.rand(1, 3, 64, 64), options)
    calls = latency.in_formats({"uranet": model}, image := torch.rand(1, 3, 64, 64))
    assert {label for _, label in calls} == set(latency.FORMATS)
    contiguous, channels_last = (call(image).anomaly_map for call in calls.values())
    assert torch.allclose(contiguous, channels_last, rtol=1e-3, atol=1e-4)
