"""Checkpoints where the package is not installed: the code that was pushed with them does the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ura_hf.hub.load import load_detector
from ura_hf.hub.push import push

REPO = "tester/uranet-disc"


@pytest.fixture(autouse=True)
def hub(empty_hub):
    return empty_hub


# Without installing us


def test_remote_code_gives_the_same_scores(hub, evaluated, category, tmp_path):
    push(evaluated, REPO)
    image = category / "test/spot/000.png"
    script = f"""
import sys
for name in ("ura_hf", "weights_card", "scipy", "sklearn", "tifffile", "accelerate", "matplotlib", "gradio"):
    sys.modules[name] = None  # as where only transformers, timm and torch are installed
import torch
from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained({REPO!r}, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained({REPO!r}, trust_remote_code=True)
with torch.no_grad():
    print(float(model(processor([{str(image)!r}], return_tensors="pt")["pixel_values"]).image_score))
"""
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) == pytest.approx(
        load_detector(evaluated)(str(image))["image_score"], rel=1e-6
    )
