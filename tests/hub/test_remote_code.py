"""Checkpoints where the package is not installed: the code that was pushed with them does the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from transformers import AutoImageProcessor, AutoModel, pipeline
from transformers.dynamic_module_utils import get_relative_import_files

import ura_hf
from ura_hf.hub.load import load_detector
from ura_hf.hub.push import push
from ura_hf.model import carrying

REPO, COPY = "tester/uranet-disc", "tester/uranet-copy"
TASK = "image-anomaly-detection"
MISSING = ("ura_hf", "scipy", "sklearn", "tifffile", "accelerate", "matplotlib", "gradio", "datasets", "wrapt")
WITHOUT_US = f"""
import json, sys
for name in {MISSING!r}:
    sys.modules[name] = None  # as where only transformers, timm and torch are installed
import torch
from transformers import AutoImageProcessor, AutoModel, pipeline
repo, copy, folder, image, output_file = sys.argv[1:]
model = AutoModel.from_pretrained(repo, trust_remote_code=True).eval()
processor = AutoImageProcessor.from_pretrained(repo, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model)
with torch.no_grad():
    output = model(processor([image], return_tensors="pt")["pixel_values"])
found = {{"model": float(output.image_score)}}
for place in (repo, folder):
    detector = pipeline("{TASK}", model=place, trust_remote_code=True)
    assert type(detector).__module__.startswith("transformers_modules."), type(detector)
    result = detector([image, image], batch_size=2)[1]
    found[place] = {{**result, **{{name: value.sum() for name, value in result.items() if hasattr(value, "sum")}}}}
try:
    pipeline("{TASK}", model=repo)
except ValueError as error:
    assert "trust_remote_code" in str(error)
else:
    raise AssertionError("it ran code that nobody trusted")
model.push_to_hub(copy)
processor.push_to_hub(copy)
json.dump(found, open(output_file, "w"), default=float)
"""


@pytest.fixture(autouse=True)
def hub(empty_hub):
    return empty_hub


def test_the_same_results_without_the_package(hub, evaluated, category, tmp_path):
    """Auto classes and pipeline, from the Hub and from a folder; what is pushed from there loads with the package."""
    push(evaluated, REPO)
    image = str(category / "test/spot/000.png")
    folder = shutil.copytree(evaluated, tmp_path / "folder")
    carrying.carry_code(folder)
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    script = [sys.executable, "-c", WITHOUT_US, REPO, COPY, str(folder), image, str(tmp_path / "found.json")]
    done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    expected = load_detector(evaluated)(image)
    sums = {name: value.sum() if hasattr(value, "sum") else value for name, value in expected.items()}
    assert found["model"] == pytest.approx(expected["image_score"], rel=1e-6)
    for place in (REPO, str(folder)):
        words = {name: found[place].pop(name) for name in ("label", "rank_words")}
        assert words == {name: expected[name] for name in words}
        assert found[place] == pytest.approx({k: v for k, v in sums.items() if k not in words}, rel=1e-3)
    copy = load_detector(COPY, cache_dir=tmp_path / "copy")
    assert copy(image)["score"] == expected["score"]
    files = hub.repos[COPY].at("main")[1]
    assert json.loads(files["config.json"])["auto_map"] == carrying.ENTRIES["config.json"]["auto_map"]


@pytest.mark.parametrize("trust", [None, True])
def test_with_the_package_its_own_classes_are_used(hub, evaluated, category, tmp_path, trust):
    push(evaluated, REPO)
    where = {"trust_remote_code": trust, "model_kwargs": {"cache_dir": str(tmp_path)}}
    detector = pipeline(TASK, model=REPO, **where)
    assert type(detector) is ura_hf.URANetPipeline and type(detector.model) is ura_hf.URANetForAnomalyDetection
    image = str(category / "test/spot/000.png")
    assert detector(image)["score"] == load_detector(evaluated)(image)["score"]
    assert not hasattr(detector.model.config, "custom_pipelines")
    detector.save_pretrained(tmp_path / "saved")
    assert "custom_pipelines" not in (tmp_path / "saved/config.json").read_text()
    again = pipeline(TASK, model=str(tmp_path / "saved"), trust_remote_code=trust)
    assert again(image)["score"] == detector(image)["score"]
    for auto, kind in ((AutoModel, "URANetForAnomalyDetection"), (AutoImageProcessor, "URANetImageProcessor")):
        assert type(auto.from_pretrained(REPO, trust_remote_code=trust, cache_dir=tmp_path)) is getattr(ura_hf, kind)


def test_exactly_the_model_travels(evaluated, tmp_path):
    """Every file of `model/` is copied, and every one is needed, as transformers follows relative imports."""
    folder = shutil.copytree(evaluated, tmp_path / "folder")
    carrying.carry_code(folder)
    model = {path.name for path in (ROOT / "ura_hf/model").iterdir() if path.suffix == ".py"} - {"__init__.py"}
    assert {path.name for path in folder.glob("*.py")} == model
    entries = ("configuration_uranet", "modeling_uranet", "image_processing_uranet", "pipeline_uranet")
    followed = {f"{name}.py" for name in entries}
    for name in entries:
        followed |= {path.rsplit(os.sep, 1)[1] for path in get_relative_import_files(str(folder / f"{name}.py"))}
    assert followed == model
