"""Exported files: run by their own runtimes, and equal to the detector they came from."""

from __future__ import annotations

import json
import sys
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT, tiny_config
from PIL import Image

from ura_hf import URANetForAnomalyDetection, URANetImageProcessor
from ura_hf import export as exporting
from ura_hf.cli.main import main
from ura_hf.data.drawn.parts import demo_image
from ura_hf.hub.load import load_detector
from ura_hf.model.errors import UserError

RING = "uranet-demo-ring"


def save(folder, **fields):
    """A checkpoint with drawn weights: what is exported need not detect anything."""
    torch.manual_seed(0)
    model = URANetForAnomalyDetection(tiny_config(backbone="uranet-small", **fields))
    for memory in (model.uranet.memory.cells, model.uranet.restoration.memory):
        memory.normal_()
    channels = torch.ones(model.backbone.channels)
    model.backbone.set_statistics(0.1 * channels, channels)
    model.save_pretrained(folder)
    URANetImageProcessor(size=64, resize_mode="pad", max_value=4095).save_pretrained(folder)
    return folder


def told_by(content: bytes) -> bool:
    """Whether a file says where it was made."""
    return any(str(place).encode() in content for place in (ROOT, sys.prefix, "site-packages"))


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
    prepared = {name: known[name] for name in ("resize_mode", "resample", "max_value")}
    processor = URANetImageProcessor(size=side, do_normalize=False, **prepared)
    batch = processor([str(path) for path in paths], return_tensors="pt")["pixel_values"].numpy()
    found = dict(zip(exporting.OUTPUTS, session.run(None, {"images": batch}), strict=True))
    scores = found["image_score"] / (found["image_score"] + known["image_threshold"])
    results = detect([str(path) for path in paths])
    np.testing.assert_allclose(scores, [result["score"] for result in results], rtol=1e-4)
    assert [score > 0.5 for score in scores] == [False, True, True]
    assert known["pixel_threshold"] == results[0]["pixel_threshold"]
    assert found["anomaly_map"].shape == (3, side, side)
    assert session.get_inputs()[0].shape == ["batch", 3, side, side]
    assert not told_by(file.read_bytes())


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
    assert (known["resize_mode"], known["max_value"]) == ("pad", 4095)
    images = torch.rand(5, 3, 64, 64)
    model = URANetForAnomalyDetection.from_pretrained(folder).eval()
    processor = URANetImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        wanted = model(processor.normalize(images, processor.image_mean, processor.image_std))
        for name, value in zip(exporting.OUTPUTS, program(images), strict=True):
            torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-5)
    with zipfile.ZipFile(tmp_path / "x.pt2") as members:
        assert not any(told_by(members.read(name)) for name in members.namelist())
        assert not any(members.read(name) for name in members.namelist() if "sample_inputs" in name)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda value: value, 0),
        (lambda value: value + 0.5, 0.5),
        (lambda value: value * np.nan, np.nan),
        (lambda value: value[:1], np.inf),
        (lambda value: value[..., None], np.inf),
    ],
)
def test_differences_of_outputs(change, difference):
    """Also those that `max` and broadcasting would pass over."""

    def detector(batch):
        return (torch.ones(len(batch)), *[torch.ones(len(batch), 8, 8)] * (len(exporting.OUTPUTS) - 1))

    def run(batch):
        return [change(value.numpy()) for value in detector(batch)]

    found = exporting._differences(detector, run, torch.zeros(3, 3, 8, 8))
    np.testing.assert_allclose(list(found.values()), difference)


def test_a_file_that_differs_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_read_program", lambda path: lambda batch: [np.float32(7)] * len(exporting.OUTPUTS))
    with pytest.raises(UserError, match=r"differs from the model by .* nothing was written"):
        exporting.export(save(tmp_path / "checkpoint", num_samples=1), tmp_path / "out" / "x.pt2")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_can_not_be_exported_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "folder.pt2").mkdir()
    for name in ("new/ring.engine", "folder.pt2"):
        assert main(["export", RING, "--output", str(tmp_path / name)]) == 2
        assert f"must be a file that ends in .onnx or .pt2, but got {tmp_path / name}" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", RING, "--output", str(tmp_path / "ring.onnx")]) == 2
    assert "pip install '.[export]'" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none"), "--output", str(tmp_path / "new/x.pt2")]) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.pt2"]


def test_missing_thresholds_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "export", lambda *given: {"image_score": 0.0})
    (tmp_path / "x.pt2").touch()
    for folder, said in ((save(tmp_path / "none"), True), (RING, False)):
        assert main(["export", str(folder), "--output", str(tmp_path / "x.pt2")]) == 0
        printed = capsys.readouterr()
        assert "it gives what the model gives" in printed.out and ("no calibrated thresholds" in printed.err) == said
