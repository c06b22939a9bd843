"""The command `uranet predict`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import write
from ..model.errors import UserError

if TYPE_CHECKING:
    from ..inference import Finding


def add_predict(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "predict",
        _predict,
        "find anomalies in images",
        """Find anomalies in images: print verdict and score of each, and write its heatmap and raw map.

With --output, IMAGE gives STEM_heatmap.png (the image with its anomalies glowing) and STEM_map.npy (raw anomaly map,
float32, at the image's size); images of several folders keep their subfolders. Scores run from 0 to 1; 0.5 is the
calibrated threshold. An unreadable image is reported and the others go on; the exit code is then 2.""",
        "uranet predict runs/ring new/*.png --output results",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `uranet train` wrote, or a bundled name")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files, or folders of images")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write heatmaps and raw maps there")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of words")
    parser.add_argument(
        "--threshold", type=float, default=0.5, metavar="T", help="score, 0 to 1, above which an image is anomalous"
    )


def _predict(options: argparse.Namespace) -> None:
    from ..hub.load import load_detector
    from ..inference import Unreadable, find
    from ..model.image_processing_uranet import check_threshold

    check_threshold(options.threshold)
    detector = load_detector(options.checkpoint)
    images = _list_images(options.images)
    names = output_names(images)
    failures = 0
    for one in find(detector, images, keep=lambda image: image if options.output else None):
        try:
            if isinstance(one, Unreadable):
                raise one.error
            result = {"image": str(one.source), **one.verdict(options.threshold)}
        except UserError as error:
            failures += 1
            print(f"uranet: {error}", file=sys.stderr)
            continue
        if options.output:
            result |= _write_pictures(one, options.output, names[one.source])
        line = f"{one.source}: {result['label']}, score {result['score']:.3f} (threshold {options.threshold:g})"
        print(json.dumps(result) if options.json else line, flush=True)
    if failures:
        raise UserError(f"{failures} of {len(images)} images have no verdict, see above: replace or leave them out.")


def _list_images(places: Iterable[Path]) -> list[Path]:
    """The images that files and folders name, each once; says on stderr what is left out."""
    from ..data.folder import images_below, list_images, other_files

    images: list[Path] = []
    below: list[Path] = []
    for place in places:
        if not place.is_dir():
            images.append(place)
            continue
        images += list_images(place)
        below += images_below(place)
        if others := [file.name for file in other_files(place)]:
            first = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
            print(f"uranet: {place}: left out {len(others)} file(s), no images by name: {first}", file=sys.stderr)
    if not images:
        raise UserError(
            f"{next(iter(places))} holds no images itself: pass image files or folders that directly hold them, as DIR/*/."
        )
    images = list(dict.fromkeys(images))
    if left_out := set(below).difference(images):
        folders = " ".join(sorted({str(image.parent) for image in left_out})[:5])
        print(f"uranet: left out {len(left_out)} image(s) in subfolders; name these, too: {folders}", file=sys.stderr)
    return images


def _write_pictures(one: Finding, folder: Path, name: str) -> dict[str, str]:
    """Write heatmap and raw map; returns where they are."""
    import numpy as np
    from PIL import Image

    from ..evaluation.visualization import overlay

    heatmap, raw = (folder / f"{name}{end}" for end in ("_heatmap.png", "_map.npy"))
    assert one.picture is not None  # as `keep` keeps it
    glowing = overlay(one.picture, one.map("score_map"))
    write(heatmap, lambda target: Image.fromarray(glowing).save(target))
    write(raw, lambda target: np.save(target, one.map("anomaly_map")))
    return {"heatmap": str(heatmap), "map": str(raw)}


def output_names(images: Sequence[Path]) -> dict[Path, str]:
    """A different name for each image: its path below the folder that all share, without suffix where that is unique."""
    full = {path: Path(os.path.abspath(path)) for path in images}
    shared = os.path.commonpath([path.parent for path in full.values()])
    stems = {path: str(place.relative_to(shared).with_suffix("")) for path, place in full.items()}
    taken = Counter(stems.values())
    names: dict[Path, str] = {}
    for path, name in stems.items():
        wanted = different = name if taken[name] == 1 else name + path.suffix
        number = 1
        while different in names.values():
            number += 1
            different = f"{wanted} ({number})"
        names[path] = different
    return names
