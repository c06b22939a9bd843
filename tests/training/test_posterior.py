"""The posterior over the perception's last layer, against independent computations, and what it must do with more data."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fit import GRID, draw, fitted

from ura_hf.hub.load import load_checkpoint
from ura_hf.model.perception import NEIGHBOURHOOD
from ura_hf.model.region import to_text
from ura_hf.training.posterior import DEFECT_SHARE, calibration, fit_posterior, hidden_cells, precision, to_real_share


def test_the_calibration_finds_the_scale_of_logits():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 50_000)
    labels = (rng.random(50_000) < 1 / (1 + np.exp(-(0.6 * logits - 1)))).astype(float)
    np.testing.assert_allclose(calibration(logits, labels), (0.6, -1), atol=0.05)
    assert calibration(logits, np.zeros(50_000)) == (1, 0)


def test_log_odds_are_moved_to_the_real_share():
    """A probability that is the share of the artificial anomalies becomes the share of real ones."""
    labels = np.repeat([1.0, 0.0], [20, 80])
    assert 1 / (1 + np.exp(-(np.log(0.2 / 0.8) + to_real_share(labels)))) == pytest.approx(DEFECT_SHARE)


def test_the_precision_is_the_curvature_of_the_posterior():
    """Of a logistic regression with a Gaussian prior, by differences of its negative log posterior."""
    rng = np.random.default_rng(0)
    x, labels, mean = rng.standard_normal((50, 3)), rng.random(50) < 0.3, np.array([1.5, -0.7, 0.2])
    found = precision(x, 1 / (1 + np.exp(-x @ mean)), 0.5, 2.0)

    def loss(w: np.ndarray) -> float:
        return float(0.5 * (np.logaddexp(0, x @ w) - labels * (x @ w)).sum() + (w @ w) / (2 * 2.0**2))

    step = 1e-3 * np.eye(3)
    for i in range(3):
        for j in range(3):
            corners = [loss(mean + a * step[i] + b * step[j]) * a * b for a in (1, -1) for b in (1, -1)]
            np.testing.assert_allclose(found[i, j], sum(corners) / 4e-6, rtol=1e-3, atol=1e-3)


def posterior(folder: Path, count: int, **fields: object):
    """A detector with drawn networks, and the posterior that so many images give it."""
    detector, batches = fitted(draw(count), **fields)
    batches.project(detector.uranet.views, folder)
    before = copy.deepcopy(detector.uranet.perception.head)
    fit_posterior(detector, batches, count, 0)
    return detector, batches, before


def test_the_posterior_moves_and_is_the_same_again(tmp_path):
    detector, _, before = posterior(tmp_path, 10)
    head, again = detector.uranet.perception.head, posterior(tmp_path, 10)[0].uranet.perception.head
    deviations = (head.root @ head.root.T).diagonal().sqrt()
    assert torch.equal(before.root, torch.eye(len(deviations)))  # the prior
    assert deviations.min() < 0.6 and deviations.max() <= 1.001
    assert torch.equal(head.root, again.root) and torch.equal(head.calibration, again.calibration)
    assert torch.equal(head.weight, before.weight)  # what is trained stays


def test_more_good_images_leave_less_epistemic_uncertainty(tmp_path):
    """The variance of good cells falls about as one over their number, where the prior says little."""
    uncertain, variance = [], []
    for count in (10, 50, 200):
        detector, batches, _ = posterior(tmp_path, 50)
        fit_posterior(detector, batches, count, 0)
        seen = detector.uranet.views.standardize(detector.uranet.views.project(torch.from_numpy(draw(4, 7)).float()))
        perception = detector.uranet.perception
        with torch.no_grad():
            uncertain.append(float(perception.predict(seen).epistemic.mean()))
            variance.append(float(perception.head.deviation(perception.hide(seen)).square().mean()))
    assert uncertain[0] > 1.2 * uncertain[1] > 1.44 * uncertain[2]
    assert variance[0] > 1.5 * variance[1] > 2.25 * variance[2]


def test_cells_of_a_neighbourhood_count_as_one(tmp_path):
    """The precision beyond the prior's is that of the cells drawn, each counting as its share of the images' neighbourhoods."""
    detector, _, _ = posterior(tmp_path, 10, prior_std=100.0)
    head, config = detector.uranet.perception.head, detector.config
    precision = torch.linalg.inv(head.root.double() @ head.root.double().T)
    informed = float(precision[-1, -1])  # of the offset: sum of p (1 - p)
    neighbourhoods = 10 * config.grid_size**2 / NEIGHBOURHOOD**2
    assert 0 < informed < 0.25 * neighbourhoods * 1.01


def test_cells_beyond_the_region_are_not_asked(tmp_path):
    """Nothing was learnt of them; the images count by the region's cells."""
    cells = np.zeros((GRID, GRID), bool)
    cells[:2] = True
    detector, batches, _ = posterior(tmp_path, 10, roi=to_text(cells), prior_std=100.0)
    asked: list[int] = []
    plain = detector.uranet.perception.hide
    detector.uranet.perception.hide = lambda altered: asked.append(len(altered)) or plain(altered)
    with torch.no_grad():
        x, labels = hidden_cells(detector, batches)
    assert len(x) == len(labels) == sum(asked) * 2 * GRID and 0 < labels.mean() < 1
    root = detector.uranet.perception.head.root.double()
    assert 0 < float(torch.linalg.inv(root @ root.T)[-1, -1]) < 0.25 * 10 * 2 * GRID / NEIGHBOURHOOD**2 * 1.01


def test_without_a_posterior_nothing_is_fitted(tmp_path):
    detector, _, before = posterior(tmp_path, 5, bayesian_perception=False)
    assert torch.equal(detector.uranet.perception.head.weight, before.weight)


def test_training_ends_with_it(checkpoint):
    """The session's checkpoint: its spread is no longer the prior's, and good parts leave some of it."""
    head = load_checkpoint(checkpoint)[0].uranet.perception.head
    assert not torch.equal(head.root, head.prior_std * torch.eye(len(head.root)))
    assert not torch.equal(head.calibration, torch.tensor([1.0, 0.0]))
