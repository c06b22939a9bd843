"""The tab Teach: photos of good parts in, looked through first; a detector of one's own and its false-alarm rate out."""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr
import pandas as pd
from gradio.events import Dependency

from ...data.archives import MIB, Gathered, Upload, ZipLimits, gather
from ...data.progress import Progress
from ...evaluation.batch import with_frames
from ...hub.push import write_checkpoint_zip
from ...model.errors import UserError
from ...training.photo_checks import PhotoReport, check_photos
from ...training.teaching import MAX_PHOTOS, MIN_PHOTOS, Taught
from ...training.teaching import teach as teach_part
from ..cancelling import finish
from ..examples import good_images
from ..jobs import Job, State, duration, note_html, one_at_a_time, progress_html, stays, waiting_html
from ..looked import chosen, looked_html, pictures
from ..shared import QUIET, session_of, still_there, to_gr_error
from ..store import Detectors, clean_name
from .teach_layout import LOSSES, SAMPLE, Layout, lay_out
from .teach_photos import DO_WITHOUT, STOPPED, UNLOOKED, Looks, changed_js, ended_js

LIMITS = ZipLimits(files=2 * MAX_PHOTOS, total=1024 * MIB)  # some may be no photos, others ticked
STAGES = {
    "checking": ("Looking through the photos", 0.0, 0.08),
    "copies": ("Looking for copies", 0.08, 0.08),
    "training features": ("Reading the photos", 0.08, 0.12),
    "texture features": ("Preparing artificial defects", 0.12, 0.17),
    "memory": ("Remembering what is normal", 0.17, 0.2),
    "training": ("Learning to restore normal parts", 0.2, 0.7),
    "pictures": ("Learning to draw the part", 0.7, 0.97),
    "calibration": ("Setting the threshold on all photos", 0.97, 1.0),
}
"""What the page says of each stage, and the part of the bar that it takes, by the time that 30 photos take."""


def build(store: Detectors, picker: gr.Dropdown) -> None:
    """Photos, what is wrong with them, training and its result, wired to the endpoint `teach`."""
    taught = Path(tempfile.mkdtemp(prefix="uranet-taught-"))  # as long as the page runs
    atexit.register(shutil.rmtree, taught, ignore_errors=True)
    tab = lay_out()

    def teach(
        files: list[str] | None, name: str, leave_out: list[str], request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Teach a new checkpoint from photos of good parts, or zips of them; files named in `leave_out` are not used.

        Returns a report as JSON (`name` of the checkpoint, to be used at once by the other endpoints in the same session;
        `photos` used; `seconds`; `most_unusual` of them; `false_alarms`, their expected rate and its bounds; `report`, what the
        photos told in sentences; `findings` on the photos; `losses`), a zip of the checkpoint, the loss curve, the result as
        HTML, the choice of checkpoints, and pictures of the most unusual photos.
        """
        with to_gr_error():
            yield from _teach(store, taught, files, name, leave_out, session_of(request))

    def begin() -> tuple[Any, ...]:
        return gr.Button(visible=False), gr.Button(visible=True), gr.Column(visible=True), waiting_html()

    looking = _wire_photos(tab)
    running = tab.start.click(
        begin, outputs=[tab.start, tab.cancel, tab.curve_box, tab.status], js=DO_WITHOUT, cancels=looking, **QUIET
    ).then(
        teach,
        inputs=[tab.files, tab.name, tab.leave_out],
        outputs=[tab.report, tab.download, tab.curve, tab.status, picker, tab.unusual_box, tab.unusual],
        api_name="teach",
        **one_at_a_time("teach"),
    )
    running.success(_download, inputs=picker, outputs=tab.download, **QUIET)
    stopped = "Nothing was kept. Press Teach to start again."
    finish(tab.start, tab.cancel, running, tab.status, tab.curve_box, tab.looked, stopped)  # type: ignore[arg-type]


def _wire_photos(tab: Layout) -> Dependency:
    """Look through photos as soon as they come, which is the event that is returned; `teach_photos` says how."""
    findings = [tab.status, tab.looked, tab.leave_out, tab.flagged]
    looks = Looks()

    def look(files: list[str] | None, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        with looks.begin(session_of(request)) as end:
            yield from _look(files, end)

    looking = tab.asked.click(
        look,
        inputs=tab.files,
        outputs=[*findings, tab.gallery],
        api_name="look",
        api_visibility="private",
        trigger_mode="multiple",
        **one_at_a_time("look"),
    )
    for ended in (looking.then, looking.failure):
        ended(None, tab.files, findings, js=ended_js(), **QUIET)
    drawn = tab.sample.click(lambda: [str(path) for path in good_images(*SAMPLE)], outputs=tab.files, **QUIET)
    for trigger in (partial(gr.on, [tab.files.upload, tab.files.delete, tab.files.clear]), drawn.then):
        changed = trigger(None, tab.files, findings, js=changed_js(), **QUIET)
        stop = changed.then(looks.stop, trigger_mode="multiple", **QUIET)
        for stopped in (stop.then, stop.failure):
            stopped(None, js=STOPPED, **QUIET)
    return looking


def _look(files: list[str] | None, end: Event) -> Iterator[tuple[Any, ...]]:
    """Look through the photos as soon as they are there, until `end`; where it fails, the status is that nobody looked."""
    try:
        with to_gr_error():
            yield from _findings(files, end)
    except gr.Error:
        yield note_html(*UNLOOKED), *[gr.skip()] * 4
        raise


def _findings(files: list[str] | None, end: Event) -> Iterator[tuple[Any, ...]]:
    if not files:  # they have left meanwhile
        return
    uploads = still_there(files)

    def work(progress: Progress, folder: Path) -> tuple[Gathered, PhotoReport, list[tuple[str, str]]]:
        gathered = with_frames(gather(uploads, folder / "files", LIMITS), LIMITS.files)
        report = check_photos(gathered.files, progress)
        return gathered, report, pictures(gathered.files, report, folder)

    with Job(work) as job:
        for state in job.follow():
            if end.is_set():
                return
            yield progress_html("Looking through the photos", state), *[gr.skip()] * 4
        gathered, report, shown = job.result()
        photos = gathered.files
        choices = [photos[row].name for row in report.flagged("duplicate", "size", "defect")]
        group = gr.CheckboxGroup(choices=choices, value=choices, visible=bool(choices))
        note = looked_html(gathered, report)
        yield note, note, group, gr.Column(visible=bool(shown or choices)), shown


def _teach(
    store: Detectors, taught: Path, files: list[str] | None, name: str, leave_out: list[str], session: str
) -> Iterator[tuple[Any, ...]]:
    """What the endpoint `teach` gives, again and again: first its progress. Checkpoints are written into `taught`."""
    if not files:
        raise UserError(f"There are no photos yet: drop {MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts.")
    wanted = _clean(name)
    uploads = still_there(files)
    target = taught / f"{wanted}-{secrets.token_hex(4)}"

    def work(progress: Progress, folder: Path) -> tuple[list[Upload], PhotoReport, Taught]:
        gathered = with_frames(gather(uploads, folder / "files", LIMITS), LIMITS.files)
        report = check_photos(gathered.files, progress)
        used = chosen(gathered, report, leave_out)
        return gathered.files, report, teach_part(used, folder / target.name, progress, folder / "unusual")

    with Job(work) as job:
        for state in job.follow():
            losses = _curve(state.losses) if state.losses else gr.skip()
            yield gr.skip(), gr.skip(), losses, _progress(state), gr.skip(), gr.Column(visible=False), gr.skip()
        photos, report, result = job.result()
        unusual = [f"{one['file']} (1 in {one['rank']:.0f})" for one in result.record["most_unusual"]]
        shutil.move(result.folder, target)  # out of the folder that goes with the job, as it was not cancelled
        final = store.add(target, wanted, session)
        archive = job.folder / f"{final}.zip"
        write_checkpoint_zip(target, final, archive)
        heard = [(entry["step"], entry) for entry in result.record["losses"]]
        choice = gr.Dropdown(choices=store.names(session), value=final)
        words = _taught_html(final, result, store.keep_seconds if store.private else None)
        yield (
            _report(final, photos, report, result) | {"most_unusual": unusual},
            str(archive),
            _curve(heard),
            words,
            choice,
            gr.Column(visible=bool(result.pictures)),
            [*zip(map(str, result.pictures), unusual, strict=False)],
        )


def _download(name: str) -> gr.DownloadButton:
    """The button of the checkpoint taught last; it stays while another one is taught, which may fail or be cancelled."""
    return gr.DownloadButton(f"Download {name} (ZIP)", visible=True)


def _clean(name: str) -> str:
    """`clean_name` of what the visitor typed, or an error if nothing is left."""
    name = clean_name(name or "")
    if not name:
        raise UserError("The new checkpoint needs a name of letters and digits, such as my-part.")
    return name


def _progress(state: State) -> str:
    words, low, high = STAGES.get(state.stage, ("Getting ready", 0.0, 0.0))
    share = state.done / state.total if state.total else 0.0
    return progress_html(words, state, low + share * (high - low))


def _curve(losses: Sequence[tuple[int, Any]]) -> pd.DataFrame:
    rows = [(step, values[f"{part}_loss"], part) for step, values in losses for part in LOSSES]
    return pd.DataFrame(rows, columns=["step", "loss", "part"])


def _report(name: str, photos: Sequence[Upload], report: PhotoReport, result: Taught) -> dict[str, Any]:
    rate = result.false_alarms
    return {
        "name": name,
        "photos": result.record["images"],
        "seconds": result.record["seconds"],
        "false_alarms": {**vars(rate), "sentence": rate.sentence()},
        "report": result.sentences(),
        "findings": [{"file": photos[f.photo].name, "kind": f.kind, "sentence": f.sentence} for f in report.problems],
        "losses": result.record["losses"],
    }


def _taught_html(name: str, result: Taught, seconds: float | None) -> str:
    """`seconds`: how long the checkpoint stays on the server, None for as long as the page runs."""
    used = result.record["images"]
    learnt = f"Learnt from {used['fitted']} photos in {duration(result.record['seconds'])}."
    detail = " ".join([learnt, *result.sentences(named=False), f"Try it in Detect.{stays(seconds)}"])
    return note_html(f"{name} is ready and chosen above", detail, "good")
