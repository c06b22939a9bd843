"""The frozen backbone: its features by hand, its frozenness, and what becomes of wrong names."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ura_hf import UserError
from ura_hf.model.backbone import Backbone, create_network


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
    np.testing.assert_allclose(out.numpy(), np.concatenate(expected, 1), rtol=1e-3, atol=1e-5)  # float16: 0.05 %


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


def test_levels_count_alike():
    """Every channel of a level is divided by the root mean square of that level's deviations."""
    backbone = Backbone("test_resnet", (0, 1), 4)
    std = torch.rand(backbone.channels, generator=torch.Generator().manual_seed(0))
    first = backbone.level_channels[0]
    found = backbone.level_deviations(std).numpy()
    np.testing.assert_allclose(found[:first], np.sqrt(np.mean(std[:first].numpy() ** 2)), rtol=1e-5)
    np.testing.assert_allclose(found[first:], np.sqrt(np.mean(std[first:].numpy() ** 2)), rtol=1e-5)
    assert found.shape == (backbone.channels,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_are_rounded_to_float16(backbone, dtype):
    """As training keeps them, whatever the weights' type; what float16 can't hold becomes its largest numbers."""
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = backbone.to(dtype).raw(images)
    assert found.dtype == dtype and torch.equal(found, found.half().to(dtype))
    huge = backbone.raw(1e30 * images.float().sign().to(dtype))
    assert huge.isfinite().all() and huge.abs().max() <= 6.01e4


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
        create_network(name, (1, 2, 3))


@pytest.mark.parametrize(
    ("name", "side", "levels", "channels"),
    [
        ("vit_tiny_patch16_224", 96, (5, 8, 11), [192] * 3),
        ("vit_small_patch14_reg4_dinov2", 98, (5, 8, 11), [384] * 3),
        ("vit_small_patch16_dinov3", 96, (5, 8, 11), [384] * 3),
        ("test_vit", 96, (2, 3, 5), [64] * 3),
        ("swin_tiny_patch4_window7_224", 96, (1, 2, 3), [192, 384, 768]),
    ],
)
def test_networks_for_one_size_are_built_for_the_images(name, side, levels, channels):
    """Levels of a ViT are the ends of quarters of its blocks; an image that patches do not fill is seen at the next size."""
    backbone = Backbone(name, (1, 2, 3), 8, image_size=90)
    assert backbone.only_side == side and backbone.level_channels == channels
    assert tuple(backbone.cnn.feature_info.out_indices) == levels
    found = backbone.raw(torch.randn(2, 3, 90, 90))
    assert found.shape == (2, sum(channels), 8, 8) and found.isfinite().all()


def test_a_vit_gives_the_patches_where_they_are():
    """By hand from timm's own blocks: no class and register tokens, rows and columns in their order."""
    torch.manual_seed(0)
    backbone, images = Backbone("vit_small_patch14_reg4_dinov2", (3,), 4, image_size=56), torch.randn(2, 3, 56, 56)
    vit = backbone.cnn.model
    with torch.no_grad():
        tokens = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
        for block in vit.blocks:
            tokens = block(tokens)
        (level,) = backbone.cnn(images)
    assert tokens.shape[1] == 1 + 4 + 16 and len(vit.blocks) == 12
    torch.testing.assert_close(level, tokens[:, 5:].unflatten(1, (4, 4)).permute(0, 3, 1, 2))


def test_an_image_between_two_sizes_is_seen_whole():
    """Patches of 16 do not fill 90 pixels: the image is enlarged to 96, and nothing of it is cut off."""
    torch.manual_seed(0)
    at_90, at_96 = (Backbone("test_vit", (0,), 6, image_size=side) for side in (90, 96))
    at_96.cnn.load_state_dict(at_90.cnn.state_dict())
    image = torch.randn(1, 3, 90, 90)
    enlarged = torch.from_numpy(bilinear(image[0].numpy(), 96)).float()[None]
    torch.testing.assert_close(at_90.raw(image), at_96.raw(enlarged), rtol=2e-3, atol=2e-3)  # float16


def test_levels_that_a_vit_has_not():
    with pytest.raises(UserError, match=r"test_vit' \(it has the levels 0 to 3"):
        create_network("test_vit", (1, 4))


def test_unknown_architecture_names_near_ones():
    with pytest.raises(UserError, match="resnet18"):
        create_network("resnet1", (1, 2, 3))


@pytest.mark.parametrize("levels", [(1, 2, 7), (5,)])
def test_missing_level(levels):
    with pytest.raises(UserError, match="test_resnet"):
        create_network("test_resnet", levels)
