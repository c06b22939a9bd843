"""The coreset: farthest points against their definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ura_hf.training.coreset import farthest_points


def cover(points: torch.Tensor, chosen: torch.Tensor) -> float:
    """Largest distance from a point to its nearest chosen one."""
    return torch.cdist(points, points[chosen]).amin(1).max().item()


def test_a_rare_cluster_is_covered():
    """3 of 3000 points lie apart: ten greedy picks hold one of them, a random ten holds none."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 100, generator=generator) * 0.1
    points[1500:1503] += 2
    chosen = farthest_points(points, 10, 7)
    assert len(chosen) == len(set(chosen.tolist())) == 10 and chosen[0] == 7
    assert set(chosen.tolist()) & {1500, 1501, 1502}
    random = torch.randperm(3000, generator=torch.Generator().manual_seed(1))[:10]
    assert not set(random.tolist()) & {1500, 1501, 1502}
    assert cover(points, chosen) < 0.5 * cover(points, random)


def test_one_of_each_cluster_is_taken():
    generator = torch.Generator().manual_seed(0)
    centres = functional.one_hot(torch.arange(8), 64).float() * 10
    points = (centres[:, None] + 0.1 * torch.randn(8, 50, 64, generator=generator)).flatten(0, 1)
    assert sorted((farthest_points(points, 8, 0) // 50).tolist()) == list(range(8))


def one_by_one(points: torch.Tensor, count: int, first: int) -> list[int]:
    """Farthest points by the definition: every centre against every point."""
    chosen = [first]
    while len(chosen) < count:
        distances = torch.cdist(points.double(), points[chosen].double()).amin(1)
        chosen.append(int(distances.argmax()))
    return chosen


@pytest.mark.parametrize("pool", [0, 10, 64, 400])
def test_farthest_points_whatever_the_pool(pool):
    """Clusters of unequal spread, so that bounds grow old at different times."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([3.0, 1.0, 0.1, 0.01]).repeat_interleave(100)[:, None]
    points = torch.randn(4, 8, generator=generator).repeat_interleave(100, 0) + spread * torch.randn(
        400, 8, generator=generator
    )
    for first in (0, 399):
        assert farthest_points(points, 120, first, pool).tolist() == one_by_one(points, 120, first)


def test_farthest_points_keep_their_precision_far_from_the_origin():
    points = 1000 + torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    assert farthest_points(points, 60, 5).tolist() == one_by_one(points, 60, 5)


def test_farthest_points_of_equal_points_are_distinct_first():
    """Three places, fifty times each: the first three picks are the places."""
    points = torch.eye(3).repeat(50, 1)
    assert sorted(i % 3 for i in farthest_points(points, 3, 0).tolist()) == [0, 1, 2]
