"""Logarithms of residuals, smoothing, the positive score and the fixed scale, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from ura_hf.model import scoring


@pytest.mark.parametrize("sigma", [0, 1.0])
def test_log_residual_of_a_map_agrees_with_scipy(sigma):
    """The logarithm of smoothed lengths; what is as small as the floor counts as equal."""
    residual = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)).square()
    lengths = np.sqrt(residual[:, 0].double().numpy() + scoring.FLOOR)
    smooth = [ndimage.gaussian_filter(one, sigma, mode="mirror", truncate=4) if sigma else one for one in lengths]
    found = scoring.log_residual(residual, sigma)
    assert found.shape == residual.shape and found.dtype == torch.float32
    np.testing.assert_allclose(found[:, 0].numpy(), np.log(smooth), rtol=0, atol=1e-5)


def test_log_residual_of_whole_images_is_not_smoothed():
    residual = torch.tensor([0.0, 1e-6, 1.0, 100.0])
    wanted = 0.5 * np.log(residual.double().numpy() + scoring.FLOOR)
    np.testing.assert_allclose(scoring.log_residual(residual, 3.0).numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert scoring.log_residual(residual.half(), 3.0).dtype == torch.float32


def test_standardized_by_hand():
    logs = torch.tensor([-3.0, 0.0, 5.0])
    assert scoring.standardized(logs, [-1.0, 2.0]).tolist() == [-1.0, 0.5, 3.0]
    assert scoring.standardized(logs, None) is logs


def test_positive_is_increasing_positive_and_near_z():
    z = torch.linspace(-1e4, 1e4, 200_001)
    found = scoring.positive(z)
    assert found.dtype == torch.float32 and (found > 0).all() and (found.diff() > 0).all()
    exact = z.double()
    exact = torch.where(exact > 0, exact + (exact**2 + 4).sqrt(), 4 / ((exact**2 + 4).sqrt() - exact)) / 2
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
    assert scoring.positive(torch.zeros(1)).item() == 1
    large = z > 20
    assert ((found - z)[large].abs() < 0.06).all()


@pytest.mark.parametrize("sigma", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("shape", [(40, 40), (33, 57)])
def test_smoothing_agrees_with_scipy(sigma, shape):
    torch.manual_seed(0)
    maps = torch.rand(2, 1, *shape, dtype=torch.float64)
    out = scoring.gaussian_smooth(maps, sigma)
    for single, expected in zip(out, maps, strict=True):
        reference = ndimage.gaussian_filter(expected[0].numpy(), sigma, mode="mirror", truncate=4)
        np.testing.assert_allclose(single[0].numpy(), reference, rtol=0, atol=1e-10)


def test_smoothing_of_a_fractional_reach_is_close_to_scipy():
    """4 sigma = 5.2: the two round the reach differently, which moves the result by the Gaussian's tail alone."""
    maps = torch.rand(1, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference = ndimage.gaussian_filter(maps[0, 0].numpy(), 1.3, mode="mirror", truncate=4)
    np.testing.assert_allclose(scoring.gaussian_smooth(maps, 1.3)[0, 0].numpy(), reference, rtol=0, atol=5e-4)


@pytest.mark.parametrize("sigma", [0.5, 4.0, 30.0])
def test_smoothing_keeps_a_constant(sigma):
    maps = torch.full((2, 1, 16, 20), 3.25)
    torch.testing.assert_close(scoring.gaussian_smooth(maps, sigma), maps)


def test_no_smoothing_changes_nothing():
    maps = torch.rand(2, 1, 8, 8)
    assert torch.equal(scoring.gaussian_smooth(maps, 0), maps)


def test_fixed_scale():
    raw = torch.tensor([0.0, 0.1, 0.5, 2.0, 10.0, 1000.0], dtype=torch.float64)
    out = scoring.fixed_scale(raw, 0.5)
    assert out[0] == 0 and out[2] == 0.5 and (out < 1).all()
    assert (out.diff() > 0).all()
    assert out[3].item() == pytest.approx(2 / 2.5)
    assert torch.equal(scoring.fixed_scale(raw[3:4], 0.5), out[3:4])  # alone or beside others
