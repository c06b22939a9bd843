"""The views of what is normal, against independent computations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ura_hf.model.views import NormalViews

CHANNELS, GRID = 24, 8


def correlated(count: int, seed: int, grid: int = GRID) -> torch.Tensor:
    """Features (count, C, G, G) with a few strong directions."""
    scales = torch.linspace(3, 0.2, CHANNELS)
    turn = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(99)))[0]
    drawn = torch.randn(count, grid, grid, CHANNELS, generator=torch.Generator().manual_seed(seed))
    return ((drawn * scales) @ turn).movedim(-1, 1)


def cells_of(features: torch.Tensor) -> torch.Tensor:
    return features.movedim(1, -1).reshape(-1, features.shape[1])


def fitted(components: int = 6, place_components: int = 4, cells: int = 40) -> NormalViews:
    """Views of twenty images, set by hand."""
    good = correlated(20, seed=0)
    views = NormalViews(CHANNELS, GRID, components, place_components, cells, image_rank=5)
    views.set_axes(cells_of(good))
    seen = views.project(good)
    views.memory.cells.copy_(cells_of(seen)[:: len(good) * GRID**2 // cells])
    own = views.places.split(seen).double()
    views.places.set(torch.full((len(own), 1), own.shape[1]).double(), own.sum(1), own.transpose(1, 2) @ own)
    views.images.set(views.images.coarse(seen))
    return views


@pytest.mark.parametrize("components", [1, 6, CHANNELS, 100])
def test_axes_agree_with_an_svd(components):
    """Of the cells themselves, not of their offsets from a mean; as many as there are channels at most."""
    cells = cells_of(correlated(10, seed=0)) + torch.linspace(-1, 1, CHANNELS)
    views = NormalViews(CHANNELS, GRID, components, 4, 8, 2)
    views.set_axes(cells)
    width = min(components, CHANNELS)
    assert views.components == width
    _, values, axes = np.linalg.svd(cells.double().numpy(), full_matrices=False)
    wanted = values[:width] / len(cells) ** 0.5
    assert float(views.scale) == pytest.approx(np.sqrt(np.mean(wanted**2)), rel=1e-4)
    overlap = np.abs((views.axes.double().numpy() * axes[:width].T).sum(0))
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    torch.testing.assert_close(views.axes.T @ views.axes, torch.eye(width), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cells", [torch.zeros(5, CHANNELS), torch.ones(1, CHANNELS), torch.eye(CHANNELS)[:3]])
def test_fewer_cells_than_axes(cells):
    views = NormalViews(CHANNELS, GRID, 8, 4, 8, 2)
    views.set_axes(cells)
    assert views.axes.isfinite().all() and views.scale > 0
    torch.testing.assert_close(views.axes.T @ views.axes, torch.eye(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(cells @ views.axes @ views.axes.T, cells, rtol=0, atol=1e-5)


def test_components_are_scalar_products_and_features_their_sum():
    views, features = fitted(), correlated(2, seed=1)
    seen = views.project(features)
    assert seen.shape == (2, 6, GRID, GRID)
    torch.testing.assert_close(seen[1, 2, 3, 4], features[1, :, 3, 4] @ views.axes[:, 2])
    torch.testing.assert_close(views.features(seen)[1, :, 3, 4], views.axes @ seen[1, :, 3, 4])
    torch.testing.assert_close(views.project(views.features(seen)), seen, rtol=1e-4, atol=1e-5)
    assert views.standardize(seen)[0, 1, 2, 3] == seen[0, 1, 2, 3] / views.scale
    torch.testing.assert_close(views.unstandardize(views.standardize(seen)), seen)


def test_components_of_good_images_have_about_unit_deviation():
    views = fitted()
    assert views.standardize(views.project(correlated(20, seed=0))).std().item() == pytest.approx(1, abs=0.05)


def test_the_remainder_is_what_the_components_leave():
    """By Pythagoras, |F|^2 = |c|^2 + |r|^2, against the remainder itself."""
    views, features = fitted(), correlated(3, seed=1)
    rest = features - views.features(views.project(features))
    found = views.look(features)["remainder"]
    torch.testing.assert_close(found, rest.square().mean(1, keepdim=True), rtol=1e-4, atol=1e-5)
    inside = views.look(features - rest)["remainder"]
    assert inside.min() >= 0 and inside.max() < 1e-5


def test_the_memory_is_the_distance_of_whole_features():
    """To the nearest good cell in all channels, of which the memory stores the components alone."""
    views, features = fitted(), correlated(3, seed=1)
    stored = views.memory.cells @ views.axes.T
    wanted = torch.cdist(cells_of(features), stored).amin(1).square() / CHANNELS
    torch.testing.assert_close(
        views.look(features)["memory"], wanted.view(3, GRID, GRID)[:, None], rtol=1e-4, atol=1e-5
    )


def test_places_and_whole_images_are_judged_by_components():
    views, features = fitted(), correlated(3, seed=1)
    found, seen = views.look(features), views.project(features)
    assert {name: tuple(view.shape) for name, view in found.items()} == {
        **dict.fromkeys(("memory", "place", "remainder"), (3, 1, GRID, GRID)),
        "image": (3,),
    }
    torch.testing.assert_close(found["place"], views.places.distance(seen))
    torch.testing.assert_close(found["image"], views.images.distance(seen))
    assert all((view >= 0).all() and view.dtype == torch.float32 for view in found.values())


def test_a_remainder_shows_in_memory_and_remainder_alone():
    """A direction that no component holds: places and whole images don't see it."""
    views, features = fitted(), correlated(1, seed=1)
    axis = torch.linalg.svd(views.axes, full_matrices=True)[0][:, -1]
    changed = features.clone()
    changed[0, :, 2, 5] += 30 * axis
    before, after = views.look(features), views.look(changed)
    for name in ("memory", "remainder"):
        differs = (after[name] - before[name])[0, 0] > 1
        assert differs[2, 5] and differs.sum() == 1
    for name in ("place", "image"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    """Exactly what the rounded views give in float32."""
    half, features = fitted().to(dtype), correlated(2, seed=1).to(dtype)
    found, wanted = half.look(features), copy.deepcopy(half).float().look(features.float())
    for name, view in found.items():
        assert view.dtype == torch.float32
        torch.testing.assert_close(view, wanted[name])


def test_autocast_rounds_nothing():
    views, features = fitted(), correlated(2, seed=1)
    wanted = views.look(features)
    with torch.autocast("cpu", torch.bfloat16):
        found = views.look(features)
    assert all(torch.equal(found[name], view) for name, view in wanted.items())


def test_a_checkpoint_holds_what_is_measured_with(tmp_path):
    """Memory, places and images travel as float16 and come back equal: they were rounded before anything was measured."""
    views = fitted()
    views.round()
    save_file(views.state_dict(), tmp_path / "views.safetensors")
    stored = load_file(tmp_path / "views.safetensors")
    assert {name for name, values in stored.items() if values.dtype == torch.float16} == {
        "memory.cells", "places.centre", "places.whitener", "images.centre", "images.axes"
    }  # fmt: skip
    again = NormalViews(CHANNELS, GRID, 6, 4, 40, image_rank=5)
    again.load_state_dict(stored)
    assert all(torch.equal(mine, its) for mine, its in zip(views.buffers(), again.buffers(), strict=True))
    assert all(values.dtype == torch.float32 for values in again.buffers())
