"""A picture of scores over time, and of the evidence that they change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.extras import require
from .drift import ALARM, Drift


def plot(path: Path, scores: Sequence[float], found: Drift) -> None:
    """Draw the scores (N,) and the evidence of a change into a PNG file."""
    require("matplotlib", "train", "plots")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    upper, lower = figure.subplots(2, sharex=True)
    order = np.arange(1, len(scores) + 1)
    upper.plot(order, scores, ".", color="#0f766e", markersize=4)
    upper.set_ylabel("raw score")
    lower.semilogy(order, found.evidence, color="#101828")
    lower.axhline(ALARM, color="#b42318", linestyle="--", label=f"change: {ALARM:.0f}")
    lower.set_ylabel("evidence of a change")
    lower.set_xlabel("part, in the order of time")
    lower.legend(loc="upper left")
    if found.began is not None:
        for axis in (upper, lower):
            axis.axvline(found.began + 1, color="#d97706", label="began")
    figure.savefig(path, format="png", dpi=120)
