"""Gradient descent for the rivals, which stops at a budget and goes on from there when it is given more, on CPUs or a GPU."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from runs import commit
from torch import Tensor, nn

BATCH = 16
KEEP_EVERY = 60.0  # seconds of the budget, at ends of epochs


@dataclass
class Budget:
    """CPU seconds a thread (on a GPU the clock's) for all sittings together, and the file that keeps training for the next."""

    seconds: float
    kept: Path


class Cached(nn.Module):
    """In place of a frozen extractor during training: its outputs for the training images, those of `rows` when called."""

    def __init__(self, extractor: nn.Module, images: Tensor) -> None:
        super().__init__()
        extractor.eval()
        with torch.no_grad():
            parts = [extractor(batch) for batch in images.split(BATCH)]
        self.features = {layer: torch.cat([part[layer] for part in parts]) for layer in parts[0]}
        self.rows = torch.arange(0)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {layer: values[self.rows] for layer, values in self.features.items()}


@contextlib.contextmanager
def cached(owner: nn.Module, name: str, images: Tensor) -> Iterator[Cached]:
    """Put a `Cached` in the place of `owner.name`, and the extractor back."""
    extractor = getattr(owner, name)
    cache = Cached(extractor, images)
    setattr(owner, name, cache)
    try:
        yield cache
    finally:
        setattr(owner, name, extractor)


def go_on(learned: nn.Module, optimizer: torch.optim.Optimizer, file: Path, plan: dict[str, Any]) -> dict[str, Any]:
    """Restore weights, optimiser and random state of an earlier sitting of the same plan; all that it kept, {} without one."""
    kept: dict[str, Any] = torch.load(file, map_location="cpu") if file.exists() else {}
    if kept.get("plan") != plan:
        if kept:
            print(f"{file} is of other images, batches, epochs or device, so training begins anew", flush=True)
        return {}
    learned.load_state_dict(kept["weights"])
    optimizer.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["random"])
    if plan["device"] == "cuda":
        torch.cuda.set_rng_state(kept["gpu_random"])
    return kept


def store(learned: nn.Module, optimizer: torch.optim.Optimizer, file: Path, more: dict[str, Any]) -> None:
    """Keep weights, optimiser and random state, and `more`, for `go_on`."""
    state = {
        "weights": learned.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        **more,
    }
    if more["plan"]["device"] == "cuda":
        state["gpu_random"] = torch.cuda.get_rng_state()
    partial = file.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(file)


def descend(
    learned: nn.Module,
    images: Tensor,
    cache: Cached,
    optimizer: torch.optim.Optimizer,
    error_of: Callable[[Tensor], Tensor],
    epochs: int,
    size: int,
    budget: Budget,
    on_share: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Descend over shuffled batches until the epochs or the seconds are used up; `on_share` gets the share of both.

    Keeps weights, optimiser and random state after an epoch once a minute and at the end, and goes on from what an earlier
    sitting on as many images in as many batches kept: the same steps as in one sitting, but for what `on_share` made of a
    smaller budget.
    """
    size, on_gpu = min(size, len(images)), images.is_cuda
    per_epoch = math.ceil(len(images) / size)  # the last batch of an epoch may be smaller, as in anomalib
    plan: dict[str, Any] = {"images": len(images), "size": size, "epochs": epochs, "per_epoch": per_epoch}
    plan["device"] = images.device.type
    kept = go_on(learned, optimizer, budget.kept, plan)
    steps, sittings, earlier = kept.get("steps", 0), kept.get("sittings", 0) + 1, kept.get("seconds", 0.0)
    order, error = kept.get("order", torch.arange(0)), torch.tensor(kept.get("error", float("nan")))
    most = max(budget.seconds, kept.get("budget", 0.0))
    commits = [*kept.get("commits", []), commit()]
    clock = time.perf_counter if on_gpu else time.process_time  # runs beside it on the CPUs cost no steps
    began, threads = clock(), 1 if on_gpu else torch.get_num_threads()
    kept_at = earlier

    def seconds() -> float:
        return earlier + (clock() - began) / threads

    def keep() -> None:
        place = {"steps": steps, "order": order, "error": float(error.detach()), "seconds": seconds()}
        facts = {"plan": plan, "budget": most, "sittings": sittings, "commits": commits}
        store(learned, optimizer, budget.kept, {**facts, **place})

    while steps < epochs * per_epoch and seconds() < budget.seconds:
        if steps % per_epoch == 0:
            order = torch.randperm(len(images))
        on_share(max(seconds() / budget.seconds, steps // per_epoch / epochs))
        cache.rows = order[steps % per_epoch * size :][:size]
        optimizer.zero_grad()
        error = error_of(images[cache.rows])
        error.backward()
        optimizer.step()
        steps += 1
        if steps % per_epoch == 0 and seconds() - kept_at >= KEEP_EVERY:
            kept_at = seconds()
            keep()
    keep()
    done = steps / per_epoch
    return {
        "steps": steps,
        "epochs": round(done, 2),
        "documented_epochs": epochs,
        "last_loss": float(error.detach()),
        "budget_seconds": most,
        "sittings": sittings,
        "commits": commits,
        "earlier_seconds": round(earlier * threads, 1),
    }
