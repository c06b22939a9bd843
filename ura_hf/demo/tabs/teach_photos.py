"""What the tab Teach does when its photos change, so that no late answer speaks of earlier ones and no photos are forgotten.

What was found before is forgotten in the browser. `photos.unseen` there is true while there are photos that no look was begun
for. A look begins when none is at work (`busy`) and every change has told the server to end the former one (`stops`), and so
at the end of a look if photos came meanwhile. Gradio's `cancels` would forget a look that begins before it has its answer.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from ..jobs import note_html, waiting_html
from ..shared import session_of
from .teach_layout import EMPTY

UNLOOKED = ("These photos were not looked through", "Upload them again, or press Teach to do without.")
PHOTOS = "const photos = window.photos ??= { unseen: false, busy: false, stops: 0 };"
ASK = """if (photos.unseen && !photos.busy && !photos.stops) {
    Object.assign(photos, { unseen: false, busy: true });
    document.querySelector('#teach-ask').click();
}"""
STOPPED = f"() => {{ {PHOTOS} photos.stops -= 1; {ASK} }}"
DO_WITHOUT = f"() => {{ {PHOTOS} photos.unseen = false; return [] }}"


def changed_js() -> str:
    """What was found on earlier photos, and their ticks, are not of these."""
    note = f"photos.unseen ? {_nothing(True)} : {_nothing(False)}"
    return f"files => {{ {PHOTOS} photos.unseen = files?.length > 0; photos.stops += 1; return {note} }}"


def ended_js() -> str:
    """The same where a look ended too late, and a look at the photos that are there now."""
    kept = json.dumps([{"__type__": "update"}] * 4)
    note = f"!files?.length ? {_nothing(False)} : photos.unseen ? {_nothing(True)} : {kept}"
    return f"files => {{ {PHOTOS} const note = {note}; photos.busy = false; {ASK} return note }}"


class Looks:
    """The looks at work, by session."""

    def __init__(self) -> None:
        self._ends: dict[str, threading.Event] = {}

    @contextmanager
    def begin(self, session: str) -> Iterator[threading.Event]:
        """An event that is set when the session's photos have changed."""
        end = self._ends[session] = threading.Event()
        try:
            yield end
        finally:
            if self._ends.get(session) is end:
                del self._ends[session]

    def stop(self, request: gr.Request) -> None:
        """End the session's look."""
        if end := self._ends.get(session_of(request)):
            end.set()


def _nothing(photos: bool) -> str:
    """The status, what it says while nothing is taught, no ticks and no pictures, with or without photos."""
    note = note_html(*(UNLOOKED if photos else EMPTY))
    no_ticks: dict[str, Any] = {"__type__": "update", "choices": [], "value": []}
    hidden = {"__type__": "update", "visible": False}
    return json.dumps([waiting_html() if photos else note, note, no_ticks, hidden])
