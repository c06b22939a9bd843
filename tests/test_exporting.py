"""Exported files: run by their own runtimes, and equal to the detector they came from."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import tiny_config
from PIL import Image

from ura_hf import URANetForAnomalyDetection, URANetImageProcessor, exporting
from ura_hf.cli import main
from ura_hf.data.demo_parts import demo_image
from ura_hf.errors import UserError
from ura_hf.hub import load_detector

RING = "uranet-demo-ring"


def save(folder, **fields):
    """A checkpoint with drawn weights: what is exported need not detect anything."""
    torch.manual_seed(0)
    model = URANetForAnomalyDetection(tiny_config(backbone="uranet-small", **fields))
    for memory in (model.uranet.memory.cells, model.uranet.restoration.memory):
        memory.normal_()
    model.save_pretrained(folder)
    URANetImageProcessor(size=64).save_pretrained(folder)
    return folder


def test_an_onnx_file_gives_the_verdicts_of_the_detector(tmp_path, capsys):
    """Run by onnxruntime on a whole batch, with what its metadata says, against `pipeline` one image at a time."""
    rings = [demo_image("ring", 90_000 + index, defect)[0] for index, defect in enumerate((None, "burr", "chip"))]
    paths = [tmp_path / f"{index}.png" for index in range(len(rings))]
    for path, ring in zip(paths, rings, strict=True):
        Image.fromarray(ring).save(path)
    file = tmp_path / "new" / "ring.onnx"
    assert main(["export", RING, "--output", str(file), "--images", *map(str, paths)]) == 0
    assert "on 3 image(s) it differs from the model by at most" in capsys.readouterr().out

    detect = load_detector(RING)
    session = onnxruntime.InferenceSession(str(file))
    known = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    side = known["image_size"]
    processor = URANetImageProcessor(size=side, do_normalize=False, resize_mode=known["resize_mode"])
    batch = processor([str(path) for path in paths], return_tensors="pt")["pixel_values"].numpy()
    found = dict(zip(exporting.OUTPUTS, session.run(None, {"images": batch}), strict=True))
    scores = found["image_score"] / (found["image_score"] + known["image_threshold"])
    results = detect([str(path) for path in paths])
    np.testing.assert_allclose(scores, [result["score"] for result in results], rtol=1e-4)
    assert [score > 0.5 for score in scores] == [False, True, True]
    assert known["pixel_threshold"] == results[0]["pixel_threshold"]
    assert found["anomaly_map"].shape == (3, side, side)


def test_a_torch_program_gives_the_outputs_of_the_model(tmp_path):
    """One without what the bundled checkpoints have: samples of weights, a subspace, a score by the maximum."""
    fields = {
        "bayesian_perception": False,
        "image_score": "std",
        "residuals": {"restored_l2": 1.0, "memory_all_l2": 1.0},
    }
    folder = save(tmp_path / "checkpoint", image_threshold=0.25, pixel_threshold=0.5, **fields)
    differences = exporting.export(folder, tmp_path / "x.pt2")
    assert set(differences) == set(exporting.OUTPUTS) and max(differences.values()) < 1e-4
    extra = {exporting.FACTS: ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=extra).module()
    known = json.loads(extra[exporting.FACTS])
    assert (known["image_threshold"], known["pixel_threshold"], known["image_size"]) == (0.25, 0.5, 64)
    images = torch.rand(5, 3, 64, 64)
    model = URANetForAnomalyDetection.from_pretrained(folder).eval()
    processor = URANetImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        wanted = model(processor.normalize(images, processor.image_mean, processor.image_std))
        for name, value in zip(exporting.OUTPUTS, program(images), strict=True):
            torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-5)


def test_a_file_that_differs_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_read_program", lambda path: lambda batch: [np.float32(7)] * len(exporting.OUTPUTS))
    with pytest.raises(UserError, match=r"differs from the model by .* nothing was written"):
        exporting.export(save(tmp_path / "checkpoint", num_samples=1), tmp_path / "out" / "x.pt2")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_can_not_be_exported_is_said(tmp_path, monkeypatch, capsys):
    assert main(["export", RING, "--output", str(tmp_path / "ring.engine")]) == 2
    assert "must end in .onnx or .pt2, but got ring.engine" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", RING, "--output", str(tmp_path / "ring.onnx")]) == 2
    assert "pip install onnx onnxscript onnxruntime" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
