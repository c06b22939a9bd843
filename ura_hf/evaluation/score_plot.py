"""A picture of the scores of good and of defective parts, and of the lines that a verdict draws between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.extras import require

BINS = 40  # of the scale from 0 to 1


def plot(path: Path, good: Sequence[float], bad: Sequence[float], threshold: float, review: float) -> None:
    """Draw the scores, on a 0-1 scale, as a stacked histogram into a PNG file, with the threshold and where review begins."""
    require("matplotlib", "train", "plots")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    kinds = [(good, "good", "#0f766e"), (bad, "defective", "#b42318")]
    scores, names, colors = zip(*(kind for kind in kinds if len(kind[0])), strict=True)
    axes.hist(scores, np.linspace(0, 1, BINS + 1).tolist(), stacked=True, label=names, color=colors)
    axes.axvline(threshold, color="#101828", label=f"threshold {threshold:.2f}")
    if review < threshold:
        axes.axvline(review, color="#93610a", linestyle="--", label=f"review {review:.2f}")
    axes.set_xlim(0, 1)
    axes.set_xlabel("score")
    axes.set_ylabel("photos")
    axes.legend()
    figure.savefig(path, format="png", dpi=120)
