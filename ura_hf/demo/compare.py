"""The tab Compare: a labelled test set and one or two checkpoints in; metrics, curves and scores out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from ura_hf.comparison import compare, draw_test_set, unpack_test_set
from ura_hf.data.demo_parts import KINDS
from ura_hf.demo.jobs import Job, note_html, one_at_a_time, progress_html, waiting_html
from ura_hf.demo.shared import QUIET, on_gpu, to_gr_error
from ura_hf.demo.store import Detectors
from ura_hf.errors import UserError
from ura_hf.progress import Progress

UPLOAD = "Your own, as a zip"
METRICS = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1max": "Image F1-max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1max": "Pixel F1-max",
    "aupro": "AUPRO",
}
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
BINS = 20  # of the histogram of scores, over the fixed 0-1 scale
EMPTY = (
    "Nothing measured yet",
    "Choose drawn test images or upload your own with masks; a second checkpoint is measured beside the first.",
)
LAYOUT = (
    "A zip in the MVTec AD layout: <code>test/good/</code>, <code>test/DEFECT/</code>, and masks as "
    "<code>ground_truth/DEFECT/NAME_mask.png</code>."
)


def build(store: Detectors, picker: gr.Dropdown) -> None:
    """Test set, second checkpoint, table of metrics, curves and histograms, wired to the endpoint `evaluate`."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            drawn = [(f"Drawn: {kind}", kind) for kind in KINDS]
            source = gr.Radio(
                [*drawn, (UPLOAD, UPLOAD)], value=drawn[0][1], label="Test images", elem_id="compare-source"
            )
            archive = gr.File(label="Test images with masks", height=140, visible=False, elem_id="compare-file")
            layout = gr.HTML(f'<p class="hint">{LAYOUT}</p>', visible=False, padding=False)
        with gr.Column(min_width=320):
            second = gr.Dropdown(
                store.names(),
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
        gr.HTML(
            '<div class="caption"><h3>Scores of the images</h3><p>The threshold of each checkpoint is 0.5: good images belong '
            "to its left, anomalous ones to its right.</p></div>",
            padding=False,
        )
        with gr.Row():
            histograms = [_histogram_plot(f"compare-scores-{place}") for place in (1, 2)]
    outputs = [report, table, *plots, *histograms, status]

    @on_gpu(GPU_SECONDS)
    def measure(source: str, archive: str | None, first: str, second: str | None) -> Iterator[tuple[Any, ...]]:
        """Measure one or two checkpoints on a test set: a drawn kind (`ring`, ...), or a zip in the MVTec AD layout.

        Returns all figures and curves as JSON by checkpoint, the table of metrics as HTML, three curves, two histograms and
        a summary as HTML.
        """
        with to_gr_error():
            if source not in KINDS and archive is None:
                raise UserError("There are no test images yet: upload a zip of them, or choose drawn ones.")
            names = list(dict.fromkeys(name for name in (first, second) if name))

            def work(progress: Progress, folder: Path) -> dict[str, Any]:
                detectors = {name: store.get(name) for name in names}
                progress("drawing" if source in KINDS else "unpacking", 0, 1)
                data = draw_test_set(source, folder) if source in KINDS else unpack_test_set(Path(str(archive)), folder)
                return compare(detectors, data, progress)

            with Job(work) as job:
                for state in job.follow():
                    stage = {"drawing": "Drawing test images", "unpacking": "Unpacking", "": "Loading the checkpoint"}
                    words = stage.get(state.stage, state.stage.replace("evaluation of", "Measuring"))
                    yield (*[gr.skip()] * (len(outputs) - 1), progress_html(words, state))
                found = job.result()
            shown = [_curve(found, name) for name in CURVES]
            bars = [_histogram(found, name) for name in names]
            bars += [gr.BarPlot(visible=False)] * (2 - len(bars))
            yield found, _table_html(found), *shown, *bars, _summary_html(found)

    def begin() -> tuple[Any, ...]:
        return gr.Button(visible=False), gr.Button(visible=True), gr.Column(visible=False), waiting_html()

    def end() -> tuple[Any, ...]:
        return gr.Button(visible=True), gr.Button(visible=False)

    def choose(source: str) -> tuple[Any, ...]:
        return gr.File(visible=source == UPLOAD), gr.HTML(visible=source == UPLOAD)

    source.change(choose, source, [archive, layout], **QUIET)
    picker.change(lambda: gr.Dropdown(choices=store.names()), outputs=second, **QUIET)
    buttons = [start, cancel]
    running = start.click(begin, outputs=[*buttons, results, status], **QUIET).then(
        measure,
        inputs=[source, archive, picker, second],
        outputs=outputs,
        api_name="evaluate",
        **one_at_a_time("evaluate"),
    )
    running.success(lambda: gr.Column(visible=True), outputs=results, **QUIET)
    running.failure(lambda: note_html(*EMPTY), outputs=status, **QUIET)
    running.then(end, outputs=buttons, **QUIET)
    cancel.click(
        lambda: (*end(), note_html("Cancelled", "Press Measure to start again.")),
        outputs=[*buttons, status],
        cancels=running,
        **QUIET,
    )


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
        height=300,
        min_width=320,
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
        x_lim=[0, 1],
        color_map={"good": "#0d9488", "anomalous": "#b42318"},
        height=260,
        min_width=320,
        label="Scores",
        elem_id=elem_id,
    )


def _curve(found: Mapping[str, Any], name: str) -> pd.DataFrame:
    rows = [
        (x, y, checkpoint)
        for checkpoint, result in found.items()
        if (curve := result["curves"][name]) is not None
        for x, y in zip(curve["x"], curve["y"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["x", "y", "checkpoint"])


def _histogram(found: Mapping[str, Any], checkpoint: str) -> gr.BarPlot:
    """Images per score on the fixed 0-1 scale, good and anomalous ones."""
    result = found[checkpoint]
    threshold = result["at_threshold"]["threshold"]
    counts: dict[tuple[float, str], int] = {}
    for kind, scores in result["curves"]["scores"].items():
        for raw in scores:
            place = (int(raw / (raw + threshold) * BINS) + 0.5) / BINS
            key = (place, "good" if kind == "good" else "anomalous")
            counts[key] = counts.get(key, 0) + 1
    frame = pd.DataFrame([(*key, count) for key, count in counts.items()], columns=["score", "kind", "images"])
    return gr.BarPlot(value=frame, label=checkpoint, visible=True)


def _table_html(found: Mapping[str, Any]) -> str:
    """Metrics by checkpoint, the better of two in bold; then image AUROC of every defect type."""
    names = list(found)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = [_row(label, [found[name][key] for name in names]) for key, label in METRICS.items()]
    rows += [
        _row(
            "False alarms at the threshold", [found[name]["at_threshold"]["false_alarm_rate"] for name in names], True
        ),
        _row("Misses at the threshold", [found[name]["at_threshold"]["miss_rate"] for name in names], True),
    ]
    types = [
        _row(kind.replace("_", " "), [found[name]["per_type"][kind]["image_auroc"] for name in names])
        for kind in found[names[0]]["per_type"]
    ]
    heading = f'<tr class="group"><th colspan="{len(names) + 1}">Image AUROC by defect type</th></tr>'
    return (
        f'<div class="metrics"><table><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}{heading}'
        f"{''.join(types)}</tbody></table></div>"
    )


def _row(label: str, values: list[float | None], rate: bool = False) -> str:
    known = [value for value in values if value is not None]
    best = (min if rate else max)(known) if len(known) > 1 and min(known) < max(known) else None
    cells = []
    for value in values:
        text = "-" if value is None else f"{100 * value:.1f} %" if rate else f"{value:.3f}"
        cells.append(f"<td>{f'<b>{text}</b>' if value is not None and value == best else text}</td>")
    return f'<tr><th scope="row">{escape(label)}</th>{"".join(cells)}</tr>'


def _summary_html(found: Mapping[str, Any]) -> str:
    first = next(iter(found.values()))
    words = f"Measured on {first['n_images']} images"
    return note_html(
        words, f"{first['n_normal']} good and {first['n_anomalous']} anomalous ones of {first['dataset']}.", "good"
    )
