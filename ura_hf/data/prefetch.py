"""Reading ahead of the model with threads: decoding releases Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..model.device import pick_device

Item = TypeVar("Item")
Result = TypeVar("Result")


def reading_workers() -> int:
    """Threads that keep a GPU busy; one beside a CPU, where more would take the model's own cores."""
    return 1 if pick_device().type == "cpu" else min(4, os.cpu_count() or 1)


def loading_processes() -> int:
    """Processes that load batches while a CUDA GPU trains; none elsewhere."""
    return reading_workers() if pick_device().type == "cuda" else 0


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None, ahead: int = 1
) -> Iterator[Result]:
    """`map(function, items)` in order and in threads; errors come in their turn.

    At most `ahead` items are ahead of the one that is taken, and no fewer than there are `workers`, so memory is bounded. With
    one worker, `function` is called in the order of the items too.
    """
    count = workers or reading_workers()
    with ThreadPoolExecutor(count) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > max(count, ahead):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
