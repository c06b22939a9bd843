"""What the tab Detect consists of, in the order of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ...model.verdicts import THRESHOLD
from .. import downloads, render
from ..shared import accept_any_file

STRENGTH = 0.85
ENDS = 0.05, 0.95  # of the threshold's slider


@dataclass(frozen=True)
class Photo:
    """What is checked: a photo, or one of the drawn parts."""

    image: gr.Image
    samples: gr.Gallery


@dataclass(frozen=True)
class Controls:
    """The sliders and the shares of good parts, in per cent, and the table of regions that depends on them."""

    box: gr.Column
    threshold: gr.Slider
    false_alarms: gr.Number
    review: gr.Number
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
    """The restored photo and its caption, the pictures behind the verdict, the downloads and the numbers."""

    box: gr.Column
    caption: gr.HTML
    restored: gr.ImageSlider
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


def lay_out(opens_with: str | None = None, known: dict[str, Any] | None = None) -> Layout:
    """The tab, not wired, with a photo in it and what is known of it until it is checked."""
    key = gr.State()
    with gr.Row(equal_height=False, elem_id="detect"):
        with gr.Column(min_width=320, scale=5):
            photo, controls = _photo(opens_with), _controls()
        with gr.Column(min_width=320, scale=6):
            findings = _findings(known)
    details = _details()
    return Layout(key, photo, controls, findings, details, gr.DownloadButton(elem_id="file"), gr.Button(elem_id="ask"))


def _photo(opens_with: str | None) -> Photo:
    image = gr.Image(
        opens_with,
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
    samples = gr.Gallery(
        visible=False,
        label="No photo at hand? Click one of these.",
        columns=4,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id="examples",
    )
    return Photo(accept_any_file(image), samples)


def _controls() -> Controls:
    with gr.Column(visible=False, elem_id="controls") as box:
        threshold = gr.Slider(
            *ENDS,
            THRESHOLD,
            step=0.001,
            label="Threshold",
            info="Of the score and of the map. 0.5 was calibrated on good images.",
            elem_id="threshold",
        )
        with gr.Row():
            false_alarms = _share("Good parts called anomalous, %", "Moves the threshold.", "false-alarms")
            review = _share("Good parts to look at, %", "Beside these, just below it.", "review")
        strength = gr.Slider(
            0, 1, STRENGTH, step=0.05, label="Overlay strength", info="0 shows the plain image.", elem_id="strength"
        )
        return Controls(box, threshold, false_alarms, review, strength, gr.HTML(elem_id="regions"))


def _share(label: str, info: str, elem_id: str) -> gr.Number:
    return gr.Number(label=label, info=info, min_width=150, elem_id=elem_id)


def _findings(known: dict[str, Any] | None) -> Findings:
    verdict = gr.HTML(render.verdict_html(known) if known else render.empty_html(), elem_id="verdict")
    with gr.Column(visible=False, elem_id="findings") as box:
        heatmap = _slider("Image and heatmap", 5, "heatmap")
        return Findings(verdict, box, heatmap, gr.HTML(render.heatmap_html(THRESHOLD), elem_id="legend"))


def _slider(label: str, position: int, name: str) -> gr.ImageSlider:
    """Two pictures of the photo's geometry, one over the other."""
    return gr.ImageSlider(
        format="png",
        show_label=False,
        label=label,
        interactive=False,
        buttons=["download", "fullscreen"],
        slider_position=position,
        max_height=560,
        elem_id=name,
    )


def restored_html(decoded: bool) -> str:
    """Heading and sentence of the restored photo, or why the checkpoint makes none."""
    sentence = (
        "Left the photo, right what the network makes of it: suspicious places are redrawn from normal ones. Drag the handle."
        if decoded
        else "This checkpoint was trained without a decoder of pictures, so there is no restored photo. Train it again for one."
    )
    return f'<h2>The part as it should look</h2><p class="quiet">{sentence}</p>'


def _details() -> Details:
    with gr.Column(visible=False, elem_id="details") as box:
        caption = gr.HTML(elem_id="restored-caption")
        restored = _slider("Photo and restored photo", 50, "restored-photo")
        maps = gr.HTML(elem_id="maps")
        gr.HTML(
            "<h2>Downloads</h2><p class='quiet'>Maps come at the size of your image. What you upload is deleted "
            "from this server after about an hour.</p>"
        )
        with gr.Row():
            buttons = {kind: gr.Button(kind, size="md", min_width=140) for kind in downloads.FILES}
        with gr.Accordion("Numbers", open=False):
            numbers = gr.JSON(show_label=False, elem_id="summary")
    return Details(box, caption, restored, maps, buttons, numbers)
