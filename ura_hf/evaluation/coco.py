"""Boxes as COCO JSON, the form that labelling tools and detectors read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..data.files import write_whole

CATEGORY = {"id": 1, "name": "anomaly"}


def write_coco(entries: Callable[[], Iterable[dict[str, Any]]], path: Path) -> None:
    """Write the boxes of all images as one file, in memory that does not grow with their number.

    An image has `id`, `file_name`, `width` and `height`; an annotation `id`, `image_id`, `category_id`, `bbox` [left, top, width,
    height] and `area` in pixels, `score` 0 to 1 and `iscrowd` 0.

    Args:
        entries: Gives, each time it is called, `image`, `image_size` [H, W] and `boxes` as `Answers.write` returns them.
    """

    def images() -> Iterator[dict[str, Any]]:
        for number, entry in enumerate(entries(), 1):
            height, width = entry["image_size"]
            yield {"id": number, "file_name": entry["image"], "width": width, "height": height}

    def annotations() -> Iterator[dict[str, Any]]:
        count = 0
        for number, entry in enumerate(entries(), 1):
            for box in entry["boxes"]:
                count += 1
                place = {"id": count, "image_id": number, "category_id": CATEGORY["id"], "iscrowd": 0}
                yield {**place, "bbox": box["box"], "area": box["area"], "score": box["score"]}

    def fill(partial: Path) -> None:
        with partial.open("w") as file:
            file.write(f'{{"categories": [{json.dumps(CATEGORY)}],\n"images": [')
            _write_list(file, images())
            file.write('],\n"annotations": [')
            _write_list(file, annotations())
            file.write("]}\n")

    write_whole(path, fill)


def _write_list(file: TextIO, items: Iterator[dict[str, Any]]) -> None:
    for index, item in enumerate(items):
        file.write(",\n" * (index > 0) + json.dumps(item))
