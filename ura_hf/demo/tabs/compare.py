"""The tab Compare: a labelled test set and one or two checkpoints in; metrics, curves and scores out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from ...data.drawn.parts import KINDS
from ...data.progress import Progress
from ...data.records import METRICS
from ...evaluation.compare import compare, draw_test_set, unpack_test_set
from ...model.errors import UserError
from ...model.scoring import fixed_scale
from ..cancelling import finish
from ..jobs import Job, note_html, one_at_a_time, progress_html, swatch_html, waiting_html
from ..shared import QUIET, on_gpu, session_of, still_there, to_gr_error
from ..store import Detectors

UPLOAD = "Your own, as a zip"
CURVES = {
    "image_roc": ("ROC of images", "false-positive rate", "true-positive rate", 1.0),
    "pixel_roc": ("ROC of pixels", "false-positive rate", "true-positive rate", 1.0),
    "pro": (
        "PRO of regions, up to a false-positive rate of 0.3",
        "false-positive rate of pixels",
        "region overlap",
        0.3,
    ),
}
GPU_SECONDS = 60  # of a ZeroGPU Space for one measurement
BIN = 0.05  # of the histogram of scores, on the fixed 0-1 scale
COLORS = ("#0d9488", "#d97706")  # of the first and the second checkpoint
GOOD, ANOMALOUS = "#0d9488", "#b42318"  # images of the histogram
EMPTY = (
    "Nothing measured yet",
    "Choose drawn test images or upload your own with masks; a second checkpoint is measured beside the first.",
)
LAYOUT = (
    "A zip in the MVTec AD layout: <code>test/good/</code>, <code>test/DEFECT/</code>, and masks as "
    "<code>ground_truth/DEFECT/NAME_mask.png</code>."
)


@dataclass(frozen=True)
class Layout:
    """What the tab consists of; `report` is for those who call the endpoint."""

    source: gr.Radio
    archive: gr.File
    hint: gr.HTML
    second: gr.Dropdown
    start: gr.Button
    cancel: gr.Button
    status: gr.HTML
    report: gr.JSON
    results: gr.Column
    table: gr.HTML
    plots: list[gr.LinePlot]
    histograms: list[gr.BarPlot]


def build(store: Detectors, picker: gr.Dropdown) -> gr.Dropdown:
    """Test set, second checkpoint, table of metrics, curves and histograms, wired to the endpoint `evaluate`.

    Returns the picker of the second checkpoint.
    """
    tab = _lay_out(store.names())
    idle = gr.State(note_html(*EMPTY))

    @on_gpu(GPU_SECONDS)
    def measuring(source: str, archive: str | None, names: list[str], session: str) -> Iterator[tuple[Any, ...]]:
        with to_gr_error():
            yield from _measure(store, source, archive, names, session)

    def evaluate(
        source: str, archive: str | None, first: str, second: str | None, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Measure one or two checkpoints on a test set: a drawn kind (`ring`, ...), or a zip in the MVTec AD layout.

        Returns all figures and curves as JSON by checkpoint, the table of metrics as HTML, three curves, two histograms and
        a summary as HTML.
        """
        names = list(dict.fromkeys(name for name in (first, second) if name))
        yield from measuring(source, archive, names, session_of(request))

    def begin() -> tuple[Any, ...]:
        return gr.Button(visible=False), gr.Button(visible=True), gr.Column(visible=False), waiting_html()

    def choose(source: str) -> tuple[Any, ...]:
        return gr.File(visible=source == UPLOAD), gr.HTML(visible=source == UPLOAD)

    def offer(request: gr.Request) -> gr.Dropdown:
        return gr.Dropdown(choices=store.names(session_of(request)))

    tab.source.change(choose, tab.source, [tab.archive, tab.hint], **QUIET)
    picker.change(offer, outputs=tab.second, **QUIET)
    running = tab.start.click(begin, outputs=[tab.start, tab.cancel, tab.results, tab.status], **QUIET).then(
        evaluate,
        inputs=[tab.source, tab.archive, picker, tab.second],
        outputs=[tab.report, tab.table, *tab.plots, *tab.histograms, tab.status],
        api_name="evaluate",
        **one_at_a_time("evaluate"),
    )
    finish(tab.start, tab.cancel, running, tab.status, tab.results, idle, "Press Measure to start again.")
    return tab.second


def _lay_out(names: list[str]) -> Layout:
    """The tab, not wired; `names` are the checkpoints to choose from."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            drawn = [(f"Drawn: {kind}", kind) for kind in KINDS]
            source = gr.Radio(
                [*drawn, (UPLOAD, UPLOAD)], value=drawn[0][1], label="Test images", elem_id="compare-source"
            )
            archive = gr.File(label="Test images with masks", height=140, visible=False, elem_id="compare-file")
            hint = gr.HTML(f'<p class="hint">{LAYOUT}</p>', visible=False, padding=False)
        with gr.Column(min_width=320):
            second = gr.Dropdown(
                names,
                value=None,
                label="Second checkpoint, if you want one",
                info="Measured beside the one chosen above.",
                allow_custom_value=True,
                elem_id="compare-second",
            )
            start = gr.Button("Measure", variant="primary", elem_id="compare-start")
            cancel = gr.Button("Cancel", visible=False, elem_id="compare-cancel")
            status = gr.HTML(note_html(*EMPTY), elem_id="compare-status", padding=False)
    report = gr.JSON(visible=False)
    with gr.Column(visible=False, elem_id="compare-results") as results:
        table = gr.HTML(elem_id="compare-table", padding=False)
        with gr.Row():
            plots = [_curve_plot(name) for name in CURVES]
        good, anomalous = swatch_html(GOOD, "good images"), swatch_html(ANOMALOUS, "anomalous images")
        gr.HTML(
            f'<div class="caption"><h3>Scores of the images</h3><p>{good} belong to the left of 0.5, the threshold of each '
            f"checkpoint; {anomalous} to its right.</p></div>",
            padding=False,
        )
        with gr.Row():
            histograms = [_histogram_plot(f"compare-scores-{place}") for place in (1, 2)]
    return Layout(source, archive, hint, second, start, cancel, status, report, results, table, plots, histograms)


def _measure(
    store: Detectors, source: str, archive: str | None, names: list[str], session: str
) -> Iterator[tuple[Any, ...]]:
    """What the endpoint `evaluate` gives, again and again: first its progress."""
    if source not in KINDS and archive is None:
        raise UserError("There are no test images yet: upload a zip of them, or choose drawn ones.")
    if not names:
        raise UserError("There is no checkpoint to measure: choose one.")

    def work(progress: Progress, folder: Path) -> dict[str, Any]:
        detectors = {name: store.get(name, session) for name in names}
        progress("drawing" if source in KINDS else "unpacking", 0, 1)
        if source in KINDS:
            return compare(detectors, draw_test_set(source, folder), progress)
        (upload,) = still_there([str(archive)])
        return compare(detectors, unpack_test_set(upload, folder), progress)

    with Job(work) as job:
        for state in job.follow():
            stage = {"drawing": "Drawing test images", "unpacking": "Unpacking", "": "Loading the checkpoint"}
            words = stage.get(state.stage, state.stage.replace("evaluation of", "Measuring"))
            yield (*[gr.skip()] * (len(CURVES) + 4), progress_html(words, state))
        results = job.result()
    shown = [_curve(results, name) for name in CURVES]
    bars = [_histogram(results, name) for name in names]
    bars += [gr.BarPlot(visible=False)] * (2 - len(bars))
    yield results, _table_html(results), *shown, *bars, _summary_html(results)


def _curve_plot(name: str) -> gr.LinePlot:
    title, x_title, y_title, limit = CURVES[name]
    return gr.LinePlot(
        x="x",
        y="y",
        color="checkpoint",
        x_title=x_title,
        y_title=y_title,
        x_lim=[0, limit],
        y_lim=[0, 1],
        colors_in_legend=[],
        height=280,
        min_width=300,
        label=title,
        elem_id=f"compare-{name.replace('_', '-')}",
    )


def _histogram_plot(elem_id: str) -> gr.BarPlot:
    return gr.BarPlot(
        x="score",
        y="images",
        color="kind",
        x_title="score",
        y_title="images",
        x_bin=BIN,
        y_aggregate="sum",
        x_lim=[0, 1],
        color_map={"good": GOOD, "anomalous": ANOMALOUS},
        colors_in_legend=[],
        height=240,
        min_width=300,
        label="Scores",
        elem_id=elem_id,
    )


def _curve(results: Mapping[str, Any], name: str) -> gr.LinePlot:
    rows = [
        (x, y, checkpoint)
        for checkpoint, result in results.items()
        if (curve := result["curves"][name]) is not None
        for x, y in zip(curve["x"], curve["y"], strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["x", "y", "checkpoint"])
    return gr.LinePlot(value=frame, color_map=dict(zip(results, COLORS, strict=False)))


def _histogram(results: Mapping[str, Any], checkpoint: str) -> gr.BarPlot:
    """A row an image: its score on the fixed 0-1 scale, whether it is good, and 1 to be summed up."""
    result = results[checkpoint]
    threshold = result["at_threshold"]["threshold"]
    rows = [
        (fixed_scale(raw, threshold), "good" if kind == "good" else "anomalous", 1)
        for kind, scores in result["curves"]["scores"].items()
        for raw in scores
    ]
    frame = pd.DataFrame(rows, columns=["score", "kind", "images"])
    return gr.BarPlot(value=frame, label=checkpoint, visible=True)


def _table_html(results: Mapping[str, Any]) -> str:
    """Metrics by checkpoint, the better of two in bold; beside them image AUROC of every defect type."""
    names = list(results)
    swatches = [swatch_html(color, name) for color, name in zip(COLORS, names, strict=False)]
    rows = [
        _row(label[0].upper() + label[1:], [results[name][key] for name in names]) for key, label in METRICS.items()
    ]
    rows += [
        _row(
            "False alarms at the threshold", [results[name]["at_threshold"]["false_alarm_rate"] for name in names], True
        ),
        _row("Misses at the threshold", [results[name]["at_threshold"]["miss_rate"] for name in names], True),
    ]
    types = [
        _row(kind.replace("_", " "), [results[name]["per_type"][kind]["image_auroc"] for name in names])
        for kind in results[names[0]]["per_type"]
    ]
    return (
        f'<div class="metrics">{_table("Metric", swatches, rows)}{_table("Image AUROC by type", swatches, types)}</div>'
    )


def _table(title: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    columns = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return f'<table><thead><tr><th scope="col">{title}</th>{columns}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _row(label: str, values: list[float | None], rate: bool = False) -> str:
    known = [value for value in values if value is not None]
    best = (min if rate else max)(known) if len(known) > 1 and min(known) < max(known) else None
    cells = []
    for value in values:
        text = "-" if value is None else f"{100 * value:.1f} %" if rate else f"{value:.3f}"
        cells.append(f"<td>{f'<b>{text}</b>' if value is not None and value == best else text}</td>")
    return f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>'


def _summary_html(results: Mapping[str, Any]) -> str:
    first = next(iter(results.values()))
    words = f"Measured on {first['n_images']} images"
    return note_html(
        words, f"{first['n_normal']} good and {first['n_anomalous']} anomalous ones of {first['dataset']}.", "good"
    )
