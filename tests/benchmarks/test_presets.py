"""The table of presets is about the presets of today."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import ROOT

from ura_hf import URANetForAnomalyDetection
from ura_hf.benchmark.settings import PRESETS, Settings


@pytest.mark.parametrize("preset", PRESETS)
def test_published_sizes_are_those_of_the_preset(preset):
    published = json.loads((ROOT / "docs/results/presets.json").read_text())["presets"][preset]
    with torch.device("meta"):
        model = URANetForAnomalyDetection(Settings("mvtec", "", preset).model())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert published["trained_parameters"] == trained
