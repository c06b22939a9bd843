"""Floats and signed numbers by the values of black and white."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from ura_hf import TrainingOptions, URANetImageProcessor
from ura_hf.model.errors import UserError
from ura_hf.model.images import load_image

CELSIUS = np.linspace(-40, 160, 48 * 64).reshape(48, 64).astype(np.float32)
WANTED = ((CELSIUS + 20) / 140).clip(0, 1)


def check(image: np.ndarray, wanted: np.ndarray, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(image, np.repeat(wanted[..., None], 3, 2), atol=atol)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int32])
def test_arrays_and_files(tmp_path, dtype):
    values = np.rint(CELSIUS).astype(dtype)
    wanted = ((values.astype(np.float64) + 20) / 140).clip(0, 1)
    check(load_image(values, value_range=(-20, 120)), wanted)
    if dtype != np.float16:
        tifffile.imwrite(tmp_path / "a.tif", values)
        check(load_image(tmp_path / "a.tif", value_range=(-20, 120)), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_white_that_is_stored_low(tmp_path, dtype):
    values = np.rint(CELSIUS).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    check(load_image(tmp_path / "a.tif", value_range=(-20, 120)), 1 - ((values + 20.0) / 140).clip(0, 1))


def test_three_channels_of_floats(tmp_path):
    colour = np.stack([CELSIUS, CELSIUS / 2, -CELSIUS], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    wanted = ((colour + 20) / 140).clip(0, 1)
    np.testing.assert_allclose(load_image(tmp_path / "a.tif", value_range=(-20, 120)), wanted, atol=1e-5)


def test_images_of_eight_bits_keep_their_scale(tmp_path):
    grey = np.arange(48, dtype=np.uint8)[:, None].repeat(64, 1)
    check(load_image(grey, value_range=(-20, 120)), grey / 255)
    Image.fromarray(np.dstack([grey] * 4), "RGBA").save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", value_range=(-20, 120)).shape == (48, 64, 3)


def test_max_value_counts_for_floats(tmp_path):
    counts = (CELSIUS + 40) * 20
    check(load_image(counts, max_value=4095), counts / 4095)
    tifffile.imwrite(tmp_path / "a.tif", counts)
    check(load_image(tmp_path / "a.tif", max_value=4095), counts / 4095)
    with pytest.raises(UserError, match=r"values in \[0, 100\], but got \[0, 4000\]; set max_value"):
        load_image(counts, max_value=100)
    with pytest.raises(UserError, match=r"but got \[-40, 160\]; set value_range \(--value-range LOW HIGH\)"):
        load_image(CELSIUS, max_value=200)


def test_the_advice_fits_negative_values():
    with pytest.raises(UserError, match=r"but got \[-40, 160\]; .* value_range \(--value-range LOW HIGH\)"):
        load_image(CELSIUS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_value": 200, "value_range": (0, 1)}, "say the same in two ways: give one"),
        ({"value_range": (5, 5)}, r"two rising numbers.*but got \(5, 5\)"),
        ({"value_range": 5}, "two rising numbers.*but got 5"),
        ({"value_range": [1, float("nan")]}, "two rising numbers"),
        ({"value_range": ["a", 2]}, "two rising numbers"),
        ({"value_range": (200, 300)}, r"none of which lies in the value_range \[200, 300\]"),
    ],
)
def test_wrong_ranges(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        load_image(CELSIUS, **arguments)
    if "none of" not in message:
        with pytest.raises(UserError, match=message):
            URANetImageProcessor(**arguments)
        with pytest.raises(UserError, match=message):
            URANetImageProcessor()(np.zeros((4, 4)), **arguments)
        with pytest.raises(UserError, match=message):
            TrainingOptions(tmp_path, tmp_path, **arguments)


def test_transparency_has_no_such_range():
    with pytest.raises(UserError, match="array, which has transparency"):
        load_image(np.dstack([CELSIUS, CELSIUS]), value_range=(-20, 120))


def test_the_processor_keeps_it(tmp_path):
    processor = URANetImageProcessor(size=32, value_range=(-20, 120), do_normalize=False)
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "preprocessor_config.json").read_text())["value_range"] == [-20, 120]
    loaded = URANetImageProcessor.from_pretrained(tmp_path)
    pixels = [made(CELSIUS, return_tensors="pt")["pixel_values"] for made in (processor, loaded)]
    assert torch.equal(*pixels) and pixels[0].min() == 0 and pixels[0].max() == 1
    tensor = loaded(torch.from_numpy(CELSIUS)[None], return_tensors="pt")["pixel_values"]
    assert torch.equal(tensor, pixels[0])
    check(loaded.load(CELSIUS), WANTED)


def test_a_processor_without_the_field_loads(tmp_path):
    URANetImageProcessor(max_value=4095).save_pretrained(tmp_path)
    assert "value_range" not in json.loads((tmp_path / "preprocessor_config.json").read_text())
    loaded = URANetImageProcessor.from_pretrained(tmp_path)
    assert loaded.value_range is None and loaded.max_value == 4095


@pytest.mark.parametrize("scale", [{"max_value": 4095}, {"value_range": [0, 4095]}])
def test_the_loop_over_images_scales_them_once(scale):
    from conftest import tiny_config

    from ura_hf import URANetForAnomalyDetection
    from ura_hf.inference import Pair, find

    model = URANetForAnomalyDetection(tiny_config()).eval()
    model.backbone.is_fitted = True
    counts = (CELSIUS + 40) * 20
    scaled, plain = URANetImageProcessor(size=64, **scale), URANetImageProcessor(size=64)
    (one,) = find(Pair(model, scaled), [counts], fields=("features",))
    (other,) = find(Pair(model, plain), [counts / 4095], fields=("features",))
    torch.testing.assert_close(one.output["features"], other.output["features"], atol=2e-3, rtol=1e-3)
