"""What is normal, fitted to good images, and calibration by images that the views have not seen."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import tiny_config

from ura_hf import URANetForAnomalyDetection, UserError
from ura_hf.model.configuration_uranet import MAP_VIEWS
from ura_hf.model.normal_statistics import PRIOR_CELLS, RIDGE
from ura_hf.model.restoration import to_tokens
from ura_hf.training import fit as fitting
from ura_hf.training.batches import FeatureBatches
from ura_hf.training.calibration import bound, curve

CHANNELS, GRID = 64, 8


def draw(count: int, seed: int = 0) -> np.ndarray:
    """Features (count, C, G, G), float16, of a few directions, with a mean for every place and a size for every image."""
    same, rng = np.random.default_rng(99), np.random.default_rng(seed)
    mix, place = same.standard_normal((12, CHANNELS)), same.standard_normal((CHANNELS, GRID, GRID))
    inside = np.einsum("nkyx,kc->ncyx", rng.standard_normal((count, 12, GRID, GRID)), mix) / 4
    sizes = np.exp(0.2 * rng.standard_normal((count, 1, 1, 1)))
    return (place + sizes * (inside + 0.2 * rng.standard_normal((count, CHANNELS, GRID, GRID)))).astype(np.float16)


def prepared(features: np.ndarray, **fields: object) -> tuple[URANetForAnomalyDetection, FeatureBatches]:
    """A detector without training whose statistics are the identity, and the batches of some features."""
    torch.manual_seed(0)
    detector = URANetForAnomalyDetection(tiny_config(out_indices=[1], **fields)).eval()
    detector.backbone.is_fitted = True
    return detector, FeatureBatches(features, list(range(len(features))), None, detector)


def fitted(features: np.ndarray, **fields: object) -> tuple[URANetForAnomalyDetection, FeatureBatches]:
    detector, batches = prepared(features, **fields)
    fitting.fit_views(detector.uranet.views, batches.features_of, batches.rows, 0)
    return detector, batches


def cells_of(features: np.ndarray) -> np.ndarray:
    return features.astype(np.float64).transpose(0, 2, 3, 1).reshape(-1, features.shape[1])


# The views


def test_axes_memory_places_and_images_are_those_of_the_rows():
    features = draw(9)
    views = fitted(features)[0].uranet.views
    axes = np.linalg.svd(cells_of(features), full_matrices=False)[2][: views.components]
    found = views.axes.double().numpy()
    np.testing.assert_allclose(found @ found.T, axes.T @ axes, atol=1e-3)
    seen = cells_of(features) @ found
    nearest = np.abs(views.memory.cells.numpy()[:, None] - seen).max(2)
    assert nearest.min(1).max() < 4e-3 and len(set(nearest.argmin(1).tolist())) == len(views.memory.cells)
    own = seen.reshape(9, GRID**2, -1)[:, :, : views.places.centre.shape[1]]
    np.testing.assert_allclose(views.places.centre.numpy(), own.mean(0), rtol=5e-4, atol=1e-4)
    covariances = np.array([np.cov(own[:, place], rowvar=False) for place in range(GRID**2)])
    shrunk = (8 * covariances + PRIOR_CELLS * covariances.mean(0)) / (8 + PRIOR_CELLS)
    for place in (0, 9, 63):
        whitener = views.places.whitener[place].double().numpy()
        wanted = np.linalg.inv(shrunk[place] + RIDGE * np.eye(own.shape[2]))
        np.testing.assert_allclose(whitener.T @ whitener, wanted, rtol=1e-2, atol=1e-2)
    centre = seen.reshape(9, GRID**2, -1).mean(0).T.flatten()
    np.testing.assert_allclose(views.images.centre.numpy(), centre, rtol=5e-4, atol=1e-4)


def test_other_rows_leave_no_trace():
    features, other = draw(9), draw(9)
    other[5:] += 7
    found = []
    for given in (features, other):
        detector, batches = prepared(given)
        fitting.fit_views(detector.uranet.views, batches.features_of, [4, 0, 3, 1, 2], 0)
        found.append(detector.uranet.views.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_the_seed_draws_the_cells():
    first, again = (fitted(draw(9))[0].uranet.views.memory.cells for _ in range(2))
    detector, batches = prepared(draw(9))
    fitting.fit_views(detector.uranet.views, batches.features_of, batches.rows, 1)
    assert torch.equal(first, again) and not torch.equal(first, detector.uranet.views.memory.cells)


def test_of_too_many_cells_every_image_gives_some():
    features = draw(9)
    cells = fitting._some_cells(torch.from_numpy(features), 5, torch.Generator().manual_seed(0)).double().numpy()
    origin = np.abs(cells[:, None] - cells_of(features)).max(2)
    assert origin.min(1).max() == 0
    assert np.bincount(origin.argmin(1) // GRID**2).tolist() == [5] * 9


def test_one_rare_cell_among_many_is_remembered(monkeypatch):
    """Axes are fitted to some cells, but the memory is chosen from all: one of 1280 is not left to chance."""
    monkeypatch.setattr(fitting, "MAX_AXES_CELLS", 100)
    features = draw(20)
    features[13, :, 5, 2] *= 4
    for seed in range(3):
        detector, batches = prepared(features, memory_cells=8)
        fitting.fit_views(detector.uranet.views, batches.features_of, batches.rows, seed)
        rare = detector.uranet.views.project(batches.features_of([13]))[0, :, 5, 2]
        assert (detector.uranet.views.memory.cells - rare).abs().amax(1).min() < 0.05


def test_the_memory_is_chosen_from_a_bounded_number_of_cells(monkeypatch):
    monkeypatch.setattr(fitting, "MAX_MEMORY_VALUES", 90 * tiny_config().components)
    seen = []
    monkeypatch.setattr(fitting, "_covering", lambda cells, count, seed: seen.append(len(cells)) or torch.arange(count))
    fitted(draw(9), memory_cells=8)
    assert seen == [90]


def test_whole_images_are_drawn_where_there_are_many(monkeypatch):
    monkeypatch.setattr(fitting, "MAX_WHOLE_IMAGES", 1)
    monkeypatch.setattr(fitting, "IMAGES_PER_STEP", 4)
    uranet = fitted(draw(20), image_rank=64)[0].uranet
    assert int((uranet.views.images.axes.norm(dim=1) > 0).sum()) == 3  # of 4 images


def test_a_memory_of_all_cells_and_more_knows_every_good_cell():
    """Cells that are fewer than the memory are repeated."""
    detector, batches = fitted(draw(3), memory_cells=500, components=CHANNELS)
    assert detector.uranet.views.look(batches.features_of([0, 1, 2]))["memory"].max() < 1e-5


@pytest.mark.parametrize("count", [1, 2])
def test_views_of_few_images_are_finite(count):
    views = fitted(draw(count))[0].uranet.views
    assert all(tensor.isfinite().all() for tensor in views.state_dict().values())


def test_tokens_are_those_of_good_images(tmp_path):
    detector, batches = fitted(draw(5))
    batches.project(detector.uranet.views, tmp_path)
    fitting.fill_tokens(detector, batches, 0)
    uranet = detector.uranet
    seen = uranet.views.standardize(uranet.views.project(batches.features_of(batches.rows))).half().float()
    assert torch.equal(batches.components_of(batches.rows), seen)
    tokens = to_tokens(seen, uranet.restoration.patch_size).flatten(0, 1)
    found = torch.cdist(uranet.restoration.memory, tokens, compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert found.values.max() < 1e-4 and len(found.indices.unique()) == len(uranet.restoration.memory)


# Calibration


def spied(monkeypatch) -> list[list[int]]:
    """Rows of every fit from now on."""
    rows, plain = [], fitting.fit_views

    def spy(views, features_of, given, seed):
        rows.append(list(given))
        plain(views, features_of, given, seed)

    monkeypatch.setattr(fitting, "fit_views", spy)
    return rows


@pytest.mark.parametrize(("images", "copies", "folds"), [(2, 0, 2), (3, 3, 3), (10, 1, 10), (60, 0, 8), (110, 0, 5)])
def test_every_image_is_left_out_once_with_its_turned_copies(images, copies, folds, monkeypatch):
    detector, batches = fitted(draw((copies + 1) * images))
    monkeypatch.setattr(fitting, "MAX_AXES_CELLS", 100)
    rows = spied(monkeypatch)
    logs = fitting.unseen(detector, batches, images, 0)
    assert len(rows) == folds and {len(values) for values in logs.values()} == {images}
    left_out = [sorted(set(batches.rows) - set(seen)) for seen in rows]
    originals = [row for fold in left_out for row in fold if row < images]
    assert sorted(originals) == list(range(images))
    for fold in left_out:
        own = {row % images for row in fold}
        assert fold == sorted(row + copy * images for row in own for copy in range(copies + 1))


def test_images_that_came_again_count_once():
    """Scored by views that have seen their copies, they would look better than any new image does."""
    features = draw(10)
    detector, batches = fitted(np.concatenate([features, features[[4, 4, 7]], features, features[[4, 4, 7]]]))
    copies = {10: 4, 11: 10, 12: 7}  # the turned copies of all 13 are the rows after them
    logs = fitting.unseen(detector, batches, 13, 0, copies=copies)
    assert {len(values) for values in logs.values()} == {10}
    seen = fitting.unseen(detector, batches, 13, 0)
    for name in ("memory", "place", "image"):
        assert logs[name][[4, 7]].mean() > seen[name][[4, 7]].mean() + 0.05, name
    torch.testing.assert_close(logs["memory"][0].mean(), seen["memory"][0].mean(), rtol=0.1, atol=0.1)
    measured = fitting.calibrate_score(detector, batches, 13, 0, copies=copies)
    assert measured.rows == list(range(10)) and len(measured.scores) == 10


@pytest.mark.parametrize(("more", "score_views"), [(["restored", "perceived"], []), ([], ["perceived"])])
def test_each_image_is_scored_by_the_views_that_have_not_seen_it(more, score_views):
    """Computed anew for three images: by views of all the others, and the rest of the model as it is."""
    views = ["memory", "place", "remainder", "image", *more]
    detector, batches = fitted(draw(8), views=views, score_views=score_views)
    before = copy.deepcopy(detector.state_dict())
    logs, uranet = fitting.unseen(detector, batches, 8, seed=0), detector.uranet
    for image in (0, 3, 7):
        views = copy.deepcopy(uranet.views)
        fitting.fit_views(views, batches.features_of, [row for row in range(8) if row != image], 0)
        features = batches.features_of([image])
        with torch.no_grad():
            wanted = uranet.look(features, views)
            whole = uranet.look(features)
        assert not torch.allclose(whole["memory"], wanted["memory"], atol=1e-3)
        for name, values in logs.items():
            torch.testing.assert_close(values[[image]], wanted[name], rtol=1e-4, atol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in detector.state_dict().items())


def test_a_strange_image_stands_out_though_it_was_trained_on():
    """Scored by views that have seen it, it would look as good as the others."""
    features = draw(20)
    features[7] += 3 * np.random.default_rng(1).standard_normal((CHANNELS, 1, 1)).astype(np.float16)
    detector, batches = fitted(features)
    logs = fitting.unseen(detector, batches, 20, 0)
    with torch.no_grad():
        features = batches.features_of([7])
        seen = detector.uranet.look(features)
    for name in ("memory", "place", "remainder", "image"):
        means = logs[name].reshape(20, -1).mean(1)
        assert means.argmax() == 7 and means[7] > seen[name].mean() + 0.1, name


def calibrated(features: np.ndarray, **fields: object) -> tuple[URANetForAnomalyDetection, FeatureBatches]:
    detector, batches = fitted(features, **fields)
    fitting.calibrate_score(detector, batches, len(features), 0)
    return detector, batches


def detect(detector: URANetForAnomalyDetection, batches: FeatureBatches, features: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        out = detector(features=batches.standardize(torch.from_numpy(features)))
    return {name: value.numpy() for name, value in out.items()}


def test_standards_and_thresholds_by_hand():
    """From what `unseen` gives: means and deviations, then sums, their peaks, and the same of these."""
    detector, batches = calibrated(draw(40), false_positive_rate=0.1, score_views=["perceived"])
    config, logs = detector.config, fitting.unseen(detector, batches, 40, 0)
    z = {}
    for name, values in logs.items():
        found = values.double().numpy()
        assert config.standards[name] == pytest.approx([found.mean(), found.std(ddof=1)], rel=1e-6)
        z[name] = (found - found.mean()) / found.std(ddof=1)
    content = (z["memory"] + z["remainder"] + z["perceived"])[:, 0].max((1, 2))
    place = z["place"][:, 0].max((1, 2))
    score = z["image"].copy()
    for name, peak in (("peak_content", content), ("peak_place", place)):
        assert config.standards[name] == pytest.approx([peak.mean(), peak.std(ddof=1)], rel=1e-4)
        score += (peak - peak.mean()) / peak.std(ddof=1)
    raw = lambda z: (z + np.sqrt(z**2 + 4)) / 2  # noqa: E731
    wanted = [[rate, raw(found)] for rate, found in curve(torch.from_numpy(score), 0.1)]
    np.testing.assert_allclose(config.false_alarms, wanted, rtol=1e-3)
    assert config.image_threshold == dict(map(tuple, config.false_alarms))[0.1]
    maps = torch.from_numpy(z["memory"] + z["remainder"] + z["place"])
    peaks = torch.nn.functional.interpolate(maps, (64, 64), mode="bilinear").amax((1, 2, 3))
    assert config.pixel_threshold == pytest.approx(raw(bound(peaks, 0.1)), rel=1e-3)


def test_strangeness_lies_between_good_images_and_textures():
    """0 as of good images, above 1 of textures, below 1 of a part of which a third is defective."""
    good = draw(12)
    textures = np.random.default_rng(3).standard_normal((6, CHANNELS, GRID, GRID)).astype(np.float16) * 3
    detector, _ = fitted(good)
    batches = FeatureBatches(good, list(range(12)), textures, detector)
    fitting.calibrate_score(detector, batches, 12, 0)
    logs = fitting.unseen(detector, batches, 12, 0)["memory"].flatten(1).sort(1).values
    assert detector.config.strangeness[0] == pytest.approx(float(logs[:, GRID**2 // 10 - 1].median()))
    spoilt = good.copy()
    spoilt[:, :, :3] = textures[0, :, :3]
    assert (detect(detector, batches, textures)["strangeness"] > 1).all()
    for images in (draw(5, seed=1), spoilt):
        found = detect(detector, batches, images)["strangeness"]
        assert found.max() < 1
    detector, batches = calibrated(good)
    assert detector.config.strangeness is None and "strangeness" not in detect(detector, batches, good)


def test_thresholds_hold_the_rate_on_new_images():
    detector, batches = calibrated(draw(100), false_positive_rate=0.1, memory_cells=256)
    out = detect(detector, batches, draw(300, seed=1))
    for alarms in ((out["score"] > 0.5).mean(), (out["score_map"].max((1, 2)) > 0.5).mean()):
        assert 0.02 < alarms < 0.2
    spoilt = draw(20, seed=2)
    spoilt[:, :, 2:4, 5:7] += 2 * np.random.default_rng(1).standard_normal((CHANNELS, 1, 1)).astype(np.float16)
    assert (detect(detector, batches, spoilt)["score"] > 0.5).all()


@pytest.mark.parametrize("count", [2, 3, 10])
def test_few_images_calibrate(count):
    """All that was trained on is normal, and the thresholds are numbers."""
    features = draw(count)
    detector, batches = calibrated(features)
    config = detector.config
    assert config.is_calibrated and np.isfinite([*config.standards.values()]).all()
    assert 0 < config.image_threshold < 1e3 and 0 < config.pixel_threshold < 1e3
    out = detect(detector, batches, features)
    assert (out["score"] < 0.5).all() and (out["score_map"] < 0.5).all()


@pytest.mark.parametrize(
    ("views", "score_views"),
    [
        *(([view], []) for view in MAP_VIEWS),
        (["place", "image"], []),
        (["remainder"], ["perceived"]),
        (["perceived"], ["remainder", "perceived"]),
    ],
)
def test_any_views_calibrate(views, score_views):
    features, names = draw(12), {*views, *score_views}
    detector, batches = calibrated(features, views=views, score_views=score_views)
    far = {"restored", "perceived"} & names and {"memory"}  # what networks say depends on how far cells are usually
    assert detector.config.standards.keys() == {*names, *far, "peak_place" if "place" in views else "peak_content"}
    assert (detector.config.views, detector.config.score_views) == (views, score_views)
    assert detect(detector, batches, features)["score"].max() < 0.6


def test_calibration_leaves_nothing_of_an_earlier_one():
    detector, batches = calibrated(draw(12))
    first = copy.deepcopy(detector.config)
    detector.config.standards = {"memory": [50.0, 9.0], "perceived": [1.0, 1.0], "peak_place": [3.0, 1.0]}
    detector.config.image_threshold = detector.config.pixel_threshold = 77.0
    fitting.calibrate_score(detector, batches, 12, 0)
    for name in ("standards", "image_threshold", "pixel_threshold", "false_alarms", "strangeness"):
        assert getattr(detector.config, name) == getattr(first, name)


def test_copies_of_one_image_set_no_threshold():
    """They all get one score, which tells nothing of other parts."""
    with pytest.raises(UserError, match="all 20 photos of good parts get the same score"):
        calibrated(draw(1).repeat(20, 0))
