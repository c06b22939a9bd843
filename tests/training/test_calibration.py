"""Thresholds and standards from the scores of unseen normal images, against independent computations."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
import torch
from scipy import stats

from ura_hf.model import scoring
from ura_hf.training import calibration


def gini_deviation(values: np.ndarray) -> float:
    """Of a normal distribution, from the mean absolute difference of all pairs; none of them is far out."""
    pairs = np.abs(values[:, None] - values).sum() / (len(values) * (len(values) - 1))
    return float(pairs * math.sqrt(math.pi) / 2)


@pytest.mark.parametrize("count", [2, 5, 40])
@pytest.mark.parametrize("rate", [0.5, 0.05, 0.001])
def test_bound_is_the_prediction_bound_of_a_normal_distribution(count, rate):
    scores = 3 + 2 * np.random.default_rng(count).standard_normal(count)
    wide = gini_deviation(scores) * math.sqrt(1 + 1 / count)
    wanted = stats.t(count - 1, scores.mean(), wide).isf(rate)
    assert calibration.bound(torch.from_numpy(scores), rate) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("count", [5, 20, 100])
def test_bound_holds_the_rate_on_new_scores(count, monkeypatch):
    """Normal scores, 4000 calibrations: a new one passes as often as asked, however few there were."""
    monkeypatch.setattr(calibration, "_fit", lru_cache(1)(calibration._fit))  # the same for each rate
    scores = torch.randn(4000, count + 1, generator=torch.Generator().manual_seed(count))
    rates, passed = (0.01, 0.05, 0.1), []
    for new, known in ((row[-1], row[:-1]) for row in scores):
        passed.append([float(new) > calibration.bound(known, rate) for rate in rates])
    for rate, share in zip(rates, np.mean(passed, 0), strict=True):
        assert share == pytest.approx(rate, abs=4 * math.sqrt(rate / 4000))


@pytest.mark.parametrize("outlier", [8.0, 90.0, 1e6])
def test_an_outlier_moves_the_bound_little(outlier):
    """A bad photo among fifty good ones: the threshold stays far below it, and what lies beyond it is still found."""
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))
    plain = calibration.bound(scores, 0.01)
    scores[7] = outlier
    assert plain < calibration.bound(scores, 0.01) < plain + 1.5 < 8


@pytest.mark.parametrize("count", [1, 3, 20, 500])
def test_scores_that_agree_have_a_spread_all_the_same(count):
    """Those of copies: a later reading of one differs by its rounding."""
    scores = 1.7 + 1e-3 * torch.rand(count, generator=torch.Generator().manual_seed(0))
    assert calibration.bound(scores, 0.1) > 1.7 + calibration.LEAST_PEAK_SPREAD


@pytest.mark.parametrize("count", [2, 12, 50, 400])
def test_a_curve_falls_to_what_the_scores_tell_something_of(count):
    scores = torch.randn(count, generator=torch.Generator().manual_seed(0))
    pairs = calibration.curve(scores, 0.05)
    rates, bounds = zip(*pairs, strict=True)
    assert calibration.curve(scores, 0.1 + 0.2)[2][0] == 0.1 + 0.2
    assert rates[0] == 0.5 and rates[-1] == pytest.approx(1 / (20 * count)) and 0.05 in rates
    assert list(rates) == sorted(rates, reverse=True) and list(bounds) == sorted(bounds)
    assert all(value == calibration.bound(scores, rate) for rate, value in pairs)


def test_a_curve_holds_a_rate_that_was_asked_for_though_it_is_too_small():
    assert calibration.curve(torch.arange(4.0), 1e-5)[-1][0] == 1e-5


def test_standard_by_numpy():
    """Over all cells of all images alike."""
    logs = torch.randn(5, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.7 - 3
    wanted = [logs.double().numpy().mean(), logs.double().numpy().std(ddof=1)]
    assert calibration.standard(logs) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("logs", [torch.full((20,), -1.6), torch.tensor([1.5]), 1e-4 * torch.arange(9.0)])
def test_copies_have_a_spread_all_the_same(logs):
    location, spread = calibration.standard(logs)
    assert location == pytest.approx(logs.double().mean().item()) and spread == calibration.LEAST_SPREAD
    assert calibration.peak_standard(logs)[1] == calibration.LEAST_PEAK_SPREAD


def test_a_residual_as_small_as_the_floor_never_stands_out():
    """Of copies nothing is left but rounding: z stays below one where the residual is no more than the floor."""
    residual = 1e-9 * torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = calibration.standard(scoring.log_residual(residual, 0))
    read_again = scoring.log_residual(torch.full((1, 1, 4, 4), scoring.FLOOR), 0)
    assert 0 < scoring.standardized(read_again, found).max() < 1
    different = scoring.log_residual(torch.full((1, 1, 4, 4), 0.1), 0)
    assert scoring.standardized(different, found).min() > 3


def test_peak_standard_by_numpy():
    peaks = 4 + torch.randn(30, generator=torch.Generator().manual_seed(0))
    wanted = [peaks.double().numpy().mean(), peaks.double().numpy().std(ddof=1)]
    assert calibration.peak_standard(peaks) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("count", [5, 12, 60, 300])
def test_bounds_of_the_false_alarms_hold_the_real_rate(count):
    """Over many calibrations of normal scores as often as promised, or hardly less."""
    low, high = calibration.expected_false_alarms(count, 0.05)
    draws = torch.from_numpy(np.random.default_rng(count).standard_normal((1500, count)))
    rates = np.array([stats.norm.sf(calibration.bound(row, 0.05)) for row in draws])
    assert ((low <= rates) & (rates <= high)).mean() > 0.93
    assert 0 <= low < 0.05 < high < 1


def test_more_photos_narrow_the_bounds():
    widths = [np.subtract(*calibration.expected_false_alarms(n, 0.05)[::-1]) for n in (10, 20, 100, 1000)]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.03
