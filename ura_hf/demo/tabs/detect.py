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
from ..shared import MODEL_QUEUE, QUIET, on_gpu, session_of, to_gr_error
from ..store import Detectors
from .detect_layout import ENDS, STRENGTH, Layout, lay_out

FAULT = "The image could not be checked because of a fault on the server. Try another image."
GPU_SECONDS = 5  # of a ZeroGPU Space for one image
DRAWING: dict[str, Any] = {"concurrency_id": "draw", "concurrency_limit": 2}  # pictures that are drawn at the same time
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
    def infer(image: str, checkpoint: str, session: str | None) -> Analysis:
        return analyse(store.get(checkpoint, session), image, checkpoint)

    layout = lay_out()
    tab = _Tab(Shelf(folder, store, infer), Path(layout.findings.heatmap.GRADIO_CACHE))
    _wire_photo(tab, layout, picker, opened)
    on_load(_samples, picker, layout.photo.samples, **QUIET)
    _wire_result(tab, layout)
    gr.Button(visible=False).click(
        tab.detect,
        inputs=[layout.photo.image, picker, layout.controls.threshold],
        outputs=gr.JSON(visible=False),
        api_name="detect",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
    )
    return tab.shelf


def _wire_photo(tab: _Tab, layout: Layout, picker: gr.Dropdown, opened: Dependency) -> None:
    """Predict a photo as soon as it comes, and again with another checkpoint; a photo that leaves takes its result with it."""
    image, samples = layout.photo.image, layout.photo.samples
    controls, findings, details = layout.controls, layout.findings, layout.details
    words = [layout.key, findings.verdict, findings.heatmap, findings.legend, controls.regions, details.maps]
    shown: list[Any] = [*words, details.numbers, findings.box, controls.box, details.box]
    predicted = layout.asked.click(
        tab.predict,
        inputs=[image, picker, controls.threshold, controls.strength],
        outputs=shown,
        api_visibility="private",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        show_progress_on=findings.verdict,
        trigger_mode="always_last",  # else a photo that comes during a prediction would get none
    )
    leaving = [image.input, image.clear, samples.click, picker.change]
    gr.on(leaving, None, cancels=predicted, **QUIET)  # before what follows: no verdict comes to a photo that has left
    for trigger in (
        image.input,
        samples.click(lambda row: row[0], samples, image, **QUIET).then,
        opened.success(_samples, picker, samples, **QUIET).then,
    ):
        trigger(lambda: _cleared(), outputs=shown, **QUIET).then(None, image, js=ASK)
    for trigger in (image.clear, picker.change):
        trigger(lambda: _cleared(), outputs=shown, **QUIET)


def _wire_result(tab: _Tab, layout: Layout) -> None:
    """Draw again what depends on the sliders, and write what is asked for."""
    controls, findings, details = layout.controls, layout.findings, layout.details
    settings = [layout.key, controls.threshold, controls.strength]
    for slider in (controls.threshold, controls.strength):
        slider.input(
            tab.redraw,
            inputs=settings,
            outputs=[findings.verdict, findings.heatmap, findings.legend, controls.regions, details.numbers],
            js=CLAMP,
            api_visibility="private",
            trigger_mode="always_last",
            show_progress="hidden",
            **DRAWING,
        )
    for kind, button in details.downloads.items():
        button.click(
            partial(tab.save, kind),
            inputs=settings,
            outputs=layout.file,
            api_visibility="private",
            show_progress_on=button,
            **DRAWING,
        ).success(None, js=DOWNLOAD)


class _Tab:
    """What the events of the tab do; pictures are written into `cache`."""

    def __init__(self, shelf: Shelf, cache: Path) -> None:
        self.shelf, self.cache = shelf, cache

    def predict(
        self, image: str | None, checkpoint: str, threshold: float, strength: float, request: gr.Request
    ) -> tuple[Any, ...]:
        if image is None:
            return _cleared()
        try:
            with to_gr_error(FAULT):
                key, analysis = self.shelf.predict(image, checkpoint, session_of(request))
                drawn, maps = _drawn(analysis, threshold, strength, self.cache), render.maps_html(analysis)
        except gr.Error as error:
            return _cleared(render.error_html(error.message))
        visible = gr.Column(visible=True)
        return (key, *drawn[:-1], maps, drawn[-1], visible, visible, visible)

    @to_gr_error()
    def redraw(self, key: str | None, threshold: float, strength: float) -> tuple[Any, ...]:
        return _drawn(self.shelf.get(key), threshold, strength, self.cache) if key else (gr.skip(),) * 5

    @to_gr_error()
    def save(self, kind: str, key: str | None, threshold: float, strength: float) -> str:
        path = downloads.write(kind, self.shelf.get(key), threshold, strength, self.shelf.folder)
        self.shelf.files.add(path)
        return path

    @to_gr_error(FAULT)
    def detect(self, image: str | None, checkpoint: str, threshold: float, request: gr.Request) -> dict[str, Any]:
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
        return self.shelf.predict(image, checkpoint, session_of(request))[1].summary(threshold)


def _cleared(card: str | None = None) -> tuple[Any, ...]:
    """The tab without a result; `card` stands in the place of the verdict."""
    hidden = gr.Column(visible=False)
    return (None, card or render.empty_html(), None, gr.skip(), "", "", None, hidden, hidden, hidden)


def _drawn(analysis: Analysis, threshold: float, strength: float, cache: Path) -> tuple[Any, ...]:
    """What depends on the sliders: verdict, heatmap, its legend, the regions, the numbers; pictures are files in `cache`."""
    summary = analysis.summary(threshold)
    pictures = [_store(picture, cache) for picture in (analysis.picture, render.overlay(analysis, threshold, strength))]
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
