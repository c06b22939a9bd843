"""Residuals, smoothing, image scores and the fixed scale, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from ura_hf.model import scoring


def test_l2_distance_by_hand():
    features = torch.tensor([1.0, 2.0, -3.0, 0.0]).view(1, 4, 1, 1)
    restored = torch.tensor([0.0, 2.0, -1.0, 3.0]).view(1, 4, 1, 1)
    out = scoring.l2_distance(features, restored)
    assert out.shape == (1, 1, 1, 1) and out.item() == pytest.approx((1 + 0 + 4 + 9) / 4)


def test_direction_distance_by_hand():
    """Levels of 2 and 1 channels: a right angle (1 - 0) and an opposite (1 - -1)."""
    features = torch.tensor([3.0, 0.0, 2.0]).view(1, 3, 1, 1)
    restored = torch.tensor([0.0, 5.0, -1.0]).view(1, 3, 1, 1)
    per_level = scoring.direction_distance(features, restored, [2, 1])
    assert per_level.shape == (1, 1, 1, 1) and per_level.item() == pytest.approx((1 + 2) / 2)


def test_l2_distance_weighs_levels_alike():
    """Levels of 1 and 3 channels: squares 9 and (0, 3, 3) give (9 + 2) / 2."""
    features = torch.tensor([3.0, 0.0, 3**0.5, 3**0.5]).view(1, 4, 1, 1)
    assert scoring.l2_distance(features, torch.zeros_like(features), [1, 3]).item() == pytest.approx(5.5)


def test_geometric_mean_by_hand():
    """Residuals 1, 9 and 8: roots of their products, by weight; one zero is enough for (almost) zero."""
    parts = torch.tensor([1.0, 9.0, 8.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    torch.testing.assert_close(
        scoring.geometric_mean([parts[:, :1], parts[:, 1:2]], [1, 1], 4), torch.full((1, 1, 4, 4), 3.0)
    )
    torch.testing.assert_close(
        scoring.geometric_mean(parts.split(1, 1), [1, 2, 5], 2), torch.full((1, 1, 2, 2), (81 * 8**5) ** 0.125)
    )
    torch.testing.assert_close(scoring.geometric_mean([parts[:, 1:2]], [3], 2), parts[:, 1:2])
    zero = torch.cat([parts[:, :1], torch.zeros(1, 1, 2, 2)], 1)
    assert scoring.geometric_mean(zero.split(1, 1), [1, 1], 4).max() < 1e-5


def test_geometric_mean_interpolates_before_it_multiplies():
    parts = torch.rand(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    ups = functional.interpolate(parts, (16, 16), mode="bilinear")
    torch.testing.assert_close(scoring.geometric_mean(parts.split(1, 1), [1, 1], 16), (ups[:, :1] * ups[:, 1:]).sqrt())


def test_direction_ignores_length_and_l2_does_not():
    torch.manual_seed(0)
    features = torch.randn(2, 6, 4, 4)
    assert scoring.direction_distance(features, 3 * features, [2, 4]).abs().max() < 1e-6
    torch.testing.assert_close(scoring.l2_distance(features, 3 * features), 4 * features.square().mean(1, keepdim=True))


def test_distances_are_cellwise():
    """A change of one cell of one image shows in that cell alone."""
    torch.manual_seed(0)
    features = torch.randn(2, 6, 4, 4)
    restored = features.clone()
    restored[1, :, 2, 3] = -restored[1, :, 2, 3]
    expected = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    expected[1, 0, 2, 3] = True
    assert torch.equal(scoring.l2_distance(features, restored) > 1e-5, expected)
    assert torch.equal(scoring.direction_distance(features, restored, [2, 4]) > 1e-5, expected)


@pytest.mark.parametrize("sigma", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("shape", [(40, 40), (33, 57)])
def test_smoothing_agrees_with_scipy(sigma, shape):
    torch.manual_seed(0)
    maps = torch.rand(2, 1, *shape, dtype=torch.float64)
    out = scoring.gaussian_smooth(maps, sigma)
    for single, expected in zip(out, maps, strict=True):
        reference = ndimage.gaussian_filter(expected[0].numpy(), sigma, mode="mirror", truncate=4)
        np.testing.assert_allclose(single[0].numpy(), reference, rtol=0, atol=1e-10)


def test_smoothing_of_a_fractional_reach_is_close_to_scipy():
    """4 sigma = 5.2: the two round the reach differently, which moves the result by the Gaussian's tail alone."""
    maps = torch.rand(1, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference = ndimage.gaussian_filter(maps[0, 0].numpy(), 1.3, mode="mirror", truncate=4)
    np.testing.assert_allclose(scoring.gaussian_smooth(maps, 1.3)[0, 0].numpy(), reference, rtol=0, atol=5e-4)


@pytest.mark.parametrize("sigma", [0.5, 4.0, 30.0])
def test_smoothing_keeps_a_constant(sigma):
    maps = torch.full((2, 1, 16, 20), 3.25)
    torch.testing.assert_close(scoring.gaussian_smooth(maps, sigma), maps)


def test_no_smoothing_changes_nothing():
    maps = torch.rand(2, 1, 8, 8)
    assert torch.equal(scoring.gaussian_smooth(maps, 0), maps)


def test_image_score_rules():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 50, 40, generator=generator)
    flat = maps.flatten(1).numpy()
    np.testing.assert_array_equal(scoring.image_score(maps, "max", 0.01).numpy(), flat.max(1))
    np.testing.assert_allclose(scoring.image_score(maps, "std", 0.01).numpy(), flat.std(1), rtol=1e-3)
    largest = np.sort(flat, 1)[:, -20:]  # 1 % of 2000
    np.testing.assert_allclose(scoring.image_score(maps, "topk", 0.01).numpy(), largest.mean(1), rtol=1e-6)


def test_topk_ends():
    maps = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(scoring.image_score(maps, "topk", 1e-6), maps.flatten(1).amax(1))  # never no pixel
    torch.testing.assert_close(scoring.image_score(maps, "topk", 1.0), maps.flatten(1).mean(1))


@pytest.mark.parametrize("rule", ["max", "std", "topk"])
def test_image_score_does_not_depend_on_the_batch(rule):
    maps = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0))
    single = torch.cat([scoring.image_score(m[None], rule, 0.05) for m in maps])
    torch.testing.assert_close(scoring.image_score(maps, rule, 0.05), single)


def test_fixed_scale():
    raw = torch.tensor([0.0, 0.1, 0.5, 2.0, 10.0, 1000.0], dtype=torch.float64)
    out = scoring.fixed_scale(raw, 0.5)
    assert out[0] == 0 and out[2] == 0.5 and (out < 1).all()
    assert (out.diff() > 0).all()
    assert out[3].item() == pytest.approx(2 / 2.5)
    assert torch.equal(scoring.fixed_scale(raw[3:4], 0.5), out[3:4])  # alone or beside others
