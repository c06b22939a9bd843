"""Draw the picture of docs/uncertainty.md: `python tools/doubt.py`. Parts drawn by this package, seen by one bundled checkpoint.

A row a case; columns: photo, heatmap, probability, total, aleatoric and epistemic uncertainty. No training saw these parts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from strip import MAX_ENTROPY, draw

from ura_hf import load_detector
from ura_hf.data.drawn.parts import demo_image
from ura_hf.evaluation.visualization import colorize, overlay
from ura_hf.model.images import load_image

REFLECTION = "reflection"
CASES = (
    ("ring", 1_000_003, "stain"),
    ("ring", 1_000_002, None),
    ("ring", 1_000_001, "chip"),
    ("ring", 1_000_001, REFLECTION),
    ("cloth", 1_000_001, None),
)
"""Kind, number of the drawing and defect: a defect, a good part, a defect at an edge, a good part that shines, another part."""
MAPS = {
    "anomaly_probability": 1.0,
    "total_uncertainty": MAX_ENTROPY,
    "aleatoric_uncertainty": MAX_ENTROPY,
    "epistemic_uncertainty": MAX_ENTROPY,
}
"""Maps, and the value at the end of each one's scale."""
TITLES = ("photo", "heatmap", "probability", "total", "aleatoric", "epistemic")
OUTPUT = Path(__file__).resolve().parent.parent / "docs/pictures/uncertainty.png"


def shine(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The photo with the soft white spot of a lamp on the right of the ring: uint8 RGB (H, W, 3) -> same."""
    height, width = photo.shape[:2]
    y, x = np.mgrid[:height, :width]
    light = np.exp(-(((x / width - 0.75) / 0.05) ** 2) - ((y / height - 0.6) / 0.08) ** 2)[..., None]
    return np.clip(photo + 180 * light, 0, 255).astype(np.uint8)


def pictures() -> list[list[NDArray[np.uint8]]]:
    """The rows, uint8 RGB (H, W, 3) each."""
    detector, rows = load_detector("uranet-demo-ring"), []
    for kind, number, defect in CASES:
        photo, _ = demo_image(kind, number, None if defect == REFLECTION else defect)
        photo = shine(photo) if defect == REFLECTION else photo
        found = detector(photo, maps=("score_map", *MAPS))
        heatmap = overlay(load_image(photo), found["score_map"])
        rows.append([photo, heatmap, *(colorize(found[name], 0, end, "cividis") for name, end in MAPS.items())])
    return rows


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    draw(TITLES, pictures()).quantize(128).save(output, optimize=True)
