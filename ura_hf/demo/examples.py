"""Pictures to try a bundled demo checkpoint with; drawn while the page starts, so that none is shipped."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock, Thread

from PIL import Image

from ..data.drawn.parts import KINDS, LOGICAL, demo_image

FIRST_SEED = 70_000  # far from the seeds of training and test images
PREFIX = "uranet-demo-"
DRAWING = {kind: Lock() for kind in KINDS}


def has_examples(checkpoint: str) -> bool:
    """Whether there are drawn parts of what a checkpoint was trained on."""
    return checkpoint.startswith(PREFIX) and checkpoint.removeprefix(PREFIX) in KINDS


def draw_early(checkpoint: str) -> None:
    """Begin to draw a checkpoint's examples; who asks for them waits for what is left."""

    def draw() -> None:
        with suppress(OSError):  # the page was stopped meanwhile, and the folder is gone
            example_images(checkpoint)

    Thread(target=draw, daemon=True).start()


def example_images(checkpoint: str) -> list[Path]:
    """A good part and one of every defect type of the kind that `uranet-demo-KIND` was trained on; none for other checkpoints.

    The files live until the process ends.
    """
    if not has_examples(checkpoint):
        return []
    kind = checkpoint.removeprefix(PREFIX)
    with DRAWING[kind]:  # once, whoever asks meanwhile
        return _draw(kind)


@cache
def _draw(kind: str) -> list[Path]:
    folder = Path(tempfile.mkdtemp(prefix="uranet-examples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = []
    defects = [None, *(defect for defect in KINDS[kind][2] if defect not in LOGICAL), *LOGICAL]
    for index, defect in enumerate(defect for defect in defects if defect is None or defect in KINDS[kind][2]):
        path = folder / f"{defect or 'good'}.png"
        Image.fromarray(demo_image(kind, FIRST_SEED + index, defect)[0]).save(path)
        paths.append(path)
    return paths


@cache
def good_images(kind: str, count: int) -> list[Path]:
    """Good parts of a kind, to teach with; the files live until the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="uranet-examples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    paths = [folder / f"{kind}-{index + 1:02d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        Image.fromarray(demo_image(kind, 2 * FIRST_SEED + index)[0]).save(path)
    return paths
