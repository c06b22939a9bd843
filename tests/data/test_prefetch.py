"""Reading ahead: in order, in bounds, errors in their turn."""

from __future__ import annotations

import threading

import pytest

from ura_hf.data.prefetch import read_ahead


def test_order_is_kept_and_little_is_read_ahead():
    started: list[int] = []
    lock = threading.Lock()

    def read(item: int) -> int:
        with lock:
            started.append(item)
        return item * item

    results = read_ahead(read, range(100), workers=3)
    assert [next(results), next(results)] == [0, 1]
    assert max(started) <= 1 + 3
    assert list(results) == [item * item for item in range(2, 100)]


def test_an_error_comes_where_its_item_is():
    results = read_ahead(lambda item: 1 // item, [2, 1, 0, 1], workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
