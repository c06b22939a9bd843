"""The command `uranet predict`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .files import write


def add_predict(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "predict",
        _predict,
        "check images",
        """Check images: print verdict and score of each, and write its heatmap and raw map.

With --output, IMAGE gives STEM_heatmap.png (the image with its anomalies glowing) and STEM_map.npy (raw anomaly map,
float32, at the image's size); images of several folders keep their subfolders. Scores run from 0 to 1; 0.5 is the
calibrated threshold. An unreadable image is reported and the others go on; the exit code is then 2.""",
        "uranet predict runs/ring new/*.png --output results",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `uranet train` wrote, or a bundled name")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="files, or folders of images")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write heatmaps and raw maps there")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line instead of words")
    parser.add_argument("--threshold", type=float, metavar="T", help="raw image score in place of the calibrated one")


def _predict(options: argparse.Namespace) -> None:
    from .data.folder import images_below, list_images, other_files
    from .hub import load_detector
    from .images import load_image
    from .pipeline import check_threshold
    from .visualization import overlay

    if options.threshold is not None:
        check_threshold(options.threshold)
    detector = load_detector(options.checkpoint)
    images: list[Path] = []
    for path in options.images:
        images += list_images(path) if path.is_dir() else [path]
        if path.is_dir() and (others := [file.name for file in other_files(path)]):
            first = ", ".join(others[:5]) + (", ..." if len(others) > 5 else "")
            print(f"uranet: {path}: left out {len(others)} file(s), no images by name: {first}", file=sys.stderr)
    if not images:
        raise UserError(
            f"{options.images[0]} holds no images itself: pass image files or folders that directly hold them, as DIR/*/."
        )
    images = list(dict.fromkeys(images))
    below = [image for path in options.images if path.is_dir() for image in images_below(path)]
    if left_out := set(below).difference(images):
        folders = " ".join(sorted({str(image.parent) for image in left_out})[:5])
        print(f"uranet: left out {len(left_out)} image(s) in subfolders; name these, too: {folders}", file=sys.stderr)
    names = output_names(images)
    failures = []
    for path in images:
        try:
            result = detector(str(path), threshold=options.threshold)
            image = load_image(path, max_value=detector.image_processor.max_value)
        except UserError as error:
            failures.append(str(error))
            print(f"uranet: {error}", file=sys.stderr)
            continue
        shown = {"image": str(path), **{k: v for k, v in result.items() if not isinstance(v, np.ndarray)}}
        if options.output:
            heatmap, raw = (options.output / f"{names[path]}{end}" for end in ("_heatmap.png", "_map.npy"))
            write(heatmap, lambda target, i=image, r=result: _save_png(overlay(i, r["score_map"]), target))
            write(raw, lambda target, r=result: np.save(target, r["anomaly_map"]))
            shown |= {"heatmap": str(heatmap), "map": str(raw)}
        line = f"{path}: {result['label']}, score {result['score']:.3f} (threshold 0.5)"
        print(json.dumps(shown) if options.json else line, flush=True)
    if failures:
        raise UserError(
            f"{len(failures)} of {len(images)} images could not be checked, see above: replace or leave them out."
        )


def output_names(images: Sequence[Path]) -> dict[Path, str]:
    """A different name for each image: its path below the folder that all share, without suffix where that is unique."""
    full = {path: Path(os.path.abspath(path)) for path in images}
    shared = os.path.commonpath([path.parent for path in full.values()])
    plain = {path: str(place.relative_to(shared).with_suffix("")) for path, place in full.items()}
    taken = Counter(plain.values())
    names: dict[Path, str] = {}
    for path, name in plain.items():
        wanted = different = name if taken[name] == 1 else name + path.suffix
        number = 1
        while different in names.values():
            number += 1
            different = f"{wanted} ({number})"
        names[path] = different
    return names


def _save_png(pixels: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)
