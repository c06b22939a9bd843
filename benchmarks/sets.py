"""The six data sets that the method is chosen and judged on, each as a folder in MVTec AD's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from detection import DATASETS, ROOT, written_once

from ura_hf.data.elpv import DEFECTIVE, read_cells

SOLAR = "elpv_mono"
SETS = {**DATASETS, "ball_screw": "open/ball_screw", "cookies": "open/cookies", SOLAR: None}
"""Name -> folder below the shared one; None: the package elpv-dataset."""
GOOD_CELLS = 200  # solar cells to train on


def set_folder(name: str, shared: Path, seed: int) -> Path:
    """Folder of a data set. Of the mono solar cells, 200 good ones that the seed draws are to train on, the others to test."""
    if (place := SETS[name]) is not None:
        return shared / place
    return written_once(ROOT / "runs/generated" / f"{name}-{seed}", lambda folder: _link_cells(folder, seed))


def _link_cells(folder: Path, seed: int) -> None:
    """Links to the cells with defect probability 0 (good) or 1."""
    cells = read_cells("mono")
    good = cells.good
    order = np.random.default_rng(seed).permutation(len(good)).tolist()
    parts = {"train/good": [good[i] for i in order[:GOOD_CELLS]], "test/good": [good[i] for i in order[GOOD_CELLS:]]}
    parts[f"test/{DEFECTIVE}"] = cells.defective
    for place, images in parts.items():
        (folder / place).mkdir(parents=True)
        for image in images:
            (folder / place / image.name).symlink_to(image)
