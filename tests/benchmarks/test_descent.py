"""benchmarks/descent.py: training of the rivals that stops and goes on."""

from __future__ import annotations

from types import SimpleNamespace

import descent
import peers
import pytest
import torch
from descent import Budget, cached, descend
from torch import Tensor, nn


class Pair(nn.Module):
    """A frozen extractor and a student with dropout, so that random state matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.extractor = Layers()
        self.student = nn.Sequential(nn.Dropout(0.3), nn.Linear(4, 3), nn.BatchNorm1d(3))


class Layers(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 3)

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"layer1": super().forward(images)}


def train(seconds: float, kept, images: Tensor, break_at: int = -1) -> tuple[dict, dict]:
    """Weights of the student, and what `descend` says; an error at step `break_at`."""
    pair = Pair()
    optimizer = torch.optim.Adam(pair.student.parameters(), lr=0.05)
    torch.manual_seed(1)
    calls = 0

    def error_of(batch: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == break_at:
            raise KeyboardInterrupt
        return (pair.student(batch) - pair.extractor(batch)["layer1"].detach()).square().mean()

    with cached(pair, "extractor", images) as cache:
        facts = descend(pair.student, images, cache, optimizer, error_of, 6, 5, Budget(seconds, kept))
    assert isinstance(pair.extractor, Layers)
    return pair.student.state_dict(), facts


@pytest.fixture(autouse=True)
def keeping(monkeypatch):
    """State is kept after every epoch."""
    monkeypatch.setattr(descent, "KEEP_EVERY", 0.0)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(23, 4, generator=torch.Generator().manual_seed(2))  # batches of 5, 5, 5, 5 and 3 an epoch


@pytest.fixture
def clock(monkeypatch):
    """Process time that goes on by a second at every look."""
    now = iter(range(10**6))
    monkeypatch.setattr(descent.time, "process_time", lambda: float(next(now)))
    monkeypatch.setattr(descent.torch, "get_num_threads", lambda: 1)


def test_a_broken_run_goes_on_after_its_last_epoch(images, tmp_path):
    whole, facts = train(1e9, tmp_path / "whole.pt", images)
    assert facts["steps"] == 30 and facts["epochs"] == 6 and facts["sittings"] == 1
    with pytest.raises(KeyboardInterrupt):
        train(1e9, tmp_path / "broken.pt", images, break_at=13)
    steps = torch.load(tmp_path / "broken.pt")["steps"]
    assert steps == 10
    found, facts = train(1e9, tmp_path / "broken.pt", images)
    assert facts["steps"] == 30 and facts["sittings"] == 2
    assert all(torch.equal(found[key], whole[key]) for key in whole)


def test_a_larger_budget_goes_on_amid_an_epoch(images, tmp_path, clock):
    whole, _ = train(1e9, tmp_path / "whole.pt", images)
    cut, facts = train(15, tmp_path / "cut.pt", images)
    assert 5 < facts["steps"] < 30 and facts["steps"] % 5 and facts["epochs"] < facts["documented_epochs"] == 6
    again, facts = train(15, tmp_path / "cut.pt", images)
    assert facts["earlier_seconds"] >= 15 and all(torch.equal(again[key], cut[key]) for key in cut)
    found, facts = train(1e9, tmp_path / "cut.pt", images)
    assert facts["steps"] == 30 and facts["sittings"] == len(facts["commits"]) == 3
    assert train(15, tmp_path / "cut.pt", images)[1]["budget_seconds"] == 1e9  # what it was trained with
    assert all(torch.equal(found[key], whole[key]) for key in whole)


def test_other_images_start_anew(images, tmp_path):
    fewer, _ = train(1e9, tmp_path / "fewer.pt", images[:20])
    train(1e9, tmp_path / "kept.pt", images)
    found, facts = train(1e9, tmp_path / "kept.pt", images[:20])
    assert facts["sittings"] == 1 and facts["steps"] == 24
    assert all(torch.equal(found[key], fewer[key]) for key in fewer)


def test_training_of_another_device_is_not_gone_on_with(images, tmp_path, capsys):
    train(1e9, tmp_path / "kept.pt", images)
    state = torch.load(tmp_path / "kept.pt")
    state["plan"]["device"] = "cuda"
    torch.save(state, tmp_path / "kept.pt")
    assert train(1e9, tmp_path / "kept.pt", images)[1]["sittings"] == 1
    assert "device" in capsys.readouterr().out


def test_a_run_goes_on_only_with_more_budget(tmp_path):
    key = ("stfpm", "pill", 0)
    options = SimpleNamespace(work=tmp_path, budget=1200)
    training = {"epochs": 3.5, "documented_epochs": 100, "budget_seconds": 600}
    assert not peers.can_go_on({"training": training}, key, options)  # nothing was kept
    peers.kept(tmp_path, key).touch()
    assert peers.can_go_on({"training": training}, key, options)
    assert not peers.can_go_on({"training": {**training, "budget_seconds": 1200}}, key, options)
    assert not peers.can_go_on({"training": {**training, "epochs": 100.0}}, key, options)
    assert not peers.can_go_on({"training": {"coreset_ratio": 0.1}}, key, options)
