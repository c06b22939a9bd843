"""The scores of good and of defective photos as a histogram with the lines of a verdict, as HTML. Knows nothing of Gradio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BINS = 40  # of the scale from 0 to 1
MARGIN = 12.0  # of the width that a line's label stays away from the ends [per cent]


def histogram_html(good: Sequence[float], bad: Sequence[float], threshold: float, review: float) -> str:
    """Scores on a 0-1 scale as stacked bars, with the threshold and, where it is lower, the score from which on to review."""
    counts = np.stack([np.histogram(scores, BINS, (0, 1))[0] for scores in (good, bad)])
    most = max(int(counts.sum(0).max()), 1)
    bars = "".join(_bar(int(one), int(other), most) for one, other in counts.T)
    lines = _line("threshold", threshold, 0)
    if review < threshold:
        lines += _line("review", review, 1)
    kinds = f"{len(good)} good photos" + (f" and {len(bad)} defective ones" if len(bad) else "")
    words = f"Scores of {kinds} from 0 to 1; the threshold is {threshold:.2f}, review begins at {review:.2f}."
    ticks = "".join(f'<span style="left:{100 * at:g}%">{at:g}</span>' for at in (0, 0.25, 0.5, 0.75, 1))
    return f"""<div class="histogram" role="img" aria-label="{words}"><div class="histogram-bars">{bars}{lines}</div>
<div class="scale-ticks">{ticks}</div></div>"""


def _bar(good: int, bad: int, most: int) -> str:
    shares = [(kind, 100 * count / most) for kind, count in (("bad", bad), ("good", good)) if count]
    parts = [f'<i class="is-{kind}" style="height:{share:.1f}%"></i>' for kind, share in shares]
    return f"<div>{''.join(parts)}</div>"


def _line(word: str, at: float, row: int) -> str:
    """A line with its label, which stays clear of the ends; `row` is that of the label, from the top."""
    share = 100 * at
    moved = max(MARGIN, min(100 - MARGIN, share)) - share
    label = f'<span style="top:{1.25 * row:g}rem;left:calc({moved:.1f} * var(--unit))">{word} {at:.2f}</span>'
    return f'<b class="is-{word}" style="left:{share:.2f}%">{label}</b>'
