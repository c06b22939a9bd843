"""AnomalyMetrics against scikit-learn, a brute-force AUPRO and values worked out by hand."""

from __future__ import annotations

import gc
import json
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ura_hf.data.records import METRIC_KEYS
from ura_hf.evaluation.metrics import AnomalyMetrics
from ura_hf.model.errors import UserError

PIXEL_KEYS = METRIC_KEYS[3:]
# Scores in one bin, 2^-11 of their size wide, count as equal. With some 20,000 distinct scores over a few octaves a bin
# holds a few pixels, which moves a ranking metric by far less than one part in a thousand.
BIN_TOLERANCE = 2e-4


def batch(seed=0, grid=None, size=48, scores=np.float32):
    """20 images: 8 good, 6 "cut" and 6 "hole" with one to three rectangles; grid: map scores are its multiples."""
    rng = np.random.default_rng(seed)
    types = ["good"] * 8 + ["cut"] * 6 + ["hole"] * 6
    labels = np.array([t != "good" for t in types], dtype=int)
    maps, masks = [], []
    for i, anomalous in enumerate(labels):
        shape = (size, size + i % 3)
        mask = np.zeros(shape, dtype=bool)
        for _ in range(rng.integers(1, 4) if anomalous else 0):
            y, x = rng.integers(0, size - 12, 2)
            mask[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = True
        values = np.exp(rng.normal(size=shape) + (2.0 if types[i] == "hole" else 1.0) * mask)
        if grid:
            values = 0.5 + np.minimum(np.round(values / 40 / grid) * grid, 0.49)
        maps.append(values.astype(np.float32))
        masks.append(mask)
    image_scores = (rng.normal(size=20) + labels).astype(scores)
    return image_scores, labels, maps, masks, types


def compute(*args):
    metrics = AnomalyMetrics()
    metrics.update(*args)
    return metrics.compute()


def flat(values):
    return np.concatenate([v.ravel() for v in values])


def best_f1(labels, scores):
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.nanmax(2 * precision * recall / (precision + recall + 1e-30))


def sklearn_values(image_scores, labels, maps, masks):
    y, s = flat(masks), flat(maps)
    return {
        "image_auroc": roc_auc_score(labels, image_scores),
        "image_ap": average_precision_score(labels, image_scores),
        "image_f1max": best_f1(labels, image_scores),
        "pixel_auroc": roc_auc_score(y, s),
        "pixel_ap": average_precision_score(y, s),
        "pixel_f1max": best_f1(y, s),
    }


def regions_by_flood_fill(mask):
    """Pixel lists of the 8-connected regions of a mask."""
    todo = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while todo:
        stack, region = [todo.pop()], []
        while stack:
            y, x = stack.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= near
            stack += near
        regions.append(region)
    return regions


def brute_force_aupro(maps, masks, limit=0.3):
    """Every distinct score is a threshold; the curve is sampled densely and averaged over [0, limit]."""
    regions = [
        np.array([m[p] for p in region])
        for m, mask in zip(maps, masks, strict=True)
        for region in regions_by_flood_fill(mask)
    ]
    normal = np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)])
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(flat(maps))[::-1]:
        fpr.append(np.mean(normal >= threshold))
        pro.append(np.mean([np.mean(region >= threshold) for region in regions]))
        if fpr[-1] > limit:
            break
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr, fpr[1:], pro, pro[1:], strict=False):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def select(data, types):
    keep = [i for i, t in enumerate(data[4]) if t in types]
    return tuple([column[i] for i in keep] for column in data)


def assert_same(got, expected, tolerance):
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, abs=tolerance), key


@pytest.mark.parametrize(("shift", "tolerance"), [(0.0, BIN_TOLERANCE), (-3.0, BIN_TOLERANCE), (100.0, 2e-3)])
def test_agrees_with_sklearn_on_finely_differing_scores(shift, tolerance):
    """A shift to 100 leaves the scores a spread of a few percent of their size, hence few bins: the hard case."""
    image_scores, labels, maps, masks, types = batch()
    maps = [np.float32(m + shift) for m in maps]
    got = compute(image_scores, labels, maps, masks, types)
    expected = sklearn_values(image_scores, labels, maps, masks)
    assert_same(got, {k: v for k, v in expected.items() if k.startswith("image")}, 1e-12)
    assert_same(got, expected, tolerance)
    assert 0.6 < got["pixel_auroc"] < 0.95


def test_equals_sklearn_and_brute_force_when_every_score_has_its_own_bin():
    """Multiples of 2^-11 in [0.5, 1) need ten bits of mantissa: no rounding is left, ties included."""
    data = batch(seed=1, grid=2**-11)
    image_scores, labels, maps, masks, _ = data
    got = compute(*data)
    assert_same(got, sklearn_values(image_scores, labels, maps, masks), 1e-10)
    assert got["aupro"] == pytest.approx(brute_force_aupro(maps, masks), abs=1e-10)


def test_aupro_agrees_with_brute_force_on_finely_differing_scores():
    data = select(batch(seed=2, size=24), {"good", "hole"})
    got = compute(*data)["aupro"]
    assert got == pytest.approx(brute_force_aupro(data[2], data[3]), abs=BIN_TOLERANCE)
    assert 0.1 < got < 0.9


def test_image_scores_are_not_quantised():
    scores = [1.0, 1.0 + 1e-9, 1.0 + 2e-9, 1.0 + 3e-9]
    assert compute(scores, [0, 0, 1, 1], None, None, ["good", "good", "cut", "cut"])["image_auroc"] == 1.0


def test_values_worked_out_by_hand():
    """Region A has one pixel and the highest score, region B two diagonal pixels: the second highest and the lowest.

    PRO is (1 + 1/2) / 2 = 0.75 from the first false positive to the last, so AUPRO = 0.75. Two of three defective
    pixels beat all nine normal ones, the third none: AUROC 2/3. AP = 2/3 * 1 + 1/3 * 3/12. The best F1 is at two of
    three found and no false one: precision 1, recall 2/3, F1 0.8.
    """
    scores = np.array([[0.1, 7.0, 6.0, 9.0], [5.0, 8.0, 4.0, 3.5], [3.0, 2.5, 2.0, 1.5]])
    mask = np.zeros((3, 4), dtype=bool)
    mask[0, 3] = mask[0, 0] = mask[1, 1] = True
    got = compute([1.0], [1], [scores], [mask], ["cut"])
    expected = {"pixel_auroc": 2 / 3, "pixel_ap": 2 / 3 + 1 / 3 * 3 / 12, "pixel_f1max": 0.8, "aupro": 0.75}
    assert_same(got, expected, 1e-12)


def test_constant_maps_rank_nothing():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, :2] = True
    got = compute([1.0], [1], [np.full((4, 4), 0.2)], [mask], ["cut"])
    assert got["pixel_auroc"] == pytest.approx(0.5)
    assert got["pixel_ap"] == pytest.approx(2 / 16)
    assert got["aupro"] == pytest.approx(0.15), "the chance line, PRO = FPR, over [0, 0.3]: 0.3 / 2"


def test_perfect_maps_score_one():
    *_, masks, types = batch()
    labels = [int(m.any()) for m in masks]
    got = compute(labels, labels, [m * 2.0 - 1.0 for m in masks], masks, types)
    assert_same(got, dict.fromkeys(METRIC_KEYS, 1.0), 1e-12)
    assert all(got[key] <= 1.0 for key in METRIC_KEYS)


def test_zero_has_one_sign_and_negative_scores_rank_below_it():
    mask = np.array([[True, False, False, True]])
    got = compute([1.0], [1], [np.array([[0.0, -0.0, -5.0, 1e-30]])], [mask], ["cut"])
    assert got["pixel_auroc"] == pytest.approx((0.5 + 1 + 1 + 1) / 4)


def test_type_rows_compare_their_images_with_all_good_ones():
    data = batch(grid=2**-11)
    got = compute(*data)
    assert list(got["per_type"]) == ["cut", "hole"]
    for name, row in got["per_type"].items():
        part = select(data, {"good", name})
        assert_same(row, sklearn_values(*part[:4]), 1e-10)
        assert row["aupro"] == pytest.approx(brute_force_aupro(*part[2:4]), abs=1e-10)
        assert set(row) == {*METRIC_KEYS, "n"}
        assert row["n"] == 6
    assert got["per_type"]["hole"]["pixel_auroc"] > got["pixel_auroc"] > got["per_type"]["cut"]["pixel_auroc"]
    assert (got["n_images"], got["n_normal"], got["n_anomalous"]) == (20, 8, 12)


def test_several_updates_equal_one_in_any_order():
    data = batch()
    order = np.random.default_rng(3).permutation(20)
    metrics = AnomalyMetrics()
    for part in np.array_split(order, 6):
        metrics.update(*([column[i] for i in part] for column in data))
    got, expected = metrics.compute(), compute(*data)
    assert_same(got, {key: expected[key] for key in METRIC_KEYS}, 1e-12)
    for name, row in expected["per_type"].items():
        assert_same(got["per_type"][name], row, 1e-12)


def test_compute_can_be_repeated_and_reset_forgets():
    metrics = AnomalyMetrics()
    metrics.update(*batch())
    first = metrics.compute()
    assert metrics.compute() == first
    metrics.reset()
    empty = metrics.compute()
    assert [empty[key] for key in METRIC_KEYS] == [None] * 7
    assert (empty["n_images"], empty["per_type"]) == (0, {})


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_scale_of_the_scores_does_not_matter(factor):
    image_scores, labels, maps, masks, types = batch(scores=np.float64)
    expected = compute(image_scores, labels, maps, masks, types)
    got = compute(image_scores * factor, labels, [m * factor for m in maps], masks, types)
    assert_same(got, {key: expected[key] for key in METRIC_KEYS}, BIN_TOLERANCE)
    halved = compute(image_scores / 1024, labels, [m / 1024 for m in maps], masks, types)
    assert halved == expected, "a power of two moves every score by whole bins"


def test_torch_tensors_give_the_same_as_numpy():
    image_scores, labels, maps, masks, types = batch()
    got = compute(
        torch.tensor(image_scores, requires_grad=True),
        torch.tensor(labels),
        [torch.tensor(m) for m in maps],
        [torch.tensor(m) for m in masks],
        types,
    )
    assert got == compute(image_scores, labels, maps, masks, types)
    half = compute(
        torch.tensor(image_scores).bfloat16(), labels, [torch.tensor(m).bfloat16() for m in maps], masks, types
    )
    assert half["pixel_auroc"] == pytest.approx(got["pixel_auroc"], abs=5e-3)


def test_result_is_plain_json():
    got = compute(*batch())
    assert json.loads(json.dumps(got)) == got
    assert all(type(got[key]) is float for key in METRIC_KEYS)
    assert type(got["n_images"]) is int


def test_no_masks_or_maps_leave_pixel_metrics_undefined():
    image_scores, labels, maps, masks, types = batch()
    for got in (compute(image_scores, labels, maps, None, types), compute(image_scores, labels, None, masks, types)):
        for row in (got, *got["per_type"].values()):
            assert [row[key] for key in PIXEL_KEYS] == [None] * 4
            assert row["image_auroc"] is not None


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_leaves_image_metrics_undefined(only):
    image_scores, labels, maps, masks, types = batch()
    keep = np.flatnonzero(labels == only)
    got = compute(*([column[i] for i in keep] for column in (image_scores, labels, maps, masks, types)))
    assert [got[key] for key in METRIC_KEYS[:3]] == [None] * 3
    assert (got["aupro"] is None) == (only == 0)


def test_fully_defective_masks_without_normal_pixels_leave_pixel_metrics_undefined():
    got = compute([1.0], [1], [np.ones((2, 2))], [np.ones((2, 2), dtype=bool)], ["cut"])
    assert [got[key] for key in PIXEL_KEYS] == [None] * 4


@pytest.mark.parametrize("mask", [None, np.zeros((8, 8), dtype=bool)])
def test_anomalous_image_without_a_marked_pixel_stays_out_of_pixel_metrics(mask):
    image_scores, labels, maps, masks, types = batch()
    expected = compute(image_scores, labels, maps, masks, types)
    got = compute(
        [*image_scores, 9.0], [*labels, 1], [*maps, np.full((8, 8), 1e3)], [*masks, mask], [*types, "unmasked"]
    )
    assert_same(got, {key: expected[key] for key in PIXEL_KEYS}, 1e-12)
    assert got["image_auroc"] > expected["image_auroc"]
    assert [got["per_type"]["unmasked"][key] for key in PIXEL_KEYS] == [None] * 4
    assert got["per_type"]["unmasked"]["image_auroc"] == 1.0


def test_normal_image_without_mask_counts_as_all_normal():
    image_scores, labels, maps, masks, types = batch()
    without = [mask if label else None for mask, label in zip(masks, labels, strict=True)]
    assert compute(image_scores, labels, maps, without, types) == compute(image_scores, labels, maps, masks, types)


GOOD_MAP, EMPTY, FULL = np.zeros((4, 5)), np.zeros((4, 5), dtype=bool), np.ones((4, 5), dtype=bool)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_scores": [0.1, float("nan")]}, r"image_scores must be finite .* got 1 of 2"),
        ({"image_scores": [[0.1], [0.2]]}, r"image_scores must be of shape \(B,\), but got \(2, 1\)"),
        ({"anomaly_maps": [GOOD_MAP, np.full((4, 5), np.nan)]}, r"anomaly_maps\[1\] must be finite .* got 20 of 20"),
        ({"anomaly_maps": [GOOD_MAP, np.full((4, 5), 1e300)]}, r"anomaly_maps\[1\] must be finite"),
        ({"anomaly_maps": [GOOD_MAP[None], GOOD_MAP]}, r"anomaly_maps\[0\] must be of shape \(H, W\)"),
        ({"anomaly_maps": [GOOD_MAP]}, r"anomaly_maps must have one entry per image score \(2\), but got 1"),
        ({"masks": [EMPTY, FULL.T]}, r"masks\[1\] .* \(4, 5\), but got \(5, 4\)"),
        ({"masks": [FULL, FULL]}, r"masks\[0\] must be empty .* got 20 defective pixels"),
        ({"labels": [0, 1, 1]}, r"labels must have one entry per image score \(2\), but got 3"),
        ({"labels": [0, 2]}, r"labels must be 0 \(normal\) or 1 \(anomalous\), but got \[0, 2\]"),
        ({"defect_types": ["good"]}, r"defect_types must have one entry"),
    ],
)
def test_wrong_input_is_named_and_leaves_no_trace(changes, message):
    arguments = {
        "image_scores": [0.1, 0.2],
        "labels": [0, 1],
        "anomaly_maps": [GOOD_MAP, GOOD_MAP],
        "masks": [EMPTY, FULL],
        "defect_types": ["good", "cut"],
    }
    metrics = AnomalyMetrics()
    with pytest.raises(UserError, match=message):
        metrics.update(**{**arguments, **changes})
    assert metrics.compute() == AnomalyMetrics().compute()
    metrics.update(**arguments)
    assert metrics.compute()["n_images"] == 2


def test_a_thousand_updates_do_not_grow_memory():
    """Once the histograms exist, an update adds the eight bytes of its image score (plus slack of the array)."""
    data = select(batch(size=32), {"good", "cut"})
    metrics = AnomalyMetrics()

    def update_and_measure(times):
        for i in range(times):
            metrics.update(*([column[i % 14]] for column in data))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = update_and_measure(14)
        grown = update_and_measure(1000) - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000, "a kept map would add 4 KB per update, 4 MB in all"
    assert metrics.compute()["n_images"] == 1014


def test_curves_enclose_the_areas_that_the_metrics_are():
    metrics = AnomalyMetrics()
    metrics.update(*batch(3))
    values, curves = metrics.compute(), metrics.curves()
    assert json.loads(json.dumps(curves)) == curves
    for name, key, limit in (("image_roc", "image_auroc", 1), ("pixel_roc", "pixel_auroc", 1), ("pro", "aupro", 0.3)):
        x, y = np.array(curves[name]["x"]), np.array(curves[name]["y"])
        assert len(x) == len(y) <= 200 and x[0] == 0 and x[-1] == pytest.approx(limit)
        assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
        assert trapezoid(y, x) / limit == pytest.approx(values[key], abs=2e-3), name
    assert {name: len(scores) for name, scores in curves["scores"].items()} == {"good": 8, "cut": 6, "hole": 6}


def test_curves_of_few_points_keep_both_ends():
    metrics = AnomalyMetrics()
    metrics.update(*batch(3))
    roc = metrics.curves(points=5)["pixel_roc"]
    assert len(roc["x"]) <= 5 and (roc["x"][0], roc["y"][0], roc["x"][-1], roc["y"][-1]) == (0, 0, 1, 1)


def test_undefined_metrics_have_no_curve():
    metrics = AnomalyMetrics()
    scores, labels, _, _, types = batch()
    metrics.update(scores, labels, None, None, types)
    curves = metrics.curves()
    assert curves["image_roc"] is not None and curves["pixel_roc"] is curves["pro"] is None
    assert AnomalyMetrics().curves()["image_roc"] is None
