"""The tab Detect: one image in; verdict, heatmap and the pictures behind it out. What it shows is made in `render`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from ura_hf.demo import render
from ura_hf.demo.examples import example_images
from ura_hf.demo.shared import MODEL_QUEUE, QUIET, accept_any_file, to_gr_error
from ura_hf.demo.store import Detectors
from ura_hf.errors import UserError
from ura_hf.images import load_image


def build(store: Detectors, picker: gr.Dropdown) -> None:
    """Upload, verdict, heatmap and the pictures behind them, wired to the endpoint `detect`."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            image = accept_any_file(
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
            if examples := example_images(str(picker.value)):
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

    @to_gr_error()
    def detect(image: str | None, checkpoint: str) -> tuple[Any, ...]:
        """Check one image against the good parts that the model was trained on.

        Returns the numbers as JSON, five pictures (heatmap, input features, restored features, residual map, uncertainty map)
        and the verdict card as HTML.
        """
        if image is None:
            raise UserError("There is no image yet. Upload one first.")
        detector = store.get(checkpoint)
        prediction = detector(image, return_features=True)
        shown = render.report(load_image(image, max_value=detector.image_processor.max_value), prediction)
        pictures = (shown.heatmap, shown.features, shown.restored, shown.residual, shown.uncertainty)
        return (shown.summary, *pictures, shown.verdict)

    def clear() -> tuple[Any, ...]:
        return (*[None] * (len(outputs) - 1), render.empty_html(), gr.Column(visible=False))

    image.clear(clear, outputs=[*outputs, details], **QUIET)
    for index, start in enumerate(starts):
        start(clear, outputs=[*outputs, details], **QUIET).then(
            detect,
            inputs=[image, picker],
            outputs=outputs,
            api_name="detect" if index == 0 else None,
            api_visibility="public" if index == 0 else "private",
            concurrency_id=MODEL_QUEUE,
            concurrency_limit=1,
            show_progress_on=[verdict, heatmap],
        ).success(lambda: gr.Column(visible=True), outputs=details, **QUIET)


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
