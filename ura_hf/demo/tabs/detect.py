"""The tab Detect: one image in; verdict, heatmap and the pictures behind it out. What it shows is made in `render`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency
from gradio.processing_utils import hash_bytes

from ...evaluation.visualization import Pixels
from ...model.errors import UserError
from ...model.image_processing_uranet import THRESHOLD
from .. import downloads, render
from ..analysis import Analysis, Shelf, analyse
from ..examples import example_images
from ..shared import MODEL_QUEUE, QUIET, accept_any_file, on_gpu, to_gr_error
from ..store import Detectors

FAULT = "The image could not be checked because of a fault on the server. Try another image."
STRENGTH = 0.85
GPU_SECONDS = 5  # of a ZeroGPU Space for one image
RENDERERS = 2  # pictures that are drawn at the same time
ENDS = 0.05, 0.95  # of the threshold's slider
CLAMP = f"""(key, at, strength) => [
  key, Math.min(Math.max(at ?? {THRESHOLD}, {ENDS[0]}), {ENDS[1]}), Math.min(Math.max(strength ?? {STRENGTH}, 0), 1)]"""
"""What is typed beyond an end of a slider counts as the end, to which it goes when it is left; nothing, as the default."""
DOWNLOAD = "() => setTimeout(() => document.querySelector('#file')?.click(), 100)"
ASK = "image => { if (image) document.querySelector('#ask')?.click() }"


def build(store: Detectors, picker: gr.Dropdown, opened: Dependency, on_load: Callable[..., Any]) -> Shelf:
    """Lay out the tab and wire it; `opened` is the event after which `picker` names a loaded checkpoint, `on_load` the page's.

    Returns the shelf with the results.
    """
    folder = Path(tempfile.mkdtemp(prefix="uranet-results-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    @on_gpu(GPU_SECONDS)
    def infer(image: str, checkpoint: str) -> Analysis:
        return analyse(store.get(checkpoint), image, checkpoint)

    shelf = Shelf(folder, store, infer)
    key = gr.State()
    with gr.Row(equal_height=False, elem_id="detect"):
        with gr.Column(min_width=320, scale=5):
            image = accept_any_file(
                gr.Image(
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
            )
            samples = gr.Dataset(
                components=[gr.Image(type="filepath", render=False)],
                samples=[],
                visible=False,
                label="No photo at hand? Try one of these drawn parts.",
                elem_id="examples",
            )
            with gr.Column(visible=False, elem_id="controls") as controls:
                threshold = gr.Slider(
                    *ENDS,
                    THRESHOLD,
                    step=0.01,
                    label="Threshold",
                    info="Of the score and of the map. 0.5 was calibrated on good images.",
                    elem_id="threshold",
                )
                strength = gr.Slider(
                    0,
                    1,
                    STRENGTH,
                    step=0.05,
                    label="Overlay strength",
                    info="0 shows the plain image.",
                    elem_id="strength",
                )
                regions = gr.HTML(elem_id="regions")
        with gr.Column(min_width=320, scale=6):
            verdict = gr.HTML(render.empty_html(), elem_id="verdict")
            with gr.Column(visible=False, elem_id="findings") as findings:
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
                legend = gr.HTML(render.heatmap_html(THRESHOLD), elem_id="legend")
    with gr.Column(visible=False, elem_id="details") as details:
        maps = gr.HTML(elem_id="maps")
        gr.HTML(
            "<h2>Downloads</h2><p class='quiet'>Maps come at the size of your image. What you upload is deleted "
            "from this server after about an hour.</p>"
        )
        with gr.Row():
            buttons = {kind: gr.Button(kind, size="md", min_width=140) for kind in downloads.FILES}
        with gr.Accordion("Numbers", open=False):
            numbers = gr.JSON(show_label=False, elem_id="summary")
    file = gr.DownloadButton(elem_id="file")  # both clicked by scripts, hidden by the style sheet
    asked = gr.Button(elem_id="ask")

    draw = partial(_drawn, cache=Path(heatmap.GRADIO_CACHE))
    shown: list[Any] = [key, verdict, heatmap, legend, regions, maps, numbers, findings, controls, details]

    def clear(card: str | None = None) -> tuple[Any, ...]:
        hidden = gr.Column(visible=False)
        return (None, card or render.empty_html(), None, gr.skip(), "", "", None, hidden, hidden, hidden)

    def check(image: str | None, checkpoint: str, threshold: float, strength: float) -> tuple[Any, ...]:
        if image is None:
            return clear()
        try:
            with to_gr_error(FAULT):
                key, found = shelf.check(image, checkpoint)
                drawn, maps = draw(found, threshold, strength), render.maps_html(found)
        except gr.Error as error:
            return clear(render.error_html(error.message))
        visible = gr.Column(visible=True)
        return (key, *drawn[:-1], maps, drawn[-1], visible, visible, visible)

    @to_gr_error()
    def redraw(key: str | None, threshold: float, strength: float) -> tuple[Any, ...]:
        return draw(shelf.get(key), threshold, strength) if key else (gr.skip(),) * 5

    @to_gr_error()
    def save(kind: str, key: str | None, threshold: float, strength: float) -> str:
        path = downloads.write(kind, shelf.get(key), threshold, strength, folder)
        shelf.files.add(path)
        return path

    @to_gr_error(FAULT)
    def detect(image: str | None, checkpoint: str, threshold: float) -> dict[str, Any]:
        """Check one image against the good parts that a checkpoint was trained on.

        Args:
            image: a photo of a part, of any format and size.
            checkpoint: a name as `checkpoints` lists them, or one on the Hugging Face Hub.
            threshold: of the score, from 0.05 to 0.95; 0.5 was calibrated on good images.

        Returns:
            label (normal or anomalous), score, regions with box, area, peak score and uncertainty, and more, as JSON.
        """
        if image is None:
            raise UserError("There is no image: give the file of one.")
        return shelf.check(image, checkpoint)[1].summary(threshold)

    checked = asked.click(
        check,
        inputs=[image, picker, threshold, strength],
        outputs=shown,
        api_visibility="private",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        show_progress_on=verdict,
        trigger_mode="always_last",  # else a photo that comes while another one is checked would not be
    )
    leaving = [image.input, image.clear, samples.click, picker.change]
    gr.on(leaving, None, cancels=checked, **QUIET)  # before what follows: no verdict comes to a photo that has left
    for trigger in (
        image.input,
        samples.click(lambda row: row[0], samples, image, **QUIET).then,
        opened.success(_samples, picker, samples, **QUIET).then,
    ):
        trigger(lambda: clear(), outputs=shown, **QUIET).then(None, image, js=ASK)
    for trigger in (image.clear, picker.change):
        trigger(lambda: clear(), outputs=shown, **QUIET)
    on_load(_samples, picker, samples, **QUIET)
    for slider in (threshold, strength):
        slider.input(
            redraw,
            inputs=[key, threshold, strength],
            outputs=[verdict, heatmap, legend, regions, numbers],
            js=CLAMP,
            api_visibility="private",
            concurrency_id="draw",
            concurrency_limit=RENDERERS,
            trigger_mode="always_last",
            show_progress="hidden",
        )
    for kind, button in buttons.items():
        button.click(
            partial(save, kind),
            inputs=[key, threshold, strength],
            outputs=file,
            api_visibility="private",
            concurrency_id="draw",
            concurrency_limit=RENDERERS,
            show_progress_on=button,
        ).success(None, js=DOWNLOAD)
    gr.Button(visible=False).click(
        detect,
        inputs=[image, picker, threshold],
        outputs=gr.JSON(visible=False),
        api_name="detect",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
    )
    return shelf


def _drawn(found: Analysis, threshold: float, strength: float, cache: Path) -> tuple[Any, ...]:
    """What depends on the sliders: verdict, heatmap, its legend, the regions, the numbers; pictures are files in `cache`."""
    summary = found.summary(threshold)
    pictures = [_store(picture, cache) for picture in (found.picture, render.overlay(found, threshold, strength))]
    return (
        render.verdict_html(summary),
        pictures,
        render.heatmap_html(threshold),
        render.regions_html(summary),
        summary,
    )


def _store(picture: Pixels, cache: Path) -> str:
    """Write a picture, unless it is there, where and under such a name as Gradio would, which then neither packs nor copies it.

    The name holds a secret of Gradio's, so nobody can ask for a picture by what is in it; Gradio removes it when it is old.
    """
    folder = cache / hash_bytes(picture.tobytes() + str(picture.shape).encode())
    path = folder / "image.png"
    try:
        os.utime(path)  # its age counts from here
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{threading.get_ident()}.tmp"
        unfinished.write_bytes(render.to_png(picture))
        os.replace(unfinished, path)
    return str(path)


def _samples(checkpoint: str) -> gr.Dataset:
    """The drawn parts of a checkpoint; hidden where there are none."""
    paths = example_images(checkpoint)
    return gr.Dataset(
        samples=[[str(path)] for path in paths],
        sample_labels=[path.stem.replace("_", " ") for path in paths],
        visible=bool(paths),
    )
