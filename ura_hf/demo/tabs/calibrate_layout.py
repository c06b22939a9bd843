"""What the tab Calibrate consists of, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ...model.verdicts import THRESHOLD
from ...training.recalibrate import FEWEST, Calibration
from ...training.report import FalseAlarms, percent, sentences
from ..histogram import histogram_html
from ..jobs import note_html, stays, swatch_html

ENDS = 0.01, 0.99  # of the threshold's slider
STEP = 0.001
EMPTY = (
    "Nothing measured yet",
    f"Drop {FEWEST} or more photos of good parts, better 20, that were not used for training; and defective ones if you have "
    "some. Nothing is trained again, and the checkpoint above stays as it is.",
)


@dataclass(frozen=True)
class Layout:
    """What the tab consists of."""

    good: gr.File
    bad: gr.File
    sample: gr.Button
    start: gr.Button
    cancel: gr.Button
    status: gr.HTML
    results: gr.Column
    histogram: gr.HTML
    threshold: gr.Slider
    words: gr.HTML
    name: gr.Textbox
    save: gr.Button
    saved: gr.HTML
    download: gr.DownloadButton


def lay_out(has_sample: bool) -> Layout:
    """The tab, not wired."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320, scale=2):
            with gr.Row(equal_height=True):
                good, bad = _files("Good photos, or a zip of them", "good"), _files("Defective photos, if any", "bad")
            sample = gr.Button("Use sample photos", size="sm", visible=has_sample, elem_id="calibrate-sample")
        with gr.Column(min_width=280, scale=1):
            start = gr.Button("Measure", variant="primary", elem_id="calibrate-start")
            cancel = gr.Button("Cancel", visible=False, elem_id="calibrate-cancel")
            status = gr.HTML(note_html(*EMPTY), elem_id="calibrate-status", padding=False)
    with gr.Column(visible=False, elem_id="calibrate-results") as results:
        histogram, threshold, words = _scores()
        with gr.Row(equal_height=True):
            name = gr.Textbox(
                label="Name of the new checkpoint", max_lines=1, max_length=60, scale=2, elem_id="calibrate-name"
            )
            save = gr.Button("Save with this threshold", variant="primary", scale=1, elem_id="calibrate-save")
        saved = gr.HTML(elem_id="calibrate-saved", padding=False)
        download = gr.DownloadButton(visible=False, elem_id="calibrate-download")
    shown = (histogram, threshold, words, name, save, saved, download)
    return Layout(good, bad, sample, start, cancel, status, results, *shown)


def _files(label: str, kind: str) -> gr.File:
    return gr.File(file_count="multiple", label=label, height=200, min_width=220, elem_id=f"calibrate-{kind}")


def _scores() -> tuple[gr.HTML, gr.Slider, gr.HTML]:
    good, bad = swatch_html("var(--good)", "good photos"), swatch_html("var(--bad)", "defective photos")
    gr.HTML(
        f'<div class="caption"><h3>Scores of the photos</h3><p>Draw the line so that few {good} lie to its right and few {bad} '
        "to its left. The scale is that of the checkpoint as it is, whose threshold is 0.5.</p></div>",
        padding=False,
    )
    histogram = gr.HTML(elem_id="calibrate-histogram", padding=False)
    threshold = gr.Slider(
        *ENDS,
        THRESHOLD,
        step=STEP,
        label="Threshold",
        info="It begins where the share of false alarms is that of the training. Once saved, it is the new 0.5.",
        elem_id="calibrate-threshold",
    )
    return histogram, threshold, gr.HTML(elem_id="calibrate-words", padding=False)


def slider_at(found: Calibration) -> float:
    """Where the slider begins: at the suggested threshold, as near as it goes."""
    return round(min(max(found.suggested, ENDS[0]), ENDS[1]), 3)


def shown_at(found: Calibration, threshold: float) -> tuple[str, str]:
    """What depends on the slider: the histogram and what the threshold makes of the photos, both HTML."""
    there = found.at(min(max(threshold, ENDS[0]), ENDS[1]))
    return histogram_html(*found.scaled(), there["threshold"], there["review"]), _words_html(found, there)


def _words_html(found: Calibration, there: Mapping[str, Any]) -> str:
    rate = there["false_alarms"]
    beyond = found.beyond(rate)
    share = beyond or f"{percent(rate)} of good parts"
    lines = [f"It calls {there['alarms']} of these {len(found.names)} good photos anomalous."]
    if not beyond:
        lines.append(
            f"Of all good parts it is {percent(there['low'])} to {percent(there['high'])} with 95 % confidence."
        )
    if bad := len(found.bad):
        missed = there["misses"]
        looked = f", {there['reviewed']} of which are to be looked at" if there["reviewed"] else ""
        lines.append(
            f"It misses {missed} of {bad} defective photos ({percent(missed / bad)}){looked}."
            if missed
            else f"All {bad} defective photos lie above it."
        )
    if there["review"] < there["threshold"]:
        lines.append(f"What lies between {there['review']:.2f} and the threshold is to be looked at.")
    return note_html(f"Above {there['threshold']:.3f}: {share}", " ".join(lines))


def measured_html(checkpoint: str, found: Calibration) -> str:
    """What the photos told, whatever the threshold will be."""
    report = found.report()
    lines = sentences(report, FalseAlarms(report["good"], report["asked"], report["low"], report["high"]))
    if found.unknown:
        lines.append(f"Left out, as they are not like the part at all: {', '.join(found.unknown)}.")
    words = f"Measured with {checkpoint} on {len(found.names)} good and {len(found.bad)} defective photos"
    return note_html(words, " ".join(lines), "bad" if found.unknown or report["outlying"] else "good")


def saved_html(name: str, seconds: float | None) -> str:
    """`seconds`: how long the checkpoint stays on the server, None for as long as the page runs."""
    return note_html(
        f"{name} is ready and chosen above", f"Its threshold is the new 0.5. Try it in Detect.{stays(seconds)}", "good"
    )
