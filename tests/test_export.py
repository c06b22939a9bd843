"""Exported files: run by their own runtimes, and equal to the detector they came from."""

from __future__ import annotations

import json
import sys
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, tiny_config
from PIL import Image

from ura_hf import URANetForAnomalyDetection, URANetImageProcessor
from ura_hf import export as exporting
from ura_hf.cli.main import main
from ura_hf.data.drawn.parts import demo_image
from ura_hf.hub import exported
from ura_hf.hub.load import load_checkpoint, load_detector
from ura_hf.model.errors import UserError

RING = "uranet-demo-ring"
OUTPUTS = [
    "image_score",
    "anomaly_map",
    "anomaly_probability",
    "total_uncertainty",
    "aleatoric_uncertainty",
    "epistemic_uncertainty",
]
"""Of a checkpoint that does not tell strange images."""


def save(folder, **fields):
    """A checkpoint with drawn weights: what is exported need not detect anything."""
    torch.manual_seed(0)
    model = URANetForAnomalyDetection(tiny_config(**{"backbone": "uranet-small", **fields}))
    for name, tensor in model.uranet.named_buffers():
        if name.startswith(("views.", "restoration.memory")):
            tensor.normal_(0, 0.3)
    model.uranet.views.scale.fill_(1.5)
    channels = torch.ones(model.backbone.channels)
    model.backbone.set_statistics(0.1 * channels, channels)
    model.save_pretrained(folder)
    size = model.config.image_size
    URANetImageProcessor(size=size, resize_mode="pad", max_value=4095).save_pretrained(folder)
    return folder


def told_by(content: bytes) -> bool:
    """Whether a file says where it was made."""
    return any(str(place).encode() in content for place in (ROOT, sys.prefix, "site-packages"))


@pytest.fixture(scope="module")
def program(checkpoint):
    """A trained checkpoint as a graph: the making of it takes most of an export."""
    model, processor = load_checkpoint(checkpoint)
    return exporting._trace(exporting.Graph(model, processor).eval().requires_grad_(False))


@pytest.fixture(scope="module")
def files(checkpoint, program, tmp_path_factory):
    """The checkpoint and what is exported of it, by suffix."""
    folder = tmp_path_factory.mktemp("exported")
    found = {"": checkpoint}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "_trace", lambda detector: program)
        for kind in (".onnx", ".pt2"):
            found[kind] = folder / f"disc{kind}"
            exporting.export(checkpoint, found[kind])
    return found


@pytest.fixture
def photos(category, tmp_path):
    """Good, bad, and not the part at all."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    names = ("good/000.png", "spot/000.png", "spot/001.png", "good/001.png")
    return [*(str(category / "test" / name) for name in names), str(tmp_path / "noise.png")]


def test_other_runtimes_get_all_that_a_verdict_needs(files, photos):
    """Run by onnxruntime on a whole batch, with what the metadata says, against the detector one image at a time."""
    session = onnxruntime.InferenceSession(str(files[".onnx"]))
    known = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    config, side = known["config"], known["config"]["image_size"]
    processor = URANetImageProcessor(**{**known["processor"], "do_normalize": False})
    batch = processor(photos, return_tensors="pt")["pixel_values"].numpy()
    found = dict(zip(known["outputs"], session.run(None, {"images": batch}), strict=True))
    scores = found["image_score"] / (found["image_score"] + config["image_threshold"])
    results = load_detector(files[""])(photos)
    np.testing.assert_allclose(scores, [result["score"] for result in results], rtol=1e-3)
    assert [label == "unknown" for label in labels(results)] == (found["strangeness"] > 1).tolist()
    assert labels(results)[-1] == "unknown"
    assert config["pixel_threshold"] == results[0]["pixel_threshold"] and len(config["false_alarms"]) > 1
    assert found["anomaly_map"].shape == (5, side, side)
    assert session.get_inputs()[0].shape == ["batch", 3, side, side]
    assert not told_by(files[".onnx"].read_bytes())


def labels(results):
    return [result["label"] for result in results]


@pytest.mark.parametrize("kind", [".onnx", ".pt2"])
def test_an_exported_file_is_a_detector(files, photos, kind):
    """The same dict for every image, for whatever is asked."""
    ours, theirs = load_detector(files[""], device="cpu"), load_detector(files[kind], device="cpu")
    for options in (
        {},
        {"maps": ("score_map",), "max_false_alarms": 0.2},
        {"maps": (), "threshold": 0.4, "max_review": 0},
    ):
        for wanted, found in zip(ours(photos, **options), theirs(photos, batch_size=2, **options), strict=True):
            assert list(found) == list(wanted)
            for name, value in wanted.items():
                if isinstance(value, str):
                    assert found[name] == value
                else:
                    np.testing.assert_allclose(found[name], value, rtol=2e-3, atol=1e-4, err_msg=name)
    assert labels(theirs(photos)) == labels(ours(photos)) and {*labels(ours(photos))} >= {"normal", "unknown"}
    assert "ExportedModel" in repr(theirs)
    with pytest.raises(UserError, match=r"no features.*exported files give no features"):
        theirs(photos[0], return_features=True)
    with pytest.raises(UserError, match="an exported file draws no weights, but got num_samples=3"):
        theirs(photos[0], num_samples=3)


@pytest.mark.parametrize("kind", [".onnx", ".pt2"])
def test_commands_take_an_exported_file(files, photos, category, tmp_path, capsys, kind):
    printed, stream = {}, tmp_path / "stream"
    stream.mkdir()
    for number in range(20):
        (stream / f"{number:02}.png").symlink_to(photos[number % len(photos)])
    for form in ("", kind):
        detector, figures = str(files[form]), tmp_path / f"figures{form}.json"
        commands = [
            ["predict", detector, *photos, "--json", "--output", str(tmp_path / form.strip("."))],
            ["monitor", detector, str(stream), "--json"],
            ["evaluate", detector, "--data", str(category), "--json", str(figures)],
        ]
        for command in commands:
            assert main(command) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
        printed[form] = lines, json.loads(figures.read_text())
    (lines, figures), (wanted, wanted_figures) = printed[kind], printed[""]
    assert [(line.get("label"), line.get("rank_words")) for line in lines] == [
        (line.get("label"), line.get("rank_words")) for line in wanted
    ]
    assert lines[-1]["labels"] == wanted[-1]["labels"]
    assert figures["image_auroc"] == wanted_figures["image_auroc"]
    assert figures["aupro"] == pytest.approx(wanted_figures["aupro"], abs=1e-3)
    assert len([*(tmp_path / kind.strip(".")).rglob("*_heatmap.png")]) == len(photos)
    assert main(["evaluate", str(files[kind]), "--data", str(category), "--save"]) == 2
    assert "take --json FILE" in capsys.readouterr().err


def test_a_backbone_in_float16_keeps_the_verdicts(tmp_path, capsys):
    """On drawn demo parts, good and bad; inputs and outputs are float32."""
    photos = [demo_image("ring", seed, flaw)[0] for seed, flaw in ((1, None), (2, None), (1, "crack"), (2, "burr"))]
    file = tmp_path / "half.onnx"
    assert main(["export", RING, "--output", str(file), "--half"]) == 0
    model = onnx.load(file)
    kernels = [one for one in model.graph.initializer if ".extractor." in one.name and len(one.dims) == 4]
    assert len(kernels) > 10 and {one.data_type for one in kernels} == {onnx.TensorProto.FLOAT16}
    ends = (*model.graph.input, *model.graph.output)
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    wanted, found = load_detector(RING)(photos), load_detector(file, device="cpu")(photos)
    assert labels(found) == labels(wanted) and {*labels(wanted)} >= {"normal", "anomalous"}
    np.testing.assert_allclose([r["score"] for r in found], [r["score"] for r in wanted], atol=0.02)
    capsys.readouterr()
    assert main(["export", RING, "--output", str(tmp_path / "x.pt2"), "--half"]) == 2
    assert "--half is for files that end in .onnx" in capsys.readouterr().err


def test_openvino_gives_the_same(files, photos):
    openvino = pytest.importorskip("openvino")
    in_float32 = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(files[".onnx"], "CPU", in_float32)
    detector = load_detector(files[".onnx"], device="cpu")
    images = detector.image_processor(photos, return_tensors="pt")["pixel_values"]
    theirs, wanted = compiled(images.numpy()), detector.model(images)
    for name in exported.outputs_of(detector.model.config):
        whole = name in exporting.WITHOUT_UNIT
        scale, limit = (float(wanted[name].abs().max()), 0.001) if whole else (1, 0.01)
        assert np.abs(wanted[name].numpy() - theirs[name]).max() < limit * scale, name


def test_a_vit_is_exported(tmp_path, monkeypatch):
    """Its patches do not fill the images, which are enlarged in the graph. One graph is for both files."""
    folder = save(tmp_path / "checkpoint", backbone="test_vit", image_size=60, num_samples=1)
    made, trace = [], exporting._trace
    monkeypatch.setattr(
        exporting, "_trace", lambda detector: made[0] if made else made.append(trace(detector)) or made[0]
    )
    for kind in (".onnx", ".pt2"):
        assert max(exporting.export(folder, tmp_path / f"vit{kind}").values()) < exporting.TOLERANCE


def test_a_torch_program_gives_the_outputs_of_the_model(tmp_path):
    """One without what the bundled checkpoints have: no posterior, and other views."""
    fields = {
        "bayesian_perception": False,
        "views": ["restored", "perceived", "memory"],
        "standards": {"restored": [-1.0, 0.7], "peak_content": [2.0, 1.5]},
    }
    folder = save(tmp_path / "checkpoint", image_threshold=0.25, pixel_threshold=0.5, **fields)
    differences = exporting.export(folder, tmp_path / "x.pt2")
    assert [*differences] == OUTPUTS and max(differences.values()) < 1e-4
    extra = {exporting.FACTS: ""}
    program = torch.export.load(tmp_path / "x.pt2", extra_files=extra).module()
    known = json.loads(extra[exporting.FACTS])
    config, processor = known["config"], known["processor"]
    assert (config["image_threshold"], config["pixel_threshold"], config["image_size"]) == (0.25, 0.5, 64)
    assert (processor["resize_mode"], processor["max_value"], known["outputs"]) == ("pad", 4095, OUTPUTS)
    images = torch.rand(5, 3, 64, 64)
    model = URANetForAnomalyDetection.from_pretrained(folder).eval()
    processor = URANetImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        wanted = model(processor.normalize(images, processor.image_mean, processor.image_std))
        for name, value in zip(OUTPUTS, program(images), strict=True):
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

    class Ones:
        outputs = OUTPUTS

        def __call__(self, batch):
            return (torch.ones(len(batch)), *[torch.ones(len(batch), 8, 8)] * (len(OUTPUTS) - 1))

    def run(batch, names):
        return {name: torch.from_numpy(change(value.numpy())) for name, value in zip(names, Ones()(batch), strict=True)}

    found = exporting._differences(Ones(), run, torch.zeros(3, 3, 8, 8))
    np.testing.assert_allclose(list(found.values()), difference)


def test_a_file_that_differs_is_not_left(checkpoint, program, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    monkeypatch.setattr(exporting, "_trace", lambda detector: program)
    with pytest.raises(UserError, match=r"differs from the model by .* nothing was written"):
        exporting.export(checkpoint, tmp_path / "out" / "x.pt2")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_can_not_be_exported_is_said(tmp_path, monkeypatch, capsys):
    (tmp_path / "folder.pt2").mkdir()
    for name in ("new/ring.engine", "folder.pt2"):
        assert main(["export", RING, "--output", str(tmp_path / name)]) == 2
        assert f"must be a file that ends in .onnx or .pt2, but got {tmp_path / name}" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "x.onnx"), "--output", str(tmp_path / "ring.onnx")]) == 2
    assert "x.onnx is not a checkpoint folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["export", RING, "--output", str(tmp_path / "ring.onnx")]) == 2
    assert "pip install '.[export]'" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none"), "--output", str(tmp_path / "new/x.pt2")]) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.pt2"]


def test_missing_thresholds_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "export", lambda *given: {"image_score": 0.0})
    (tmp_path / "x.pt2").touch()
    calibrated = save(tmp_path / "calibrated", image_threshold=0.25, pixel_threshold=0.5)
    for folder, said in ((save(tmp_path / "none"), True), (calibrated, False)):
        assert main(["export", str(folder), "--output", str(tmp_path / "x.pt2")]) == 0
        printed = capsys.readouterr()
        assert "it gives what the model gives" in printed.out and ("no calibrated thresholds" in printed.err) == said


@pytest.mark.parametrize("kind", [".onnx", ".pt2"])
def test_files_that_are_no_detectors(files, tmp_path, kind):
    wrong = tmp_path / f"wrong{kind}"
    with pytest.raises(UserError, match=rf"there is no file .*wrong{kind}: pass what `uranet export` wrote"):
        load_detector(wrong)
    wrong.write_bytes(files[kind].read_bytes()[:3000])
    with pytest.raises(UserError, match=rf"wrong{kind} is not a file that (torch|onnxruntime) can load .*again"):
        load_detector(wrong)
    if kind == ".pt2":
        torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.ones(2),)), wrong)
    else:
        node = onnx.helper.make_node("Relu", ["images"], ["y"])
        ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("images", "y")]
        graph = onnx.helper.make_graph([node], "somebody's", ends[:1], ends[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        onnx.helper.set_model_props(model, {"author": "somebody"})
        onnx.save(model, wrong)
    with pytest.raises(
        UserError, match=rf"wrong{kind} does not say what `uranet export` writes .* export the checkpoint"
    ):
        load_detector(wrong)


def test_a_file_without_an_output(files, tmp_path):
    """Such as of a tool that removed what it took for superfluous."""
    model = onnx.load(files[".onnx"])
    del model.graph.output[-1]
    onnx.save(model, tmp_path / "x.onnx")
    with pytest.raises(UserError, match="does not give strangeness: export the checkpoint again"):
        load_detector(tmp_path / "x.onnx")


def test_devices_and_packages_of_exported_files(files, monkeypatch, capsys):
    for device in ("cuda:0", "mps", "nonsense"):
        assert main(["predict", str(files[".onnx"]), "x.png", "--device", device]) == 2
        assert f"onnxruntime has here (cpu; the package onnxruntime-gpu has cuda), but got '{device}'" in (
            capsys.readouterr().err
        )
    with pytest.raises(UserError, match="device must be one that torch has here"):
        load_detector(files[".pt2"], device="nonsense")
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert exported._provider(both, None) == ("CUDAExecutionProvider", {"device_id": 0})
    assert exported._provider(both, "cuda:1") == ("CUDAExecutionProvider", {"device_id": 1})
    assert exported._provider(both, "cpu")[0] == "CPUExecutionProvider"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"running .onnx needs the package onnxruntime.*pip install '.\[export\]'"):
        load_detector(files[".onnx"])
