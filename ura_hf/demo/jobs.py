"""Long work of a tab in a thread of its own: progress with time left, cancelling, and a folder that goes away with it."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from ..data.progress import Cancelled, Progress

INTERVAL = 0.5  # seconds between two looks at a job

Result = TypeVar("Result")


@cache
def _parent() -> Path:
    """The folder of the folders of all jobs, which goes when the page stops, in the middle of a job too."""
    folder = Path(tempfile.mkdtemp(prefix="uranet-jobs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class State:
    """How far a job is: `done` of the `total` parts of a stage, seconds so far, seconds left of the stage where they can be told.

    `losses` holds (step, {name: loss}) of all that were reported.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    left: float | None = None
    losses: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)


class Job(Generic[Result]):
    """`with Job(work) as job`: runs `work(progress, folder)` in a thread, cancelled when the block is left.

    `folder` is the job's own, empty at first; it is removed when both the thread and the block have ended.
    """

    def __init__(self, work: Callable[[Progress, Path], Result]) -> None:
        self._work = work
        _parent().mkdir(exist_ok=True)  # where the system removed what it took for old
        self.folder = Path(tempfile.mkdtemp(dir=_parent()))
        self._began = self._stage_began = time.monotonic()
        self._state = State()
        self._result: Result | None = None
        self._error: BaseException | None = None
        self._stop, self._ended = threading.Event(), threading.Event()
        self._holders, self._lock = 2, threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Job[Result]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()  # never waits for the thread: a cancelled event leaves the block in the server's own loop
        self._release()

    def follow(self) -> Iterator[State]:
        """The state, again and again until the work has ended."""
        while not self._ended.wait(INTERVAL):
            yield self._now()

    def result(self) -> Result:
        """What the work returned, once it has ended; raises what it raised."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def _run(self) -> None:
        try:
            self._result = self._work(self._hear, self.folder)
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()
            self._release()

    def _hear(self, stage: str, done: int, total: int, losses: Mapping[str, float] | None = None) -> None:
        if self._stop.is_set():
            raise Cancelled
        with self._lock:
            if stage != self._state.stage:
                self._stage_began = time.monotonic()
            heard = [*self._state.losses, (done, losses)] if losses else self._state.losses
            self._state = State(stage, done, total, losses=heard)

    def _now(self) -> State:
        now = time.monotonic()
        with self._lock:
            state, spent = self._state, now - self._stage_began
        left = spent * (state.total - state.done) / state.done if state.done else None
        return State(state.stage, state.done, state.total, now - self._began, left, state.losses)

    def _release(self) -> None:
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last:
            shutil.rmtree(self.folder, ignore_errors=True)


def progress_html(words: str, state: State, share: float | None = None) -> str:
    """A bar with what is being done and the time left; `share` of the whole, 0 to 1, if not that of the stage."""
    if share is None:
        share = state.done / state.total if state.total else 0.0
    count = f"{state.done} of {state.total}" if state.total > 1 else ""
    left = "" if state.left is None else f"about {duration(state.left)} left"
    detail = " · ".join(part for part in (count, left) if part) or "a moment, please"
    return f"""<section class="job" aria-live="off"><p class="job-words">{escape(words)}</p>
<div class="job-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{100 * share:.0f}"
aria-label="{escape(words)}"><i style="width:{100 * share:.1f}%"></i></div><p class="job-detail">{escape(detail)}</p></section>"""


def waiting_html() -> str:
    """The card of a job that has not begun, since another one is at work."""
    return note_html("Waiting for its turn", "One job of this kind runs at a time. It starts by itself.")


def one_at_a_time(queue: str) -> dict[str, Any]:
    """Arguments of the event of a long job: it shows its own progress and waits only for others of the same `queue`.

    It does not take turns with the short events of `shared.MODEL_QUEUE`, which need not wait for minutes.
    """
    return {"concurrency_id": queue, "concurrency_limit": 1, "show_progress": "hidden"}


def note_html(words: str, detail: str = "", tone: str = "") -> str:
    """A card with a sentence and what backs it; `tone` is ``good``, ``bad`` or nothing."""
    more = f'<p class="job-detail">{escape(detail)}</p>' if detail else ""
    return f'<section class="job is-note {tone}" aria-live="polite"><p class="job-words">{escape(words)}</p>{more}</section>'


def swatch_html(color: str, words: str) -> str:
    """Words with the colour that stands for them in a plot."""
    return f'<span class="swatch"><i style="background:{color}"></i>{escape(words)}</span>'


def duration(seconds: float) -> str:
    """A time in words: "8 s", "2 min 5 s"."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def stays(seconds: float | None) -> str:
    """How long a checkpoint that a visitor made stays on the server; empty for as long as the page runs, None."""
    return (
        ""
        if seconds is None
        else f" Only you can use it here, for {seconds / 60:.0f} minutes or until you reload the page."
    )
