"""What the tab Detect consists of, in the order of the page."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from ...model.image_processing_uranet import THRESHOLD
from .. import downloads, render
from ..shared import accept_any_file

STRENGTH = 0.85
ENDS = 0.05, 0.95  # of the threshold's slider


@dataclass(frozen=True)
class Photo:
    """What is checked: a photo, or one of the drawn parts."""

    image: gr.Image
    samples: gr.Dataset


@dataclass(frozen=True)
class Controls:
    """The sliders, and the table of regions that depends on them."""

    box: gr.Column
    threshold: gr.Slider
    strength: gr.Slider
    regions: gr.HTML


@dataclass(frozen=True)
class Findings:
    """The verdict and the heatmap."""

    verdict: gr.HTML
    box: gr.Column
    heatmap: gr.ImageSlider
    legend: gr.HTML


@dataclass(frozen=True)
class Details:
    """The pictures behind the verdict, the downloads and the numbers."""

    box: gr.Column
    maps: gr.HTML
    downloads: dict[str, gr.Button]
    numbers: gr.JSON


@dataclass(frozen=True)
class Layout:
    """All of it; `file` and `asked` are clicked by scripts, and the style sheet hides them."""

    key: gr.State
    photo: Photo
    controls: Controls
    findings: Findings
    details: Details
    file: gr.DownloadButton
    asked: gr.Button


def lay_out() -> Layout:
    """The tab, not wired."""
    key = gr.State()
    with gr.Row(equal_height=False, elem_id="detect"):
        with gr.Column(min_width=320, scale=5):
            photo, controls = _photo(), _controls()
        with gr.Column(min_width=320, scale=6):
            findings = _findings()
    details = _details()
    return Layout(key, photo, controls, findings, details, gr.DownloadButton(elem_id="file"), gr.Button(elem_id="ask"))


def _photo() -> Photo:
    image = gr.Image(
        type="filepath",
        image_mode=None,
        sources=["upload", "webcam", "clipboard"],
        label="Photo of a part",
        placeholder="Drop a photo of a part here\n- or -\nClick to choose one",
        buttons=["fullscreen"],
        height=340,
        alt_text="The photo that is checked",
        elem_id="image",
    )
    samples = gr.Dataset(
        components=[gr.Image(type="filepath", render=False)],
        samples=[],
        visible=False,
        label="No photo at hand? Try one of these drawn parts.",
        elem_id="examples",
    )
    return Photo(accept_any_file(image), samples)


def _controls() -> Controls:
    with gr.Column(visible=False, elem_id="controls") as box:
        threshold = gr.Slider(
            *ENDS,
            THRESHOLD,
            step=0.01,
            label="Threshold",
            info="Of the score and of the map. 0.5 was calibrated on good images.",
            elem_id="threshold",
        )
        strength = gr.Slider(
            0, 1, STRENGTH, step=0.05, label="Overlay strength", info="0 shows the plain image.", elem_id="strength"
        )
        return Controls(box, threshold, strength, gr.HTML(elem_id="regions"))


def _findings() -> Findings:
    verdict = gr.HTML(render.empty_html(), elem_id="verdict")
    with gr.Column(visible=False, elem_id="findings") as box:
        heatmap = gr.ImageSlider(
            format="png",
            show_label=False,
            label="Image and heatmap",
            interactive=False,
            buttons=["download", "fullscreen"],
            slider_position=5,
            max_height=560,
            elem_id="heatmap",
        )
        return Findings(verdict, box, heatmap, gr.HTML(render.heatmap_html(THRESHOLD), elem_id="legend"))


def _details() -> Details:
    with gr.Column(visible=False, elem_id="details") as box:
        maps = gr.HTML(elem_id="maps")
        gr.HTML(
            "<h2>Downloads</h2><p class='quiet'>Maps come at the size of your image. What you upload is deleted "
            "from this server after about an hour.</p>"
        )
        with gr.Row():
            buttons = {kind: gr.Button(kind, size="md", min_width=140) for kind in downloads.FILES}
        with gr.Accordion("Numbers", open=False):
            numbers = gr.JSON(show_label=False, elem_id="summary")
    return Details(box, maps, buttons, numbers)
