"""Pictures to try a checkpoint with: given photos, cells of an installed package, or drawn parts, so that none is shipped."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from PIL import Image

from ..data.drawn.parts import KINDS, LOGICAL, demo_image
from ..data.elpv import elpv_name, read_elpv
from ..data.files import read_json
from ..data.folder import list_images
from ..model.errors import UserError

FIRST_SEED = 70_000  # far from the seeds of training and test images
PREFIX = "uranet-demo-"
SOLAR = "uranet-elpv-"
CELLS = {
    "mono": (385, 1062, 1276, 23, 405, 474, 1097, 1446),
    "poly": (1626, 2063, 737, 312, 853, 1657, 277, 341),
}
"""Numbers of the test cells that are shown, by kind; the page opens with the first."""
OPENING = "opening.json"
"""File of a checkpoint with the verdict on that photo, made by `benchmarks/bundled.py`."""
CALIBRATION = 30  # good parts to set a threshold with
DRAWING = {kind: Lock() for kind in KINDS}
_given: dict[str, list[Path]] = {}  # photos by checkpoint


def give_examples(checkpoint: str, folder: Path) -> None:
    """Show copies of the photos in a folder as the examples of a checkpoint.

    Raises:
        UserError: It holds no photos.
    """
    photos = list_images(folder) if folder.is_dir() else []
    if not photos:
        raise UserError(f"--examples must be a folder of photos, but {folder} holds none: correct it or leave it out.")
    shown = _temporary_folder()  # Gradio serves files of few places
    _given[checkpoint] = [Path(shutil.copy(photo, shown)) for photo in photos]


def has_examples(checkpoint: str) -> bool:
    """Whether there are given photos of what a checkpoint was trained on, cells or drawn parts."""
    return checkpoint in _given or _is_drawn(checkpoint) or _is_solar(checkpoint)


def has_calibration_images(checkpoint: str) -> bool:
    """Whether there are cells or drawn parts to calibrate a checkpoint with; given photos may show anything."""
    return _is_drawn(checkpoint) or _is_solar(checkpoint)


def _is_drawn(checkpoint: str) -> bool:
    return checkpoint.startswith(PREFIX) and checkpoint.removeprefix(PREFIX) in KINDS


def _is_solar(checkpoint: str) -> bool:
    known = checkpoint.startswith(SOLAR) and checkpoint.removeprefix(SOLAR) in CELLS
    return known and find_spec("elpv_dataset") is not None


def opens_with(checkpoint: str) -> str | None:
    """The photo that the page opens with, a solar cell; None for other checkpoints."""
    return str(example_images(checkpoint)[0]) if _is_solar(checkpoint) and checkpoint not in _given else None


def opens_with_verdict(folder: Path) -> dict[str, Any] | None:
    """What the checkpoint in a folder finds on the photo that the page opens with, as `Analysis.summary` but for time and device.

    None of a checkpoint that was made without.
    """
    file = folder / OPENING
    return dict(read_json(file)) if file.is_file() else None


def draw_early(checkpoint: str) -> None:
    """Begin to draw a checkpoint's examples; who asks for them waits for what is left."""

    def draw() -> None:
        with suppress(OSError):  # the page was stopped meanwhile, and the folder is gone
            example_images(checkpoint)

    Thread(target=draw, daemon=True).start()


def example_images(checkpoint: str) -> list[Path]:
    """Given photos; else test cells of what `uranet-elpv-KIND` was trained on, or a good part and one of every defect type of the
    kind that `uranet-demo-KIND` was trained on, or none.

    The files live until the process ends.
    """
    if checkpoint not in _given and _is_solar(checkpoint):
        return _cells(checkpoint.removeprefix(SOLAR))
    if checkpoint in _given or not _is_drawn(checkpoint):
        return _given.get(checkpoint, [])
    kind = checkpoint.removeprefix(PREFIX)
    with DRAWING[kind]:  # once, whoever asks meanwhile
        return _draw(kind)


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="uranet-examples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def _cells(kind: str) -> list[Path]:
    """Copies of the `CELLS` of a kind, named good or defective."""
    folder = _temporary_folder()
    found = {f"cell{number:04d}": number for number in CELLS[kind]}
    known = {one.image.stem: one for one in read_elpv(elpv_name(kind)).test if one.image.stem in found}
    return [
        Path(shutil.copy(known[stem].image, folder / f"{known[stem].defect_type}_{number}.png"))
        for stem, number in found.items()
    ]


@cache
def _other_cells(kind: str) -> tuple[list[Path], list[Path]]:
    """Copies of test cells, good and defective ones."""
    folder, test = _temporary_folder(), read_elpv(elpv_name(kind)).test
    chosen = [[one.image for one in test if one.label == label][:CALIBRATION] for label in (0, 1)]
    good, bad = ([Path(shutil.copy(cell, folder)) for cell in cells] for cells in chosen)
    return good, bad


@cache
def _draw(kind: str) -> list[Path]:
    folder, paths = _temporary_folder(), []
    defects = [None, *(defect for defect in KINDS[kind][2] if defect not in LOGICAL), *LOGICAL]
    for index, defect in enumerate(defect for defect in defects if defect is None or defect in KINDS[kind][2]):
        path = folder / f"{defect or 'good'}.png"
        Image.fromarray(demo_image(kind, FIRST_SEED + index, defect)[0]).save(path)
        paths.append(path)
    return paths


@cache
def good_images(kind: str, count: int) -> list[Path]:
    """Good parts of a kind, to teach with; the files live until the process ends."""
    folder = _temporary_folder()
    paths = [folder / f"{kind}-{index + 1:02d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(demo_image(kind, 2 * FIRST_SEED + index)[0]).save(path)
    return paths


def calibration_images(checkpoint: str) -> tuple[list[Path], list[Path]]:
    """Good parts that training did not see, and defective ones: solar cells, or drawn parts; none for other checkpoints."""
    if _is_solar(checkpoint):
        return _other_cells(checkpoint.removeprefix(SOLAR))
    if not _is_drawn(checkpoint):
        return [], []
    kind = checkpoint.removeprefix(PREFIX)
    with DRAWING[kind]:
        return good_images(kind, CALIBRATION), _draw(kind)[1:]
