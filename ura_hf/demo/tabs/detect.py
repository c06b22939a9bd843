"""The tab Detect: one image in; verdict, heatmap and the pictures behind it out. What it shows is made in `render`."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency
from gradio.processing_utils import hash_bytes

from ...evaluation.visualization import Pixels
from ...model.configuration_uranet import NUMBERS
from ...model.errors import UserError
from ...model.verdicts import THRESHOLD
from .. import downloads, render
from ..analysis import Analysis, Shelf, View, analyse
from ..examples import example_images, opens_with, opens_with_verdict
from ..maps import maps_html
from ..shared import MODEL_QUEUE, QUIET, on_gpu, session_of, to_gr_error
from ..store import Detectors
from .detect_layout import ENDS, STRENGTH, Layout, lay_out, restored_html

FAULT = "The image could not be checked because of a fault on the server. Try another image."
GPU_SECONDS = 5  # of a ZeroGPU Space for one image
MOST_REVIEW = NUMBERS["max_review"][1]  # share of good parts
DRAWING: dict[str, Any] = {"concurrency_id": "draw", "concurrency_limit": 2}  # pictures that are drawn at the same time
CLAMP = f"""(key, at, strength, review) => [
  key, Math.min(Math.max(at ?? {THRESHOLD}, {ENDS[0]}), {ENDS[1]}), Math.min(Math.max(strength ?? {STRENGTH}, 0), 1), review]"""
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

    photo = opens_with(name := str(picker.value))
    layout = lay_out(photo, opens_with_verdict(store.folder(name)) if photo else None)
    tab = _Tab(Shelf(folder, store, infer), Path(layout.findings.heatmap.GRADIO_CACHE))
    _wire_photo(tab, layout, picker, opened, _wire_result(tab, layout))
    on_load(_samples, picker, layout.photo.samples, **QUIET)
    on_load(None, layout.photo.image, js=ASK)
    rates = [gr.Number(value=None, visible=False) for _ in range(2)]
    gr.Button(visible=False).click(
        tab.detect,
        inputs=[layout.photo.image, picker, layout.controls.threshold, *rates],
        outputs=gr.JSON(visible=False),
        api_name="detect",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
    )
    return tab.shelf


def _wire_photo(
    tab: _Tab, layout: Layout, picker: gr.Dropdown, opened: Dependency, drawing: Sequence[Dependency]
) -> None:
    """Predict a photo as soon as it comes, and again with another checkpoint; a photo that leaves takes its result with it."""
    image, samples = layout.photo.image, layout.photo.samples
    controls, findings, details = layout.controls, layout.findings, layout.details
    words = [layout.key, findings.verdict, findings.heatmap, findings.legend, controls.regions, details.maps]
    shares = [controls.false_alarms, controls.review]
    shown: list[Any] = [*words, details.numbers, *shares, findings.box, controls.box, details.box]
    shown += [details.caption, details.restored]
    predicted = layout.asked.click(
        tab.predict,
        inputs=[image, picker, controls.threshold, controls.strength, controls.review],
        outputs=shown,
        api_visibility="private",
        concurrency_id=MODEL_QUEUE,
        concurrency_limit=1,
        show_progress_on=findings.verdict,
        trigger_mode="always_last",  # else a photo that comes during a prediction would get none
    )
    leaving = [image.input, image.clear, samples.select, picker.change]
    gr.on(leaving, None, cancels=[predicted, *drawing], **QUIET)  # first: no verdict comes to a photo that has left
    for trigger in (
        image.input,
        samples.select(_chosen, picker, [image, samples], **QUIET).then,
        opened.success(_samples, picker, samples, **QUIET).then,
    ):
        trigger(lambda: _cleared(), outputs=shown, **QUIET).then(None, image, js=ASK)
    for trigger in (image.clear, picker.change):
        trigger(lambda: _cleared(), outputs=shown, **QUIET)


def _wire_result(tab: _Tab, layout: Layout) -> list[Dependency]:
    """Draw again what depends on the sliders and shares, and write what is asked for; returns the events that draw."""
    controls, findings, details = layout.controls, layout.findings, layout.details
    settings = [layout.key, controls.threshold, controls.strength, controls.review]
    drawn = [findings.verdict, findings.heatmap, findings.legend, controls.regions, details.numbers]
    at_once: dict[str, Any] = {
        "api_visibility": "private",
        "trigger_mode": "always_last",
        "show_progress": "hidden",
        **DRAWING,
    }
    drawing: list[Dependency] = []
    for control in (controls.threshold, controls.strength, controls.review):
        drawing.append(
            control.input(tab.redraw, inputs=settings, outputs=[*drawn, controls.false_alarms], js=CLAMP, **at_once)
        )
    shares = [layout.key, controls.false_alarms, controls.strength, controls.review]
    by_share = [*drawn, controls.threshold]
    drawing.append(controls.false_alarms.input(tab.redraw_for_share, inputs=shares, outputs=by_share, **at_once))
    controls.false_alarms.blur(tab.share, settings[:2], controls.false_alarms, **QUIET)
    for kind, button in details.downloads.items():
        button.click(
            partial(tab.save, kind),
            inputs=settings,
            outputs=layout.file,
            api_visibility="private",
            show_progress_on=button,
            **DRAWING,
        ).success(None, js=DOWNLOAD)
    return drawing


class _Tab:
    """What the events of the tab do; pictures are written into `cache`."""

    def __init__(self, shelf: Shelf, cache: Path) -> None:
        self.shelf, self.cache = shelf, cache

    def predict(
        self,
        image: str | None,
        checkpoint: str,
        threshold: float,
        strength: float,
        review: float | None,
        request: gr.Request,
    ) -> tuple[Any, ...]:
        if image is None:
            return _cleared()
        view = _view(threshold, strength, review)
        try:
            with to_gr_error(FAULT):
                key, analysis = self.shelf.predict(image, checkpoint, session_of(request))
                drawn, maps = _drawn(analysis, view, self.cache), maps_html(analysis, view.threshold)
                restored = restored_html(analysis.about["decoded"]), self._restored(analysis)
        except gr.Error as error:
            return _cleared(render.error_html(error.message))
        visible = gr.Column(visible=True)
        return (key, *drawn[:-1], maps, drawn[-1], *_shares(analysis, view), visible, visible, visible, *restored)

    def _restored(self, analysis: Analysis) -> gr.ImageSlider:
        """Photo and restored photo; hidden where the checkpoint makes none."""
        if not analysis.about["decoded"]:
            return gr.ImageSlider(None, visible=False)
        restored = analysis.drawn(analysis.restored)
        return gr.ImageSlider((_store(analysis.picture, self.cache), _store(restored, self.cache)), visible=True)

    @to_gr_error()
    def redraw(self, key: str | None, threshold: float, strength: float, review: float | None) -> tuple[Any, ...]:
        if not key:
            return (gr.skip(),) * 6
        analysis = self.shelf.get(key)
        return *_drawn(analysis, _view(threshold, strength, review), self.cache), _percent(
            analysis.share_above(threshold)
        )

    @to_gr_error()
    def redraw_for_share(
        self, key: str | None, share: float | None, strength: float, review: float | None
    ) -> tuple[Any, ...]:
        """The same for the share of good parts that may be called anomalous [%], which moves the threshold."""
        if not key:
            return (gr.skip(),) * 6
        analysis = self.shelf.get(key)
        threshold = THRESHOLD if share is None else round(analysis.threshold_of(share / 100), 3)
        threshold = min(max(threshold, ENDS[0]), ENDS[1])
        return *_drawn(analysis, _view(threshold, strength, review), self.cache), threshold

    @to_gr_error()
    def share(self, key: str | None, threshold: float) -> Any:
        """The share that belongs to a threshold, in place of one that was typed beyond what the checkpoint tells of."""
        return _percent(self.shelf.get(key).share_above(threshold)) if key else gr.skip()

    @to_gr_error()
    def save(self, kind: str, key: str | None, threshold: float, strength: float, review: float | None) -> str:
        path = downloads.write(kind, self.shelf.get(key), _view(threshold, strength, review), self.shelf.folder)
        self.shelf.files.add(path)
        return path

    @to_gr_error(FAULT)
    def detect(
        self,
        image: str | None,
        checkpoint: str,
        threshold: float,
        request: gr.Request,
        max_false_alarms: float | None = None,
        max_review: float | None = None,
    ) -> dict[str, Any]:
        """Check one image against the good parts that a checkpoint was trained on.

        Args:
            image: a photo of a part, of any format and size.
            checkpoint: a name as `checkpoints` lists them, or one on the Hugging Face Hub.
            threshold: of the score, from 0.05 to 0.95; 0.5 was calibrated on good images.
            max_false_alarms: share of good parts, 0 to 1, that may be called anomalous, in place of the threshold.
            max_review: share of good parts beside these that may be called review.

        Returns:
            label (normal, review, anomalous or unknown), score, rank, regions with box, area, peak score and uncertainty, and
            more, as JSON.
        """
        if image is None:
            raise UserError("There is no image: give the file of one.")
        analysis = self.shelf.predict(image, checkpoint, session_of(request))[1]
        if max_false_alarms is not None:
            threshold = analysis.limits(max_false_alarms=max_false_alarms)[0]
        return analysis.summary(threshold, max_review)


def _cleared(card: str | None = None) -> tuple[Any, ...]:
    """The tab without a result; `card` stands in the place of the verdict."""
    hidden = gr.Column(visible=False)
    kept = (gr.skip(), gr.skip())  # the shares
    return (None, card or render.empty_html(), None, gr.skip(), "", "", None, *kept, hidden, hidden, hidden, "", None)


def _view(threshold: float, strength: float, review: float | None) -> View:
    """What the controls say; the share to review [%] within what can be."""
    return View(threshold, strength, None if review is None else min(max(review / 100, 0.0), MOST_REVIEW))


def _percent(share: float | None) -> float | None:
    return None if share is None else float(f"{100 * share:.3g}")


def _shares(analysis: Analysis, view: View) -> tuple[gr.Number, gr.Number]:
    """The shares of a result [%], and what the checkpoint tells of; hidden where it tells nothing."""
    if (rates := analysis.rates) is None:
        return gr.Number(visible=False), gr.Number(visible=False)
    most, least = (_percent(rate) for rate in rates)
    review = analysis.about["rates"]["max_review"] if view.max_review is None else view.max_review
    info = f"Moves the threshold. The good photos tell of {least:g} to {most:g} %."
    share = _percent(analysis.share_above(view.threshold))
    return gr.Number(share, info=info, visible=True), gr.Number(_percent(review), visible=True)


def _drawn(analysis: Analysis, view: View, cache: Path) -> tuple[Any, ...]:
    """What depends on the controls: verdict, heatmap, its legend, the regions, the numbers; pictures are files in `cache`."""
    summary = analysis.summary(view.threshold, view.max_review)
    overlay = render.overlay(analysis, view.threshold, view.strength)
    return (
        render.verdict_html(summary),
        [_store(picture, cache) for picture in (analysis.picture, overlay)],
        render.heatmap_html(view.threshold),
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


def _samples(checkpoint: str) -> gr.Gallery:
    """Small pictures of the examples of a checkpoint; hidden where there are none."""
    paths = example_images(checkpoint)
    return gr.Gallery([(str(path), path.stem.replace("_", " ")) for path in paths], visible=bool(paths))


def _chosen(checkpoint: str, event: gr.SelectData) -> tuple[str, gr.Gallery]:
    """The example that was clicked; none stays chosen, so that a second click counts as well."""
    return str(example_images(checkpoint)[event.index]), gr.Gallery(selected_index=None)
