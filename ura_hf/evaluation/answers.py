"""What a run writes of each image: heatmap, mask and raw map as files, boxes of regions, and the row of a table."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.files import write
from ..data.prefetch import read_ahead
from ..inference import Finding, Picture, Unreadable, find
from ..model.errors import UserError
from ..model.verdicts import THRESHOLD
from .batch import JPEG_QUALITY, OVERLAY_SIDE
from .regions import find_regions
from .visualization import fraction_above, overlay, reduce_within, size_within, to_pixels

HEATMAP_SIDE = 2048  # longest side of a heatmap [pixels]
FAST_PNG: dict[str, Any] = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""Of pictures as PNG: a fifth of the time that Pillow's default takes, and no larger, as photos repeat little."""
MAX_PNG_PIXELS = (
    1 << 20
)  # of a photo whose heatmap is a PNG, which takes several times as long as JPEG, and more than the network


@dataclass(frozen=True)
class Answers:
    """What is wanted of each image beside its verdict; what is not wanted is not computed.

    Args:
        folder: Where files go, as NAME_heatmap.png, NAME_mask.png and NAME_map.npy.
        heatmaps: The image with its anomalies glowing. Above 1 megapixel it is a JPEG, its longer side at most 2048 pixels.
        masks: 255 where the score map exceeds the pixel threshold, 0 elsewhere, at the image's size.
        maps: The raw anomaly map, float32, at the image's size.
        restored: The part as it should look, its longer side at most 2048 pixels, as NAME_restored.png.
        boxes: The connected regions above the pixel threshold.
        fraction: The share of the pixels above the pixel threshold.
    """

    folder: Path | None = None
    heatmaps: bool = False
    masks: bool = False
    maps: bool = False
    restored: bool = False
    boxes: bool = False
    fraction: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The maps that the model's output must keep."""
        asked = {
            "score_map": self.heatmaps or self.masks or self.boxes or self.fraction,
            "anomaly_map": self.maps,
            "restored_image": self.restored,
        }
        return tuple(name for name, wanted in asked.items() if wanted)

    def keep(self, image: Picture) -> Picture | None:
        """What is kept of an image, RGB (H, W, 3), until its maps are there."""
        return reduce_within(image, HEATMAP_SIDE) if self.heatmaps else None

    def write(self, one: Finding, name: str) -> dict[str, Any]:
        """Write the files of an image, `name` below the folder.

        Returns the paths as `heatmap`, `mask`, `restored` and `map`; `boxes`, each with `box` [left, top, width, height] and
        `area` in pixels, and its highest `score`; `anomalous_fraction`, 0 to 1. The last two are measured on a map whose longer
        side is at most 1024 pixels.

        Raises:
            UserError: A file can't be written.
        """
        told: dict[str, Any] = {}
        if self.boxes or self.fraction:
            measured = one.map("score_map", size_within(*one.size, OVERLAY_SIDE))
            told |= {"anomalous_fraction": fraction_above(measured)} if self.fraction else {}
            told |= {"boxes": _boxes(measured, one.size)} if self.boxes else {}
        if self.folder is None:
            return told
        if self.heatmaps:
            told["heatmap"] = _write_heatmap(one, self.folder, name)
        if self.masks:
            mask = Image.fromarray((one.map("score_map") > THRESHOLD).view(np.uint8) * np.uint8(255))
            told["mask"] = _write(self.folder / f"{name}_mask.png", lambda path: mask.save(path, **FAST_PNG))
        if self.restored:
            drawn = Image.fromarray(to_pixels(one.drawn("restored_image", size_within(*one.size, HEATMAP_SIDE))))
            told["restored"] = _write(self.folder / f"{name}_restored.png", lambda path: drawn.save(path, **FAST_PNG))
        if self.maps:
            raw = one.map("anomaly_map")
            told["map"] = _write(self.folder / f"{name}_map.npy", lambda path: np.save(path, raw))
        return told


def _boxes(score_map: Picture, size: tuple[int, int]) -> list[dict[str, Any]]:
    regions, _ = find_regions(score_map, None, THRESHOLD, size)
    return [{"box": list(one.box), "area": one.area, "score": one.peak_score} for one in regions]


def _write_heatmap(one: Finding, folder: Path, name: str) -> str:
    assert one.picture is not None  # as `keep` keeps it
    height, width = one.picture.shape[:2]
    heatmap = Image.fromarray(overlay(one.picture, one.map("score_map", (height, width))))
    if one.size[0] * one.size[1] > MAX_PNG_PIXELS:
        return _write(folder / f"{name}_heatmap.jpg", lambda path: heatmap.save(path, quality=JPEG_QUALITY))
    return _write(folder / f"{name}_heatmap.png", lambda path: heatmap.save(path, **FAST_PNG))


def _write(path: Path, fill: Callable[[Path], Any]) -> str:
    write(path, fill)
    return str(path)


def answer_all(
    detector: Any,
    images: Iterable[Any],
    names: Mapping[Any, str],
    answers: Answers,
    record: Callable[[dict[str, Any]], None] | None = None,
    batch_size: int = 1,
    threshold: float | None = None,
    **rates: float | None,
) -> Iterator[dict[str, Any]]:
    """Verdict and answers of image after image, in bounded memory: the next batch is read and the last one written meanwhile.

    Args:
        detector: As `find` takes it.
        names: Of the files of each image, below the folder of `answers`.
        record: Called with every result, in order and in another thread, after the image's files are written.
        threshold: As `Finding.verdict` takes it, and `rates`.

    Yields:
        `image`, and the verdict with `image_size` [H, W] and what `Answers.write` returns, or why there is none, `problem`.

    Raises:
        UserError: A file can't be written.
    """

    def answer(one: Finding | Unreadable) -> dict[str, Any]:
        result: dict[str, Any] = {"image": str(one.source)}
        try:
            if isinstance(one, Unreadable):
                raise one.error
            result |= one.verdict(threshold, (), None, **rates)
        except UserError as error:
            result["problem"] = str(error)
        else:
            result |= {"image_size": list(one.size), **answers.write(one, names[one.source])}
        if record is not None:
            record(result)
        return result

    found = find(detector, images, batch_size, keep=answers.keep, fields=answers.fields)
    return read_ahead(answer, found, workers=1, ahead=batch_size)
