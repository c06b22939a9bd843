"""How long the threads of OpenMP, on which torch computes, wait for their next work before they give up their core."""

from __future__ import annotations

import os

SPINS = "10000"
"""Rounds of waiting; by itself GCC's OpenMP makes so many that a busy neighbour is slowed down (`benchmarks/neighbour.py`)."""


def wait_briefly() -> None:
    """Let waiting threads spin only briefly, unless the environment says how they wait; call it before torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
