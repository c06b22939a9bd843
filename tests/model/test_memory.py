"""The normal memory against brute force."""

from __future__ import annotations

import pytest
import torch

from ura_hf.model import memory as memory_module
from ura_hf.model.memory import NormalMemory


def filled(size: int = 30, channels: int = 5) -> NormalMemory:
    memory = NormalMemory(size, channels)
    memory.cells.copy_(torch.randn(size, channels, generator=torch.Generator().manual_seed(0)))
    return memory


def brute_force(memory: NormalMemory, components: torch.Tensor) -> torch.Tensor:
    """Squared distances in double precision, from differences and not from products."""
    queries = components.double().movedim(1, -1).flatten(0, -2)
    distances = torch.cdist(queries, memory.cells.double(), compute_mode="donot_use_mm_for_euclid_dist")
    batch, _, height, width = components.shape
    return distances.amin(1).square().float().view(batch, 1, height, width)


@pytest.mark.parametrize("size", [1, 30, 700])
def test_distance_to_the_nearest_cell(size, monkeypatch):
    """Also where the queries come in several blocks, the last one not full."""
    memory, components = filled(size), torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(memory.distance(components), brute_force(memory, components), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(memory_module, "DISTANCES_PER_STEP", 7 * size)
    torch.testing.assert_close(memory.distance(components), brute_force(memory, components), rtol=1e-4, atol=1e-5)


def test_a_large_memory_is_asked_in_small_steps():
    """Whatever a stranger's checkpoint says of its size: 8 MB of distances at once."""
    memory, components, sizes = filled(5000), torch.randn(1, 5, 32, 32), []
    plain = torch.Tensor.__matmul__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "__matmul__", lambda a, b: sizes.append(len(a) * b.shape[1]) or plain(a, b))
        memory.distance(components)
    assert len(sizes) == 3 and max(sizes) <= memory_module.DISTANCES_PER_STEP


def test_far_queries():
    memory, components = filled(200, 64), 50 * torch.randn(2, 64, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(memory.distance(components), brute_force(memory, components))


def test_a_stored_cell_has_hardly_a_distance_and_never_less_than_none():
    """Rounding stays far below what counts as equal (`scoring.FLOOR` of a mean over channels)."""
    memory = filled(400, 128)
    components = memory.cells.T.reshape(1, 128, 20, 20)
    found = memory.distance(components)
    assert found.min() >= 0 and found.max() < 1e-6 * components.square().sum(1).max()


def test_queries_that_are_not_finite_harm_no_other():
    memory, components = filled(), torch.randn(1, 5, 2, 2, generator=torch.Generator().manual_seed(1))
    wanted = memory.distance(components).flatten()
    components[0, :, 0, 0], components[0, 3, 1, 0] = torch.inf, torch.nan
    found = memory.distance(components).flatten()
    assert torch.equal(found[[1, 3]], wanted[[1, 3]]) and not found[[0, 2]].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    memory, components = filled().to(dtype), torch.randn(1, 5, 2, 2).to(dtype)
    found = memory.distance(components)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, brute_force(memory, components), rtol=1e-4, atol=1e-5)


def test_autocast_rounds_nothing():
    """Cells in tight clusters, where rounded products would drown the distances."""
    generator = torch.Generator().manual_seed(0)
    memory = NormalMemory(2000, 64)
    clusters = 10 * torch.randn(40, 1, 64, generator=generator) + 0.1 * torch.randn(40, 50, 64, generator=generator)
    memory.cells.copy_(clusters.flatten(0, 1))
    queries = memory.cells[::20] + 0.1 * torch.randn(100, 64, generator=generator)
    components = queries.T.reshape(1, 64, 10, 10)
    with torch.autocast("cpu", torch.bfloat16):
        found = memory.distance(components)
    torch.testing.assert_close(found, brute_force(memory, components), rtol=1e-2, atol=1e-2)


def test_the_search_follows_its_cells():
    """Cells changed in place, by loading and by another dtype: the answer is never of cells that were."""
    memory, components = filled(), torch.randn(1, 5, 2, 2)
    for change in (
        lambda: memory.cells.add_(3),
        lambda: memory.load_state_dict({"cells": torch.randn(30, 5)}),
        lambda: memory.load_state_dict({"cells": torch.randn(30, 5)}, assign=True),
        lambda: memory.to(torch.bfloat16),
    ):
        change()
        torch.testing.assert_close(memory.distance(components), brute_force(memory, components), rtol=1e-4, atol=1e-4)
