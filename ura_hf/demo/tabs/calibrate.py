"""The tab Calibrate: photos of good and of defective parts in; their scores, a threshold to move, and a new checkpoint out."""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from ...data.archives import MIB, ZipLimits, gather
from ...data.progress import Progress
from ...evaluation.batch import with_frames
from ...hub.load import load_detector
from ...hub.push import write_checkpoint_zip
from ...model.errors import UserError
from ...training.recalibrate import FEWEST, Calibration, measure, save_recalibrated
from ..cancelling import finish
from ..examples import calibration_images, has_calibration_images
from ..jobs import Job, note_html, one_at_a_time, progress_html, waiting_html
from ..shared import QUIET, on_gpu, session_of, still_there, to_gr_error
from ..store import Detectors, clean_name
from .calibrate_layout import EMPTY, Layout, lay_out, measured_html, saved_html, shown_at, slider_at

LIMITS = ZipLimits(files=1000, total=1024 * MIB)
GPU_SECONDS = 60  # of a ZeroGPU Space for the photos
STAGES = {"copies": "Looking for copies", "scores": "Scoring the photos"}
QUEUE = one_at_a_time("calibrate")
MOVING: dict[str, Any] = {"concurrency_id": "move", "concurrency_limit": 2, "show_progress": "hidden"}

Photos = tuple[list[str] | None, list[str] | None]
"""Files of good and of defective parts."""
Measured = tuple[str, Calibration]
"""A checkpoint's name, and what photos tell of it."""


def build(store: Detectors, picker: gr.Dropdown) -> None:
    """Photos, their scores, the threshold and the new checkpoint, wired, with the endpoint `calibrate`."""
    folder = Path(tempfile.mkdtemp(prefix="uranet-calibrated-"))  # as long as the page runs
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    @on_gpu(GPU_SECONDS)
    def measuring(photos: Photos, checkpoint: str, session: str) -> Iterator[str | Calibration]:
        yield from _measure(store, photos, checkpoint, session)

    tab, layout = _Tab(store, folder, measuring), lay_out(has_calibration_images(str(picker.value)))
    _wire(tab, layout, picker)
    threshold, name = gr.Number(value=None, visible=False), gr.Textbox(value="", visible=False)
    gr.Button(visible=False).click(
        tab.calibrate,
        inputs=[layout.good, layout.bad, picker, threshold, name],
        outputs=[gr.JSON(visible=False), gr.File(visible=False)],
        api_name="calibrate",
        **QUEUE,
    )


class _Tab:
    """What the events of the tab do; checkpoints are written into `folder`."""

    def __init__(
        self, store: Detectors, folder: Path, measuring: Callable[[Photos, str, str], Iterator[str | Calibration]]
    ) -> None:
        self.store, self.folder, self.measuring = store, folder, measuring

    def score(
        self, good: list[str] | None, bad: list[str] | None, checkpoint: str, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        with to_gr_error():
            for found in self.measuring((good, bad), checkpoint, session_of(request)):
                if isinstance(found, str):
                    yield (*[gr.skip()] * 5, found)
                else:
                    begun = (*shown_at(found, found.suggested), slider_at(found), _free(checkpoint))
                    yield (checkpoint, found), *begun, measured_html(checkpoint, found)

    @to_gr_error()
    def move(self, measured: Measured | None, threshold: float | None) -> tuple[Any, ...]:
        return shown_at(measured[1], threshold) if measured and threshold is not None else (gr.skip(),) * 2

    def save(
        self, measured: Measured | None, threshold: float | None, name: str, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        session = session_of(request)
        with to_gr_error(), tempfile.TemporaryDirectory(dir=self.folder) as packing:
            final, archive, _ = self._save(measured, threshold, name, session, Path(packing))
            button = gr.DownloadButton(f"Download {final} (ZIP)", value=archive, visible=True)
            said = saved_html(final, self.store.keep_seconds if self.store.private else None)
            yield button, said, gr.Dropdown(choices=self.store.names(session), value=final)

    def calibrate(
        self,
        good: list[str] | None,
        bad: list[str] | None,
        checkpoint: str,
        request: gr.Request,
        threshold: float | None = None,
        name: str = "",
    ) -> Iterator[tuple[Any, ...]]:
        """Set the threshold of a checkpoint anew on photos of good parts, and tell how defective ones would fare.

        Args:
            good: 5 photos or more, better 20, that training did not see, or zips of them.
            bad: photos of defective parts, if there are any.
            checkpoint: a name as `checkpoints` lists them, or one on the Hugging Face Hub; it stays as it is.
            threshold: from 0 to 1 on the checkpoint's present scale; without it the one of the share that it was trained for.
            name: of a new checkpoint with that threshold, for this session; without it nothing is saved.

        Returns:
            What the photos tell as JSON (`name` of the new checkpoint; `threshold` and `review` on the present scale; `asked`
            share of false alarms, and `low` and `high`, which hold the real one; `misses`; `most_unusual`, `outlying`,
            `near_copies` and `unknown` photos), and a zip of the new checkpoint.
        """
        session = session_of(request)
        with to_gr_error(), tempfile.TemporaryDirectory(dir=self.folder) as packing:
            *_, found = self.measuring((good, bad), checkpoint, session)
            assert isinstance(found, Calibration)
            if name:
                final, archive, report = self._save((checkpoint, found), threshold, name, session, Path(packing))
                yield {"name": final, **report}, archive
            else:
                yield {"name": None, **found.report(threshold)}, None

    def _save(
        self, measured: Measured | None, threshold: float | None, name: str, session: str, packing: Path
    ) -> tuple[str, str, dict[str, Any]]:
        """A new checkpoint with another threshold, known to the session: its name, its zip in `packing`, its report."""
        if measured is None:
            raise UserError("What was measured is no longer kept: press Measure again.")
        checkpoint, found = measured
        if not (wanted := clean_name(name or "")):
            raise UserError("The new checkpoint needs a name of letters and digits, such as my-part-2.")
        source, target = self.store.folder(checkpoint, session), self.folder / f"{wanted}-{secrets.token_hex(4)}"
        report = save_recalibrated(load_detector(source), source, target, found, threshold)
        final = self.store.add(target, wanted, session)
        archive = packing / f"{final}.zip"
        write_checkpoint_zip(target, final, archive)
        return final, str(archive), report


def _wire(tab: _Tab, layout: Layout, picker: gr.Dropdown) -> None:
    """Measure, move the threshold, save; the photos of the drawn kinds."""
    measured = gr.State()

    def begin() -> tuple[Any, ...]:
        return gr.Button(visible=False), gr.Button(visible=True), gr.Column(visible=False), waiting_html()

    running = layout.start.click(
        begin, outputs=[layout.start, layout.cancel, layout.results, layout.status], **QUIET
    ).then(
        tab.score,
        inputs=[layout.good, layout.bad, picker],
        outputs=[measured, layout.histogram, layout.words, layout.threshold, layout.name, layout.status],
        api_visibility="private",
        **QUEUE,
    )
    idle = gr.State(note_html(*EMPTY))
    finish(layout.start, layout.cancel, running, layout.status, layout.results, idle, "Press Measure to start again.")
    running.success(lambda: ("", gr.DownloadButton(visible=False)), outputs=[layout.saved, layout.download], **QUIET)
    layout.threshold.input(
        tab.move,
        inputs=[measured, layout.threshold],
        outputs=[layout.histogram, layout.words],
        api_visibility="private",
        trigger_mode="always_last",
        **MOVING,
    )
    layout.save.click(
        tab.save,
        inputs=[measured, layout.threshold, layout.name],
        outputs=[layout.download, layout.saved, picker],
        api_visibility="private",
        **QUEUE,
    )

    def sample(checkpoint: str) -> list[list[str]]:
        return [[str(path) for path in paths] for paths in calibration_images(checkpoint)]

    layout.sample.click(sample, picker, [layout.good, layout.bad], **QUIET)
    picker.change(lambda name: gr.Button(visible=has_calibration_images(name)), picker, layout.sample, **QUIET)


def _measure(store: Detectors, photos: Photos, checkpoint: str, session: str) -> Iterator[str | Calibration]:
    """Progress as HTML, again and again, and at last what the photos tell."""
    good, bad = photos
    if not good:
        raise UserError(f"There are no good photos yet: drop {FEWEST} or more, or a zip of them.")
    uploads = {"good": still_there(good), "bad": still_there(bad or [])}

    def work(progress: Progress, folder: Path) -> Calibration:
        gathered = {
            kind: with_frames(gather(files, folder / kind, LIMITS), LIMITS.files) for kind, files in uploads.items()
        }
        if damaged := [f"{name} is {reason}" for one in gathered.values() for name, reason in one.damaged]:
            raise UserError(f"{len(damaged)} photos can't be read: {'; '.join(damaged[:10])}.")
        detector = store.get(checkpoint, session)
        return measure(detector, gathered["good"].files, gathered["bad"].files, progress=progress)

    with Job(work) as job:
        for state in job.follow():
            yield progress_html(STAGES.get(state.stage, "Reading the upload"), state)
        yield job.result()


def _free(checkpoint: str) -> str:
    """A name to begin with."""
    return f"{clean_name(checkpoint.rpartition('/')[2])[:50]}-calibrated"
