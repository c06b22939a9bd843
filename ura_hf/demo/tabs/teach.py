"""The tab Teach: photos of good parts in, looked through first; a detector of one's own and its false-alarm rate out."""

from __future__ import annotations

import atexit
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from ...data.archives import MIB, Gathered, Upload, ZipLimits, gather
from ...data.progress import Progress
from ...hub.push import write_checkpoint_zip
from ...model.errors import UserError
from ...training.photo_checks import PhotoReport, check_photos
from ...training.teaching import MAX_PHOTOS, MIN_PHOTOS, OPTIONS, Taught
from ...training.teaching import teach as teach_part
from ..cancelling import finish
from ..examples import good_images
from ..jobs import Job, State, duration, note_html, one_at_a_time, progress_html, swatch_html, waiting_html
from ..looked import chosen, looked_html, pictures
from ..shared import QUIET, still_there, to_gr_error
from ..store import Detectors

LIMITS = ZipLimits(files=2 * MAX_PHOTOS, total=1024 * MIB)  # some may be no photos, others ticked
SAMPLE = ("cloth", 30)  # drawn photos for visitors without any: kind, count
EMPTY = (
    "No photos yet",
    f"Drop {MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts, taken as those to be checked will be. "
    "30 are a good start.",
)
UNLOOKED = ("These photos were not looked through", "Upload them again, or press Teach to do without.")
ASK = "files => { if (files?.length) document.querySelector('#teach-ask')?.click() }"
LOSSES = {"restoration": "#0d9488", "perception": "#d97706"}  # parts of the loss and their colours
STAGES = {
    "checking": ("Looking through the photos", 0.0, 0.08),
    "training features": ("Reading the photos", 0.08, 0.12),
    "texture features": ("Preparing artificial defects", 0.12, 0.17),
    "memory": ("Remembering what is normal", 0.17, 0.2),
    "training": ("Learning to restore normal parts", 0.2, 0.97),
    "calibration": ("Setting the threshold on photos kept from training", 0.97, 1.0),
}
"""What the page says of each stage, and the part of the bar that it takes, by the time that 30 photos take."""


def build(store: Detectors, picker: gr.Dropdown) -> None:
    """Photos, what is wrong with them, training and its result, wired to the endpoint `teach`."""
    taught = Path(tempfile.mkdtemp(prefix="uranet-taught-"))  # as long as the page runs
    atexit.register(shutil.rmtree, taught, ignore_errors=True)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320, scale=2):
            files = gr.File(
                file_count="multiple",
                label=f"{MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts, or a zip of them",
                height=200,
                elem_id="teach-files",
            )
            sample = gr.Button(f"Use {SAMPLE[1]} drawn photos of {SAMPLE[0]}", size="sm", elem_id="teach-sample")
        with gr.Column(min_width=280, scale=1):
            name = gr.Textbox(
                value="my-part", label="Name of the new checkpoint", max_lines=1, max_length=60, elem_id="teach-name"
            )
            start = gr.Button("Teach", variant="primary", elem_id="teach-start")
            cancel = gr.Button("Cancel", visible=False, elem_id="teach-cancel")
            status = gr.HTML(note_html(*EMPTY), elem_id="teach-status", padding=False)
            download = gr.DownloadButton(visible=False, elem_id="teach-download")
    with gr.Column(visible=False, elem_id="teach-flagged") as flagged:
        gr.HTML(
            '<div class="caption"><h3>Look at these first</h3><p>Ticked photos are left out of training.</p></div>',
            padding=False,
        )
        gallery = gr.Gallery(
            show_label=False,
            columns=4,
            fit_columns=False,
            height="auto",
            object_fit="contain",
            interactive=False,
            elem_id="teach-pictures",
        )
        leave_out = _any_names(gr.CheckboxGroup(show_label=False, elem_id="teach-leave-out"))
    with gr.Column(visible=False, elem_id="teach-curve") as curve_box:
        restoration, perception = (swatch_html(color, part) for part, color in LOSSES.items())
        gr.HTML(
            '<div class="caption"><h3>Losses while it learns</h3><p>Both fall while it learns to rewrite artificial defects as '
            f"normal ({restoration}) and to tell where they are ({perception}).</p></div>",
            padding=False,
        )
        curve = gr.LinePlot(
            x="step",
            y="loss",
            color="part",
            x_title="step",
            y_title="loss",
            x_lim=[0, OPTIONS["steps"]],
            height=260,
            colors_in_legend=[],
            color_map=LOSSES,
            show_label=False,
            elem_id="teach-losses",
        )
    asked = gr.Button(elem_id="teach-ask")  # clicked by a script, hidden by the style sheet
    report = gr.JSON(visible=False)
    looked = gr.State(note_html(*EMPTY))  # what the status says while nothing is taught

    def forget(files: list[str] | None) -> tuple[Any, ...]:
        """What was found on earlier photos, and their ticks, are not of these."""
        note = note_html(*(UNLOOKED if files else EMPTY))
        status = waiting_html() if files else note
        return status, note, gr.CheckboxGroup(choices=[], value=[]), gr.Column(visible=False)

    def look(files: list[str] | None) -> Iterator[tuple[Any, ...]]:
        """Look through the photos as soon as they are there."""
        with to_gr_error():
            if not files:  # they have left meanwhile
                return
            uploads = still_there(files)

            def work(progress: Progress, folder: Path) -> tuple[Gathered, PhotoReport, list[tuple[str, str]]]:
                gathered = gather(uploads, folder / "files", LIMITS)
                found = check_photos(gathered.files, progress)
                return gathered, found, pictures(gathered.files, found, folder)

            with Job(work) as job:
                for state in job.follow():
                    yield progress_html("Looking through the photos", state), *[gr.skip()] * 4
                gathered, found, shown = job.result()
                photos = gathered.files
                choices = [photos[row].name for row in found.flagged("duplicate", "size", "defect")]
                group = gr.CheckboxGroup(choices=choices, value=choices, visible=bool(choices))
                note = looked_html(gathered, found)
                yield note, note, group, gr.Column(visible=bool(shown or choices)), shown

    def teach(files: list[str] | None, name: str, leave_out: list[str]) -> Iterator[tuple[Any, ...]]:
        """Teach a new checkpoint from photos of good parts, or zips of them; files named in `leave_out` are not used.

        Returns a report as JSON (`name` of the checkpoint, to be used at once by the other endpoints; `photos` used; `seconds`;
        `false_alarms`, their expected rate and its bounds; `findings` on the photos; `losses`), a zip of the checkpoint, the loss
        curve, the result as HTML, and the choice of checkpoints.
        """
        with to_gr_error():
            if not files:
                raise UserError(f"There are no photos yet: drop {MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts.")
            plain = _plain(name)
            uploads = still_there(files)
            target = taught / f"{plain}-{secrets.token_hex(4)}"

            def work(progress: Progress, folder: Path) -> tuple[list[Upload], PhotoReport, Taught]:
                gathered = gather(uploads, folder / "files", LIMITS)
                found = check_photos(gathered.files, progress)
                return gathered.files, found, teach_part(chosen(gathered, found, leave_out), target, progress)

            with Job(work) as job:
                for state in job.follow():
                    losses = _curve(state.losses) if state.losses else gr.skip()
                    yield gr.skip(), gr.skip(), losses, _progress(state), gr.skip()
                photos, found, result = job.result()
                final = store.add(result.folder, plain)
                archive = job.folder / f"{final}.zip"
                write_checkpoint_zip(result.folder, final, archive)
                heard = [(entry["step"], entry) for entry in result.record["losses"]]
                choice = gr.Dropdown(choices=store.names(), value=final)
                yield (
                    _report(final, photos, found, result),
                    str(archive),
                    _curve(heard),
                    _taught_html(final, result),
                    choice,
                )

    def begin() -> tuple[Any, ...]:
        return gr.Button(visible=False), gr.Button(visible=True), gr.Column(visible=True), waiting_html()

    buttons = [start, cancel]
    findings = [status, looked, leave_out, flagged]
    looking = asked.click(
        look,
        inputs=files,
        outputs=[*findings, gallery],
        api_visibility="private",
        trigger_mode="always_last",
        **one_at_a_time("look"),
    )
    looking.failure(lambda note: note, inputs=looked, outputs=status, **QUIET)
    drawn = sample.click(lambda: [str(path) for path in good_images(*SAMPLE)], outputs=files, **QUIET)
    for trigger in (partial(gr.on, [files.upload, files.delete, files.clear]), drawn.then):
        changed = trigger(forget, inputs=files, outputs=findings, cancels=looking, **QUIET)
        changed.then(None, files, js=ASK, **QUIET)
    running = start.click(begin, outputs=[*buttons, curve_box, status], cancels=looking, **QUIET).then(
        teach,
        inputs=[files, name, leave_out],
        outputs=[report, download, curve, status, picker],
        api_name="teach",
        **one_at_a_time("teach"),
    )
    running.success(_download, inputs=picker, outputs=download, **QUIET)
    finish(start, cancel, running, status, curve_box, looked, "Nothing was kept. Press Teach to start again.")


def _download(name: str) -> gr.DownloadButton:
    """The button of the checkpoint taught last; it stays while another one is taught, which may fail or be cancelled."""
    return gr.DownloadButton(f"Download {name} (ZIP)", visible=True)


def _any_names(group: gr.CheckboxGroup) -> gr.CheckboxGroup:
    """Let the endpoint name any file: the choices on the page are those of its visitor's photos."""
    group.preprocess = lambda payload: [str(name) for name in payload or []]  # type: ignore
    return group


def _plain(name: str) -> str:
    """A checkpoint's name of what the visitor typed: letters, digits, dot, underscore and hyphen."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name or "").strip("-._")[:60]
    if not plain:
        raise UserError("The new checkpoint needs a name of letters and digits, such as my-part.")
    return plain


def _progress(state: State) -> str:
    words, low, high = STAGES.get(state.stage, ("Getting ready", 0.0, 0.0))
    share = state.done / state.total if state.total else 0.0
    return progress_html(words, state, low + share * (high - low))


def _curve(losses: Sequence[tuple[int, Any]]) -> pd.DataFrame:
    rows = [(step, values[f"{part}_loss"], part) for step, values in losses for part in LOSSES]
    return pd.DataFrame(rows, columns=["step", "loss", "part"])


def _report(name: str, photos: Sequence[Upload], found: PhotoReport, result: Taught) -> dict[str, Any]:
    rate = result.false_alarms
    return {
        "name": name,
        "photos": result.record["images"],
        "seconds": result.record["seconds"],
        "false_alarms": {**vars(rate), "sentence": rate.sentence()},
        "findings": [{"file": photos[f.photo].name, "kind": f.kind, "sentence": f.sentence} for f in found.findings],
        "losses": result.record["losses"],
    }


def _taught_html(name: str, result: Taught) -> str:
    used = result.record["images"]
    words = f"{name} is ready and chosen above"
    learnt = f"Learnt from {used['fitted']} photos in {duration(result.record['seconds'])}."
    return note_html(words, f"{learnt} {result.false_alarms.sentence()} Try it in Detect.", "good")
