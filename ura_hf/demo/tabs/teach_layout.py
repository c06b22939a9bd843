"""What the tab Teach consists of, in the order of the page."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ...training.teaching import MAX_PHOTOS, MIN_PHOTOS, OPTIONS
from ..jobs import note_html, swatch_html

SAMPLE = ("cloth", 30)  # drawn photos for visitors without any: kind, count
EMPTY = (
    "No photos yet",
    f"Drop {MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts, taken as those to be checked will be. "
    "30 are a good start.",
)
LOSSES = {"restoration": "#0d9488", "perception": "#d97706"}  # parts of the loss and their colours


@dataclass(frozen=True)
class Layout:
    """What the tab consists of; `report` is for those who call the endpoint, `asked` is clicked by a script."""

    files: gr.File
    sample: gr.Button
    name: gr.Textbox
    start: gr.Button
    cancel: gr.Button
    status: gr.HTML
    download: gr.DownloadButton
    flagged: gr.Column
    gallery: gr.Gallery
    leave_out: gr.CheckboxGroup
    curve_box: gr.Column
    curve: gr.LinePlot
    asked: gr.Button
    report: gr.JSON
    unusual_box: gr.Column
    unusual: gr.Gallery
    looked: gr.HTML
    """What the status says while nothing is taught; the browser keeps it."""


def lay_out() -> Layout:
    """The tab, not wired."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320, scale=2):
            files = gr.File(
                file_count="multiple",
                label=f"{MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts, or a zip of them",
                height=200,
                elem_id="teach-files",
            )
            sample = gr.Button(f"Use {SAMPLE[1]} drawn photos of {SAMPLE[0]}", size="sm", elem_id="teach-sample")
        with gr.Column(min_width=280, scale=1):
            name = gr.Textbox(
                value="my-part", label="Name of the new checkpoint", max_lines=1, max_length=60, elem_id="teach-name"
            )
            start = gr.Button("Teach", variant="primary", elem_id="teach-start")
            cancel = gr.Button("Cancel", visible=False, elem_id="teach-cancel")
            status = gr.HTML(note_html(*EMPTY), elem_id="teach-status", padding=False)
            download = gr.DownloadButton(visible=False, elem_id="teach-download")
    flagged, gallery, leave_out = _flagged()
    with gr.Column(visible=False, elem_id="teach-unusual") as unusual_box:
        words = "They are the most unusual good photos, and glow where they differ most from the others."
        gr.HTML(f'<div class="caption"><h3>Are these really good?</h3><p>{words}</p></div>', padding=False)
        unusual = _thumbnails("teach-unusual-pictures", columns=5)
    curve_box, curve = _losses()
    asked, report = gr.Button(elem_id="teach-ask"), gr.JSON(visible=False)
    looked = gr.HTML(note_html(*EMPTY), visible=False)
    photos = (files, sample, name, start, cancel, status, download, flagged, gallery, leave_out)
    return Layout(*photos, curve_box, curve, asked, report, unusual_box, unusual, looked)


def _flagged() -> tuple[gr.Column, gr.Gallery, gr.CheckboxGroup]:
    """Photos that are worth a look, and which of them are left out."""
    with gr.Column(visible=False, elem_id="teach-flagged") as flagged:
        gr.HTML(
            '<div class="caption"><h3>Look at these first</h3><p>Ticked photos are left out of training.</p></div>',
            padding=False,
        )
        gallery = _thumbnails("teach-pictures", columns=4)
        leave_out = _any_names(gr.CheckboxGroup(show_label=False, elem_id="teach-leave-out"))
    return flagged, gallery, leave_out


def _thumbnails(elem_id: str, columns: int) -> gr.Gallery:
    return gr.Gallery(
        show_label=False,
        columns=columns,
        fit_columns=False,
        height="auto",
        object_fit="contain",
        interactive=False,
        elem_id=elem_id,
        elem_classes="thumbnails",
    )


def _losses() -> tuple[gr.Column, gr.LinePlot]:
    with gr.Column(visible=False, elem_id="teach-curve") as box:
        restoration, perception = (swatch_html(color, part) for part, color in LOSSES.items())
        gr.HTML(
            '<div class="caption"><h3>Losses while it learns</h3><p>Both fall while it learns to rewrite artificial defects as '
            f"normal ({restoration}) and to tell where they are ({perception}).</p></div>",
            padding=False,
        )
        curve = gr.LinePlot(
            x="step",
            y="loss",
            color="part",
            x_title="step",
            y_title="loss",
            x_lim=[0, OPTIONS["steps"]],
            height=260,
            colors_in_legend=[],
            color_map=LOSSES,
            show_label=False,
            elem_id="teach-losses",
        )
    return box, curve


def _any_names(group: gr.CheckboxGroup) -> gr.CheckboxGroup:
    """Let the endpoint name any file: the choices on the page are those of its visitor's photos."""
    group.preprocess = lambda payload: [str(name) for name in payload or []]  # type: ignore
    return group
