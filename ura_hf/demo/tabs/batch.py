"""The tab Batch: many photos or a zip in; a table, the worst first as pictures, CSV and overlays out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from ...data.archives import MIB, ZipLimits, gather
from ...data.folder import natural_key
from ...data.progress import Progress
from ...evaluation.batch import BatchRow, predict_batch, summary, with_frames, worst_first, write_csv, write_overlays
from ...evaluation.drift import FEWEST, drift
from ...model.errors import UserError
from ...model.verdicts import LABELS
from ..cancelling import finish
from ..examples import example_images, has_examples
from ..jobs import Job, note_html, one_at_a_time, progress_html, waiting_html
from ..render import format_score
from ..shared import QUIET, on_gpu, session_of, still_there, to_gr_error
from ..store import Detectors

LIMITS = ZipLimits(files=1000, total=1024 * MIB)
GPU_SECONDS = 60  # of a ZeroGPU Space for a batch
SHOWN = 60  # pictures in the gallery
HEADERS = ["Photo", "Verdict", "Score", "1 in", "Area %", "Why not checked"]
EMPTY = ("Nothing checked yet", "Drop photos or a zip of them, then press Check all. The worst come first.")


@dataclass(frozen=True)
class Layout:
    """What the tab consists of; `report` is for those who call the endpoint."""

    files: gr.File
    sample: gr.Button
    start: gr.Button
    cancel: gr.Button
    status: gr.HTML
    report: gr.JSON
    results: gr.Column
    table_file: gr.DownloadButton
    overlay_file: gr.DownloadButton
    gallery: gr.Gallery
    table: gr.Dataframe


def build(store: Detectors, picker: gr.Dropdown) -> None:
    """Files, progress, summary, gallery, table and downloads, wired to the endpoint `batch`."""
    tab = _lay_out(has_examples(str(picker.value)))
    idle = gr.State(note_html(*EMPTY))

    @on_gpu(GPU_SECONDS)
    def predicting(files: list[str] | None, checkpoint: str, session: str) -> Iterator[tuple[Any, ...]]:
        with to_gr_error():
            yield from _predict(store, files, checkpoint, session)

    def batch(files: list[str] | None, checkpoint: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Check many images, or zips of them, with one checkpoint.

        Returns a report as JSON: `checkpoint`; how many `images`, of each verdict, and `not_checked`; `changed_at`, the file
        from which on parts look different in the order of names; and `rows`, worst first, each with `file`, `label`, `score`
        (0.5 is the threshold), `rank`, raw `image_score`, `anomalous_fraction` of the pixels, and `problem` where it could not
        be checked. Then the table as CSV, a zip of overlays, pictures of the worst, the table and the summary as HTML.
        """
        yield from predicting(files, checkpoint, session_of(request))

    def begin() -> tuple[Any, ...]:
        return gr.Button(visible=False), gr.Button(visible=True), gr.Column(visible=False), waiting_html()

    running = tab.start.click(begin, outputs=[tab.start, tab.cancel, tab.results, tab.status], **QUIET).then(
        batch,
        inputs=[tab.files, picker],
        outputs=[tab.report, tab.table_file, tab.overlay_file, tab.gallery, tab.table, tab.status],
        api_name="batch",
        **one_at_a_time("batch"),
    )
    stopped = "Nothing was kept. Press Check all to start again."
    finish(tab.start, tab.cancel, running, tab.status, tab.results, idle, stopped)
    tab.sample.click(lambda checkpoint: [str(path) for path in example_images(checkpoint)], picker, tab.files, **QUIET)
    picker.change(lambda name: gr.Button(visible=has_examples(name)), picker, tab.sample, **QUIET)
    tab.files.clear(lambda: (note_html(*EMPTY), gr.Column(visible=False)), outputs=[tab.status, tab.results], **QUIET)


def _lay_out(has_sample: bool) -> Layout:
    """The tab, not wired."""
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320, scale=2):
            files = gr.File(file_count="multiple", label="Photos, or a zip of them", height=200, elem_id="batch-files")
            sample = gr.Button("Use sample photos", size="sm", visible=has_sample, elem_id="batch-sample")
        with gr.Column(min_width=280, scale=1):
            start = gr.Button("Check all", variant="primary", elem_id="batch-start")
            cancel = gr.Button("Cancel", visible=False, elem_id="batch-cancel")
            status = gr.HTML(note_html(*EMPTY), elem_id="batch-status", padding=False)
    report = gr.JSON(visible=False)
    with gr.Column(visible=False, elem_id="batch-results") as results:
        with gr.Row():
            table_file = gr.DownloadButton("Download table (CSV)", size="md", elem_id="batch-csv")
            overlay_file = gr.DownloadButton("Download overlays (ZIP)", size="md", elem_id="batch-overlays")
        gallery, table = _gallery(), _table()
    return Layout(files, sample, start, cancel, status, report, results, table_file, overlay_file, gallery, table)


def _gallery() -> gr.Gallery:
    return gr.Gallery(
        label="Worst first",
        columns=4,
        fit_columns=False,
        height="auto",
        object_fit="contain",
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id="batch-gallery",
    )


def _table() -> gr.Dataframe:
    return gr.Dataframe(
        headers=HEADERS,
        datatype=["str", "str", "number", "number", "number", "str"],
        interactive=False,
        wrap=True,
        column_widths=["22%", "22%", "14%", "12%", "12%", "18%"],
        max_height=420,
        label="All photos; a click on a heading sorts",
        buttons=["fullscreen", "copy"],
        elem_id="batch-table",
    )


def _predict(store: Detectors, files: list[str] | None, checkpoint: str, session: str) -> Iterator[tuple[Any, ...]]:
    """What the endpoint `batch` gives, again and again: first its progress."""
    if not files:
        raise UserError("There are no photos yet: drop some, or a zip of them.")
    uploads = still_there(files)

    def work(progress: Progress, folder: Path) -> tuple[list[BatchRow], str | None]:
        detector, rows = store.get(checkpoint, session), []
        gathered = with_frames(gather(uploads, folder / "files", LIMITS), LIMITS.files)
        total = len(gathered.files) + len(gathered.damaged)
        for row in predict_batch(detector, gathered, folder / "overlays"):
            rows.append(row)
            progress("predicting", len(rows), total)
        changed = _changed(rows)
        rows = worst_first(rows)
        write_csv(rows, folder / "uranet-batch.csv")
        write_overlays(rows, folder / "uranet-overlays.zip")
        return rows, changed

    with Job(work) as job:
        for state in job.follow():
            words = "Checking photos" if state.done else "Reading the upload"
            yield (*[gr.skip()] * 5, progress_html(words, state))
        rows, changed = job.result()
        figures = {
            "checkpoint": checkpoint,
            **summary(rows),
            "changed_at": changed,
            "rows": [row.figures() for row in rows],
        }
        yield (
            figures,
            str(job.folder / "uranet-batch.csv"),
            str(job.folder / "uranet-overlays.zip"),
            [(str(row.overlay), _caption(row)) for row in rows if row.overlay is not None][:SHOWN],
            [_cells(row) for row in rows],
            _summary_html(figures),
        )


def _changed(rows: Sequence[BatchRow]) -> str | None:
    """The file from which on parts look different, by name; None without a change, of few photos and of several folders."""
    ordered = sorted((row for row in rows if row.score is not None), key=lambda row: natural_key(row.file))
    if (
        len(ordered) < FEWEST or len({PurePosixPath(row.file).parent for row in ordered}) > 1
    ):  # sorted by kind, not by time
        return None
    began = drift([row.score or 0.0 for row in ordered]).began
    return None if began is None else ordered[began].file


def _caption(row: BatchRow) -> str:
    return f"{format_score(row.score or 0.0)} {row.label} · {row.file}"


def _cells(row: BatchRow) -> list[Any]:
    """A line of the table: the share of the area in per cent, both numbers rounded."""
    if row.score is None or row.anomalous_fraction is None:
        return [row.file, "not checked", None, None, None, row.problem]
    rank = None if row.rank is None else round(row.rank)
    return [row.file, row.label, round(row.score, 3), rank, round(100 * row.anomalous_fraction, 2), ""]


def _summary_html(figures: dict[str, Any]) -> str:
    checked = sum(figures[name] for name in LABELS)
    words = f"{figures['anomalous']} of {checked} {'photo looks' if checked == 1 else 'photos look'} anomalous"
    detail = f"Checked with {figures['checkpoint']}."
    if count := figures["review"]:
        detail += f" {count} more should be looked at."
    if count := figures["unknown"]:
        detail += f" {count} {'is' if count == 1 else 'are'} not this part at all."
    if changed := figures["changed_at"]:
        detail += f" In the order of their names, parts look different from about {changed} on."
    if count := figures["not_checked"]:
        detail += f" {count} {'file' if count == 1 else 'files'} could not be checked; the table says why."
    return note_html(
        words if checked else "No photo could be checked",
        detail,
        "good" if checked and checked == figures["normal"] else "bad",
    )
