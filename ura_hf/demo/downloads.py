"""Files of one result: maps as .npy and as 16-bit PNG at the size of the image, the numbers as JSON, a figure for a report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
from PIL import Image

from ..model.image_processing_uranet import MAPS
from . import maps, render
from .analysis import Analysis, View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
            values, top = maps.scaled_map(analysis, name, _size(analysis))
            levels = np.clip(np.rint(values / top * 65535), 0, 65535).astype(np.uint16)
            with archive.open(f"{name}.png", "w", force_zip64=True) as member:
                Image.fromarray(levels).save(member, "PNG")
            scale[f"{name}.png"] = {"0": 0.0, "65535": top}
        archive.writestr("scale.json", json.dumps(scale, indent=2))
        archive.writestr("result.json", _json(analysis, view))


def _result(stream: IO[bytes], analysis: Analysis, view: View) -> None:
    stream.write(_json(analysis, view).encode())


def _figure(stream: IO[bytes], analysis: Analysis, view: View) -> None:
    sheet(analysis, view).savefig(stream, format="png", dpi=150)


def sheet(analysis: Analysis, view: View) -> Figure:
    """Image, heatmap, restored image, features, residual map, how likely and how sure on one page, below the verdict."""
    from matplotlib.figure import Figure  # not at the top: the page starts without it

    summary = analysis.summary(view.threshold, view.max_review)
    figure = Figure(figsize=(14, 8), layout="constrained")
    axes = figure.subplots(2, 4)
    above = analysis.map("score_map") > view.threshold
    _draw_pictures((*axes[0, :3], *axes[1, :2]), analysis, view)
    units = ("raw", "probability", "uncertainty in nats")
    for panel, shown, unit in zip(
        (axes[0, 3], *axes[1, 2:]), (maps.RESIDUAL, maps.LIKELY, maps.SURE), units, strict=True
    ):
        values, top = maps.scaled_map(analysis, shown.name)
        drawn = panel.imshow(values, cmap=shown.cmap, vmin=0, vmax=top)
        panel.set_title(f"{shown.title}: {unit}", fontsize=11)
        figure.colorbar(drawn, ax=panel, shrink=0.6)
        if shown is not maps.RESIDUAL and above.any():
            panel.contour(above, [0.5], colors="white", linewidths=0.8)
    for panel in axes.ravel():
        panel.set_xticks([])
        panel.set_yticks([])
    score = render.format_score(summary["score"], view.threshold)
    kind = ", not a part that the checkpoint knows" if summary["label"] == "unknown" else ""
    figure.suptitle(
        f"{summary['file']}: {summary['label']}{kind}\nscore {score}, threshold {view.threshold:g}", fontsize=13
    )
    count = len(summary["regions"])
    places = f"{count} place{'s' * (count != 1)} above the threshold"
    figure.supxlabel(f"{summary['checkpoint']}, {places}, {date.today():%Y-%m-%d}", fontsize=9)
    return figure


def _draw_pictures(panels: Sequence[Any], analysis: Analysis, view: View) -> None:
    """What has no scale, into five axes of matplotlib."""
    height, width = analysis.picture.shape[:2]
    pictures = {
        "Image": analysis.picture,
        f"Heatmap, threshold {view.threshold:g}": render.overlay(analysis, view.threshold, view.strength),
        "Restored image": analysis.drawn(analysis.restored) if analysis.about["decoded"] else None,
        "Input features": analysis.features,
        "Restored features": analysis.restored,
    }
    for panel, (title, picture) in zip(panels, pictures.items(), strict=True):
        if picture is None:  # the checkpoint draws none
            panel.set_axis_off()
            continue
        panel.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
        panel.set_title(title, fontsize=11)


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
