"""The image processor: its output, its way back to the image's geometry, and its round trip over a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ura_hf.model.errors import UserError
from ura_hf.model.image_processing_uranet import MAPS, URANetImageProcessor

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_output_of_a_single_image():
    out = URANetImageProcessor()(noise(37, 113), return_tensors="pt")
    assert out["pixel_values"].shape == (1, 3, 256, 256) and out["pixel_values"].dtype == torch.float32
    assert out["original_sizes"].dtype == torch.int64 and out["original_sizes"].tolist() == [[37, 113]]


def test_normalises_by_imagenet():
    image = noise(64, 64)
    out = URANetImageProcessor(size=64)(image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(out, (torch.from_numpy(image).permute(2, 0, 1) / 255 - MEAN) / STD)


def test_resize_is_antialiased():
    """A checkerboard of single pixels becomes even grey when its side is quartered."""
    board = np.indices((256, 256)).sum(axis=0) % 2 * 1.0
    out = URANetImageProcessor(size=64, do_normalize=False)(board, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(out[..., 2:-2, 2:-2], torch.full((1, 3, 60, 60), 0.5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("resize_mode", ["stretch", "pad"])
def test_result_does_not_depend_on_the_batch(resize_mode):
    images = [noise(37, 113), noise(300, 200), noise(37, 113)[::-1].copy()]
    processor = URANetImageProcessor(size=64, resize_mode=resize_mode)
    batch = processor(images, return_tensors="pt")
    assert batch["original_sizes"].tolist() == [[37, 113], [300, 200], [37, 113]]
    for image, row in zip(images, batch["pixel_values"], strict=True):
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"][0], row)


def test_every_kind_of_source_gives_the_same(tmp_path):
    image = noise(40, 30)
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    chw = torch.from_numpy(image).permute(2, 0, 1)
    with path.open("rb") as stream:
        sources = [path, str(path), stream, Image.fromarray(image), image, image / 255.0, chw / 255, chw]
        out = URANetImageProcessor(size=32)(sources, return_tensors="pt")["pixel_values"]
    for row in out:
        torch.testing.assert_close(row, out[0])


def test_batch_tensor():
    batch = torch.rand(2, 3, 50, 70)
    processor = URANetImageProcessor(size=32)
    out = processor(batch, return_tensors="pt")
    assert out["pixel_values"].shape == (2, 3, 32, 32) and out["original_sizes"].tolist() == [[50, 70]] * 2
    assert torch.equal(out["pixel_values"][1], processor(batch[1], return_tensors="pt")["pixel_values"][0])


def test_max_value_reaches_16_bit_images():
    white = np.full((8, 8), 4095, np.uint16)
    out = URANetImageProcessor(size=8, max_value=4095, do_normalize=False)(white, return_tensors="pt")
    assert torch.equal(out["pixel_values"], torch.ones(1, 3, 8, 8))


@pytest.mark.parametrize("turned", [False, True])
def test_pad_centres_the_image_and_repeats_its_edges(turned):
    """100 x 200 becomes 32 x 64 in rows 16 to 47; a ramp over the short side rises there and nowhere else."""
    ramp = np.repeat(np.linspace(0.2, 0.8, 100)[:, None], 200, axis=1)
    processor = URANetImageProcessor(size=64, resize_mode="pad", do_normalize=False)
    out = processor(ramp.T if turned else ramp, return_tensors="pt")["pixel_values"][0, 0]
    out = out.T if turned else out
    column = out[:, 0]
    torch.testing.assert_close(out, column[:, None].expand(64, 64))
    assert (column[16:48].diff() > 0).all()
    assert torch.equal(column[:17], column[16].expand(17)) and torch.equal(column[47:], column[47].expand(17))
    torch.testing.assert_close(column[16:48].mean().item(), 0.5, atol=1e-4, rtol=0)


def test_pad_of_a_line_keeps_one_row():
    line = np.linspace(0, 1, 500)[None]
    processor = URANetImageProcessor(size=64, resize_mode="pad")
    out = processor(line, return_tensors="pt")
    assert out["pixel_values"].shape == (1, 3, 64, 64)
    assert processor.restore_geometry(torch.rand(1, 64, 64), out["original_sizes"])[0].shape == (1, 500)


@pytest.mark.parametrize("resize_mode", ["stretch", "pad"])
@pytest.mark.parametrize(("height", "width"), [(400, 900), (900, 400), (300, 300), (333, 777)])
@pytest.mark.parametrize("grid", [256, 64])
def test_a_spot_comes_back_to_its_place(resize_mode, height, width, grid):
    """The spot's centre of mass, over the way there and back, stays within 1 % of the side."""
    top, left = int(0.2 * height), int(0.7 * width)
    image = np.zeros((height, width))
    image[top : top + 21, left : left + 21] = 1
    processor = URANetImageProcessor(resize_mode=resize_mode, do_normalize=False)
    out = processor(image, return_tensors="pt")
    maps = torch.nn.functional.adaptive_avg_pool2d(out["pixel_values"][:, :1], grid)[:, 0]
    (restored,) = processor.restore_geometry(maps, out["original_sizes"])
    assert restored.shape == (height, width) and restored.dtype == torch.float32
    rows, columns = torch.arange(height), torch.arange(width)
    assert abs((restored.sum(1) * rows).sum() / restored.sum() - (top + 10)) < 0.01 * height
    assert abs((restored.sum(0) * columns).sum() / restored.sum() - (left + 10)) < 0.01 * width
    assert restored[top + 10, left + 10] > 0.9 * restored.max()


def test_restore_pad_leaves_the_padding_out():
    """Of a map that is 1 in the padding and 0 inside, nothing of the padding is left away from the image's edge."""
    processor = URANetImageProcessor(size=64, resize_mode="pad")
    maps = torch.ones(1, 64, 64)
    maps[:, 16:48] = 0
    (restored,) = processor.restore_geometry(maps, [(100, 200)])
    assert restored.shape == (100, 200) and restored.max() == 0


def test_restore_to_a_smaller_image_averages():
    """A line of one in four map rows, shrunk four times, keeps its share instead of being skipped."""
    maps = torch.zeros(1, 256, 256)
    maps[:, ::4] = 1
    (restored,) = URANetImageProcessor().restore_geometry(maps, [(64, 64)])
    torch.testing.assert_close(restored[2:-2], torch.full((60, 64), 0.25), atol=1e-3, rtol=0)


def test_restore_takes_half_precision_and_many_sizes():
    restored = URANetImageProcessor().restore_geometry(
        torch.ones(2, 32, 32, dtype=torch.bfloat16), torch.tensor([[37, 113], [500, 20]])
    )
    assert [tuple(m.shape) for m in restored] == [(37, 113), (500, 20)]
    assert all(m.dtype == torch.float32 and torch.allclose(m, torch.ones_like(m)) for m in restored)


@pytest.mark.parametrize("shape", [(2, 32, 32), (1, 1, 32, 32), (32, 32)])
def test_restore_refuses_wrong_shapes(shape):
    with pytest.raises(ValueError, match="one map for each of the 1 original sizes"):
        URANetImageProcessor().restore_geometry(torch.zeros(shape), [(8, 8)])


def test_save_and_load_keep_every_field(tmp_path):
    fields = {
        "size": {"height": 96, "width": 128},
        "resample": 3,
        "do_resize": True,
        "do_normalize": False,
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.4, 0.5, 0.6],
        "max_value": 4095.0,
        "resize_mode": "pad",
    }
    processor = URANetImageProcessor(**fields)
    processor.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert {key: stored[key] for key in fields} == fields
    loaded = URANetImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    image = noise(37, 113)
    assert torch.equal(
        loaded(image, return_tensors="pt")["pixel_values"], processor(image, return_tensors="pt")["pixel_values"]
    )
    loaded.save_pretrained(tmp_path / "again")
    name = "preprocessor_config.json"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_defaults_survive_the_round_trip(tmp_path):
    URANetImageProcessor().save_pretrained(tmp_path)
    loaded = URANetImageProcessor.from_pretrained(tmp_path)
    assert (
        loaded.max_value is None
        and loaded.resize_mode == "stretch"
        and dict(loaded.size)
        == {
            "height": 256,
            "width": 256,
        }
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resize_mode": "crop"}, "must be one of stretch, pad, but got 'crop'"),
        ({"max_value": -1.0}, "max_value must be positive, but got -1"),
        ({"size": {"shortest_edge": 256}}, "must have a height and a width"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        URANetImageProcessor(**fields)
    with pytest.raises(UserError, match=message):
        URANetImageProcessor()(noise(8, 8), **fields)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one image"),
        (torch.rand(40, 50, 3), r"but got \(40, 50, 3\)"),
        (torch.rand(3, 8, 8) * 255, r"must lie in \[0, 1\]"),
        ("none.png", r"not found: none\.png"),
    ],
)
def test_wrong_images_are_named(images, message):
    with pytest.raises(UserError, match=message):
        URANetImageProcessor()(images)


def test_unequal_sizes_without_resize():
    with pytest.raises(UserError, match="do_resize=True"):
        URANetImageProcessor(do_resize=False)([noise(8, 8), noise(9, 9)])


@pytest.mark.parametrize("size", [{"height": 12000, "width": 64}, {"height": 64, "width": 2049}])
def test_a_size_that_no_model_takes_is_refused(size):
    """From a checkpoint of somebody else it would fill the memory."""
    with pytest.raises(UserError, match="size must have a height and a width of 1 to 2048"):
        URANetImageProcessor(size=size)
    URANetImageProcessor(size={"height": 2048, "width": 2048})


# Verdicts


def outputs_of(scores: list[float], side: int = 32) -> dict[str, torch.Tensor]:
    """What a model gives of images with these scores on the fixed scale; its thresholds are 2, and every map has one peak."""
    fixed = torch.tensor(scores)
    maps = torch.zeros(len(scores), side, side)
    maps[:, side // 4, side // 2] = 1
    return {**dict.fromkeys(MAPS, maps), "score": fixed, "image_score": 2 * fixed / (1 - fixed)}


def test_verdicts_of_a_batch():
    """The threshold itself is normal; maps come back in the geometry of each image, peaks where they were."""
    outputs = outputs_of([0.2, 0.5, 0.7])
    sizes = [(48, 64), (32, 32), (64, 16)]
    for given in (sizes, torch.tensor(sizes)):
        found = URANetImageProcessor(size=32).post_process_anomaly_detection(outputs, given)
        assert [one["label"] for one in found] == ["normal", "normal", "anomalous"]
        for one, (height, width), score in zip(found, sizes, (0.2, 0.5, 0.7), strict=True):
            assert one["score"] == pytest.approx(score) and one["threshold"] == 0.5
            assert one["image_score"] == pytest.approx(2 * score / (1 - score))
            assert set(one) == {"label", "score", "threshold", "review", "image_score", *MAPS}
            assert all(one[name].shape == (height, width) and one[name].dtype == torch.float32 for name in MAPS)
            y, x = divmod(int(one["anomaly_map"].argmax()), width)
            assert abs(y / height - 0.25) < 0.05 and abs(x / width - 0.5) < 0.05


def test_verdicts_by_another_threshold_with_chosen_maps():
    processor, outputs = URANetImageProcessor(size=32), outputs_of([0.2, 0.7])
    found = processor.post_process_anomaly_detection(outputs, threshold=0.1, maps=("score_map",))
    assert [(one["label"], one["threshold"]) for one in found] == [("anomalous", 0.1)] * 2
    assert set(found[0]) == {"label", "score", "threshold", "review", "image_score", "score_map"}
    assert found[0]["score_map"].shape == (32, 32)  # without sizes as the network's input
    found = processor.post_process_anomaly_detection(outputs, threshold=0.9, maps=())
    assert [one["label"] for one in found] == ["normal"] * 2


def test_padding_is_cut_from_the_maps_of_a_verdict():
    outputs = outputs_of([0.7])
    outputs["score_map"] = torch.ones(1, 32, 32)
    outputs["score_map"][:, 8:24] = 0  # of an image twice as wide as high, all but its padding
    processor = URANetImageProcessor(size=32, resize_mode="pad")
    (found,) = processor.post_process_anomaly_detection(outputs, [(20, 40)], maps=["score_map"])
    assert found["score_map"].shape == (20, 40) and not found["score_map"].any()


@pytest.mark.parametrize(
    ("change", "options", "fault"),
    [
        ({"score": None}, {}, "no calibrated thresholds"),
        ({"image_score": torch.tensor([float("nan")])}, {}, "no finite score"),
        ({}, {"threshold": 0.0}, "threshold must lie between 0 and 1"),
        ({}, {"threshold": float("nan")}, "threshold must lie between 0 and 1"),
        ({}, {"threshold": 3.7}, "raw ones have the name image_score"),
        ({}, {"maps": ["heat"]}, r"maps must be some of score_map, .* but got heat"),
    ],
)
def test_no_verdict_is_better_than_a_wrong_one(change, options, fault):
    with pytest.raises(UserError, match=fault):
        URANetImageProcessor(size=32).post_process_anomaly_detection(outputs_of([0.7]) | change, **options)
