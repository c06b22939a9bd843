"""Draw the picture strip of the README: `python tools/strip.py`. Parts drawn by this package, seen by the bundled checkpoints.

A row a part; columns: photo, heatmap, features, restored features, uncertainty. No training saw these parts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ura_hf import load_detector
from ura_hf.data.drawn.parts import demo_image
from ura_hf.evaluation.visualization import colorize, overlay, pca_colors

PARTS = (("ring", "crack", 1_000_001), ("board", "missing_part", 1_000_000))
"""Kind, defect and number of the drawing; the bundled checkpoints were made with numbers below a million."""
COLUMNS = ("photo", "heatmap", "features", "restored features", "uncertainty")
SIDE, TITLE, GAP = 192, 24, 4  # pixels
MAX_ENTROPY = float(np.log(2))  # nats: the entropy of a coin toss
OUTPUT = Path(__file__).resolve().parent.parent / "docs/pictures/strip.png"


def pictures(kind: str, defect: str, number: int) -> list[NDArray[np.uint8]]:
    """The row of one part, uint8 RGB (H, W, 3) each, in the order of COLUMNS."""
    photo, _ = demo_image(kind, number, defect)
    found = load_detector(f"uranet-demo-{kind}")(photo, return_features=True)
    features, restored = pca_colors(found["features"], found["restored_features"])
    uncertainty = colorize(found["total_uncertainty"], 0, MAX_ENTROPY, "cividis")
    return [photo, overlay(photo / 255, found["score_map"]), features, restored, uncertainty]


def draw() -> Image.Image:
    """The strip: a line of titles, then a row a part."""
    step = SIDE + GAP
    canvas = Image.new("RGB", (len(COLUMNS) * step - GAP, TITLE + len(PARTS) * step - GAP), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for column, title in enumerate(COLUMNS):
        pen.text((column * step + SIDE / 2, TITLE / 2), title, fill="black", font=font, anchor="mm")
    for row, part in enumerate(PARTS):
        for column, picture in enumerate(pictures(*part)):
            small = picture.shape[0] < SIDE
            way = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            shown = Image.fromarray(picture).resize((SIDE, SIDE), way)
            canvas.paste(shown, (column * step, TITLE + row * step))
    return canvas


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    draw().save(output, optimize=True)
