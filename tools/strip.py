"""Draw the picture strip of the README: `python tools/strip.py`. Solar cells that no training saw, seen by a bundled checkpoint.

A row a cell; columns: photo, heatmap, restored photo, uncertainty. Photos: ELPV, Deitsch et al., CC BY-NC-SA 4.0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ura_hf import load_detector
from ura_hf.data.elpv import read_elpv
from ura_hf.evaluation.visualization import colorize, overlay, to_pixels
from ura_hf.model.images import load_image

CHECKPOINT, DATA = "uranet-elpv-mono", "elpv:mono"
CELLS = (385, 23)  # numbers of test cells
COLUMNS = ("photo", "heatmap", "restored photo", "uncertainty")
SIDE, TITLE, GAP = 220, 24, 4  # pixels
MAX_ENTROPY = float(np.log(2))  # nats: the entropy of a coin toss
OUTPUT = Path(__file__).resolve().parent.parent / "docs/pictures/strip.png"


def pictures(cell: Path) -> list[NDArray[np.uint8]]:
    """The row of one cell, uint8 RGB (H, W, 3) each, in the order of COLUMNS."""
    photo = load_image(cell)
    found = load_detector(CHECKPOINT)(cell, return_restored=True)
    uncertainty = colorize(found["total_uncertainty"], 0, MAX_ENTROPY, "cividis")
    return [to_pixels(photo), overlay(photo, found["score_map"]), to_pixels(found["restored_image"]), uncertainty]


def draw(titles: Sequence[str], rows: Sequence[Sequence[NDArray[np.uint8]]]) -> Image.Image:
    """A line of titles, then rows of pictures, uint8 RGB (H, W, 3)."""
    step = SIDE + GAP
    canvas = Image.new("RGB", (len(titles) * step - GAP, TITLE + len(rows) * step - GAP), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for column, title in enumerate(titles):
        pen.text((column * step + SIDE / 2, TITLE / 2), title, fill="black", font=font, anchor="mm")
    for row, shown_in_row in enumerate(rows):
        for column, picture in enumerate(shown_in_row):
            shown = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            canvas.paste(shown, (column * step, TITLE + row * step))
    return canvas


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    cells = {sample.image.stem: sample.image for sample in read_elpv(DATA).test}
    draw(COLUMNS, [pictures(cells[f"cell{number:04d}"]) for number in CELLS]).save(output, optimize=True)
