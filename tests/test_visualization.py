"""Pictures: fixed scales, an overlay that leaves good pixels alone, shared PCA colours; and the words of the report."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from ura_hf import visualization as vis
from ura_hf.demo import render


def test_colors_depend_on_the_value_alone():
    """The same value has the same colour in two maps of different range; values beyond the scale take its ends."""
    first = vis.colorize(np.array([[0.0, 0.3, 0.9]]), 0, 1, "viridis")
    second = vis.colorize(np.array([[0.3, 5.0, -2.0]]), 0, 1, "viridis")
    assert np.array_equal(first[0, 1], second[0, 0])
    ends = matplotlib.colormaps["viridis"]([0.0, 1.0], bytes=True)[:, :3]
    assert np.array_equal(second[0, 1], ends[1]) and np.array_equal(second[0, 2], ends[0])


def test_overlay_leaves_pixels_up_to_the_threshold_untouched():
    image = np.random.default_rng(0).random((20, 30, 3))
    anomaly = np.full((20, 30), 0.5)
    anomaly[5:8, 5:8] = 0.9
    shown = vis.overlay(image, anomaly)
    untouched = anomaly <= 0.5
    assert np.array_equal(shown[untouched], vis.to_pixels(image)[untouched])
    assert (shown[~untouched] != vis.to_pixels(image)[~untouched]).any(-1).all()


def test_glow_grows_with_the_value():
    _, opacity = vis.glow(np.array([0.0, 0.5, 0.5001, 0.55, 0.65, 1.0]))
    assert opacity[0] == opacity[1] == 0 and 0 < opacity[2] < opacity[3] < opacity[4] == opacity[5] == 0.85


def test_pca_colors_are_shared_between_both_pictures():
    """Cells with the same features have the same colour, whichever picture they are in."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 6, 6)).astype(np.float32)
    restored = features.copy()
    restored[:, 2, 3] = 5 * rng.normal(size=12)
    first, second = vis.pca_colors(features, restored)
    same = np.ones((6, 6), bool)
    same[2, 3] = False
    assert np.array_equal(first[same], second[same]) and not np.array_equal(first[2, 3], second[2, 3])


def test_pca_colors_of_constant_features_are_grey():
    first, second = vis.pca_colors(np.ones((4, 3, 3)), np.ones((4, 3, 3)))
    assert len(np.unique(first)) == 1 and np.array_equal(first, second)


def test_pca_colors_follow_the_leading_component():
    """Red orders the cells as the only direction in which they differ."""
    values = np.linspace(-1, 1, 16).reshape(4, 4)
    features = np.stack([3 * values, values, np.zeros((4, 4))]).astype(np.float32)
    first, _ = vis.pca_colors(features, features)
    assert (np.diff(first[..., 0].ravel().astype(int)) >= 0).all() and first[..., 0].max() == 255


@pytest.mark.parametrize(("shape", "expected"), [((100, 50), (40, 20)), ((30, 40, 3), (30, 40, 3))])
def test_fit_within_keeps_the_aspect(shape, expected):
    assert vis.fit_within(np.ones(shape), 40).shape == expected


def test_enlarged_cells_are_crisp():
    cells = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    big = vis.enlarge_cells(cells, 5)
    assert big.shape == (6, 6, 3) and np.array_equal(big[0, 2], cells[0, 0]) and np.array_equal(big[5, 5], cells[1, 1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: vis.colorize(np.ones(3), 0, 1),
        lambda: vis.colorize(np.ones((3, 3)), 1, 1),
        lambda: vis.overlay(np.ones((3, 3)), np.ones((3, 3))),
        lambda: vis.overlay(np.ones((3, 3, 3)), np.ones((4, 3))),
        lambda: vis.pca_colors(np.ones((2, 3, 3)), np.ones((2, 4, 4))),
    ],
)
def test_wrong_shapes_are_named(call):
    with pytest.raises(ValueError, match=r"must (be|have)"):
        call()


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        (0.1234, "0.123"),
        (0.49996, "0.49996"),
        (0.5, "0.500"),
        (0.50004, "0.50004"),
        (1e-5, "below 0.001"),
        (0.99999, "above 0.999"),
    ],
)
def test_a_score_never_rounds_onto_the_threshold(score, shown):
    assert render.format_score(score) == shown


def prediction(label: str = "anomalous") -> dict[str, object]:
    rng = np.random.default_rng(0)
    maps = {name: rng.random((40, 60)) for name in ("score_map", "anomaly_map", "total_uncertainty")}
    features = rng.normal(size=(8, 5, 5)).astype(np.float32)
    scores = {"label": label, "score": 0.7, "image_score": 2.1, "threshold": 0.9, "pixel_threshold": 0.5}
    return {**maps, **scores, "features": features, "restored_features": features[::-1]}


def test_report_holds_every_picture_and_number():
    report = render.report(np.zeros((40, 60, 3)), prediction())
    assert report.heatmap.shape == report.residual.shape == report.uncertainty.shape == (40, 60, 3)
    assert report.features.shape == report.restored.shape and min(report.features.shape[:2]) >= render.GRID_SIDE
    assert report.summary["image_size"] == [40, 60] and report.summary["score_threshold"] == 0.5
    assert "Anomalous" in report.verdict and "0.700" in report.verdict
    assert "Normal" in render.report(np.zeros((40, 60, 3)), prediction("normal")).verdict
