"""The pipeline: every kind of image, one or many of them, in true batches, with the same results."""

from __future__ import annotations

import functools
import http.server
import io
import threading
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from conftest import tiny_config
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModel, pipeline

import ura_hf
from ura_hf import URANetForAnomalyDetection, URANetImageProcessor, URANetPipeline, UserError
from ura_hf.demo.analysis import analyse
from ura_hf.hub.load import load_detector
from ura_hf.model import image_sources
from ura_hf.model.image_processing_uranet import MAPS


@pytest.fixture(scope="module")
def detector(checkpoint):
    return load_detector(checkpoint)


@pytest.fixture(scope="module")
def paths(category) -> list[str]:
    return [str(category / f"test/{kind}/{index:03d}.png") for kind in ("good", "spot") for index in range(2)]


@pytest.fixture
def site(category):
    """The address of a server whose files are the images of `category`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(category)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def pixels_of(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def deep(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257


def share(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 255


def first(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def assert_same(found, wanted):
    assert found["label"] == wanted["label"] and found["score"] == pytest.approx(wanted["score"], rel=1e-4)
    np.testing.assert_allclose(found["anomaly_map"], wanted["anomaly_map"], rtol=1e-3, atol=1e-4)


ONE = {
    "path": lambda path: path,
    "Path": Path,
    "bytes": lambda path: Path(path).read_bytes(),
    "memoryview": lambda path: memoryview(Path(path).read_bytes()),
    "open file": lambda path: io.BytesIO(Path(path).read_bytes()),
    "PIL": Image.open,
    "HWC uint8": pixels_of,
    "HWC uint16": lambda path: deep(pixels_of(path)),
    "HWC float": lambda path: share(pixels_of(path)),
    "HWC float64": lambda path: pixels_of(path) / 255,
    "CHW uint8": lambda path: first(pixels_of(path)),
    "CHW uint16": lambda path: first(deep(pixels_of(path))),
    "CHW float": lambda path: first(share(pixels_of(path))),
    "HW": lambda path: pixels_of(path)[..., 0],
    "tensor uint8": lambda path: torch.from_numpy(first(pixels_of(path))),
    "tensor uint16": lambda path: torch.from_numpy(first(deep(pixels_of(path)))),
    "tensor float": lambda path: torch.from_numpy(first(share(pixels_of(path)))),
    "tensor 1HW": lambda path: torch.from_numpy(first(pixels_of(path))[:1]),
}


@pytest.mark.parametrize("kind", ONE)
def test_every_kind_of_image_gives_the_same(detector, paths, kind):
    assert_same(detector(ONE[kind](paths[2])), detector(paths[2]))
    assert_same(detector([ONE[kind](paths[2])])[0], detector(paths[2]))


def column(paths: list[str], **options):
    return datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image(**options))["image"]


class Listed(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


MANY = {
    "list": list,
    "tuple": tuple,
    "generator": lambda paths: (path for path in paths),
    "iterator": lambda paths: map(Image.open, paths),
    "column": column,
    "iterable column": lambda paths: datasets.Dataset.from_dict({"image": paths}).to_iterable_dataset()["image"],
    "torch dataset": Listed,
    "array BHWC": lambda paths: np.stack([pixels_of(path) for path in paths]),
    "array BCHW": lambda paths: np.stack([first(share(pixels_of(path))) for path in paths]),
    "tensor": lambda paths: torch.stack([torch.from_numpy(first(pixels_of(path))) for path in paths]),
    "mixed": lambda paths: [paths[0], Image.open(paths[1]), pixels_of(paths[2]), first(share(pixels_of(paths[3])))],
}


@pytest.mark.parametrize("kind", MANY)
def test_many_images_go_through_the_model_in_batches(detector, paths, kind, monkeypatch):
    wanted = [detector(path) for path in paths]
    sizes, plain = [], detector.model.forward
    monkeypatch.setattr(detector.model, "forward", lambda x, **more: sizes.append(len(x)) or plain(x, **more))
    found = list(detector(MANY[kind](paths), batch_size=3))
    assert sizes == [3, 1]
    for result, expected in zip(found, wanted, strict=True):
        assert_same(result, expected)
    sizes.clear()
    assert len(list(detector(MANY[kind](paths)))) == 4 and sizes == [1] * 4


def test_lists_come_back_as_lists_and_iterators_as_iterators(detector, paths):
    for kind in ("list", "tuple", "column", "array BHWC", "tensor"):
        assert type(detector(MANY[kind](paths[:1]))) is list
    taken = []
    results = detector(taken.append(path) or path for path in paths)
    next(iter(results))
    assert len(taken) < len(paths)
    for nothing in ([], (), iter(()), np.zeros((0, 8, 8, 3), np.uint8), torch.zeros(0, 3, 8, 8)):
        assert list(detector(nothing)) == []


def test_maps_are_made_when_they_are_looked_at(detector, paths, monkeypatch):
    made, plain = [], detector.image_processor.restore_geometry
    monkeypatch.setattr(detector.image_processor, "restore_geometry", lambda *values: made.append(1) or plain(*values))
    result = detector(paths[0])
    assert set(MAPS) < set(result) and result["label"] and not made
    assert result["score_map"] is result["score_map"] and len(made) == 1
    assert np.array_equal({**result}["score_map"], result["score_map"]) and len(made) == len(MAPS)


def test_images_of_several_sizes_in_one_batch(detector, paths):
    images = [Image.open(path).resize(size) for path, size in zip(paths, [(64, 48), (80, 80), (20, 90)], strict=False)]
    for found, image in zip(detector(images, batch_size=3), images, strict=True):
        assert found["score_map"].shape == image.size[::-1]
        assert_same(found, detector(image))


def test_an_image_from_the_web(detector, paths, site, monkeypatch):
    found = detector([f"{site}/test/good/000.png", f"{site}/test/spot/000.png"], batch_size=2)
    for result, path in zip(found, (paths[0], paths[2]), strict=True):
        assert_same(result, detector(path))
    with pytest.raises(UserError, match=r"no image at .*none\.png: the server answered 404; check the address"):
        detector(f"{site}/none.png")
    for address in ("http://127.0.0.1:9/x.png", "http://", "http://[::1/x.png", "https://a b/x.png"):
        with pytest.raises(UserError, match="could not be fetched"):
            detector(address)
    monkeypatch.setattr(image_sources, "MAX_URL_BYTES", 100)
    with pytest.raises(UserError, match="is larger than"):
        detector(f"{site}/test/good/000.png")


def test_an_image_from_the_web_that_takes_too_long(detector, site, monkeypatch):
    """However often the server sends a few bytes."""
    monkeypatch.setattr(image_sources, "MAX_URL_SECONDS", 0)
    with pytest.raises(UserError, match=r"good/000\.png took longer than 0 seconds; download it first"):
        detector(f"{site}/test/good/000.png")


@pytest.mark.parametrize(
    "wrong", [{"image": "a.png"}, 3, None, b"", "", [None], torch.zeros(2, 8, 8), np.zeros((5, 8, 8))]
)
def test_what_is_no_image_is_named(detector, wrong):
    with pytest.raises(UserError, match=r"image|array|tensor"):
        detector(wrong)


def test_a_model_that_was_never_calibrated_gives_no_verdict():
    torch.manual_seed(0)
    model = URANetForAnomalyDetection(tiny_config()).eval()
    detector = URANetPipeline(model=model, image_processor=URANetImageProcessor(size=64))
    image = Image.new("RGB", (64, 64))
    with pytest.raises(UserError, match="never fitted to good images"):
        detector(image)
    channels = torch.ones(model.backbone.channels)
    model.backbone.set_statistics(0.1 * channels, channels)
    with pytest.raises(UserError, match="no calibrated thresholds"):
        detector(image)
    model.config.image_threshold = model.config.pixel_threshold = 1.0
    model.config.return_dict = False
    assert detector(image)["label"] in ("normal", "anomalous")


def test_auto_classes_and_pipeline(checkpoint, category):
    assert AutoConfig.from_pretrained(checkpoint).model_type == "uranet"
    assert type(AutoModel.from_pretrained(checkpoint)) is URANetForAnomalyDetection
    assert isinstance(AutoImageProcessor.from_pretrained(checkpoint), ura_hf.URANetImageProcessor)
    detector = pipeline("image-anomaly-detection", model=str(checkpoint))
    one, two = detector([str(category / "test/good/000.png"), str(category / "test/spot/000.png")])
    assert one["score"] < two["score"] and one["anomaly_map"].shape == (48, 64)
    together = detector([str(category / "test/good/000.png"), str(category / "test/spot/000.png")], batch_size=2)
    assert [result["score"] for result in together] == pytest.approx([one["score"], two["score"]], rel=1e-4)
    assert detector([]) == detector(()) == []


def test_arguments_of_the_constructor_count_until_a_call_gives_others(checkpoint, category):
    image = str(category / "test/good/000.png")
    detector = pipeline("image-anomaly-detection", model=str(checkpoint), threshold=1e-6, return_features=True)
    found = detector(image)
    assert found["threshold"] == pytest.approx(1e-6) and found["label"] == "anomalous" and "features" in found
    found = detector(image, threshold=0.999999, return_features=False)
    assert found["threshold"] == pytest.approx(0.999999) and found["label"] == "normal" and "features" not in found
    assert detector(image)["threshold"] == pytest.approx(1e-6, rel=1e-12)


def test_a_saved_pipeline_is_loaded_by_everything(checkpoint, category, tmp_path):
    detector, image = load_detector(checkpoint), str(category / "test/spot/000.png")
    detector.save_pretrained(tmp_path)
    for again in (load_detector(tmp_path), pipeline("image-anomaly-detection", model=str(tmp_path))):
        assert again(image)["image_score"] == detector(image)["image_score"]
    assert "custom_pipelines" not in (tmp_path / "config.json").read_text()


def test_the_pipeline_refuses_what_it_can_not_use(checkpoint, category):
    detector = load_detector(checkpoint)
    image = str(category / "test/good/000.png")
    for name, value in (("threshold", float("nan")), ("threshold", -1.0), ("num_samples", 0), ("num_samples", -1)):
        with pytest.raises(UserError, match=name):
            detector(image, **{name: value})


def test_a_tuple_is_as_good_as_a_list_and_no_image_is_lost(checkpoint, category):
    detector = load_detector(checkpoint)
    paths = [str(category / f"test/{name}/000.png") for name in ("good", "spot")]
    scores = [result["score"] for result in detector(paths)]
    assert [result["score"] for result in detector(tuple(paths))] == scores
    for input_, name in (([paths, paths], "list"), ([tuple(paths)], "tuple"), ([torch.zeros(2, 3, 8, 8)], "Tensor")):
        with pytest.raises(UserError, match=f"got a {name} of 2 images: give a list of images"):
            detector(input_)
    (found,) = detector(torch.zeros(1, 3, 48, 64))
    assert found["anomaly_map"].shape == (48, 64)
    assert len(detector(torch.zeros(2, 3, 48, 64))) == 2


def test_a_score_that_is_no_number_is_no_verdict(checkpoint, category):
    detector = load_detector(checkpoint)
    image = str(category / "test/good/000.png")
    detector.model.uranet.views.memory.cells.fill_(float("nan"))
    for check in (detector, lambda path: analyse(detector, path, "it")):
        with pytest.raises(UserError, match="no finite score"):
            check(image)


def test_networks_work_only_where_their_maps_are_asked_for(checkpoint, category, monkeypatch):
    """And the verdict is the same without them."""
    detector, image = load_detector(checkpoint), str(category / "test/spot/000.png")
    whole = detector(image)
    asked = []
    for name in ("believe", "restore"):
        plain = getattr(detector.model.uranet, name)
        monkeypatch.setattr(detector.model.uranet, name, lambda *given, p=plain, n=name: asked.append(n) or p(*given))
    lean = detector(image, maps=("score_map",))
    assert not asked and set(lean) == {*whole} - {*MAPS} | {"score_map"}
    np.testing.assert_array_equal(lean["score_map"], whole["score_map"])
    assert all(lean[name] == whole[name] for name in lean if name not in MAPS)
    for given in (
        {"maps": ("total_uncertainty",)},
        {"maps": (), "return_features": True},
        {"return_features": True},
        {},
    ):
        before = len(asked)
        assert detector(image, **given) and asked[before:] == ["believe", "restore"]
    sparing = URANetPipeline(model=detector.model, image_processor=detector.image_processor, maps=())
    before = len(asked)
    sparing(image)
    assert len(asked) == before and "anomaly_probability" in sparing(image, maps=MAPS)
    whole = URANetPipeline(model=detector.model, image_processor=detector.image_processor, return_features=True)
    assert "restored_features" in whole(image, maps=("score_map",))
    few = URANetPipeline(model=detector.model, image_processor=detector.image_processor, num_samples=2)
    one = few(image, maps=iter(["epistemic_uncertainty"]))
    np.testing.assert_array_equal(one["epistemic_uncertainty"], few(image)["epistemic_uncertainty"])
    with pytest.raises(UserError, match="has no anomaly_probability"):
        detector(image, num_samples=0)


def test_verdicts_follow_the_rates(checkpoint, category):
    """The more false alarms are allowed, the more is anomalous; none to review with a share of 0."""
    detector = load_detector(checkpoint)
    images = [str(path) for place in ("good", "spot") for path in sorted((category / "test" / place).iterdir())]
    labels = {}
    for share in (0.01, 0.1, 0.4):
        found = detector(images, maps=(), max_false_alarms=share)
        assert all(
            (one["label"] == "anomalous") == (one["rank"] > 1 / share) for one in found if one["label"] != "unknown"
        )
        assert {one["threshold"] for one in found} == {found[0]["threshold"]} and found[0]["review"] <= found[0][
            "threshold"
        ]
        labels[share] = [one["label"] for one in found]
    counts = [sum(label == "anomalous" for label in given) for given in labels.values()]
    assert counts == sorted(counts)
    assert "review" not in [one["label"] for one in detector(images, maps=(), max_review=0)]
    for wrong in ({"threshold": 0.4, "max_false_alarms": 0.1}, {"max_review": 2}, {"max_false_alarms": 1e-9}):
        with pytest.raises(UserError):
            detector(images[0], **wrong)
