"""From a prediction of the pipeline to what the page shows: pictures, words and numbers. Knows nothing of Gradio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from ura_hf import visualization
from ura_hf.visualization import ColorMap, Float, Pixels

PREVIEW_SIDE = 1024  # longest side of a picture on the page, pixels
GRID_SIDE = 384  # shortest side of the picture of a feature grid, pixels
RESIDUAL_SPAN = 4.0  # the residual picture runs from 0 to this many pixel thresholds
MAX_ENTROPY = math.log(2)  # of a yes/no question, nats


@dataclass(frozen=True)
class Report:
    """What the page shows of one image; pictures are uint8 RGB, at most PREVIEW_SIDE on a side."""

    summary: dict[str, Any]
    """The numbers as JSON: `label`, `score` and `score_threshold` on the fixed 0-1 scale; `image_score`, `threshold` and
    `pixel_threshold` raw; `anomalous_fraction` of the pixels; `image_size` as [height, width]."""
    heatmap: Pixels
    features: Pixels
    restored: Pixels
    residual: Pixels
    uncertainty: Pixels
    verdict: str
    """HTML of the verdict card."""


def report(image: Float, prediction: Mapping[str, Any]) -> Report:
    """Everything the page shows of one image.

    `image` is float RGB (H, W, 3) in [0, 1]; `prediction` is the pipeline's dict with `return_features=True`, its maps (H, W).
    """
    score_map = np.asarray(prediction["score_map"])
    features, restored = visualization.pca_colors(prediction["features"], prediction["restored_features"])
    summary = {
        "label": prediction["label"],
        "score": float(prediction["score"]),
        "score_threshold": visualization.THRESHOLD,
        "image_score": float(prediction["image_score"]),
        "threshold": float(prediction["threshold"]),
        "pixel_threshold": float(prediction["pixel_threshold"]),
        "anomalous_fraction": visualization.fraction_above(score_map),
        "image_size": list(image.shape[:2]),
    }
    return Report(
        summary=summary,
        heatmap=visualization.overlay(_preview(image), _preview(score_map)),
        features=visualization.enlarge_cells(features, GRID_SIDE),
        restored=visualization.enlarge_cells(restored, GRID_SIDE),
        residual=_picture(prediction["anomaly_map"], RESIDUAL_SPAN * summary["pixel_threshold"], "viridis"),
        uncertainty=_picture(prediction["total_uncertainty"], MAX_ENTROPY, "cividis"),
        verdict=verdict_html(summary),
    )


def verdict_html(summary: Mapping[str, Any]) -> str:
    """The verdict card: the verdict in words, the score against the threshold on the 0-1 scale, and what backs it."""
    anomalous = summary["label"] == "anomalous"
    score, threshold = summary["score"], summary["score_threshold"]
    shown = format_score(score)
    words = (
        ("Anomalous", "This part does not look like the good ones.")
        if anomalous
        else ("Normal", "This part looks like the good ones.")
    )
    where = f"{_format_share(summary['anomalous_fraction'])} above the pixel threshold."
    return f"""<section class="verdict {"is-anomalous" if anomalous else "is-normal"}" aria-live="polite">
<p class="verdict-word"><span aria-hidden="true">{"!" if anomalous else "&#10003;"}</span>{words[0]}</p>
<p class="verdict-sentence">{words[1]}</p>
<div class="scale" role="img" aria-label="Score {escape(shown)} on a scale from 0 to 1; the threshold is {threshold:g}">
<div class="scale-bar"><i class="scale-threshold" style="left:{threshold:.0%}"></i>
<i class="scale-score" style="left:{score:.2%}"></i></div>
<div class="scale-ticks"><span style="left:0%">0</span><span style="left:{threshold:.0%}">{threshold:g} threshold</span>
<span style="left:100%">1</span></div></div>
<p class="verdict-score">Score <b>{escape(shown)}</b>, threshold <b>{threshold:g}</b></p>
<p class="verdict-detail">{where}</p></section>"""


def empty_html() -> str:
    """The verdict card before there is a verdict."""
    return """<section class="verdict is-empty" aria-live="polite"><p class="verdict-word">No verdict yet</p>
<p class="verdict-sentence">Upload a photo of a part. The answer appears here.</p></section>"""


def format_score(score: float) -> str:
    """A score with three decimals, or with as many as it takes to show on which side of 0.5 it lies: 0.49996 -> "0.49996".

    Scores that would round to the ends of the scale, which no score reaches, read "below 0.001" and "above 0.999".
    """
    if score < 0.001:
        return "below 0.001"
    if score > 0.999:
        return "above 0.999"
    digits = 3
    while digits < 9 and score != 0.5 and float(f"{score:.{digits}f}") == 0.5:
        digits += 1
    return f"{score:.{digits}f}"


def caption_html(title: str, sentence: str, scale: str) -> str:
    """Heading, one plain sentence and legend of a picture; `scale` is HTML."""
    return (
        f'<div class="caption"><h3>{escape(title)}</h3><p>{escape(sentence)}</p><div class="legend">{scale}</div></div>'
    )


def heatmap_legend() -> str:
    """Legend of the heatmap on the fixed 0-1 scale, HTML: clear up to 0.5, glowing above it."""
    values = np.linspace(0, 1, 41)
    colors, opacity = visualization.glow(values)
    stops = [f"rgb({r} {g} {b} / {a:.3f}) {v:.1%}" for (r, g, b), a, v in zip(colors, opacity, values, strict=True)]
    return _legend(stops, [(0, "0"), (50, "0.5 pixel threshold"), (100, "1")])


def residual_legend() -> str:
    """Legend of the residual picture in multiples of the pixel threshold, HTML."""
    ticks = [(0, "0"), (100 / RESIDUAL_SPAN, "1 threshold"), (100, f"{RESIDUAL_SPAN:g} thresholds or more")]
    return _legend(_stops("viridis"), ticks)


def uncertainty_legend() -> str:
    """Legend of the total uncertainty in nats, HTML."""
    return _legend(_stops("cividis"), [(0, "0 nats, sure"), (100, "0.69 nats, a coin toss")])


def features_legend() -> str:
    """Legend of the two feature pictures, HTML: their colours are shared, not a scale of good and bad."""
    return '<p class="legend-note">Same colour in both pictures = same features.</p>'


def _legend(stops: Sequence[str], ticks: Sequence[tuple[float, str]]) -> str:
    """A gradient bar over the ticks' (position in per cent, text), as HTML."""
    texts = "".join(f'<span class="{_side(at)}" style="left:{at:g}%">{escape(text)}</span>' for at, text in ticks)
    gradient = f"linear-gradient(to right, {', '.join(stops)})"
    return f'<div class="legend-bar"><i style="background-image:{gradient}"></i></div><div class="legend-ticks">{texts}</div>'


def _side(at: float) -> str:
    return {0.0: "at-start", 100.0: "at-end"}.get(at, "at-middle")


def _stops(cmap: ColorMap) -> list[str]:
    colors = visualization.colorize(np.linspace(0, 1, 11)[None], 0, 1, cmap)[0]
    return [f"rgb({r} {g} {b})" for r, g, b in colors]


def _preview(picture: Float) -> Float:
    return visualization.fit_within(picture, PREVIEW_SIDE)


def _picture(values: Float, vmax: float, cmap: ColorMap) -> Pixels:
    return visualization.colorize(_preview(np.asarray(values)), 0.0, vmax, cmap)


def _format_share(fraction: float) -> str:
    """A share of the pixels in words that never round something down to nothing."""
    if fraction == 0:
        return "No pixel lies"
    percent = 100 * fraction
    return f"{percent:.1f} % of the pixels lie" if percent >= 0.1 else "Less than 0.1 % of the pixels lie"
