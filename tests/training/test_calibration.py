"""Thresholds, reliabilities and spreads from the scores of held-out normal images, against independent computations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from ura_hf.model import scoring
from ura_hf.training import calibration


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
