"""The frozen backbone: its features by hand, its frozenness, and what becomes of wrong names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ura_hf import UserError
from ura_hf.model.backbone import Backbone, create_cnn


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone("test_resnet", (1, 2, 3), grid_size=8)


def bilinear(image: np.ndarray, side: int) -> np.ndarray:
    """Bilinear sampling of (C, h, h) at the centres of side x side cells, edges repeated."""
    size = image.shape[-1]
    at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
    low = np.floor(at).astype(int)
    high, t = np.minimum(low + 1, size - 1), at - low
    rows = image[:, low] * (1 - t)[:, None] + image[:, high] * t[:, None]
    return rows[..., low] * (1 - t) + rows[..., high] * t


def test_raw_features_by_hand(backbone):
    """Each level: mean of 3x3 cells with zeros beyond the border, bilinear to the grid; levels side by side."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        levels = backbone.cnn(images)
    assert [level.shape[-1] for level in levels] == [16, 8, 4]
    expected = []
    for level in levels:
        side = level.shape[-1]
        padded = np.pad(level.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
        pooled = sum(padded[..., i : i + side, j : j + side] for i in range(3) for j in range(3)) / 9
        expected.append(np.stack([bilinear(image, 8) for image in pooled]))
    out = backbone.raw(images)
    assert out.shape == (2, backbone.channels, 8, 8) and out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), np.concatenate(expected, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("levels", "channels"), [((0,), [32]), ((1, 3), [32, 192]), ((1, 2, 3), [32, 48, 192])])
def test_channels_follow_the_levels(levels, channels):
    backbone = Backbone("test_resnet", levels, grid_size=4)
    assert backbone.level_channels == channels and backbone.channels == sum(channels)
    assert backbone.mean.shape == backbone.std.shape == (sum(channels),)


def test_standardised_features_have_no_scale(backbone):
    """With the statistics of the images themselves, every live channel comes out with mean 0 and deviation 1."""
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    raw = backbone.raw(images)
    backbone.set_statistics(raw.mean((0, 2, 3)), raw.std((0, 2, 3)))
    out = backbone(images)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(backbone.channels), atol=1e-4, rtol=0)
    live = raw.std((0, 2, 3)) > 1e-3  # an untrained CNN has channels that never fire
    assert live.sum() > backbone.channels / 2
    torch.testing.assert_close(out.std((0, 2, 3))[live], torch.ones(int(live.sum())), atol=1e-4, rtol=0)


def test_standardise_by_hand_and_back(backbone):
    channels = backbone.channels
    mean, std = torch.linspace(-1, 1, channels), torch.linspace(0.5, 2, channels)
    backbone.set_statistics(mean, std)
    raw = torch.randn(2, channels, 8, 8)
    out = backbone.standardize(raw)
    torch.testing.assert_close(out[1, 7, 2, 3], (raw[1, 7, 2, 3] - mean[7]) / std[7])
    torch.testing.assert_close(backbone.unstandardize(out), raw)


def test_a_dead_channel_stays_finite(backbone):
    channels = backbone.channels
    backbone.set_statistics(torch.zeros(channels), torch.zeros(channels))
    assert backbone.standardize(torch.randn(1, channels, 8, 8)).isfinite().all()


def test_floor_lifts_only_nearly_dead_channels(backbone):
    std = torch.ones(backbone.channels)
    std[3] = 1e-4
    backbone.set_statistics(torch.zeros_like(std), std, floor=0.25)
    assert backbone.std[3] == 0.25 and backbone.std.sum() == backbone.channels - 0.75


def test_always_in_eval_mode(backbone):
    outer = torch.nn.Sequential(backbone).train()
    assert outer.training and not any(module.training for module in backbone.modules())
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    outer(torch.randn(2, 3, 64, 64) * 5 + 3)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_never_a_gradient(backbone):
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(images).requires_grad
    backbone.requires_grad_(True)
    for module in backbone.modules():
        module.training = True
    backbone.freeze()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize("name", ["resnet1800", "no_such_net.tv_in1k", "resnet18.no_such_tag", ""])
def test_unknown_architecture(name):
    with pytest.raises(UserError, match="backbone must be"):
        create_cnn(name, (1, 2, 3))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_networks_for_one_size_only_are_refused(name):
    with pytest.raises(UserError, match=f"{name}' takes one size only"):
        create_cnn(name, (1, 2, 3))


def test_unknown_architecture_names_near_ones():
    with pytest.raises(UserError, match="resnet18"):
        create_cnn("resnet1", (1, 2, 3))


@pytest.mark.parametrize("levels", [(1, 2, 7), (5,)])
def test_missing_level(levels):
    with pytest.raises(UserError, match="test_resnet"):
        create_cnn("test_resnet", levels)
