"""The command `uranet monitor`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from ..data.files import write
from ..model.errors import UserError


def add_monitor(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "monitor",
        _monitor,
        "tell whether good parts begin to look different",
        """Tell from photos in the order of time, or from their scores, whether good parts begin to look different: another light,
a worn tool, a moved camera.

IMAGES is a folder of photos, or the CSV file of the batch tab or of `uranet predict --csv`; both are taken in the order of
the files' names. At least 20 photos are needed. Defective parts at a steady rate are no change. An alarm is false in at most
one of a hundred lines. The exit code is 1 if there is a change.""",
        "uranet monitor runs/ring photos/today --plot drift.png",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `uranet train` wrote, or a bundled name")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of photos, or CSV file of scores")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the scores and the evidence there (PNG)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of words")


def _monitor(options: argparse.Namespace) -> int:
    from ..evaluation.drift import drift, read_scores

    names, scores, labels = _scored(options) if options.images.is_dir() else read_scores(options.images)
    found = drift(scores)
    counts = Counter(label or "without a verdict" for label in labels)
    result = {
        "images": len(scores),
        "labels": dict(counts),
        "changed": found.alarm is not None,
        "began_at": None if found.began is None else names[found.began],
        "noticed_at": None if found.alarm is None else names[found.alarm],
        "evidence": float(found.evidence[-1]),
        "largest_evidence": float(found.evidence.max()),
    }
    print(json.dumps(result) if options.json else _words(result))
    if options.plot:
        from ..evaluation.drift_plot import plot

        write(options.plot, lambda path: plot(path, scores, found))
    return int(found.alarm is not None)


def _scored(options: argparse.Namespace) -> tuple[list[str], list[float], list[str]]:
    from ..data.folder import list_images
    from ..hub.load import load_detector
    from ..inference import Unreadable, find
    from ..model.frames import all_frames

    detector, results = load_detector(options.checkpoint), []
    for one in find(detector, all_frames(list_images(options.images)), batch_size=8, fields=()):
        try:
            if isinstance(one, Unreadable):
                raise one.error
            results.append((one.source.name, one.verdict()))
        except UserError as error:
            print(f"uranet: left out: {error}", file=sys.stderr)
    names = [name for name, _ in results]
    return names, [verdict["image_score"] for _, verdict in results], [verdict["label"] for _, verdict in results]


def _words(result: dict[str, Any]) -> str:
    counts = ", ".join(f"{count} {label}" for label, count in result["labels"].items())
    if result["changed"]:
        said = (
            f"parts look different from about {result['began_at']} on (noticed at {result['noticed_at']}): look at camera, "
            "light and tools; if the change is meant, set the thresholds anew with `uranet calibrate`, or train again."
        )
    else:
        said = f"no change: the evidence rose to {result['largest_evidence']:.2g}, and 100 would be a change."
    return f"{result['images']} images: {counts}.\n{said}"
