"""The Gaussians of places and the axes of whole images, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from ura_hf.model.normal_statistics import EXPLAINED_VARIANCE, PRIOR_CELLS, RIDGE, NormalImages, NormalPlaces

# Places


def components(count: int, width: int, grid: int, seed: int = 0) -> torch.Tensor:
    """Components (count, width, grid, grid) that are correlated, and whose mean and scale differ over the grid."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(5))
    field = torch.randn(width, grid, grid, generator=torch.Generator().manual_seed(6))
    drawn = torch.randn(count, width, grid, grid, generator=generator) * field[0].exp()
    return 3 * field + torch.einsum("bkyx,kl->blyx", drawn, mix)


def fitted(good: torch.Tensor, used: int) -> NormalPlaces:
    places = NormalPlaces(good.shape[-1], used)
    own = places.split(good).double()
    places.set(torch.full((len(own), 1), own.shape[1]).double(), own.sum(1), own.transpose(1, 2) @ own)
    return places


@pytest.mark.parametrize(
    ("grid", "side"), [(2, 2), (8, 8), (12, 12), (14, 14), (16, 16), (17, 17), (32, 32), (37, 1), (40, 20), (64, 32)]
)
def test_places_are_the_most_that_the_grid_divides_into(grid, side):
    assert NormalPlaces(grid, 3).side == side


@pytest.mark.parametrize("grid", [8, 17, 40])
def test_places_agree_with_scipy(grid):
    """Per cell: Mahalanobis over the leading components, of the mean of its place's cells and their shrunk covariance."""
    good, new, used = components(9, 6, grid), components(2, 6, grid, seed=1), 4
    places = fitted(good, used)
    found, block = places.distance(new), grid // places.side
    assert found.shape == (2, 1, grid, grid) and found.dtype == torch.float32
    cells = good[:, :used].double().unfold(2, block, block).unfold(3, block, block)  # (N, P, t, t, block, block)
    cells = cells.permute(2, 3, 0, 4, 5, 1).flatten(2, 4).numpy()
    own = np.array([[np.cov(cells[y, x], rowvar=False) for x in range(places.side)] for y in range(places.side)])
    freedom = cells.shape[2] - 1
    shrunk = (freedom * own + PRIOR_CELLS * own.mean((0, 1))) / (freedom + PRIOR_CELLS)
    for y in range(0, grid, 3):
        for x in range(0, grid, 5):
            inverse = np.linalg.inv(shrunk[y // block, x // block] + RIDGE * np.eye(used))
            for image in range(2):
                point = new[image, :used, y, x].double().numpy()
                wanted = mahalanobis(point, cells[y // block, x // block].mean(0), inverse) ** 2 / used
                assert float(found[image, 0, y, x]) == pytest.approx(wanted, rel=1e-3)


def test_a_cell_is_judged_by_its_own_place_alone():
    """What is normal in one corner is abnormal in another."""
    good = torch.randn(30, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    good[:, :, :2, :2] += 20
    places, new = fitted(good, 3), torch.zeros(1, 3, 32, 32)
    new[:, :, :2, :2] = new[:, :, 30:, 30:] = 20
    large = places.distance(new)[0, 0] > 20
    assert large[30:, 30:].all() and large.sum() == 4


def test_good_cells_have_a_distance_of_about_one():
    good = torch.randn(200, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(fitted(good, 4).distance(good).mean()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_and_equal_images_give_a_round_gaussian(count):
    """Without a spread only the ridge is left: a squared distance over the ridge."""
    one = components(1, 4, 8)
    places = fitted(one.repeat(count, 1, 1, 1), 4)
    assert places.distance(one).amax() < 1e-4
    torch.testing.assert_close(places.distance(one + 1), torch.full((1, 1, 8, 8), 1 / RIDGE), rtol=1e-3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_places_in_half_precision(dtype):
    good = components(40, 4, 8)
    exact, half = fitted(good, 4), fitted(good, 4).to(dtype)
    found = half.distance(good[:2].to(dtype))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.mean(), exact.distance(good[:2]).mean(), rtol=0.1, atol=0)


# Whole images


def coarse(good: torch.Tensor, used: int = 32, side: int = 8) -> np.ndarray:
    """Block means of the leading components, (N, D), by NumPy."""
    count, width, grid, _ = good.shape
    width, block = min(width, used), grid // side
    blocks = good[:, :width].numpy().astype(float).reshape(count, width, side, block, side, block)
    return blocks.mean((3, 5)).reshape(count, -1)


def pca_distance(train: np.ndarray, new: np.ndarray, rank: int) -> np.ndarray:
    """Mean square of what the leading axes of the offsets from the mean leave out, by an SVD."""
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:rank]
    rest = (new - mean) - (new - mean) @ axes.T @ axes
    return (rest**2).mean(1)


def fitted_images(good: torch.Tensor, rank: int) -> NormalImages:
    images = NormalImages(good.shape[-1], good.shape[1], rank)
    images.set(images.coarse(good))
    return images


def explained_by(train: np.ndarray) -> int:
    """How many axes explain the share that is asked for."""
    variances = np.linalg.svd(train - train.mean(0), compute_uv=False) ** 2
    return int(np.searchsorted(np.cumsum(variances) / variances.sum(), EXPLAINED_VARIANCE)) + 1


@pytest.mark.parametrize(("rank", "width", "grid"), [(3, 5, 16), (128, 5, 16), (128, 40, 8), (6, 40, 32)])
def test_images_agree_with_an_svd(rank, width, grid):
    good, new = components(12, width, grid), components(3, width, grid, seed=1)
    images = fitted_images(good, rank)
    used = min(rank, explained_by(coarse(good)), 11)
    assert int((images.axes.norm(dim=1) > 0).sum()) == used
    np.testing.assert_allclose(images.distance(new).numpy(), pca_distance(coarse(good), coarse(new), used), rtol=1e-3)


def test_what_varies_as_in_training_is_normal_and_a_spot_is_not():
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(4, 2, 16, 16, generator=generator)

    def draw(count: int) -> torch.Tensor:
        return parts[0] + torch.einsum("nd,dchw->nchw", torch.randn(count, 3, generator=generator), parts[1:])

    images, new = fitted_images(draw(40), 8), draw(5)
    spotted = new.clone()
    spotted[:, :, 4:6, 10:12] += 20  # one of 64 blocks: 400 / 64
    assert images.distance(new).max() < 0.1
    assert images.distance(spotted).mean() == pytest.approx(400 / 64, rel=0.25)


def test_axes_are_orthonormal_and_those_not_needed_zero():
    images = fitted_images(components(10, 3, 8), 20)
    kept = int((images.axes.norm(dim=1) > 0).sum())
    assert 1 <= kept <= 9
    torch.testing.assert_close(images.axes[:kept] @ images.axes[:kept].T, torch.eye(kept), atol=1e-4, rtol=0)
    assert not images.axes[kept:].any()


def test_fitting_again_leaves_no_axis_of_before():
    images = fitted_images(components(10, 3, 8), 20)
    few = components(2, 3, 8, seed=3)
    images.set(images.coarse(few))
    assert int((images.axes.norm(dim=1) > 0).sum()) == 1


@pytest.mark.parametrize("count", [1, 2, 20])
def test_one_image_and_its_copies_give_a_mean(count):
    one = components(1, 3, 8)
    images = fitted_images(one.repeat(count, 1, 1, 1), 4)
    assert images.axes.isfinite().all() and images.distance(one).item() < 1e-8
    assert images.distance(one + 1).item() == pytest.approx(1, rel=1e-3)
