"""Digests of weights: one flipped bit is noticed, and named; files without a digest still load."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import tiny_config
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from ura_hf import URANetForAnomalyDetection, UserError
from ura_hf.model.digests import KEY


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return URANetForAnomalyDetection(tiny_config(backbone="test_resnet"))


def flip(path, place):
    """Flip one bit of the values in a safetensors file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def header(path):
    content = path.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


@pytest.mark.parametrize("place", [-1, -100_000])
def test_a_flipped_bit_is_noticed(model, tmp_path, place):
    model.save_pretrained(tmp_path)
    flip(tmp_path / "model.safetensors", place)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged: .* Fetch or train the checkpoint again"):
        URANetForAnomalyDetection.from_pretrained(tmp_path)


@pytest.mark.parametrize("options", [{"variant": "fp16"}, {"max_shard_size": "400KB"}])
def test_every_file_of_the_weights_has_a_digest(model, tmp_path, options):
    """And is otherwise as transformers wrote it, which loads it, too."""
    model.save_pretrained(tmp_path, **options)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert (len(files) == 1) == ("variant" in options)
    assert all(header(file)["__metadata__"].keys() == {"format", KEY} for file in files)
    assert not [*tmp_path.glob("*.partial")]
    variant = {"variant": options["variant"]} if "variant" in options else {}
    found = AutoModel.from_pretrained(tmp_path, **variant).state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())
    flip(files[-1], -7)
    with pytest.raises(UserError, match=rf"{files[-1].name} is damaged"):
        URANetForAnomalyDetection.from_pretrained(tmp_path, **variant)


def test_weights_without_a_digest_load(model, tmp_path):
    """Those of earlier versions, and of other programs."""
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    for metadata in ({"format": "pt"}, None):
        save_file(load_file(path), path, metadata=metadata)
        assert KEY not in header(path).get("__metadata__", {})
        URANetForAnomalyDetection.from_pretrained(tmp_path)
