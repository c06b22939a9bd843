"""Layout and wiring of the Gradio page. What it shows is made in `render`; how it looks is in `style`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ura_hf.demo import render
from ura_hf.demo.style import CSS, theme
from ura_hf.errors import UserError
from ura_hf.images import load_image
from ura_hf.pipeline import URANetPipeline

TITLE = "URA-Net: find what is wrong, and what normal would look like"
MAX_FILE_SIZE = "50mb"
MODEL_QUEUE = "model"  # events with this concurrency id take turns at the one model
CACHE_SECONDS = 3600  # uploads and pictures are deleted after this time

logger = logging.getLogger(__name__)


def build_demo(detector: URANetPipeline, examples: Sequence[Path] = ()) -> gr.Blocks:
    """The page for one detector, with images to try; start it with `build_demo(detector).launch(**launch_options())`."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)) as demo:
        gr.HTML(
            f"<header><h1>{TITLE}</h1><p>The model has only ever seen good parts. It marks what differs from them, "
            "and restores what it expected to see instead.</p></header>",
            padding=False,
        )
        _detect_section(detector, examples)
    return demo


def launch_options() -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch` that belong to the page: looks, upload limit, no server-side rendering."""
    return {
        "theme": theme(),
        "css": CSS,
        "max_file_size": MAX_FILE_SIZE,
        "footer_links": ["api"],
        "ssr_mode": False,
        "run_history": False,
    }


def _detect_section(detector: URANetPipeline, examples: Sequence[Path]) -> None:
    """Upload, verdict, heatmap and the pictures behind them, wired to the endpoint `detect`."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            image = _accept_any_file(
                gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    label="Image",
                    placeholder="Drop a photo of a part here\n- or -\nClick to choose one",
                    buttons=["fullscreen"],
                    height=400,
                    elem_id="image",
                )
            )
            button = gr.Button("Check again", variant="primary", elem_id="check")
            starts: list[Callable[..., Any]] = [partial(gr.on, [image.upload, button.click])]
            if examples:
                gallery = gr.Dataset(
                    components=[gr.Image(type="filepath", render=False)],
                    samples=[[str(path)] for path in examples],
                    sample_labels=[path.stem.replace("_", " ") for path in examples],
                    label="No photo at hand? Try one of these drawn parts.",
                    elem_id="examples",
                )
                chosen = gallery.click(lambda row: row[0], gallery, image, queue=False, api_visibility="private")
                starts.append(chosen.then)
        with gr.Column(min_width=320):
            verdict = gr.HTML(render.empty_html(), elem_id="verdict", padding=False)
            heatmap = _picture("heatmap", "Heatmap over the image", "The image with anomalous places glowing")
            gr.HTML(
                render.caption_html(
                    "Where",
                    "Places that glow differ from good parts; a good part stays as it is.",
                    render.heatmap_legend(),
                ),
                padding=False,
            )
    with gr.Column(visible=False, elem_id="details") as details:
        gr.HTML("<h2>What the model saw, and what normal would look like</h2>", padding=False)
        with gr.Row():
            features = _figure(
                "features",
                "Input features",
                "What the network sees in the image.",
                render.features_legend(),
            )
            restored = _figure(
                "restored",
                "Restored features",
                "The same places, as they would look on a good part.",
                render.features_legend(),
            )
        with gr.Row():
            residual = _figure(
                "residual",
                "Residual map",
                "How far the input features lie from normal ones, restored and remembered.",
                render.residual_legend(),
            )
            uncertainty = _figure(
                "uncertainty",
                "Uncertainty map",
                "How unsure the model is, at each place, whether it is anomalous.",
                render.uncertainty_legend(),
            )
        with gr.Accordion("Numbers", open=False):
            summary = gr.JSON(show_label=False, elem_id="summary")

    outputs = [summary, heatmap, features, restored, residual, uncertainty, verdict]

    def detect(image: str | None) -> tuple[Any, ...]:
        """Check one image against the good parts that the model was trained on.

        Returns the numbers as JSON, five pictures (heatmap, input features, restored features, residual map, uncertainty map)
        and the verdict card as HTML.
        """
        shown = _run(detector, image)
        pictures = (shown.heatmap, shown.features, shown.restored, shown.residual, shown.uncertainty)
        return (shown.summary, *pictures, shown.verdict)

    def clear() -> tuple[Any, ...]:
        return (*[None] * (len(outputs) - 1), render.empty_html(), gr.Column(visible=False))

    quiet: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    image.clear(clear, outputs=[*outputs, details], **quiet)
    for index, start in enumerate(starts):
        start(clear, outputs=[*outputs, details], **quiet).then(
            detect,
            inputs=image,
            outputs=outputs,
            api_name="detect" if index == 0 else None,
            api_visibility="public" if index == 0 else "private",
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=1,
            show_progress_on=[verdict, heatmap],
        ).success(lambda: gr.Column(visible=True), outputs=details, **quiet)


def _run(detector: URANetPipeline, path: str | None) -> render.Report:
    """The report on an uploaded file; every failure becomes a `gr.Error` that names no server path."""
    try:
        if path is None:
            raise UserError("There is no image yet. Upload one first.")
        return render.report(
            load_image(path, max_value=detector.image_processor.max_value), detector(path, return_features=True)
        )
    except UserError as error:
        message = str(error)
        if path is not None:
            message = message.replace(f"{Path(path).parent}{os.sep}", "")
        raise gr.Error(escape(message), duration=None, title="This did not work", print_exception=False) from error
    except Exception as error:
        logger.exception("analysis of an uploaded image failed")
        sentence = "The image could not be checked because of a fault on the server. Try another image."
        raise gr.Error(sentence, duration=None, title="This did not work", print_exception=False) from error


def _accept_any_file(image: gr.Image) -> gr.Image:
    """Make an image input hand over the uploaded file as it came: decoding it, and saying what is wrong with it, is ours.

    Gradio itself opens the file first, and an unreadable one then shows the server's path. A subclass would do the same,
    but Gradio writes a .pyi file beside the source of every component class.
    """

    def preprocess(payload: Any) -> str | None:
        if payload is None:
            return None
        if payload.path is None:
            raise gr.Error("The image must come as a file, but got a URL. Upload a file.", print_exception=False)
        return str(payload.path)

    image.preprocess = preprocess  # type: ignore[method-assign]
    return image


def _figure(elem_id: str, title: str, sentence: str, scale: str) -> gr.Image:
    """A picture with its caption in a column of its own."""
    with gr.Column(min_width=320):
        gr.HTML(render.caption_html(title, sentence, scale), padding=False)
        return _picture(elem_id, title, f"{title}. {sentence}")


def _picture(elem_id: str, label: str, alt_text: str) -> gr.Image:
    """A picture that is shown as it is: PNG, since Gradio's default WebP changes the colours."""
    return gr.Image(
        label=label,
        show_label=False,
        format="png",
        interactive=False,
        buttons=["download", "fullscreen"],
        alt_text=alt_text,
        elem_id=elem_id,
        elem_classes="picture",
    )
