"""The page: a checkpoint picker over one tab for each thing to do. Each tab is a module with `build`; `style` holds the looks."""

from __future__ import annotations

from html import escape
from importlib.util import find_spec
from typing import Any

import gradio as gr
from gradio.events import Dependency

from .analysis import SharedSet
from .shared import QUIET, checkpoint_picker, session_of, to_gr_error
from .store import KEEP_SECONDS, Detectors
from .style import CSS, HEAD, theme
from .style_jobs import JOBS_CSS
from .tabs import batch, calibrate, compare, detect, teach

TITLE = "URA-Net: find what is wrong, and what normal would look like"
MAX_FILE_SIZE = "100mb"
SWEEP_SECONDS = 600  # how often files of uploads and results that are older than KEEP_SECONDS are removed
MAX_WAITING = 60  # events that wait for their turn; Gradio answers further ones that the page is busy
SESSIONS = 500  # of which Gradio keeps what was last shown, half a megabyte each


def build_demo(store: Detectors, start: str | None = None) -> gr.Blocks:
    """The page for the detectors of a store, at first with the one named `start`; open it with `.launch(**launch_options())`."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(SWEEP_SECONDS, KEEP_SECONDS)) as demo:
        gr.HTML(
            f"<header><h1>{TITLE}</h1><p>The model has only ever seen good parts. It marks what differs from them, "
            "and restores what it expected to see instead.</p></header>"
        )
        picker = checkpoint_picker(store, start, elem_id="checkpoint")
        with gr.Accordion("About this checkpoint", open=False, elem_id="about"):
            card = gr.Markdown(store.card(str(picker.value)), elem_id="card")
        opened = _open_when_picked(store, picker, card)
        with gr.Tab("Detect"):
            shelf = detect.build(store, picker, opened, demo.load)
        with gr.Tab("Batch"):
            batch.build(store, picker)
        with gr.Tab("Teach"):
            teach.build(store, picker)
        with gr.Tab("Calibrate"):
            calibrate.build(store, picker)
        with gr.Tab("Compare"):
            second = compare.build(store, picker)
        demo.temp_file_sets.append(shelf.files)

        def offer(request: gr.Request) -> list[gr.Dropdown]:
            """Other checkpoints may have come since the page was built."""
            return [gr.Dropdown(choices=store.names(session_of(request)))] * 2

        demo.load(offer, outputs=[picker, second], **QUIET)

        def checkpoints(request: gr.Request) -> list[dict[str, Any]]:
            """The checkpoints that are known here by name, each with its backbone, its input size and what was measured on it."""
            return store.describe(session_of(request))

        gr.api(checkpoints, api_name="checkpoints")
    demo.queue(max_size=MAX_WAITING)
    _share_files(demo)
    return demo


def _open_when_picked(store: Detectors, picker: gr.Dropdown, card: gr.Markdown) -> Dependency:
    """Load what is picked and show its card; returns the event after which it is loaded."""

    @to_gr_error()
    def open_checkpoint(name: str, request: gr.Request) -> str:
        session = session_of(request)
        if name not in store.names(session):
            gr.Info(f"Looking for {escape(str(name))} on the Hub.", duration=5)
        store.get(name, session)
        return store.card(name, session)

    return picker.change(lambda: "", outputs=card, **QUIET).then(
        open_checkpoint,
        inputs=picker,
        outputs=card,
        api_visibility="private",
        concurrency_id="open",
        concurrency_limit=2,
        show_progress="hidden",
        trigger_mode="always_last",
    )


def _share_files(demo: gr.Blocks) -> None:
    """Let files come while Gradio removes old ones, which would otherwise end its removal for good (6.31)."""
    shared = {id(files): files if isinstance(files, SharedSet) else SharedSet(files) for files in demo.temp_file_sets}
    demo.temp_file_sets = [shared[id(files)] for files in demo.temp_file_sets]
    demo.upload_file_set = shared[id(demo.upload_file_set)]
    for block in demo.blocks.values():
        if (files := getattr(block, "temp_files", None)) is not None:
            block.temp_files = shared.get(id(files), files)


def launch_options() -> dict[str, Any]:
    """Arguments of `gr.Blocks.launch` for the page: looks, upload limit, and tools for agents where `gradio[mcp]` is."""
    return {
        "theme": theme(),
        "css": CSS + JOBS_CSS,
        "head": HEAD,
        "max_file_size": MAX_FILE_SIZE,
        "footer_links": ["api"],
        "ssr_mode": False,
        "run_history": False,
        "state_session_capacity": SESSIONS,
        "mcp_server": find_spec("mcp") is not None,
    }
