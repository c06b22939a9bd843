"""The page: a checkpoint picker over one tab for each thing to do. Each tab is a module with `build`; `style` holds the looks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ura_hf.demo import detect
from ura_hf.demo.shared import checkpoint_picker
from ura_hf.demo.store import Detectors
from ura_hf.demo.style import CSS, theme

TITLE = "URA-Net: find what is wrong, and what normal would look like"
MAX_FILE_SIZE = "100mb"
CACHE_SECONDS = 3600  # uploads and pictures are deleted after this time


def build_demo(store: Detectors, start: str | None = None) -> gr.Blocks:
    """The page for the detectors of a store, at first with the one named `start`; open it with `.launch(**launch_options())`."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)) as demo:
        gr.HTML(
            f"<header><h1>{TITLE}</h1><p>The model has only ever seen good parts. It marks what differs from them, "
            "and restores what it expected to see instead.</p></header>",
            padding=False,
        )
        picker = checkpoint_picker(store, start, elem_id="checkpoint")
        with gr.Tab("Detect"):
            detect.build(store, picker)
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
