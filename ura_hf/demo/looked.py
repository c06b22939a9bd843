"""What the tab Teach makes of photos that were looked through: thumbnails, words, and those that are taught from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.archives import Gathered, Upload
from ..evaluation.visualization import fit_within, overlay, to_pixels
from ..model.errors import UserError
from ..model.images import load_image
from ..training.photo_checks import PhotoReport
from ..training.teaching import MAX_PHOTOS, MIN_PHOTOS
from .jobs import note_html

THUMBNAIL = 320  # longest side of a flagged photo on the page [pixels]
WORDS = {
    "unreadable": "can't be read",
    "duplicate": "shown twice",
    "size": "of an unusual size",
    "defect": "perhaps not good",
}


def pictures(photos: Sequence[Upload], report: PhotoReport, folder: Path) -> list[tuple[str, str]]:
    """Thumbnails of the flagged photos with what was found, likely defects glowing where they are; unreadable ones have none."""
    folder.mkdir(parents=True, exist_ok=True)
    shown: list[tuple[str, str]] = []
    for finding in report.problems:
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


def looked_html(gathered: Gathered, report: PhotoReport) -> str:
    """How many photos can be used, and what was found."""
    usable, count = len(report.readable), report.count + len(gathered.damaged)
    notes = [f"{f.sentence}." for f in report.problems if f.kind == "unreadable"]
    notes += [f"{name}: {reason}." for name, reason in gathered.damaged]
    counts = [
        f"{len(rows)} {WORDS[kind]}" for kind in ("duplicate", "size", "defect") if (rows := report.flagged(kind))
    ]
    words = f"{usable} of {count} photos can be used" if usable < count else f"{count} photos, all readable"
    detail = (
        f"Worth a look below: {', '.join(counts)}." if counts else "No doubles, odd sizes or likely defects were found."
    )
    if usable < MIN_PHOTOS:
        detail = f"At least {MIN_PHOTOS} are needed. {detail}"
    if usable > MAX_PHOTOS:
        detail = f"At most {MAX_PHOTOS} are taken: leave some out. {detail}"
    fits = MIN_PHOTOS <= usable <= MAX_PHOTOS
    return note_html(words, " ".join([detail, *notes[:5]]), "" if fits else "bad")


def chosen(gathered: Gathered, report: PhotoReport, leave_out: Collection[str]) -> list[Upload]:
    """The photos that can be read and are not named in `leave_out`.

    Raises:
        UserError: Too few remain since some are left out.
    """
    readable = [gathered.files[row] for row in report.readable]
    kept = [photo for photo in readable if photo.name not in leave_out]
    count, ticked = report.count + len(gathered.damaged), len(readable) - len(kept)
    if ticked and len(kept) < MIN_PHOTOS:
        unreadable = f"{count - len(readable)} can't be read, " if len(readable) < count else ""
        untick = f"untick {'it' if ticked == 1 else 'some'} or " if len(readable) >= MIN_PHOTOS else ""
        raise UserError(
            f"{count} photos came, {unreadable}{ticked} {'is' if ticked == 1 else 'are'} ticked to be left out and "
            f"{len(kept)} remain, but at least {MIN_PHOTOS} are needed: {untick}add more."
        )
    return kept
