"""Streaming metrics against scikit-learn and a brute-force AUPRO."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ura_hf.errors import UserError
from ura_hf.metrics import METRIC_KEYS, AnomalyMetrics, PixelCounts, score_codes


def images(seed: int, count: int = 12, side: int = 40, strength: float = 4.0):
    """Scores, labels, maps, masks and types of a noisy but informative detector."""
    rng = np.random.default_rng(seed)
    maps, masks, labels, types = [], [], [], []
    for index in range(count):
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side + index)), 2)
        label = index % 3 > 0
        mask = (
            ndimage.gaussian_filter(rng.standard_normal(noise.shape), 3) > 0.12
            if label
            else np.zeros(noise.shape, bool)
        )
        maps.append((np.exp(4 * noise) + strength * mask * rng.random(noise.shape)).astype(np.float32))
        masks.append(mask)
        labels.append(int(label))
        types.append(("good", "crack", "stain")[index % 3])
    return [float(m.max()) for m in maps], labels, maps, masks, types


def brute_force_aupro(maps, masks, limit=0.3):
    """Thresholds one by one: mean share of each region that is found, against the false-positive rate."""
    scores = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    labelled = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks]
    negatives = sum((~mask).sum() for mask in masks)
    points = [(0.0, 0.0)]
    for threshold in scores[:: max(1, len(scores) // 3000)]:
        false = sum(((m >= threshold) & ~mask).sum() for m, mask in zip(maps, masks, strict=True))
        found = [
            (m[regions == r] >= threshold).mean()
            for m, regions in zip(maps, labelled, strict=True)
            for r in range(1, regions.max() + 1)
        ]
        points.append((false / negatives, float(np.mean(found))))
        if points[-1][0] > limit:
            break
    fpr, pro = np.array(points).T
    inside = fpr <= limit
    x, y = np.append(fpr[inside], limit), np.append(pro[inside], np.interp(limit, fpr, pro))
    return float(np.trapezoid(y, x) / limit)


@pytest.mark.parametrize("seed", [0, 1])
def test_matches_scikit_learn_and_brute_force(seed):
    scores, labels, maps, masks, types = images(seed)
    metrics = AnomalyMetrics()
    metrics.update(scores, labels, maps, masks, types)
    result = metrics.compute()
    flat = np.concatenate([m.ravel() for m in maps])
    truth = np.concatenate([m.ravel() for m in masks])
    precision, recall, _ = precision_recall_curve(truth, flat)
    assert result["image_auroc"] == roc_auc_score(labels, scores)
    assert result["image_ap"] == average_precision_score(labels, scores)
    # a bin is 0.2 % wide, so the order of scores closer than that is lost
    assert result["pixel_auroc"] == pytest.approx(roc_auc_score(truth, flat), abs=2e-4)
    assert result["pixel_ap"] == pytest.approx(average_precision_score(truth, flat), abs=2e-3)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    assert result["pixel_f1max"] == pytest.approx(f1, abs=2e-3)
    assert result["aupro"] == pytest.approx(brute_force_aupro(maps, masks), abs=2e-3)
    assert 0.3 < result["aupro"] < 0.98


def test_per_type_compares_with_all_good_images():
    scores, labels, maps, masks, types = images(3)
    metrics = AnomalyMetrics()
    metrics.update(scores, labels, maps, masks, types)
    row = metrics.compute()["per_type"]["crack"]
    keep = [i for i, kind in enumerate(types) if kind in ("good", "crack")]
    truth = np.concatenate([masks[i].ravel() for i in keep])
    flat = np.concatenate([maps[i].ravel() for i in keep])
    assert row["n"] == 4
    assert row["image_auroc"] == roc_auc_score([labels[i] for i in keep], [scores[i] for i in keep])
    assert row["pixel_auroc"] == pytest.approx(roc_auc_score(truth, flat), abs=2e-4)
    assert row["aupro"] == pytest.approx(brute_force_aupro([maps[i] for i in keep], [masks[i] for i in keep]), abs=2e-3)


def test_perfect_and_worst_maps():
    mask = np.zeros((20, 20), bool)
    mask[3:6, 4:9] = True
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        metrics = AnomalyMetrics()
        metrics.update([0.0, 1.0], [0, 1], [np.zeros((20, 20)) * sign, sign * mask.astype(float)], [None, mask])
        result = metrics.compute()
        assert result["pixel_auroc"] == pytest.approx(expected)
        assert result["aupro"] == pytest.approx(expected)


def test_small_regions_count_as_much_as_large_ones():
    mask = np.zeros((30, 30), bool)
    mask[0:10, 0:10], mask[20, 20] = True, True
    found_large = np.where(mask, 1.0, 0.0)
    found_large[20, 20] = -1.0
    metrics = AnomalyMetrics()
    metrics.update([1.0], [1], [found_large], [mask])
    # one of two regions is found before any false positive; the other only after all of them
    assert metrics.compute()["aupro"] == pytest.approx(0.5)


def test_parts_give_the_same_as_the_whole():
    batch = images(5)
    whole, parts = AnomalyMetrics(), AnomalyMetrics()
    whole.update(*batch)
    for start in range(0, 12, 5):
        parts.update(*(column[start : start + 5] for column in batch))
    assert whole.compute() == parts.compute()


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_scale_of_the_scores_does_not_matter(factor):
    scores, labels, maps, masks, types = images(6)
    plain, scaled = AnomalyMetrics(), AnomalyMetrics()
    plain.update(scores, labels, maps, masks, types)
    scaled.update(np.array(scores) * factor, labels, [m * factor for m in maps], masks, types)
    one, other = plain.compute(), scaled.compute()
    for key in METRIC_KEYS:
        assert one[key] == pytest.approx(other[key], abs=2e-3)


def test_memory_does_not_grow_with_the_images():
    metrics = AnomalyMetrics()
    for _ in range(300):
        metrics.update([0.5], [1], [torch.rand(8, 8)], [np.eye(8, dtype=bool)], ["crack"])
    assert list(metrics.pixels) == ["crack"]
    counts = metrics.pixels["crack"]
    assert counts.normal.nbytes + counts.anomalous.nbytes + counts.regions.nbytes < 8 * 2**20
    assert counts.anomalous.sum() == 300 * 8


def test_codes_keep_the_order_of_all_finite_scores():
    scores = np.array([-1e30, -2.0, -1e-20, 0.0, 1e-20, 0.5, 0.502, 3.0, 1e30], np.float32)
    assert (np.diff(score_codes(scores).astype(int)) > 0).all()


def test_undefined_metrics_are_none():
    metrics = AnomalyMetrics()
    metrics.update([0.1, 0.9], [0, 1], [np.zeros((4, 4)), np.ones((4, 4))], [None, None])
    result = metrics.compute()
    assert result["image_auroc"] == 1.0
    assert result["pixel_auroc"] is None and result["aupro"] is None
    only_good = AnomalyMetrics()
    only_good.update([0.1], [0], [np.zeros((4, 4))], [None])
    assert all(only_good.compute()[key] is None for key in METRIC_KEYS)
    assert PixelCounts().compute()["pixel_ap"] is None


def test_wrong_input_is_named():
    metrics = AnomalyMetrics()
    with pytest.raises(UserError, match="size of its map"):
        metrics.update([1.0], [1], [np.zeros((4, 4))], [np.zeros((4, 5), bool)])
    with pytest.raises(UserError, match="one length"):
        metrics.update([1.0, 2.0], [1])
    with pytest.raises(UserError, match="finite"):
        metrics.update([float("nan")], [1])
    with pytest.raises(UserError, match="finite"):
        metrics.update([1.0], [1], [np.full((4, 4), np.inf)], [np.ones((4, 4), bool)])
