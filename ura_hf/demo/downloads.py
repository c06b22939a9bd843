"""Files of one result: maps as .npy and as 16-bit PNG at the size of the image, the numbers as JSON, a figure for a report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from PIL import Image

from ..model.image_processing_uranet import MAPS
from . import render
from .analysis import Analysis, View

PNG_MAPS = tuple(name for name in MAPS if name != "anomaly_map")
"""Maps with an end to their scale; the raw map, which has none, is only in the .npy files."""


def write(kind: str, analysis: Analysis, view: View, folder: Path) -> str:
    """Write one of FILES into a new folder inside `folder`; returns its path."""
    end, fill = FILES[kind]
    path = Path(tempfile.mkdtemp(dir=folder)) / f"{Path(analysis.about['file']).stem}{end}"
    with path.open("wb") as stream:
        fill(stream, analysis, view)
    return str(path)


def _arrays(stream: IO[bytes], analysis: Analysis, view: View) -> None:
    """Every map as float32 (H, W), one after the other so that only one is in memory."""
    with ZipFile(stream, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for name in MAPS:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, analysis.map(name, _size(analysis)))
        archive.writestr("result.json", _json(analysis, view))


def _pngs(stream: IO[bytes], analysis: Analysis, view: View) -> None:
    """Maps as 16-bit grey PNG: 0 is 0, 65535 is the value that scale.json names or more."""
    scale = {}
    with ZipFile(stream, "w", ZIP_STORED) as archive:
        for name in PNG_MAPS:
            values, top = render.scaled_map(analysis, name, _size(analysis))
            levels = np.clip(np.rint(values / top * 65535), 0, 65535).astype(np.uint16)
            with archive.open(f"{name}.png", "w", force_zip64=True) as member:
                Image.fromarray(levels).save(member, "PNG")
            scale[f"{name}.png"] = {"0": 0.0, "65535": top}
        archive.writestr("scale.json", json.dumps(scale, indent=2))
        archive.writestr("result.json", _json(analysis, view))


def _result(stream: IO[bytes], analysis: Analysis, view: View) -> None:
    stream.write(_json(analysis, view).encode())


def _figure(stream: IO[bytes], analysis: Analysis, view: View) -> None:
    """Image, heatmap, features, residual map and uncertainty on one page, with the verdict above them."""
    from matplotlib.figure import Figure  # not at the top: the page starts without it

    summary = analysis.summary(view.threshold, view.max_review)
    threshold = view.threshold
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    height, width = analysis.picture.shape[:2]
    pictures = (
        ("Image", analysis.picture),
        (f"Heatmap, threshold {threshold:g}", render.overlay(analysis, threshold, view.strength)),
        ("Input features", analysis.features),
        ("Restored features", analysis.restored),
    )
    for panel, (title, picture) in zip(axes, pictures, strict=False):
        panel.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
        panel.set_title(title, fontsize=11)
    for panel, (name, title, _, cmap, _) in zip(axes[4:], (render.FIGURES[0], render.FIGURES[2]), strict=True):
        values, top = render.scaled_map(analysis, name)
        shown = panel.imshow(values, cmap=cmap, vmin=0, vmax=top, extent=(0, width, height, 0))
        panel.set_title(f"{title}, raw" if name == "anomaly_map" else f"{title}, nats", fontsize=11)
        figure.colorbar(shown, ax=panel, shrink=0.8)
    for panel in axes:
        panel.set_xticks([])
        panel.set_yticks([])
    score = render.format_score(summary["score"], threshold)
    kind = ", not a part that the checkpoint knows" if summary["label"] == "unknown" else ""
    figure.suptitle(f"{summary['file']}: {summary['label']}{kind}\nscore {score}, threshold {threshold:g}", fontsize=13)
    figure.supxlabel(
        f"{summary['checkpoint']}, {len(summary['regions'])} places above the threshold, {date.today():%Y-%m-%d}",
        fontsize=9,
    )
    figure.savefig(stream, format="png", dpi=150)


def _size(analysis: Analysis) -> tuple[int, int]:
    height, width = analysis.about["image_size"]
    return height, width


def _json(analysis: Analysis, view: View) -> str:
    return json.dumps(analysis.summary(view.threshold, view.max_review), indent=2)


FILES: dict[str, tuple[str, Callable[[IO[bytes], Analysis, View], None]]] = {
    "Maps (.npy)": ("_maps_npy.zip", _arrays),
    "Maps (16-bit PNG)": ("_maps_png16.zip", _pngs),
    "Result (JSON)": ("_result.json", _result),
    "Figure (PNG)": ("_figure.png", _figure),
}
"""Label of each download, end of its file's name, and what writes it."""
