"""How a long computation tells how far it is, and how it is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Cancelled(Exception):
    """Raised by a `Progress` to stop the computation that calls it; it passes through to whoever started that."""


class Progress(Protocol):
    """Called now and then by a long computation, in its own thread; it may raise `Cancelled`."""

    def __call__(self, stage: str, done: int, total: int, losses: Mapping[str, float] | None = None) -> None:
        """`done` of the `total` parts of `stage` are over; `losses` are means since they were last given, where there are any."""


def silent(stage: str, done: int, total: int, losses: Mapping[str, float] | None = None) -> None:
    """The `Progress` of whoever is not interested."""
