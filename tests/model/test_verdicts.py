"""Verdicts, ranks and limits, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from ura_hf.model import verdicts
from ura_hf.model.errors import UserError

CURVE = [[0.5, 1.0], [0.1, 3.0], [0.01, 5.0], [0.001, 7.0]]
CONFIG = SimpleNamespace(image_threshold=5.0, false_alarms=CURVE, max_review=0.09)
BARE = SimpleNamespace(image_threshold=5.0, false_alarms=None, max_review=0.1)


def test_rates_are_interpolated_in_their_logs():
    found = verdicts.rate_of(torch.tensor([[0.0, 1.0, 3.0], [4.0, 7.0, 99.0]]), CURVE)
    wanted = [[0.5, 0.5, 0.1], [math.sqrt(0.1 * 0.01), 0.001, 0.001]]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=0)


@pytest.mark.parametrize("rate", [0.5, 0.2, 0.01, 0.004, 0.001])
def test_scores_and_rates_are_inverse(rate):
    score = verdicts.score_at(rate, CURVE)
    assert float(verdicts.rate_of(torch.tensor([score]), CURVE)[0]) == pytest.approx(rate, rel=1e-5)


@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.6, math.nan])
def test_a_rate_that_the_photos_tell_nothing_of_is_refused(rate):
    with pytest.raises(UserError, match=r"between 0.001 and 0.5"):
        verdicts.score_at(rate, CURVE)


def test_limits_by_hand():
    """The threshold at one in a hundred, review at one in ten: raw 5 and 3 on the scale raw / (raw + 5)."""
    assert verdicts.limits(CONFIG) == pytest.approx((0.5, 3 / 8))
    assert verdicts.limits(CONFIG, max_review=0) == pytest.approx((0.5, 0.5))
    assert verdicts.limits(CONFIG, max_false_alarms=0.001, max_review=0.009) == pytest.approx((7 / 12, 0.5))
    assert verdicts.limits(CONFIG, threshold=7 / 12, max_review=0.009) == pytest.approx((7 / 12, 0.5))
    for end in (0.5, 0.001):
        limit, review = verdicts.limits(CONFIG, max_false_alarms=end, max_review=0)
        assert limit == review
    assert verdicts.limits(CONFIG, threshold=0.95)[0] == pytest.approx(0.95)
    assert verdicts.limits(CONFIG, max_review=0.9)[1] == pytest.approx(1 / 6)  # as far as the curve goes
    assert verdicts.limits(BARE) == verdicts.limits(None) == (0.5, 0.5)
    assert verdicts.limits(BARE, 0.3) == verdicts.limits(None, 0.3) == (0.3, 0.3)


@pytest.mark.parametrize(
    ("config", "given", "words"),
    [
        (CONFIG, {"threshold": 0.4, "max_false_alarms": 0.1}, "in two ways"),
        (CONFIG, {"threshold": 1.5}, "between 0 and 1"),
        (CONFIG, {"max_review": 1.0}, "max_review must be from 0"),
        (CONFIG, {"max_review": -0.1}, "max_review must be from 0"),
        (CONFIG, {"max_false_alarms": 1e-9}, "must lie between"),
        (BARE, {"max_false_alarms": 0.1}, "train it again"),
        (None, {"max_review": 0.1}, "train it again"),
    ],
)
def test_limits_that_make_no_sense_are_refused(config, given, words):
    with pytest.raises(UserError, match=words):
        verdicts.limits(config, **given)


@pytest.mark.parametrize(
    ("score", "strangeness", "wanted"),
    [
        (0.2, None, "normal"),
        (0.35, 0.9, "review"),
        (0.6, -2.0, "anomalous"),
        (0.5, 0.0, "review"),
        (0.3, 0.0, "normal"),
        (0.9, 1.1, "unknown"),
        (0.1, 1.1, "unknown"),
    ],
)
def test_labels(score, strangeness, wanted):
    assert verdicts.label(score, strangeness, threshold=0.5, review=0.3) == wanted and wanted in verdicts.LABELS


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.5, "like most good parts"),
        (0.2, "as unusual as 1 in 5 good parts"),
        (0.0033, "as unusual as 1 in 300 good parts"),
        (0.00117, "as unusual as 1 in 850 good parts"),
        (0.001, "rarer than 1 in 1,000 good parts"),
    ],
)
def test_ranks_in_words(rate, words):
    assert verdicts.rank_words(rate, CURVE) == words


def test_ranks_of_scores():
    (found,) = verdicts.ranks_of(torch.tensor([5.0]), CONFIG)
    assert found == {"rank": pytest.approx(100), "rank_words": "as unusual as 1 in 100 good parts"}
    assert verdicts.ranks_of(torch.tensor([5.0]), BARE) == [{"rank": None, "rank_words": None}]
    assert verdicts.ranks_of(torch.tensor([5.0]), None) == [{}]
    with pytest.raises(UserError, match="no finite number"):
        verdicts.ranks_of(torch.tensor([math.nan]), CONFIG)


@pytest.mark.parametrize(
    "pairs",
    [
        None,
        [],
        [[0.5, 1.0]],
        [[0.5, 1.0], [0.6, 2.0]],
        [[0.5, 2.0], [0.1, 1.0]],
        [[0.5, 1.0], [0.1, math.inf]],
        [[0.5, 1.0], [0.0, 2.0]],
        [[1.0, 1.0], [0.1, 2.0]],
        [[0.5, -1.0], [0.1, 2.0]],
        [(0.5, 1.0), (0.1, 2.0)],
        [[0.5], [0.1]],
    ],
)
def test_no_curve(pairs):
    assert not verdicts.is_curve(pairs)


def test_a_curve():
    assert verdicts.is_curve(CURVE)
