"""Pictures: fixed scales, an overlay that leaves good pixels alone, shared PCA colours."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from ura_hf.evaluation import visualization as vis
from ura_hf.model import pixels


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


def test_pca_colors_of_one_channel_are_red_alone():
    first, second = vis.pca_colors(np.linspace(0, 1, 9).reshape(1, 3, 3), np.ones((1, 3, 3)))
    assert first[0, 0, 0] < first[-1, -1, 0] and (first[..., 1:] == 128).all() and (second[..., 1:] == 128).all()


def test_pca_colors_follow_the_leading_component():
    """Red orders the cells as the only direction in which they differ."""
    values = np.linspace(-1, 1, 16).reshape(4, 4)
    features = np.stack([3 * values, values, np.zeros((4, 4))]).astype(np.float32)
    first, _ = vis.pca_colors(features, features)
    assert (np.diff(first[..., 0].ravel().astype(int)) >= 0).all() and first[..., 0].max() == 255


@pytest.mark.parametrize(
    ("shape", "expected"), [((100, 50), (40, 20)), ((30, 36, 3), (30, 36, 3)), ((5, 10), (10, 20)), ((1, 200), (1, 40))]
)
def test_fit_within_keeps_the_aspect(shape, expected):
    assert vis.fit_within(np.ones(shape), 40, 20).shape == expected


def test_the_overlay_follows_the_threshold():
    """At another threshold the glow begins there, and still reaches full strength."""
    _, opacity = vis.glow(np.array([0.5, 0.8, 0.85, 0.99]), threshold=0.8)
    assert opacity[0] == opacity[1] == 0 and 0 < opacity[2] < 0.85 and opacity[3] == 0.85


def test_the_outline_runs_around_a_region():
    picture, labels = np.full((30, 30, 3), 120, np.uint8), np.zeros((30, 30), int)
    labels[10:20, 10:20] = 1
    drawn = vis.outline(picture, labels)
    assert np.array_equal(drawn[10:20, 10:20], picture[10:20, 10:20]) and (drawn[15, 7] == 255).all()
    assert np.array_equal(drawn[:5], picture[:5]) and np.array_equal(vis.outline(picture, labels * 0), picture)


@pytest.mark.parametrize(("shape", "side", "n"), [((61, 40, 3), 20, 4), ((7, 90, 3), 45, 2), ((40, 30, 3), 40, 1)])
def test_large_pictures_are_means_of_small_squares(shape, side, n, monkeypatch):
    """In blocks of rows, whose borders do not show."""
    monkeypatch.setattr(pixels, "BLOCK_PIXELS", 300)
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    small = vis.reduce_within(picture, side)
    assert small.dtype == np.uint8 and small.shape == (-(-shape[0] // n), -(-shape[1] // n), 3)
    first = picture[: shape[0] // n * n, : shape[1] // n * n].reshape(shape[0] // n, n, shape[1] // n, n, 3)
    assert np.abs(small[: first.shape[0], : first.shape[2]] - first.mean((1, 3))).max() <= 1
    assert np.array_equal(vis.reduce_within(picture / 255, side), small)


def test_bytes_and_floats_glow_alike(monkeypatch):
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    scores = np.random.default_rng(1).random((50, 40)).astype(np.float32)
    whole = vis.overlay(picture / 255, scores)
    monkeypatch.setattr(pixels, "BLOCK_PIXELS", 100)
    assert np.array_equal(vis.overlay(picture, scores), whole)


def test_bytes_stay_bytes():
    picture = np.full((100, 60, 3), 7, np.uint8)
    fitted = vis.fit_within(picture, 50)
    assert fitted.dtype == np.uint8 and fitted.shape == (50, 30, 3) and (fitted == 7).all()
    assert vis.to_pixels(picture) is picture


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
