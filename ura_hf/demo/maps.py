"""The small pictures below the verdict, as HTML: features, residual map, how likely a defect is, and how sure that is."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..evaluation import visualization
from ..evaluation.visualization import ColorMap, Float, Pixels
from .analysis import Analysis
from .render import caption_html, legend_html, to_png

MAP_SIDE = 384  # longer side of the pictures, pixels
RESIDUAL_SPAN = 4.0  # the residual picture runs from 0 to this many pixel thresholds
MAX_ENTROPY = math.log(2)  # of a yes/no question, nats
RESTORED = "The same places as they would look on a good part."
UNSURE = (0, "0, sure"), (100, "0.69, a coin toss")


class Figure(NamedTuple):
    """A map of the pipeline, its title and sentence, its colours, and the legend's ticks as (per cent of the scale, text)."""

    name: str
    title: str
    sentence: str
    cmap: ColorMap
    ticks: Sequence[tuple[float, str]]


RESIDUAL = Figure(
    "anomaly_map",
    "Residual map",
    "How far each place lies from what is normal there.",
    "viridis",
    ((0, "0"), (100 / RESIDUAL_SPAN, "1 threshold"), (100, f"{RESIDUAL_SPAN:g} or more")),
)
LIKELY = Figure(
    "anomaly_probability",
    "How likely",
    "The probability of a defect at each place, if 1 % of all places are defective.",
    "inferno",
    ((0, "0"), (50, "0.5"), (100, "1")),
)
SURE = Figure(
    "total_uncertainty",
    "How sure",
    "The uncertainty of that, from 0 to 0.69 nats.",
    "cividis",
    UNSURE,
)
PARTS = (
    Figure(
        "aleatoric_uncertainty",
        "Aleatoric part",
        "Good and defective places look alike here: more photos would not settle it.",
        "cividis",
        UNSURE,
    ),
    Figure(
        "epistemic_uncertainty",
        "Epistemic part",
        "Training had nothing like this place: photos of good parts like it would settle it.",
        "cividis",
        UNSURE,
    ),
)
"""The two add up to the uncertainty."""

GUIDE = """<div class="caption guide wide"><h3>How to read them</h3>
<p><b>Dark in both:</b> a good place.</p>
<p><b>Bright in both:</b> a place unlike all that training had, as most defects are. The heatmap decides.</p>
<p><b>Likely, and sure:</b> a defect as training invents them. Few are.</p>
{outlined}</div>"""


def maps_html(analysis: Analysis, threshold: float) -> str:
    """The pictures behind the verdict, each with a fixed scale, a legend and one sentence.

    Places above the threshold of the score map are outlined where the two maps say how likely and how sure.
    """
    above = analysis.map("score_map", _size(analysis)) > threshold
    outlined = (
        f"<p>Lines: the places above {threshold:g} in the heatmap.</p>" if above.any() and not above.all() else ""
    )
    doubts = _map_figure(analysis, LIKELY, above) + _map_figure(analysis, SURE, above)
    parts = "".join(_map_figure(analysis, part, above) for part in PARTS)
    return f"""<div style="--aspect:{analysis.picture.shape[1]} / {analysis.picture.shape[0]}">
<h2>What the model saw, and what normal would look like</h2>
<div class="figures" style="--columns:3">{_features_html(analysis)}{_map_figure(analysis, RESIDUAL)}</div>
<h2>How likely a defect is, and how sure that is</h2>
<div class="figures" style="--columns:3">{doubts}{GUIDE.format(outlined=outlined)}</div>
<details class="fold"><summary>Why it is unsure: two parts</summary>
<div class="figures" style="--columns:3">{parts}</div></details></div>"""


def _features_html(analysis: Analysis) -> str:
    """What the network sees, and the same restored."""
    if analysis.about["decoded"]:
        shared, look = '<p class="legend-note">Made from the features alone, so fine detail is lost.</p>', ""
        pictures = [analysis.drawn(picture) for picture in (analysis.features, analysis.restored)]
    else:
        shared = '<p class="legend-note">Same colour in both = same features. The colours have no scale.</p>'
        pictures, look = [analysis.features, analysis.restored], "image-rendering:pixelated"
    texts = ("Input features", "What the network sees in the image."), ("Restored features", RESTORED)
    named = zip(("features", "restored"), texts, pictures, strict=True)
    return "".join(_figure(name, *text, picture, shared, look) for name, text, picture in named)


def _size(analysis: Analysis) -> tuple[int, int]:
    """Height and width of the small pictures."""
    height, width = analysis.picture.shape[:2]
    scale = MAP_SIDE / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _map_figure(analysis: Analysis, figure: Figure, above: NDArray[np.bool_] | None = None) -> str:
    """A map in its colours; the places of `above` (H, W) are outlined."""
    values, top = scaled_map(analysis, figure.name, _size(analysis))
    picture = visualization.colorize(values, 0.0, top, figure.cmap)
    if above is not None:
        picture = visualization.outline(picture, above.astype(np.int32), thickness=1)
    end = RESIDUAL_SPAN if figure is RESIDUAL else top
    note = f" Highest value {values.max() / top * end:.2g}."
    scale = legend_html(_stops(figure.cmap), figure.ticks)
    return _figure(figure.name, figure.title, figure.sentence, picture, scale, note=note)


def scaled_map(analysis: Analysis, name: str, size: tuple[int, int] | None = None) -> tuple[Float, float]:
    """A map at a size (H, W), by default that of the picture, and the value at the end of its fixed scale."""
    tops = {
        "anomaly_map": RESIDUAL_SPAN * analysis.about["pixel_threshold"],
        "score_map": 1.0,
        "anomaly_probability": 1.0,
    }
    return analysis.map(name, size), tops.get(name, MAX_ENTROPY)


def _figure(name: str, title: str, sentence: str, picture: Pixels, scale: str, style: str = "", note: str = "") -> str:
    """A picture with its caption; the image travels in the page, so nothing is left on the server."""
    source = base64.b64encode(to_png(picture)).decode()
    look = ' class="wide"' if name == RESIDUAL.name else ""
    text = f"{escape(title)}. {escape(sentence)}{note}"
    return f"""<figure id="{name}"{look}><img src="data:image/png;base64,{source}" alt="{text}"
style="aspect-ratio:var(--aspect);{style}"><figcaption>{caption_html(title, sentence, scale)}</figcaption></figure>"""


def _stops(cmap: ColorMap) -> list[str]:
    colors = visualization.colorize(np.linspace(0, 1, 11)[None], 0, 1, cmap)[0]
    return [f"rgb({r} {g} {b})" for r, g, b in colors]
