"""The losses, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from ura_hf.training.losses import dice_loss, focal_loss, weigh_hard_cells


def cells(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def test_focal_loss_by_hand():
    """Two cells believed with p = 0.8 and p = 0.3, true 1 and 0: p_t = 0.8 and 0.7."""
    logits = cells(0.8, 0.3).logit()
    expected = (0.2**2 * -math.log(0.8) + 0.3**2 * -math.log(0.7)) / 2
    assert focal_loss(logits, cells(1.0, 0.0)).item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_without_focus_is_cross_entropy():
    torch.manual_seed(0)
    logits, target = torch.randn(3, 1, 4, 4), torch.randint(2, (3, 1, 4, 4)).float()
    expected = functional.binary_cross_entropy(logits.sigmoid(), target)
    torch.testing.assert_close(focal_loss(logits, target, gamma=0.0), expected)


def test_focal_loss_survives_certainty():
    logits = cells(200.0, -200.0, 200.0, -200.0).requires_grad_()
    loss = focal_loss(logits, cells(1.0, 0.0, 0.0, 1.0))
    loss.backward()
    assert loss.item() == pytest.approx(100.0)  # two right cells cost nothing, two wrong ones 200 each
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_dice_loss_by_hand():
    """p = 0.9, 0.2, 0.4 for M = 1, 0, 1, with the smoothing of one cell."""
    logits, target = cells(0.9, 0.2, 0.4).logit(), cells(1.0, 0.0, 1.0)
    expected = 1 - (2 * (0.9 + 0.4) + 1) / (1.5 + 2 + 1)
    assert dice_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_dice_loss_is_taken_over_the_batch():
    """An empty sample must not count as a whole term: its few false alarms are weighed by the cells of the batch."""
    logits = torch.full((2, 1, 8, 8), -20.0)
    target = torch.zeros_like(logits)
    target[0] = 1
    logits[0] = 20.0
    logits[1, 0, 0, 0] = 0.0
    expected = 1 - (2 * 64 + 1) / (64.5 + 64 + 1)
    assert dice_loss(logits, target).item() == pytest.approx(expected, rel=1e-4)


def test_dice_loss_ends():
    empty = torch.zeros(2, 1, 4, 4)
    assert dice_loss(torch.full_like(empty, -30.0), empty).item() == pytest.approx(0, abs=1e-5)
    assert dice_loss(torch.full_like(empty, 30.0), 1 - empty).item() == pytest.approx(0, abs=1e-5)
    worst = dice_loss(torch.full_like(empty, -30.0), 1 - empty).item()
    assert 0.9 < worst <= 1


def test_hard_cells_by_hand():
    """Errors 1 and 3: mean 2, weights 1/2 and 3/2, weighted mean (1/2 + 9/2) / 2."""
    error = cells(1.0, 3.0).requires_grad_()
    loss = weigh_hard_cells(error, 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(2.5)
    assert error.grad is not None
    torch.testing.assert_close(error.grad, cells(0.25, 0.75))  # the weights themselves carry no gradient


def test_hard_cells_with_power_two():
    expected = (0.25 * 1 + 2.25 * 3) / 2.5
    assert weigh_hard_cells(cells(1.0, 3.0), 2.0).item() == pytest.approx(expected)


def test_hard_cells_without_power_is_the_mean():
    torch.manual_seed(0)
    error = torch.rand(2, 1, 5, 5)
    torch.testing.assert_close(weigh_hard_cells(error, 0), error.mean())


def test_one_cell_weighs_at_most_eight():
    """99 cells of error 1 and one of 1000: without the limit its weight would be 91."""
    error = torch.ones(1, 1, 10, 10)
    error[0, 0, 0, 0] = 1000
    mean = (99 + 1000) / 100
    expected = (99 / mean + 8 * 1000) / (99 / mean + 8)
    assert weigh_hard_cells(error, 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_hard_cells_of_a_perfect_restoration():
    error = torch.zeros(1, 1, 4, 4, requires_grad=True)
    loss = weigh_hard_cells(error, 1.0)
    loss.backward()
    assert loss.item() == 0
    assert error.grad is not None and error.grad.isfinite().all()
