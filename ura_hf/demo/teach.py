"""The tab Teach: photos of good parts in, looked through first; a detector of one's own and its false-alarm rate out."""

from __future__ import annotations

import atexit
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
from PIL import Image

from ura_hf.archives import MIB, Gathered, Upload, ZipLimits, gather
from ura_hf.demo.cancelling import finish
from ura_hf.demo.examples import good_images
from ura_hf.demo.jobs import Job, State, duration, note_html, one_at_a_time, progress_html, swatch_html, waiting_html
from ura_hf.demo.shared import QUIET, to_gr_error
from ura_hf.demo.store import Detectors
from ura_hf.errors import UserError
from ura_hf.images import load_image
from ura_hf.photo_checks import PhotoReport, check_photos
from ura_hf.progress import Progress
from ura_hf.teaching import MAX_PHOTOS, MIN_PHOTOS, OPTIONS, Taught, write_checkpoint_zip
from ura_hf.teaching import teach as teach_part
from ura_hf.visualization import fit_within, overlay, to_pixels

LIMITS = ZipLimits(files=MAX_PHOTOS + 50, total=1024 * MIB)
SAMPLE = ("cloth", 30)  # drawn photos for visitors without any: kind, count
THUMBNAIL = 320  # longest side of a flagged photo on the page [pixels]
EMPTY = (
    "No photos yet",
    f"Drop {MIN_PHOTOS} to {MAX_PHOTOS} photos of good parts, taken as those to be checked will be. "
    "30 are a good start.",
)
LOSSES = {"restoration": "#0d9488", "perception": "#d97706"}  # parts of the loss and their colours
WORDS = {
    "unreadable": "can't be read",
    "duplicate": "shown twice",
    "size": "of an unusual size",
    "defect": "perhaps not good",
}
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
            download = gr.DownloadButton("Download checkpoint (ZIP)", visible=False, elem_id="teach-download")
    with gr.Column(visible=False, elem_id="teach-flagged") as flagged:
        gr.HTML(
            '<div class="caption"><h3>Look at these first</h3><p>Ticked photos are left out of training.</p></div>',
            padding=False,
        )
        pictures = gr.Gallery(
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
    report = gr.JSON(visible=False)

    def look(files: list[str] | None) -> Iterator[tuple[Any, ...]]:
        """Look through the photos as soon as they are there."""
        with to_gr_error():
            if not files:
                yield note_html(*EMPTY), gr.skip(), gr.skip(), gr.Column(visible=False)
                return
            uploads = [Path(file) for file in files]

            def work(progress: Progress, folder: Path) -> tuple[Gathered, PhotoReport, list[tuple[str, str]]]:
                gathered = gather(uploads, folder / "files", LIMITS)
                found = check_photos(gathered.files, progress)
                return gathered, found, _pictures(gathered.files, found, folder)

            with Job(work) as job:
                for state in job.follow():
                    yield progress_html("Looking through the photos", state), gr.skip(), gr.skip(), gr.skip()
                gathered, found, shown = job.result()
                photos = gathered.files
                choices = [photos[row].name for row in found.flagged("duplicate", "size", "defect")]
                group = gr.CheckboxGroup(choices=choices, value=choices, visible=bool(choices))
                yield _looked_html(gathered, found), shown, group, gr.Column(visible=bool(shown or choices))

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
            uploads = [Path(file) for file in files]
            target = taught / f"{plain}-{secrets.token_hex(4)}"

            def work(progress: Progress, folder: Path) -> tuple[list[Upload], PhotoReport, Taught]:
                gathered = gather(uploads, folder / "files", LIMITS)
                found = check_photos(gathered.files, progress)
                kept = [gathered.files[row] for row in found.readable if gathered.files[row].name not in leave_out]
                return gathered.files, found, teach_part(kept, target, progress)

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
        return (
            gr.Button(visible=False),
            gr.Button(visible=True),
            gr.DownloadButton(visible=False),
            gr.Column(visible=True),
            waiting_html(),
        )

    buttons = [start, cancel]
    drawn = sample.click(lambda: [str(path) for path in good_images(*SAMPLE)], outputs=files, **QUIET)
    look_event: dict[str, Any] = {
        "fn": look,
        "inputs": files,
        "outputs": [status, pictures, leave_out, flagged],
        "api_visibility": "private",
        **one_at_a_time("look"),
    }
    looking = [
        gr.on([files.upload, files.delete, files.clear], trigger_mode="always_last", **look_event),
        drawn.then(**look_event),
    ]
    for event in looking:
        event.failure(lambda: (note_html(*EMPTY), gr.Column(visible=False)), outputs=[status, flagged], **QUIET)
    running = start.click(begin, outputs=[*buttons, download, curve_box, status], cancels=looking, **QUIET).then(
        teach,
        inputs=[files, name, leave_out],
        outputs=[report, download, curve, status, picker],
        api_name="teach",
        **one_at_a_time("teach"),
    )
    running.success(lambda: gr.DownloadButton(visible=True), outputs=download, **QUIET)
    finish(start, cancel, running, status, curve_box, EMPTY, "Nothing was kept. Press Teach to start again.")


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


def _pictures(photos: Sequence[Upload], found: PhotoReport, folder: Path) -> list[tuple[str, str]]:
    """Thumbnails of the flagged photos with what was found, likely defects glowing where they are; unreadable ones have none."""
    folder.mkdir(parents=True, exist_ok=True)
    shown: list[tuple[str, str]] = []
    for finding in found.findings:
        if finding.kind == "unreadable":
            continue
        picture = fit_within(load_image(photos[finding.photo].path), THUMBNAIL)
        pixels = to_pixels(picture)
        if finding.cells is not None:
            size = (picture.shape[1], picture.shape[0])
            place = np.asarray(Image.fromarray(finding.cells).resize(size, Image.Resampling.BICUBIC))
            pixels = overlay(picture, place)
        path = folder / f"flagged-{len(shown)}.png"
        Image.fromarray(pixels).save(path)
        shown.append((str(path), f"{photos[finding.photo].name}: {WORDS[finding.kind]}"))
    return shown


def _looked_html(gathered: Gathered, found: PhotoReport) -> str:
    usable, count = len(found.readable), found.count + len(gathered.damaged)
    notes = [f"{f.sentence}." for f in found.findings if f.kind == "unreadable"]
    notes += [f"{name}: {reason}." for name, reason in gathered.damaged]
    counts = [f"{len(rows)} {WORDS[kind]}" for kind in ("duplicate", "size", "defect") if (rows := found.flagged(kind))]
    words = f"{usable} of {count} photos can be used" if usable < count else f"{count} photos, all readable"
    detail = (
        f"Worth a look below: {', '.join(counts)}." if counts else "No doubles, odd sizes or likely defects were found."
    )
    if usable < MIN_PHOTOS:
        detail = f"At least {MIN_PHOTOS} are needed. {detail}"
    return note_html(words, " ".join([detail, *notes[:5]]), "bad" if usable < MIN_PHOTOS else "")


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
