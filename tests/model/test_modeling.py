"""Round trips of a checkpoint, the traps of transformers' loading, and what the two models give."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_config
from safetensors.torch import load_file, save_file
from scipy import ndimage
from transformers import pipeline

from ura_hf import URANetForAnomalyDetection, URANetModel, URANetOutput, UserError
from ura_hf.hub.load import load_detector
from ura_hf.model.configuration_uranet import DEFAULT_VIEWS, MAP_VIEWS
from ura_hf.model.views import NormalViews
from ura_hf.training.imagenet import load_imagenet
from ura_hf.training.objective import Learner

TENSORS = "model.safetensors"

FRESH = """
import socket, sys
def refuse(*arguments, **named): raise OSError("no network in this test")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import numpy as np, torch, ura_hf
from transformers import AutoImageProcessor, AutoModel, pipeline
model = AutoModel.from_pretrained(sys.argv[1])
batch = AutoImageProcessor.from_pretrained(sys.argv[1])([sys.argv[2]], return_tensors="pt")
with torch.no_grad():
    output = model(batch["pixel_values"])
detector = pipeline("image-anomaly-detection", model=sys.argv[1])
result = detector(sys.argv[2])
np.savez(sys.argv[3], type=type(model).__name__, score=result["image_score"], anomaly_map=result["anomaly_map"],
    restored=output.restored_features.detach().numpy(), uncertainty=result["total_uncertainty"])
"""


@pytest.fixture(scope="module")
def model() -> URANetForAnomalyDetection:
    """An untrained detector whose backbone, memories and statistics are all different from their initial values."""
    torch.manual_seed(0)
    detector = URANetForAnomalyDetection(tiny_config(image_threshold=0.7, pixel_threshold=1.5)).eval()
    views = detector.uranet.views
    with torch.no_grad():
        for name, tensor in detector.state_dict().items():
            known = any(word in name for word in ("memory", "running", "places", "images.centre", "mean"))
            if tensor.is_floating_point() and known:
                tensor.uniform_(0.5, 1.5)
        views.set_axes(torch.randn(2000, detector.backbone.channels))
        views.scale.fill_(1.3)
        views.images.axes.copy_(torch.linalg.qr(torch.randn_like(views.images.axes.T))[0].T)
    detector.backbone.note_fitted()
    return detector


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    return folder


def fitted(detector):
    """A detector with statistics, as those of good images would be."""
    channels = torch.ones(detector.backbone.channels)
    detector.backbone.set_statistics(0.1 * channels, channels)
    return detector


def pixels(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def test_bit_identical_in_a_fresh_process_without_network(checkpoint, category, tmp_path):
    image = category / "test/spot/001.png"
    subprocess.run(
        [sys.executable, "-c", FRESH, checkpoint, image, tmp_path / "fresh.npz"], cwd=ROOT, check=True, timeout=200
    )
    fresh = np.load(tmp_path / "fresh.npz")
    here = load_detector(checkpoint)(str(image), return_features=True)
    assert fresh["type"] == "URANetForAnomalyDetection"
    assert fresh["score"] == here["image_score"]
    np.testing.assert_array_equal(fresh["anomaly_map"], here["anomaly_map"])
    np.testing.assert_array_equal(fresh["uncertainty"], here["total_uncertainty"])
    np.testing.assert_array_equal(fresh["restored"][0], here["restored_features"])


def test_every_tensor_comes_back(model, saved):
    again = URANetForAnomalyDetection.from_pretrained(saved)
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert any(key.startswith("uranet.extractor.cnn.") for key in load_file(saved / TENSORS))
    assert again.config.image_threshold == 0.7 and again.config.is_calibrated
    with torch.no_grad():
        assert torch.equal(model(pixels()).anomaly_map, again(pixels()).anomaly_map)


def test_save_load_save_is_byte_identical(saved, tmp_path):
    URANetForAnomalyDetection.from_pretrained(saved).save_pretrained(tmp_path)
    for name in (TENSORS, "config.json"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loads_and_runs(model, saved, dtype):
    half = URANetForAnomalyDetection.from_pretrained(saved, dtype=dtype)
    assert {tensor.dtype for tensor in half.state_dict().values() if tensor.is_floating_point()} == {dtype}
    with torch.no_grad():
        out, exact = half(pixels()), model(pixels())
    assert out.anomaly_map.isfinite().all() and out.image_score.isfinite().all()
    close = torch.nn.functional.cosine_similarity(out.features.float().flatten(1), exact.features.flatten(1))
    assert (close > 0.99).all()


def test_loading_freezes_the_backbone_again(saved):
    again = URANetForAnomalyDetection.from_pretrained(saved)
    assert not any(p.requires_grad for p in again.backbone.parameters())
    assert all(p.requires_grad for p in again.uranet.restoration.parameters())
    again.train()
    assert again.training and not any(module.training for module in again.backbone.modules())
    before = {k: v.clone() for k, v in again.backbone.state_dict().items()}
    Learner(again)(again.uranet.views.project(again.uranet.extract(pixels()))).loss.backward()
    assert all(torch.equal(before[k], v) for k, v in again.backbone.state_dict().items())


def test_initialisation_leaves_the_backbone_alone(resnet18_weights):
    detector = URANetForAnomalyDetection(tiny_config())
    load_imagenet(detector.backbone, resnet18_weights)
    detector.apply(detector._init_weights)  # `init_weights` would pass over what it has already set
    stored = load_file(resnet18_weights)
    found = detector.backbone.cnn.state_dict()
    assert all(torch.equal(found[key], stored[key]) for key in found if key in stored)


def test_no_buffer_is_left_out_of_the_file(model):
    """Buffers that are not persistent come back from `from_pretrained` as garbage."""
    assert {name for name, _ in model.named_buffers()} <= set(model.state_dict())


def test_can_be_built_on_meta():
    with torch.device("meta"):
        detector = URANetForAnomalyDetection(tiny_config())
    assert all(p.is_meta for p in detector.parameters())


def damaged(saved, tmp_path, change):
    shutil.copytree(saved, tmp_path / "damaged")
    tensors = load_file(tmp_path / "damaged" / TENSORS)
    change(tensors)
    save_file(tensors, tmp_path / "damaged" / TENSORS, metadata={"format": "pt"})
    return tmp_path / "damaged"


DECODER = "uranet.restoration.decode.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(DECODER), "missing"),
        (lambda t: t.pop("uranet.restoration.mask_token"), "missing"),
        (lambda t: t.pop("uranet.views.memory.cells"), "missing"),
        (lambda t: t.pop("uranet.extractor.cnn.conv1.weight"), "missing"),
        (lambda t: t.update(extra=torch.zeros(2)), "unexpected"),
        (lambda t: t.update({DECODER: torch.zeros(2, 2)}), "of another shape"),
    ],
)
def test_tensors_that_do_not_fit_are_named(saved, tmp_path, change, words):
    intact = load_file(saved / TENSORS)
    folder = damaged(saved, tmp_path, change)
    found = load_file(folder / TENSORS)
    changed = [k for k in intact.keys() | found.keys() if k not in found or k not in intact] or [DECODER]
    with pytest.raises(UserError, match=rf"1 {words} \(") as caught:
        URANetForAnomalyDetection.from_pretrained(folder)
    assert changed[0] in str(caught.value) and str(folder) in str(caught.value)


def test_truncated_file(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "cut")
    path = tmp_path / "cut" / TENSORS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a complete URA-Net checkpoint"):
        URANetForAnomalyDetection.from_pretrained(tmp_path / "cut")


def test_config_of_another_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError):
        URANetForAnomalyDetection.from_pretrained(tmp_path)


def test_an_error_names_its_file(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "copy")
    path = tmp_path / "copy/preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resize_mode": "crop"}))
    with pytest.raises(UserError, match=r"preprocessor_config\.json: resize_mode must be one of stretch, pad"):
        load_detector(tmp_path / "copy")


def test_a_processor_of_another_size_is_refused(checkpoint, tmp_path):
    """Before an image is prepared for it, which the model would refuse."""
    shutil.copytree(checkpoint, tmp_path / "copy")
    path = tmp_path / "copy/preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": {"height": 120, "width": 64}}))
    with pytest.raises(UserError, match=r"preprocessor_config\.json: size is 120x64, but the model takes 64x64"):
        load_detector(tmp_path / "copy")


@pytest.mark.parametrize("name", ["resnetblur18", "test_resnet"])
def test_every_buffer_of_a_cnn_comes_back(name, tmp_path):
    """Also those that timm leaves out of files; left to transformers they would be whatever lay in memory."""
    detector = URANetForAnomalyDetection(tiny_config(backbone=name)).eval()
    detector.save_pretrained(tmp_path)
    loaded = URANetForAnomalyDetection.from_pretrained(tmp_path)
    for (key, value), (_, other) in zip(detector.named_buffers(), loaded.named_buffers(), strict=True):
        assert torch.equal(value, other), key


def test_maps_are_float32_unless_asked_otherwise(checkpoint, tmp_path):
    """Thresholds are calibrated in float32, so a checkpoint stored as float16 runs in it, also in a pipeline."""
    URANetForAnomalyDetection.from_pretrained(checkpoint, dtype=torch.float16).save_pretrained(tmp_path)
    shutil.copy(checkpoint / "preprocessor_config.json", tmp_path)
    assert pipeline("image-anomaly-detection", model=str(tmp_path)).model.dtype == torch.float32
    assert URANetForAnomalyDetection.from_pretrained(tmp_path, dtype="auto").dtype == torch.float32
    assert URANetForAnomalyDetection.from_pretrained(checkpoint, torch_dtype=torch.float16).dtype == torch.float16


# What the models give


def test_shapes_and_ranges(model):
    with torch.no_grad():
        out = model(pixels(3))
    channels, grid, side = model.backbone.channels, 8, 64
    assert out.features.shape == out.restored_features.shape == (3, channels, grid, grid)
    for name in ("anomaly_map", "score_map", "anomaly_probability", "total_uncertainty"):
        assert out[name].shape == (3, side, side) and out[name].isfinite().all() and (out[name] >= 0).all()
    assert out.image_score.shape == out.score.shape == (3,)
    assert ((out.score > 0) & (out.score < 1)).all()
    torch.testing.assert_close(out.score, out.image_score / (out.image_score + 0.7))
    torch.testing.assert_close(out.total_uncertainty, out.aleatoric_uncertainty + out.epistemic_uncertainty)


def test_scores_do_not_depend_on_the_batch(model):
    batch = pixels(3)
    with torch.no_grad():
        together = model(batch).anomaly_map
        alone = torch.cat([model(image[None]).anomaly_map for image in batch])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_same_image_same_maps(model):
    torch.manual_seed(1)
    with torch.no_grad():
        first = model(pixels())
        torch.randn(7)
        second = model(pixels())
        more = model(pixels(), num_samples=16)
    assert torch.equal(first.anomaly_map, second.anomaly_map)
    assert torch.equal(first.epistemic_uncertainty, second.epistemic_uncertainty)
    assert torch.equal(first.image_score, more.image_score)  # which is of closed form, whatever is drawn for the maps
    assert not torch.equal(first.anomaly_probability, more.anomaly_probability)


def views_by_hand(plain: URANetModel, features: torch.Tensor) -> dict[str, np.ndarray]:
    """Squared residuals of every view of one image's features (1, C, 8, 8), by NumPy: (64,), and a number for `image`."""
    with torch.no_grad():
        seen = plain.views.project(features)
        memory = plain.look(features, names=["memory"])["memory"]
        belief = plain.believe(seen, memory)
        restored = plain.restore(features, seen, belief)
    values = {name: buffer.double().numpy() for name, buffer in plain.views.named_buffers()}
    cells = features[0].flatten(1).T.double().numpy()
    seen = cells @ values["axes"]
    rest = cells - seen @ values["axes"].T
    nearest = ((seen[:, None] - values["memory.cells"]) ** 2).sum(2).min(1)
    offset = seen[:, : values["places.centre"].shape[1]] - values["places.centre"]
    whitened = np.einsum("npq,nq->np", values["places.whitener"], offset)
    whole = seen.T.flatten() - values["images.centre"]
    whole = whole - values["images.axes"].T @ (values["images.axes"] @ whole)
    probability = belief.probability.flatten().double().numpy()
    return {
        "memory": (nearest + (rest**2).sum(1)) / cells.shape[1],
        "place": (whitened**2).mean(1),
        "remainder": (rest**2).mean(1),
        "restored": ((cells - restored[0].flatten(1).T.numpy()) ** 2).mean(1),
        "perceived": probability / (1 - probability),
        "image": (whole**2).mean(),
    }


def grown(z: np.ndarray) -> np.ndarray:
    return (z + np.sqrt(z**2 + 4)) / 2


STANDARDS = {
    "memory": [-4.0, 1.5],
    "place": [-1.0, 0.3],
    "remainder": [0.1, 0.7],
    "restored": [-0.2, 0.4],
    "perceived": [0.0, 2.0],
    "image": [-0.5, 0.25],
    "peak_content": [3.0, 0.8],
    "peak_place": [-2.0, 1.7],
}


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize(
    ("views", "score_views"),
    [
        ([*MAP_VIEWS, "image"], []),
        (list(DEFAULT_VIEWS), ["perceived"]),
        (["image", "remainder"], ["remainder", "restored", "place"]),
        *(([view], []) for view in MAP_VIEWS),
    ],
)
def test_map_and_score_by_hand(model, views, score_views, calibrated):
    """Every view alone and together, without smoothing: sums of standardised logarithms, and of what peaks among them."""
    standards = STANDARDS if calibrated else {}
    config = tiny_config(views=views, score_views=score_views, standards=standards or None, smoothing_sigma=0)
    plain = URANetModel(config).eval()
    plain.load_state_dict(model.uranet.state_dict())
    with torch.no_grad():
        out = plain(pixels(1))
    z = {}
    for name, residual in views_by_hand(plain, out.features).items():
        location, spread = standards.get(name, (0.0, 1.0))
        z[name] = (np.log(np.sqrt(residual + 1e-4)) - location) / spread
    cells = sum(z[name] for name in views if name != "image").reshape(1, 1, 8, 8)
    wanted = torch.nn.functional.interpolate(torch.from_numpy(cells), (64, 64), mode="bilinear")[0, 0].numpy()
    np.testing.assert_allclose(out.anomaly_map[0].numpy(), grown(wanted), rtol=1e-3, atol=1e-3)
    score = float(z["image"]) if "image" in views else 0.0
    for peak, names in (("peak_content", ("memory", "remainder", "restored", "perceived")), ("peak_place", ("place",))):
        if shown := [z[name] for name in names if name in {*views, *score_views}]:
            location, spread = standards.get(peak, (0.0, 1.0))
            score += (sum(shown).max() - location) / spread
    assert float(out.image_score) == pytest.approx(float(grown(score)), rel=2e-3)


def test_maps_are_smoothed_as_wide_as_the_image_says(model):
    """The deviation is one of pixels, whatever the grid: 16 of 64 pixels are 2 of 8 cells."""
    found = []
    for sigma in (0, 16.0):
        plain = URANetModel(tiny_config(views=["memory"], smoothing_sigma=sigma)).eval()
        plain.load_state_dict(model.uranet.state_dict())
        with torch.no_grad():
            features = plain.extract(pixels(1))
            found.append(plain.look(features)["memory"])
    lengths, smooth = (log.exp()[0, 0].double().numpy() for log in found)
    np.testing.assert_allclose(smooth, ndimage.gaussian_filter(lengths, 2, mode="mirror", radius=7), rtol=1e-4)


def test_restored_features_are_the_normal_cells_nearest_to_content_and_surroundings(model):
    """By hand: of (1 - p) c + p R(c, m), with the calibrated probability p and the suspicion m of the trained logits."""
    uranet = copy.deepcopy(model.uranet)
    views = uranet.views
    with torch.no_grad():
        features = uranet.extract(pixels(2))
        views.axes.copy_(torch.linalg.qr(torch.randn(views.axes.shape, generator=torch.Generator().manual_seed(0))).Q)
        components = views.project(features)
        seen = views.standardize(components)
        around = views.unstandardize(uranet.restoration(seen, uranet.suspicion_of(uranet.perception(seen))))
        p = uranet.perception.predict(seen).probability
        wanted = ((1 - p) * components + p * around).flatten(2).transpose(1, 2).flatten(0, 1)
        views.memory.cells.copy_(wanted[1 : len(wanted) : len(wanted) // len(views.memory.cells)])
        restored = uranet.restore(features, components, uranet.perception.predict(seen))
        nearest = torch.cdist(wanted, views.memory.cells, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
        cells = (views.memory.cells[nearest] @ views.axes.T).view(2, -1, features.shape[1]).transpose(1, 2)
    torch.testing.assert_close(restored.flatten(2), cells, rtol=1e-4, atol=1e-5)
    assert 0 < float(p.mean()) < 1 and len(nearest.unique()) > 10


def test_all_of_it_runs_in_autocast(model):
    """What is compared with thresholds is not rounded by it."""
    uranet = copy.deepcopy(model.uranet)
    names = ("place", "remainder", "image", "perceived")
    uranet.config.score_views = ["perceived"]
    uranet.config.standards = {"memory": [-1.0, 0.5], **{name: [0.0, 1.0] for name in names}}
    with torch.no_grad():
        uranet.perception.head.weight.mul_(30)  # logits of some tens, whose last digits bfloat16 lacks
        features = uranet.extract(pixels(2))
        wanted = uranet(features=features)
        with torch.autocast("cpu", torch.bfloat16):
            out = uranet(features=features)
    for name in ("anomaly_map", "image_score"):
        torch.testing.assert_close(out[name], wanted[name], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(out.anomaly_probability, wanted.anomaly_probability, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("standards", [None, {"place": [0.0, 1.0]}, {"memory": [0.5, 1.5]}])
def test_perception_is_less_sure_of_cells_farther_than_usual(model, standards):
    """By as many deviations of good images as they are above the usual."""
    plain = URANetModel(tiny_config()).eval()
    plain.load_state_dict(model.uranet.state_dict())
    plain.config.standards = standards
    with torch.no_grad():
        components = plain.views.project(plain.extract(pixels(1)))
        memory = torch.linspace(-4, 5, 64).view(1, 1, 8, 8)
        found = plain.believe(components, memory)
        far = ((memory - 0.5) / 1.5).clamp_min(0) if standards and "memory" in standards else None
        wanted = plain.perception.predict(plain.views.standardize(components), far=far)
    torch.testing.assert_close(found.probability, wanted.probability)
    torch.testing.assert_close(found.odds, wanted.odds)


def test_uncalibrated_model_gives_raw_scores_only():
    detector = fitted(URANetForAnomalyDetection(tiny_config())).eval()
    with torch.no_grad():
        out = detector(pixels(1))
    assert out.score is None and out.score_map is None and out.image_score is not None


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 32, 64), torch.zeros(1, 1, 64, 64)])
def test_wrong_pixel_shape(model, wrong):
    with pytest.raises(UserError, match=r"pixel_values must be \(B, 3, 64, 64\), but got"):
        model(wrong)


def test_no_input(model):
    with pytest.raises(UserError, match="pixel_values or features"):
        model()


@pytest.mark.parametrize("kind", [URANetModel, URANetForAnomalyDetection])
def test_a_model_that_was_never_fitted_says_so(kind, tmp_path):
    """Its features have no scale and its memory no cells, so that every score would be noise."""
    raw = kind(tiny_config()).eval()
    raw.save_pretrained(tmp_path)
    for model in (raw, kind.from_pretrained(tmp_path)):
        with torch.no_grad(), pytest.raises(UserError, match=r"never fitted to good images.*`uranet train`"):
            model(pixels())
    again = kind(tiny_config()).eval()
    again.load_state_dict(fitted(raw).state_dict())
    assert again(pixels()).anomaly_map.shape == (2, 64, 64)


@pytest.mark.parametrize("kind", [URANetModel, URANetForAnomalyDetection])
def test_outputs_as_a_tuple(model, kind):
    asked = model if kind is URANetForAnomalyDetection else model.uranet
    with torch.no_grad():
        out, values = asked(pixels()), asked(pixels(), return_dict=False)
        asked.config.return_dict = False
        try:
            by_config = asked(pixels())
            assert isinstance(asked(pixels(), return_dict=True), URANetOutput)
        finally:
            asked.config.return_dict = True
    assert isinstance(values, tuple) and isinstance(by_config, tuple) and isinstance(out, URANetOutput)
    for given in (values, by_config):
        assert len(given) == len(out.to_tuple())
        assert all(torch.equal(a, b) for a, b in zip(given, out.to_tuple(), strict=True))


def test_features_are_projected_once(model, monkeypatch):
    """For the verdict, perception and restoration alike."""
    asked, plain = [], NormalViews.project
    monkeypatch.setattr(NormalViews, "project", lambda self, features: asked.append(1) or plain(self, features))
    with torch.no_grad():
        model(pixels())
    assert asked == [1]
