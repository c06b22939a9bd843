"""Residuals, smoothing, image scores, the fixed scale and the calibration, against independent computations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch.nn import functional

from ura_hf.model import scoring
from ura_hf.training.train import calibration


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


@pytest.mark.parametrize(("count", "rate", "rank"), [(19, 0.05, 19), (99, 0.1, 90), (100, 0.05, 96), (9, 0.5, 5)])
def test_calibration_takes_the_conformal_rank(count, rate, rank):
    scores = torch.arange(1.0, count + 1)[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    assert calibration.calibrate(scores, rate) == rank


@pytest.mark.parametrize("rate", ["0.01", "0.05", "0.1", "0.2", "0.3", "0.45"])
def test_calibration_rank_is_exact_for_every_count(rate):
    """ceil((1 - rate) (N + 1)) in rational numbers: binary rounding must not move the rank by one."""
    wrong = {}
    for count in range(1, 400):
        rank = math.ceil((1 - Fraction(rate)) * (count + 1))
        if rank <= count and (found := calibration.calibrate(torch.arange(1.0, count + 1), float(rate))) != rank:
            wrong[count] = (found, rank)
    assert not wrong


def test_calibration_holds_the_rate_on_new_scores():
    """Over 3000 calibrations of 49 scores, a new score of the same kind passes in at most 10 %, and about that."""
    scores = torch.rand(3000, 50, generator=torch.Generator().manual_seed(0)).square()
    passed = np.mean([float(row[49]) > calibration.calibrate(row[:49], 0.1) for row in scores])
    assert 0.08 < passed < 0.12


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0], [1.0, 1.0, 1.0], [0.2, 0.5, 3.0, 0.1]])
def test_too_few_scores_put_the_threshold_above_all(scores):
    threshold = calibration.calibrate(torch.tensor(scores), 0.05)
    assert max(scores) < threshold <= 2 * max(scores) * (1 + 1e-6)


def test_few_scores_hold_the_rate_too():
    """Log-normal scores, 3000 calibrations of 8 scores each: a new one passes in at most 5 %, and not in none."""
    scores = torch.randn(3000, 9, generator=torch.Generator().manual_seed(0)).mul(0.2).exp()
    assert not calibration.enough_to_calibrate(8, 0.05) and calibration.enough_to_calibrate(19, 0.05)
    passed = np.mean([float(row[8]) > calibration.calibrate(row[:8], 0.05) for row in scores])
    assert 0.03 < passed < 0.06


@pytest.mark.parametrize("count", [2, 100])
def test_threshold_is_positive_even_for_a_dead_map(count):
    threshold = calibration.calibrate(torch.zeros(count), 0.05)
    assert threshold > 0
    assert scoring.fixed_scale(torch.zeros(1), threshold).item() == 0


def test_reliability_falls_with_the_peaks_of_good_images():
    """By hand: log residuals that peak by 2 above their mean count a quarter of those that peak by 1; scale does not matter."""
    flat = torch.zeros(3, 1, 2, 2)
    flat[:, :, 0, 0] = 4 / 3  # mean 1/3, so the peak is 1
    low, high = calibration.reliability(flat.exp()), calibration.reliability((2 * flat).exp() * 7)
    assert low == pytest.approx(1, rel=1e-5) and high == pytest.approx(0.25, rel=1e-5)
    assert calibration.reliability(torch.ones(2, 1, 4, 4)) == pytest.approx(400)  # constant: bounded


@pytest.mark.parametrize("count", [3, 12, 60])
@pytest.mark.parametrize("distribution", [stats.lognorm(0.3), stats.expon(), stats.norm(10, 1)])
def test_expected_false_alarms_cover_the_real_rate(count, distribution):
    """Over many calibrations: the real rate lies in the bounds as often as promised, and its mean is no more than expected."""
    expected, low, high = calibration.expected_false_alarms(count, 0.05)
    draws = distribution.rvs((1500, count), random_state=np.random.default_rng(count))
    rates = np.array([distribution.sf(calibration.calibrate(torch.tensor(row), 0.05)) for row in draws])
    inside = (low <= rates) & (rates <= high)
    assert inside.mean() > 0.93
    assert rates.mean() < expected + 0.01
    assert 0 <= low < high < 1


def test_expected_false_alarms_by_hand():
    expected, low, high = calibration.expected_false_alarms(12, 0.05)  # too few: above the largest of 12
    assert (expected, low) == (pytest.approx(1 / 13), 0) and high == pytest.approx(1 - 0.05 ** (1 / 12))
    expected, low, high = calibration.expected_false_alarms(99, 0.05)  # the 95th of 99
    assert expected == pytest.approx(0.05) and 0.01 < low < 0.05 < high < 0.11
    widths = [np.subtract(*calibration.expected_false_alarms(n, 0.05)[:0:-1]) for n in (20, 100, 1000)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("count", "low", "high"), [(2000, 0.31, 0.35), (27, 0.33, 0.60), (2, 0.5, 1.1)])
def test_ratio_of_spreads(count, low, high):
    """Log-normal scores whose deviations are as 1 to 3: found from many, drawn to 1 the more, the fewer there are."""
    draw = np.random.default_rng(0)
    ratios = [
        calibration.spread_ratio(*(torch.tensor(np.exp(s * draw.standard_normal(count) - 5)) for s in (0.07, 0.21)))
        for _ in range(200)
    ]
    assert low <= np.exp(np.mean(np.log(ratios))) <= high


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("many", [1, 2])
def test_a_defective_image_or_two_do_not_double_the_variance(which, many):
    logs = torch.randn(2, 27, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.1
    clean = calibration.spread_ratio(*logs.exp())
    logs[which, :many] = 2.0  # twenty deviations above the good ones
    assert clean / math.sqrt(2) < calibration.spread_ratio(*logs.exp()) < clean * math.sqrt(2)


def test_copies_do_not_hide_the_spread_of_the_others():
    logs = torch.randn(2, 27, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
    logs[0, :14] = 0.0
    assert calibration.spread_ratio(*logs.exp()) > 0.5


@pytest.mark.parametrize("count", [1, 3, 6, 7, 24])
def test_scores_that_do_not_spread_count_alike(count):
    """Nor does rounding make one of them spread; against one that does, the ratio stays within bounds."""
    found = torch.full((count,), 0.3)
    jitter = 1e-7 * torch.randn(count, generator=torch.Generator().manual_seed(0))
    assert calibration.spread_ratio(found, 0.041 * found) == calibration.spread_ratio(found + jitter, found) == 1.0
    assert calibration.spread_ratio(found * torch.linspace(1, 9, count), found) < 10
