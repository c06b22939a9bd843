"""Some users at once: every answer belongs to its image. The long run is `python benchmarks/load.py`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import load


def test_eight_users_at_once():
    """In a thread of its own: the one of the tests may have Playwright at work, which a thread can have once."""
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(load.run, users=8, seconds=2, count=12).result()
    assert result["wrong"] == [] and result["lost"] == []
    assert result["sent"] == result["answered"] >= 8
    assert result["queue_positions_told"] > 0 and result["longest_queue"] > 1
