"""The data sets of the benchmarks, each in MVTec AD's layout: six to choose and judge by, turned pills, and drawn rings."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turned import write_turned

from ura_hf.data.drawn.parts import write_demo_data
from ura_hf.data.elpv import DEFECTIVE, read_cells

ROOT = Path(__file__).resolve().parent.parent
DATASETS = {"bottle": "data/mvtec/bottle", "pill": "data/mvtec/pill", "magnetic_tile": "data/magnetic_tile"}
TURNED = {"pill_turned": 1.0, "pill_turned_small": 0.5}
"""Pills in any rotation (`turned.py`), and how large they are in the picture against the original."""
GENERATED = ROOT / "runs/generated"
RING = "drawn_ring"
"""The part that `uranet demo-data` draws."""
SOLAR = "elpv_mono"
SETS = {**DATASETS, "ball_screw": "open/ball_screw", "cookies": "open/cookies", SOLAR: None}
"""Name -> folder below the shared one; None: the package elpv-dataset."""
GOOD_CELLS = 200  # solar cells to train on


def data_folder(name: str, shared: Path, seed: int = 0) -> Path:
    """Folder of a data set; cells, turned pills and drawn rings are written under GENERATED where they are missing.

    Of the mono solar cells, 200 good ones that the seed draws are to train on, the others to test.
    """
    if name in TURNED:
        source = shared / DATASETS["pill"]
        return written_once(GENERATED / name, lambda folder: write_turned(source, folder, TURNED[name]))
    if name == RING:
        return written_once(
            GENERATED / name, lambda folder: write_demo_data("ring", folder, train=150, good=40, each=8)
        )
    if (place := SETS[name]) is not None:
        return shared / place
    return written_once(GENERATED / f"{name}-{seed}", lambda folder: _link_cells(folder, seed))


def written_once(folder: Path, write: Callable[[Path], Any]) -> Path:
    """A folder that `write` fills where it is missing; never half of one. Of several processes the first to finish is kept."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            partial = Path(scratch) / folder.name
            write(partial)
            try:
                partial.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    return folder


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
