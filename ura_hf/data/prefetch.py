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
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """`map(function, items)` in order, at most `workers` items ahead, so in bounded memory; errors come in their turn."""
    count = workers or reading_workers()
    with ThreadPoolExecutor(count) as pool:
        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
