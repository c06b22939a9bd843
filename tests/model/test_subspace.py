"""The subspace of whole normal images: what lies in it is restored, what does not is the residual."""

from __future__ import annotations

import pytest
import torch

from ura_hf.model.subspace import SIDE, NormalSubspace


def images(count: int, directions: int = 3, channels: int = 2) -> torch.Tensor:
    """Grids (count, channels, 16, 16), blocks of 2 x 2 alike, that differ from a mean in a few directions."""
    parts = torch.randn(directions + 1, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(count, directions, generator=torch.Generator().manual_seed(count))
    coarse = parts[0] + torch.einsum("nd,dchw->nchw", weights, parts[1:])
    return coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)


def fitted(train: torch.Tensor, rank: int) -> NormalSubspace:
    subspace = NormalSubspace(rank, train.shape[1])
    subspace.fit(subspace.coarse(train), len(train))
    return subspace


def test_what_varies_as_in_training_is_restored_and_a_spot_is_not():
    subspace = fitted(images(40), rank=8)
    new = images(5)
    assert subspace.distance(new).mean() < 0.05 * new.var()  # 3 % of the variance may be left out
    spotted = new.clone()
    spotted[:, :, 4:6, 10:12] += 20
    residual = subspace.distance(spotted)
    assert residual.shape == (5, 1, SIDE, SIDE)
    assert residual.flatten(1).argmax(1).tolist() == [2 * SIDE + 5] * 5
    assert float((residual - subspace.distance(new)).amax()) == pytest.approx(400, rel=0.2)


def test_directions_are_orthonormal_and_those_not_needed_zero():
    basis = fitted(images(40), rank=8).basis
    kept = int((basis.norm(dim=1) > 0).sum())
    assert 1 <= kept <= 3
    torch.testing.assert_close(basis[:kept] @ basis[:kept].T, torch.eye(kept), atol=1e-4, rtol=0)
    assert not basis[kept:].any()


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_and_equal_ones_give_a_mean(count):
    one = images(1)
    subspace = fitted(one.repeat(count, 1, 1, 1), rank=4)
    assert torch.isfinite(subspace.basis).all()
    assert 0 < subspace.floor < 1e-4 * one.square().mean()
    torch.testing.assert_close(subspace.distance(one), subspace.floor.expand(1, 1, SIDE, SIDE))
    assert subspace.distance(one + 1).mean() > 0.5


def test_the_rank_bounds_what_is_restored():
    train = images(40)
    less, more = (float(fitted(train, rank).distance(train).mean()) for rank in (1, 3))
    assert more < less


def test_it_is_trusted_by_the_number_of_different_images():
    train = images(40)
    subspace = NormalSubspace(4, 2)
    for different, trust in ((1, 1 / 101), (100, 0.5), (900, 0.9)):
        subspace.fit(subspace.coarse(train), different)
        assert float(subspace.trust) == pytest.approx(trust)
