"""The region of interest: its text, its shapes, and that a whole one changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny_config
from scipy import ndimage

from ura_hf import URANetForAnomalyDetection, UserError
from ura_hf.model import scoring
from ura_hf.model.normal_statistics import NormalPlaces
from ura_hf.model.region import Region, from_text, is_region, to_text


def some_cells(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((side, side)) < 0.5


@pytest.mark.parametrize("side", [2, 5, 8, 32])
def test_the_text_is_that_of_the_cells(side):
    inside = some_cells(side)
    inside[0, 0] = True
    assert np.array_equal(from_text(to_text(inside), side), inside) and is_region(to_text(inside), side)
    assert not is_region(to_text(inside), side + 4) and not is_region(to_text(inside & False), side)
    assert not any(is_region(wrong, side) for wrong in (None, 5, "zz", "", to_text(inside).upper() + "0", "0x1f"))


def test_the_config_checks_it():
    text = to_text(some_cells(8))
    assert tiny_config(roi=text).roi == text and tiny_config().roi is None
    for wrong in ("ff", 5, to_text(np.zeros((8, 8), bool)), "g" * 16):
        with pytest.raises(UserError, match="roi must be a bit a cell of a 8-grid, or None"):
            tiny_config(roi=wrong)


def test_what_is_outside_is_filled_at_any_size():
    inside = some_cells(8)
    region, maps = Region(to_text(inside), 8), torch.rand(2, 3, 32, 32)
    mask = torch.from_numpy(np.kron(inside, np.ones((4, 4), bool)))
    filled = region.fill(maps, -1)
    assert torch.equal(filled[..., mask], maps[..., mask]) and (filled[..., ~mask] == -1).all()
    assert region.select(maps[..., :8, :8]).shape == (2, 3, inside.sum()) and region.count == inside.sum()
    patches = inside.reshape(4, 2, 4, 2).any((1, 3)).ravel()
    assert np.array_equal(region.indices(2), np.flatnonzero(patches))


def test_a_whole_region_gives_back_what_it_is_given():
    region, maps = Region(None, 8), torch.rand(2, 1, 8, 8)
    assert region.fill(maps) is maps and region.select(maps) is maps and region.count == 64


@pytest.mark.parametrize("sigma", [0.0, 1.5])
def test_residuals_are_smoothed_among_the_cells_that_count(sigma):
    """As a mean with weights; whatever lies outside has none."""
    inside, residual = some_cells(16), np.random.default_rng(1).random((1, 1, 16, 16)).astype(np.float32)
    region = Region(to_text(inside), 16)
    found = scoring.log_residual(torch.from_numpy(residual), sigma, region).numpy()[0, 0]
    length = np.sqrt(residual[0, 0] + scoring.FLOOR).astype(np.float64)
    parts = [np.where(inside, one, 0.0) for one in (length, np.ones_like(length))]
    smooth = [ndimage.gaussian_filter(part, sigma, mode="mirror") if sigma else part for part in parts]
    np.testing.assert_allclose(found[inside], np.log(smooth[0][inside] / smooth[1][inside]), rtol=1e-4, atol=1e-5)
    changed = torch.from_numpy(np.where(inside, residual, 1e6).astype(np.float32))
    assert torch.equal(scoring.log_residual(changed, sigma, region), torch.from_numpy(found)[None, None])


def test_the_least_strange_tenth_is_that_of_the_region():
    inside = np.zeros((10, 10), bool)
    inside[:4] = True
    logs = torch.arange(100.0).flip(0).view(1, 1, 10, 10)  # the least lie outside
    assert scoring.ordinary(logs, Region(to_text(inside), 10)) == 63  # the fourth of 60 to 99
    assert scoring.ordinary(logs, Region(None, 10)) == 9


def test_places_without_cells_take_no_part():
    """Others are as if they had been alone, and the mean covariance is theirs."""
    draw = torch.Generator().manual_seed(0)
    cells = torch.randn(4, 9, 3, generator=draw, dtype=torch.float64)
    part = NormalPlaces(2, 3)
    cells[3] = 0
    count = torch.tensor([[9.0], [9.0], [9.0], [0.0]], dtype=torch.float64)
    part.set(count, cells.sum(1), cells.transpose(1, 2) @ cells)
    covariances = [np.cov(one.T.numpy()) for one in cells[:3]]
    wanted = (8 * covariances[0] + 3 * np.mean(covariances, 0)) / 11 + 0.01 * np.eye(3)
    found = np.linalg.inv(part.whitener[0].double().T @ part.whitener[0].double())
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert part.whitener.isfinite().all() and part.centre[3].abs().max() == 0


def test_the_region_travels_with_the_weights(tmp_path):
    model = URANetForAnomalyDetection(tiny_config(roi=to_text(some_cells(8))))
    model.backbone.set_statistics(torch.ones(model.backbone.channels), torch.ones(model.backbone.channels))
    model.save_pretrained(tmp_path)
    loaded = URANetForAnomalyDetection.from_pretrained(tmp_path)
    assert loaded.uranet.region.text == model.config.roi
    assert loaded.backbone.region is loaded.uranet.views.region is loaded.uranet.region
    pixels = torch.rand(1, 3, 64, 64)
    outside = loaded.uranet.region.outside(64, pixels.device)
    assert torch.equal(loaded.backbone.raw(pixels), loaded.backbone.raw(torch.where(outside, 9.0, pixels)))
