"""The normal memory against brute force, and the coreset that fills it."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn import functional

from ura_hf.model import nearest as nearest_module
from ura_hf.model.memory import NormalMemory, farthest_points, greedy_coreset
from ura_hf.model.nearest import NearestCells

# The look-up


def filled(size: int = 30, channels: int = 5) -> NormalMemory:
    memory = NormalMemory(size, channels)
    memory.cells.copy_(torch.randn(size, channels, generator=torch.Generator().manual_seed(0)))
    return memory


def test_distance_to_the_nearest_cell(monkeypatch):
    """Against torch.cdist, also where the cells come in several blocks."""
    memory, features = filled(), torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    wanted = torch.cdist(features.movedim(1, -1).reshape(-1, 5), memory.cells).amin(1).square() / 5
    torch.testing.assert_close(memory.distance(features), wanted.view(3, 1, 4, 4))
    monkeypatch.setattr(nearest_module, "QUERIES_PER_STEP_ON_CPU", 7)
    torch.testing.assert_close(memory.distance(features), wanted.view(3, 1, 4, 4))


@pytest.mark.parametrize("count", [1, 127, 128, 129, 700])
def test_any_number_of_cells(count):
    """Groups of cells that are not full give no cell that isn't there, also for queries far from all."""
    generator = torch.Generator().manual_seed(0)
    cells, queries = torch.randn(count, 6, generator=generator), 50 * torch.randn(90, 6, generator=generator)
    wanted = torch.cdist(queries.double(), cells.double()).amin(1).square().float()
    torch.testing.assert_close(NearestCells(cells).distance(queries), wanted)


@pytest.mark.parametrize("count", [1, 700, 2000])
def test_queries_that_are_not_finite_harm_no_other(count, small_pays):
    cells, queries = correlated(count, 0), correlated(4, 1)
    wanted = NearestCells(cells).distance(queries)
    queries[0], queries[2, 3] = torch.inf, torch.nan
    found = NearestCells(cells).distance(queries)
    assert torch.equal(found[[1, 3]], wanted[[1, 3]]) and not found[[0, 2]].isfinite().any()
    assert NearestCells(cells).distance(queries[:0]).shape == (0,)


def test_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    cells, queries = (500 + torch.randn(n, 64, generator=generator) for n in (700, 90))
    wanted = torch.cdist(queries.double(), cells.double()).amin(1).square().float()
    torch.testing.assert_close(NearestCells(cells).distance(queries), wanted, rtol=1e-4, atol=0)


def test_autocast_rounds_nothing(small_pays):
    """Neither the search nor what it is made of, which is kept; cells in tight clusters, so that a wrong bound is seen."""
    generator = torch.Generator().manual_seed(0)
    cells = (
        10 * torch.randn(40, 1, 256, generator=generator) + 0.1 * torch.randn(40, 50, 256, generator=generator)
    ).flatten(0, 1)
    queries = cells[::20] + 0.1 * torch.randn(100, 256, generator=generator)
    memory, features = NormalMemory(2000, 256), queries.T.reshape(1, 256, 10, 10)
    memory.cells.copy_(cells)
    with torch.autocast("cpu", torch.bfloat16):
        found = memory.distance(features)
    wanted = (queries.double()[:, None] - cells.double()).square().mean(-1).amin(1).float()
    torch.testing.assert_close(found.flatten(), wanted)


def test_a_copy_keeps_no_search_of_its_original():
    memory, features = filled(), torch.randn(1, 5, 2, 2)
    for _ in range(3):
        memory.cells.add_(1)
    memory.distance(features)
    copy = deepcopy(memory)
    for _ in range(3):
        copy.cells.mul_(2)
    wanted = torch.cdist(features.flatten(2)[0].T, copy.cells).amin(1).square() / 5
    torch.testing.assert_close(copy.distance(features).flatten(), wanted)


def test_gradients_after_inference():
    """What a search keeps from inference serves training too."""
    memory, features = filled(), torch.randn(1, 5, 2, 2, requires_grad=True)
    with torch.inference_mode():
        memory.distance(features)
    memory.distance(features).sum().backward()
    nearest = memory.cells[torch.cdist(features.detach().flatten(2)[0].T, memory.cells).argmin(1)]
    torch.testing.assert_close(features.grad, 2 / 5 * (features.detach() - nearest.T.view(1, 5, 2, 2)))


def test_a_stored_cell_has_no_distance():
    memory = filled()
    features = memory.cells[[3, 17, 29, 0]].T.reshape(1, 5, 2, 2)
    assert torch.equal(memory.distance(features), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    memory, features = filled().to(dtype), torch.randn(1, 5, 2, 2).to(dtype)
    wanted = torch.cdist(features.float().flatten(2)[0].T, memory.cells.float()).amin(1).square() / 5
    found = memory.distance(features)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.flatten(), wanted)


def test_the_search_follows_its_cells():
    """Cells changed in place, by loading, by another dtype, and fewer channels: the answer is never of cells that were."""
    memory, features = filled(), torch.randn(1, 5, 2, 2)

    def wanted(channels: int = 5) -> torch.Tensor:
        queries = features[:, -channels:].flatten(2)[0].T
        return torch.cdist(queries, memory.cells[:, -channels:].float()).amin(1).square() / channels

    for change in (
        lambda: None,
        lambda: memory.cells.add_(3),
        lambda: memory.load_state_dict({"cells": torch.randn(30, 5)}),
        lambda: memory.load_state_dict({"cells": torch.randn(30, 5)}, assign=True),
        lambda: memory.to(torch.bfloat16),
    ):
        change()
        torch.testing.assert_close(memory.distance(features).flatten(), wanted())
        torch.testing.assert_close(memory.distance(features[:, -2:]).flatten(), wanted(2))
        assert memory._search(5) is memory._search(5) and memory._search(2) is not memory._search(5)
    with torch.inference_mode():
        memory.to(torch.float32)
        torch.testing.assert_close(memory.distance(features).flatten(), wanted())
    torch.testing.assert_close(memory.distance(features).flatten(), wanted())


# The search by components


@pytest.fixture
def small_pays(monkeypatch):
    """Components from fewer cells on than pays."""
    monkeypatch.setattr(nearest_module, "MIN_CELLS", 1024)


def correlated(count: int, seed: int, rank: int = 40, noise: float = 0.3) -> torch.Tensor:
    """Points as a CNN gives them: a few directions hold most, and a mean far from 0."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(rank, 256, generator=torch.Generator().manual_seed(99)) / rank**0.5
    inside = torch.randn(count, rank, generator=generator) @ directions
    return 5 + inside + noise * torch.randn(count, 256, generator=generator)


def of_all_cells(queries: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Squared distances to the nearest cell in double precision, from differences and not from products."""
    distances = torch.cdist(queries.double(), cells.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.amin(1).square()


@pytest.mark.parametrize(
    ("queries", "bounded"),
    [(correlated(600, 1), True), (correlated(600, 1, noise=0.0), True), (-20 * correlated(300, 1, noise=5.0), False)],
    ids=["alike", "in the components", "far from all"],
)
def test_the_components_lose_nothing(queries, bounded, small_pays, monkeypatch):
    """Exactly the nearest cell of all, whether few cells are left to measure or so many that all are."""
    cells, whole = correlated(2000, 0), []
    search = NearestCells(cells)
    assert search.directions is not None
    monkeypatch.setattr(search, "_all", lambda block, of=search._all: whole.append(len(block)) or of(block))
    found = search.distance(queries)
    wanted = of_all_cells(queries, cells)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)
    assert (sum(whole) == 0) == bounded


@pytest.mark.parametrize("far", [4, 16, 30, 60])
def test_few_far_queries_do_not_measure_all_cells(far, small_pays, monkeypatch):
    """They leave few groups and many cells; the block is then compared with all cells in one product."""
    cells, queries, measured = correlated(4000, 0), correlated(128, 1), []
    queries[:far] += 200 * torch.randn(far, 256, generator=torch.Generator().manual_seed(2))
    search = NearestCells(cells)
    measure = search._measure
    monkeypatch.setattr(search, "_measure", lambda block, places: measured.append(len(block)) or measure(block, places))
    found = search.distance(queries)
    wanted = of_all_cells(queries, cells)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-4)
    assert max(measured) <= nearest_module.MAX_CANDIDATES_PER_QUERY * 128


def test_cells_of_a_large_memory_have_no_distance(small_pays):
    cells = correlated(2000, 0)
    assert NearestCells(cells).distance(cells[::7]).abs().max() == 0


def test_the_first_guess_is_not_always_right(small_pays):
    """Without the second look the answer would be too large somewhere, so that look is tested above."""
    cells, queries = correlated(2000, 0), correlated(600, 1)
    search = NearestCells(cells)
    points, centres = search._points(queries), search._points(cells)
    guess = cells[torch.cdist(points, centres).argmin(1)]
    assert ((queries - guess).square().sum(1) > search.distance(queries) * 1.001).sum() > 10


# The coreset


def cover(points: torch.Tensor, chosen: torch.Tensor) -> float:
    """Largest distance from a point to its nearest chosen one."""
    return torch.cdist(points, points[chosen]).amin(1).max().item()


def test_coreset_covers_a_rare_cluster():
    """3 of 3000 points lie apart: ten greedy picks hold one of them, a random ten holds none."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(3000, 100, generator=generator) * 0.1
    points[1500:1503] += 2
    chosen = greedy_coreset(points.split(400), 10, generator)
    assert len(chosen) == len(set(chosen.tolist())) == 10
    assert set(chosen.tolist()) & {1500, 1501, 1502}
    random = torch.randperm(3000, generator=torch.Generator().manual_seed(1))[:10]
    assert not set(random.tolist()) & {1500, 1501, 1502}
    assert cover(points, chosen) < 0.5 * cover(points, random)


def test_coreset_takes_one_of_each_cluster():
    generator = torch.Generator().manual_seed(0)
    centres = functional.one_hot(torch.arange(8), 64).float() * 10
    points = (centres[:, None] + 0.1 * torch.randn(8, 50, 64, generator=generator)).flatten(0, 1)
    chosen = greedy_coreset([points], 8, generator)
    assert sorted((chosen // 50).tolist()) == list(range(8))


def test_coreset_does_not_depend_on_the_chunks():
    points = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    picks = [greedy_coreset(points.split(size), 20, torch.Generator().manual_seed(3)).tolist() for size in (200, 64, 7)]
    assert picks[0] == picks[1] == picks[2]


def test_coreset_seed():
    points = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    first, again, other = (greedy_coreset([points], 20, torch.Generator().manual_seed(s)).tolist() for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("count", [5, 6, 100])
def test_coreset_of_no_more_points_than_asked(count):
    chosen = greedy_coreset([torch.randn(5, 3)], count, torch.Generator().manual_seed(0))
    assert sorted(chosen.tolist()) == list(range(5))


@pytest.mark.parametrize("count", [0, 1, 4])
def test_coreset_has_the_asked_size(count):
    chosen = greedy_coreset([torch.randn(9, 3)], count, torch.Generator().manual_seed(0))
    assert len(chosen) == count


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
