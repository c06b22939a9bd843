"""Turning images, and telling from good images whether parts lie in any rotation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import tiny_config
from PIL import Image
from scipy import ndimage

from ura_hf import URANetImageProcessor
from ura_hf.model.backbone import Backbone
from ura_hf.model.configuration_uranet import DEFAULT_VIEWS
from ura_hf.model.errors import UserError
from ura_hf.training.features import cached_features
from ura_hf.training.imagenet import load_imagenet
from ura_hf.training.pose import (
    MAX_TURNED_RATIO,
    TURNED_COPIES,
    rotation_ratio,
    turn,
    turn_input,
    turned_copy,
    views_for,
)
from ura_hf.training.train import TrainingOptions, train

SIZE = {"height": 64, "width": 64}


def draw(folder, count, any_rotation):
    """Photos of an arrow on noise, upright within a degree or turned at random."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96] - 47.5
    arrow = (np.abs(x) < 5) & (np.abs(y) < 30) | (np.abs(x) < 18 - np.abs(y + 20)) & (y < -8)
    folder.mkdir(parents=True)
    for index in range(count):
        angle = rng.uniform(0, 360) if any_rotation else rng.uniform(-1, 1)
        picture = 60 + 120 * ndimage.rotate(arrow.astype(float), angle, reshape=False, order=1)
        grey = (picture + 4 * rng.standard_normal(picture.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def upright(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("upright") / "good", 18, False)


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("turned") / "good", 30, True)


@pytest.fixture(scope="module")
def backbone(resnet18_weights):
    backbone = Backbone("resnet18", (1, 2, 3), 8)
    load_imagenet(backbone, resnet18_weights)
    return backbone


def test_turn_by_a_right_angle_is_exact():
    pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn(pixels, 90.0), pixels.rot90(1, (2, 3)), rtol=0, atol=1e-4)
    torch.testing.assert_close(turn(pixels, 0.0), pixels, rtol=0, atol=2e-5)  # coordinates are float32


def test_turn_leaves_no_empty_corner():
    assert turn(torch.ones(1, 3, 32, 32), 45.0).min() > 0.999


def test_copies_are_the_same_however_batched():
    processor = URANetImageProcessor(size=16)
    images = list(torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    together = turned_copy(processor(images, return_tensors="pt"), range(5, 8), 2, processor)
    alone = turned_copy(processor(images[1:2], return_tensors="pt"), range(6, 7), 2, processor)
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together, turned_copy(processor(images, return_tensors="pt"), range(5, 8), 1, processor))


@pytest.mark.parametrize("resize_mode", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(60, 120), (120, 60), (80, 80)])
def test_an_input_is_turned_as_its_photo_is(resize_mode, shape):
    """And not as the stretched or padded square that the network sees."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    processor = URANetImageProcessor(size=SIZE, resize_mode=resize_mode, do_normalize=False)

    def photo(degrees):
        along = x * np.cos(np.radians(degrees)) - y * np.sin(np.radians(degrees))
        across = x * np.sin(np.radians(degrees)) + y * np.cos(np.radians(degrees))
        bar = np.exp(-((along / 9) ** 4) - (across / 4) ** 4)  # within the middle half
        return torch.from_numpy(np.repeat(bar[None], 3, 0)).float()

    found = turn_input(processor([photo(0)], return_tensors="pt"), 0, 50.0, processor)
    wanted = processor([photo(50)], return_tensors="pt")["pixel_values"]
    assert found.shape == wanted.shape and (found - wanted).abs().mean() < 0.1 * wanted.mean()


def test_an_input_as_large_as_its_photo_is_turned_too():
    processor = URANetImageProcessor(size=16, do_resize=False, do_normalize=False)
    image = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    found = turn_input(processor([image], return_tensors="pt"), 0, 90.0, processor)
    torch.testing.assert_close(found[0], image.rot90(1, (1, 2)), rtol=0, atol=1e-4)


def test_ratio_tells_turned_parts_from_upright_ones(backbone, upright, turned):
    processor = URANetImageProcessor(size=SIZE)
    assert (
        rotation_ratio(turned, backbone, processor)
        < MAX_TURNED_RATIO
        < rotation_ratio(upright, backbone, processor) / 1.5
    )
    assert rotation_ratio(turned, backbone, processor) == rotation_ratio(turned, backbone, processor)
    assert rotation_ratio(upright[:5], backbone, processor) is None


def test_real_parts_in_one_pose_are_told(shared_dir, resnet18_weights):
    backbone = Backbone("resnet18", (1, 2, 3), 16)
    load_imagenet(backbone, resnet18_weights)
    images = sorted((shared_dir / "data/mvtec/pill/train/good").iterdir())[:24]
    assert rotation_ratio(images, backbone, URANetImageProcessor(size={"height": 128, "width": 128})) > MAX_TURNED_RATIO


def test_cache_holds_the_images_and_then_their_copies(backbone, upright, tmp_path):
    processor = URANetImageProcessor(size=SIZE)
    plain = cached_features(upright, backbone, processor, tmp_path, "training")
    found = cached_features(upright, backbone, processor, tmp_path, "training", copies=2, batch_size=4)
    assert len(found) == 3 * len(plain) == 54
    np.testing.assert_allclose(found[:18].astype(float), plain.astype(float), atol=0.02)
    inputs = processor([upright[7]], return_tensors="pt")
    wanted = backbone.raw(turned_copy(inputs, range(7, 8), 2, processor)).numpy()
    np.testing.assert_allclose(found[2 * 18 + 7].astype(float), wanted[0], atol=0.02)


@pytest.mark.parametrize(("pose", "copies"), [("auto", TURNED_COPIES), ("fixed", 0)])
def test_training_says_what_it_took_the_pose_for(turned, resnet18_weights, tmp_path, pose, copies):
    options = TrainingOptions(turned[0].parent, tmp_path / "run", resnet18_weights, steps=2, batch_size=2, pose=pose)
    record = train(options, tiny_config())
    assert record["pose"]["turned_copies"] == copies
    assert record["images"] == {"fitted": 30}
    views = json.loads((tmp_path / "run/config.json").read_text()).get("views", list(DEFAULT_VIEWS))
    assert ("place" in views) == (pose == "fixed") and {"memory", "remainder", "image"} <= set(views)
    assert (record["pose"]["rotation_ratio"] is None) == (pose == "fixed")
    json.loads((tmp_path / "run/training.json").read_text(), parse_constant=lambda text: pytest.fail(text))


def test_views_that_somebody_chose_stay():
    assert views_for(DEFAULT_VIEWS, 3) == [view for view in DEFAULT_VIEWS if view != "place"]
    assert views_for(DEFAULT_VIEWS, 0) == list(DEFAULT_VIEWS) and views_for(["place"], 3) == ["place"]


def test_an_unknown_pose_is_named(tmp_path):
    with pytest.raises(UserError, match="pose must be one of auto, fixed, any, but got 'upright'"):
        TrainingOptions(tmp_path, tmp_path / "run", pose="upright")
