"""The end of a long job on the page, however it ends: buttons come back, and the status says what became of it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .jobs import note_html
from .shared import QUIET


def finish(
    start: gr.Button, cancel: gr.Button, running: Any, status: gr.HTML, box: gr.Column, idle: gr.State, cancelled: str
) -> None:
    """Wire what follows the event `running` that `start` began: `box`, where its results go, is hidden unless it succeeds.

    Gradio ends a cancelled event as a failed one, at any time around the click, so both ask whether Cancel was pressed. The
    status then says `cancelled`, and after a failure, which shows its own message, what `idle` holds.
    """
    stopped = gr.State(False)

    def give_back() -> tuple[Any, ...]:
        return gr.Button(visible=True), gr.Button(visible=False)

    def failed(was_stopped: bool, note: str) -> tuple[Any, ...]:
        said = note_html("Cancelled", cancelled) if was_stopped else note
        return (*give_back(), said, gr.Column(visible=False))

    outputs = [start, cancel, status, box]
    start.click(lambda: False, outputs=stopped, **QUIET)
    running.success(give_back, outputs=[start, cancel], **QUIET)
    running.success(lambda: gr.Column(visible=True), outputs=box, **QUIET)
    running.failure(failed, inputs=[stopped, idle], outputs=outputs, **QUIET)
    cancel.click(lambda: (*failed(True, ""), True), outputs=[*outputs, stopped], cancels=running, **QUIET)
