"""What the tabs of the page share: one queue for the models, clean errors, files taken as they came, the checkpoint picker."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from ..data.records import shorten_paths
from ..model.errors import UserError
from . import SPACES
from .store import Detectors

MODEL_QUEUE = "model"
"""Events with this `concurrency_id` take turns at the processor; give them `concurrency_limit=1`."""
QUIET: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
"""Arguments of an event that only moves things about on the page."""

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])


@contextmanager
def to_gr_error(fault: str = "This could not be done because of a fault on the server. Try again.") -> Iterator[None]:
    """Turn any failure inside into a `gr.Error` that names no server path; also a decorator, `@to_gr_error()`.

    A UserError keeps its sentence; anything else is logged and becomes `fault`.
    """
    try:
        yield
    except gr.Error:
        raise
    except UserError as error:
        raise clean_error(str(error)) from error
    except Exception as error:
        logger.exception("an event of the page failed")
        raise clean_error(fault) from error


def clean_error(sentence: str) -> gr.Error:
    """A `gr.Error` that stays until it is closed, without markup, without server paths and without a traceback in the log."""
    text = escape(shorten_paths(sentence), quote=False)
    return gr.Error(text, duration=None, title="This did not work", print_exception=False)


def still_there(files: Iterable[str]) -> list[Path]:
    """Uploaded files as paths.

    Raises:
        UserError: Gradio has removed one, as it does with old ones, while the page still shows it.
    """
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path.name} was uploaded too long ago and has been deleted from the server: upload it again."
            )
    return paths


def accept_any_file(image: gr.Image) -> gr.Image:
    """Make an image input hand over the uploaded file as it came: decoding it, and saying what is wrong with it, is ours.

    Gradio itself opens the file first, and an unreadable one then shows the server's path. A subclass would do the same,
    but Gradio writes a .pyi file beside the source of every component class.
    """

    def preprocess(payload: Any) -> str | None:
        if payload is None:
            return None
        if payload.path is None:
            raise clean_error("The image must come as a file, but got a URL: upload a file.")
        return str(payload.path)

    image.preprocess = preprocess  # type: ignore[method-assign]
    return image


def checkpoint_picker(store: Detectors, value: str | None = None, **options: Any) -> gr.Dropdown:
    """A dropdown of the checkpoints in the store that also takes a name on the Hub; `options` go to `gr.Dropdown`."""
    names = store.names()
    settings: dict[str, Any] = {
        "label": "Checkpoint",
        "info": "What the good parts were. Choose one, or type a name on the Hugging Face Hub, such as you/uranet-ring.",
        "elem_classes": "picker",
        **options,
    }
    return gr.Dropdown(names, value=value or names[0], allow_custom_value=True, filterable=True, **settings)


def session_of(request: gr.Request) -> str:
    """What names a visitor's session: one page load, or one client.

    All agents that come by Gradio's MCP server share one client, so each of their calls counts as a session of its own.
    """
    by_agent = request.headers.get("x-gradio-user") == "mcp"
    return secrets.token_hex(16) if by_agent or not request.session_hash else str(request.session_hash)


def on_gpu(seconds: int) -> Callable[[Function], Function]:
    """`spaces.GPU(duration=seconds)` on a ZeroGPU Space, nothing elsewhere."""
    if SPACES is None:
        return lambda function: function
    decorate: Callable[[Function], Function] = SPACES.GPU(duration=seconds)
    return decorate
