"""Training without --backbone: the default where its weights can be had, the package's own where not, the same on resume."""

from __future__ import annotations

import json

import pytest
import timm
from conftest import HUB
from huggingface_hub import constants
from safetensors.torch import save

import ura_hf.training.default_backbone
from ura_hf.cli.main import main
from ura_hf.model.backbone import SMALL
from ura_hf.training.default_backbone import DEFAULT, default_backbone
from ura_hf.training.imagenet import weights_reachable

SMALL_SIZES = ("hidden_size=32", "num_hidden_layers=1", "memory_tokens=16", "memory_cells=32", "perception_size=16")


@pytest.fixture
def no_network(monkeypatch):
    """Nothing answers where the client looks for the Hub, and it may not wait and try again."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    def forbidden(seconds: float) -> None:
        raise AssertionError(f"waited {seconds} s to ask again")

    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", forbidden)


def train_arguments(category, output, *more: str) -> list[str]:
    sizes = ["--image-size", "64", "--grid-size", "8", "--steps", "2", *(f"--set={field}" for field in SMALL_SIZES)]
    return ["train", "--data", str(category), "--output", str(output), *sizes, *more]


def test_training_falls_back_to_the_own_backbone(no_network, category, tmp_path, capsys):
    assert main(train_arguments(category, tmp_path / "o")) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("uranet: ")]
    assert len(said) == 1 and DEFAULT in said[0] and f"Using {SMALL}" in said[0]
    assert json.loads((tmp_path / "o/training.json").read_text())["backbone"] == SMALL
    assert json.loads((tmp_path / "o/config.json").read_text())["backbone"] == SMALL


def test_a_named_backbone_that_can_not_be_fetched_is_an_error(no_network, category, tmp_path, capsys):
    assert main(train_arguments(category, tmp_path / "o", "--backbone", "resnet18")) == 2
    assert "weights of resnet18 could not be fetched" in capsys.readouterr().err
    assert not (tmp_path / "o/training.json").exists()


def test_wrong_data_is_said_before_anything_is_fetched(no_network, tmp_path, capsys):
    assert main(train_arguments(tmp_path / "absent", tmp_path / "o")) == 2
    assert SMALL not in capsys.readouterr().err


def test_a_hub_that_lacks_the_weights(tmp_path, caplog):
    assert default_backbone(tmp_path) == SMALL
    assert "could not be fetched" in caplog.text


def test_the_default_is_taken_where_its_weights_are(monkeypatch, tmp_path, caplog):
    name = "lcnet_050.ra2_in1k"
    state = timm.create_model(name, pretrained=False).state_dict()
    HUB.add_repo(f"timm/{name}", {"model.safetensors": save(state)})
    monkeypatch.setattr(ura_hf.training.default_backbone, "DEFAULT", name)
    assert weights_reachable(name)
    assert default_backbone(tmp_path) == name
    assert [record for record in caplog.records if record.name.startswith("ura_hf")] == []
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # now they are in the cache
    assert weights_reachable(name)


@pytest.mark.parametrize(("config", "kept"), [({"backbone": SMALL}, SMALL), ({}, DEFAULT)])
def test_a_resumed_run_keeps_its_backbone(config, kept, no_network, tmp_path):
    point = tmp_path / "unfinished/checkpoint-5"
    point.mkdir(parents=True)
    (tmp_path / "unfinished/options.json").write_text(json.dumps({"config": config}))
    assert default_backbone(tmp_path) == kept
