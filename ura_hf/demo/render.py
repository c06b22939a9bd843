"""From an analysis to what the page shows: pictures, words and legends as HTML. Knows nothing of Gradio."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..evaluation import visualization
from ..evaluation.regions import Region
from ..evaluation.visualization import Pixels
from ..model.verdicts import THRESHOLD
from .analysis import Analysis

PNG_LEVEL = 3  # of 9: much faster than PIL's own choice, 6, for somewhat larger files
LISTED = 8  # regions in the table
MOST_OF_THE_IMAGE = 0.5  # share of the pixels
KNOWN = "Found when the checkpoint was made; the photo is being checked again."


def overlay(analysis: Analysis, threshold: float, strength: float) -> Pixels:
    """The image with its anomalies glowing, outlined and numbered, uint8 RGB of the size of `analysis.picture`."""
    image = analysis.picture / np.float32(255)
    glowing = visualization.overlay(image, analysis.map("score_map"), strength, threshold)
    regions, labels = analysis.regions(threshold)
    return number(visualization.outline(glowing, labels), labels, regions[:LISTED])


def number(picture: Pixels, labels: NDArray[np.int32], regions: Sequence[Region]) -> Pixels:
    """The picture with the number of each region, from 1, beside its upper left corner."""
    if not regions:
        return picture
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(14, round(max(picture.shape[:2]) / 40)))
    for place in range(len(regions), 0, -1):
        rows, columns = np.nonzero(labels == place)
        left, top, right, bottom = draw.textbbox((0, 0), str(place), font=font, anchor="lt")
        width, height = right - left + 10, bottom - top + 8
        x = min(max(int(columns.min()) - width // 2, 0), max(picture.shape[1] - width, 0))
        y = min(max(int(rows.min()) - height - 2, 0), max(picture.shape[0] - height, 0))
        draw.rounded_rectangle((x, y, x + width, y + height), 4, fill=(16, 24, 40), outline=(255, 255, 255))
        draw.text((x + 5, y + 4), str(place), font=font, anchor="lt", fill=(255, 255, 255))
    return np.asarray(image)


def to_png(picture: Pixels) -> bytes:
    """A picture as a PNG file, packed for speed."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=PNG_LEVEL)
    return stream.getvalue()


def verdict_html(summary: Mapping[str, Any]) -> str:
    """The verdict card: the verdict in words, the score against the threshold on the 0-1 scale, and what backs it."""
    score, threshold = summary["score"], summary["threshold"]
    shown, limit = format_score(score, threshold), f"{threshold:g}"
    look, sign, word, sentence = _verdict(summary)
    known = "milliseconds" not in summary  # a verdict of another day
    took = KNOWN if known else f"Took {_format_time(summary['milliseconds'])} on {escape(summary['device'])}."
    rank = "" if summary["rank_words"] is None else f"; {escape(summary['rank_words'])}"
    middle = max(14.0, min(86.0, 100 * threshold))  # the label stays clear of both ends
    return f"""<section class="verdict {look}{" is-known" * known}" aria-live="polite">
<p class="verdict-word"><span aria-hidden="true">{sign}</span>{word}</p>
<p class="verdict-sentence">{sentence}</p>
<div class="scale" role="img" aria-label="Score {escape(shown)} on a scale from 0 to 1; the threshold is {limit}">
<div class="scale-bar" style="--at:{threshold:.1%};--from:{summary["review"]:.1%}">
<i class="scale-threshold" style="left:{threshold:.1%}"></i><i class="scale-score" style="left:{score:.2%}"></i></div>
<div class="scale-ticks"><span style="left:0%">0</span><span style="left:{middle:.1f}%">{limit} threshold</span>
<span style="left:100%">1</span></div></div>
<p class="verdict-score">Score <b>{escape(shown)}</b>, threshold <b>{limit}</b>{rank}</p>
<p class="verdict-detail">{_format_share(summary["anomalous_fraction"])} above the threshold.
{took}</p></section>"""


def _verdict(summary: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Class, sign, word and sentence of a verdict."""
    if summary["label"] == "unknown":
        name = escape(summary["checkpoint"])
        return (
            "is-unknown",
            "?",
            "Not a part this checkpoint knows",
            f"Hardly a place of the image is like what {name} was trained on, so the score below says little about "
            "defects. Another part, camera or light does this: check the photo, or choose another checkpoint.",
        )
    count = len(summary["regions"])
    if summary["label"] == "anomalous":
        places = {0: "No single place stands out.", 1: "One place stands out."}.get(count, f"{count} places stand out.")
        if summary["anomalous_fraction"] > MOST_OF_THE_IMAGE:
            places = "Most of the picture stands out."
        return "is-anomalous", "!", "Anomalous", f"This part does not look like the good ones. {places}"
    if summary["label"] == "review":
        return (
            "is-review",
            "?",
            "Look at it",
            "The score lies close below the threshold: somebody should look at this part.",
        )
    doubt = " A place stands out, but not enough for a verdict." if count else ""
    return "is-normal", "&#10003;", "Normal", f"This part looks like the good ones.{doubt}"


def empty_html() -> str:
    """The verdict card before there is a verdict."""
    return """<section class="verdict is-empty" aria-live="polite"><p class="verdict-word">No verdict yet</p>
<p class="verdict-sentence">Give a photo of a part: the answer appears here within a second or two.</p></section>"""


def error_html(sentence: str) -> str:
    """The verdict card where an image could not be checked; `sentence` is HTML."""
    return f"""<section class="verdict is-error" role="alert"><p class="verdict-word">This did not work</p>
<p class="verdict-sentence">{sentence}</p></section>"""


def regions_html(summary: Mapping[str, Any]) -> str:
    """The regions above the threshold as a table."""
    regions = summary["regions"]
    if not regions:
        return '<p class="quiet">No place lies above the threshold, so there is nothing to list.</p>'
    rows = []
    for index, region in enumerate(regions[:LISTED], 1):
        left, top, width, height = region["box"]
        cells = (
            f"{left}, {top}",
            f"{width} &times; {height}",
            f"{region['area']:,}".replace(",", "&#8239;"),
            format_score(region["peak_score"], summary["threshold"]),
            f"{region['uncertainty']:.2f}",
        )
        rows.append(f'<tr><th scope="row">{index}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    more = len(regions) - LISTED
    rest = f'<p class="quiet">and {more} more with lower peaks, in the JSON below.</p>' if more > 0 else ""
    return f"""<table class="regions"><caption>Places above the threshold, highest first</caption>
<thead><tr><th scope="col">No.</th><th scope="col">left, top<small>px</small></th><th scope="col">size<small>px</small></th>
<th scope="col">area<small>px&sup2;</small></th><th scope="col">peak<small>0-1</small></th>
<th scope="col" title="Total uncertainty in nats: 0 is sure, 0.69 a coin toss">unsure<small>0-0.69</small></th>
</tr></thead><tbody>{"".join(rows)}</tbody></table>{rest}"""


def heatmap_html(threshold: float) -> str:
    """Caption and legend of the heatmap: clear up to the threshold, glowing above it."""
    values = np.linspace(0, 1, 41)
    colors, opacity = visualization.glow(values, threshold=threshold)
    stops = [f"rgb({r} {g} {b} / {a:.3f}) {v:.1%}" for (r, g, b), a, v in zip(colors, opacity, values, strict=True)]
    sentence = "Places that glow differ from good parts; a good part stays as it is. Drag the handle to compare."
    return caption_html("", sentence, legend_html(stops, [(0, "0"), (100 * threshold, f"{threshold:g}"), (100, "1")]))


def format_score(score: float, threshold: float = THRESHOLD) -> str:
    """A score with three decimals, or with as many as show on which side of the threshold it lies: 0.49996 -> "0.49996".

    Scores that would round to the ends of the scale, which no score reaches, read "below 0.001" and "above 0.999".
    """
    if score < 0.001:
        return "below 0.001"
    if score > 0.999:
        return "above 0.999"
    digits = 3
    while digits < 9 and score != threshold and float(f"{score:.{digits}f}") == threshold:
        digits += 1
    return f"{score:.{digits}f}"


def caption_html(title: str, sentence: str, scale: str) -> str:
    """Heading, one plain sentence and legend of a picture; `scale` is HTML."""
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<div class="caption">{heading}<p>{escape(sentence)}</p><div class="legend">{scale}</div></div>'


def legend_html(stops: Sequence[str], ticks: Sequence[tuple[float, str]]) -> str:
    """A gradient bar over the ticks' (position in per cent, text), as HTML."""
    texts = "".join(f'<span class="{_side(at)}" style="left:{at:g}%">{escape(text)}</span>' for at, text in ticks)
    gradient = f"linear-gradient(to right, {', '.join(stops)})"
    return f'<div class="legend-bar"><i style="background-image:{gradient}"></i></div><div class="legend-ticks">{texts}</div>'


def _side(at: float) -> str:
    return {0.0: "at-start", 100.0: "at-end"}.get(at, "at-middle")


def _format_share(fraction: float) -> str:
    """A share of the pixels in words that never round something down to nothing."""
    if fraction == 0:
        return "No pixel lies"
    percent = 100 * fraction
    return f"{percent:.1f} % of the pixels lie" if percent >= 0.1 else "Less than 0.1 % of the pixels lie"


def _format_time(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
