"""The command `uranet calibrate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.archives import Upload
from ..data.files import write
from ..model.errors import UserError

if TYPE_CHECKING:
    from ..data.samples import LeftOut


def add_calibrate(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "calibrate",
        _calibrate,
        "set the thresholds anew on photos, without training",
        """Set the thresholds of a checkpoint anew on photos of good parts that its training did not see: after another lamp
or lens, or when more photos are there.

With photos of defective parts it also says how many the new threshold misses, and which share of false alarms makes the fewest
errors. Without --output no checkpoint is written, and the one that is there stays as it is in any case.""",
        "uranet calibrate runs/ring --good photos/good --bad photos/bad --output runs/ring-2",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `uranet train` wrote, or a bundled name")
    parser.add_argument("--good", type=Path, required=True, metavar="DIR", help="photos of good parts")
    parser.add_argument("--bad", type=Path, metavar="DIR", help="photos of defective parts")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the checkpoint with the new thresholds")
    parser.add_argument(
        "--max-false-alarms", type=float, metavar="SHARE", help="share of good parts; default: as trained"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="score, 0 to 1 on the checkpoint's present scale, that becomes the threshold, in place of --max-false-alarms",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the scores and the new threshold there (PNG)")
    parser.add_argument("--recursive", action="store_true", help="read photos in subfolders, too")
    parser.add_argument("--strict", action="store_true", help="refuse folders of which anything would be left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of words")


def _calibrate(options: argparse.Namespace) -> None:
    from ..data.left_out import as_record, joined, require_nothing_left_out
    from ..hub.download import checkpoint_folder
    from ..hub.load import load_detector
    from ..model.verdicts import check_threshold
    from ..training.recalibrate import measure, save_recalibrated

    folder = checkpoint_folder(options.checkpoint)
    if options.output and options.output.exists():
        raise UserError(f"{options.output} is there already: choose another folder.")
    if options.threshold is not None:
        check_threshold(options.threshold)
        if options.max_false_alarms is not None:
            raise UserError("--threshold and --max-false-alarms say the same in two ways: give one of them.")
    good, around = _photos(options.good, options.recursive, good=True)
    bad, around_bad = _photos(options.bad, options.recursive) if options.bad else ([], {})
    detector = load_detector(folder)
    left_out = joined(around, around_bad)
    if options.strict:
        require_nothing_left_out(left_out)
    calibration = measure(detector, good, bad, options.max_false_alarms)
    report = calibration.report(options.threshold)
    report["left_out"] = as_record(joined(left_out, {"unknown": [Path(name) for name in report["unknown"]]}))
    if options.output:
        save_recalibrated(detector, folder, options.output, calibration, options.threshold, report["left_out"])
    print(json.dumps(report) if options.json else _words(report))
    if options.plot:
        from ..evaluation.score_plot import plot

        lines = report["threshold"], report["review"]
        write(options.plot, lambda path: plot(path, *calibration.scaled(), *lines))


def _photos(folder: Path, recursive: bool, good: bool = False) -> tuple[list[Upload], LeftOut]:
    """The photos of a folder, a page or frame each, and what else is in it; subfolders of `good` ones must not say otherwise."""
    from ..data.layouts import plain
    from ..data.left_out import left_out_of
    from ..model.frames import all_frames

    found = plain.read(folder, recursive) if folder.is_dir() else None
    if found is None or not found.train:
        raise UserError(f"{folder} is no folder of images: give one that holds the photos themselves.")
    if good and found.train_faults:
        raise UserError(found.train_faults[0])
    images = [sample.image for sample in found.train]
    photos = [Upload(image.name, image) for image in all_frames(images)]
    return photos, left_out_of(found.train_folders, images, found.train_left_out)


def _words(report: dict[str, Any]) -> str:
    from ..data.left_out import used_table
    from ..training.report import FalseAlarms, sentences

    rate = FalseAlarms(report["good"], report["asked"], report["low"], report["high"])
    first, *others = sentences(report, rate)
    if report["beyond"]:
        first = f"Expect {report['beyond']} to be called anomalous."
    lines = [first, *others, f"the new threshold is {report['threshold']:.2f} on the former scale."]
    if "bad" in report:
        best = report["best"]
        lines.append(f"of {report['bad']} defective parts it misses {report['misses']:.0%}.")
        option = f"--max-false-alarms {best['false_alarms']:g} (--threshold {best['threshold']:.2f})"
        lines.append(f"fewest errors: {option} misses {best['misses']:.0%}.")
    used = {"good photos": report["good"]} | ({"photos of defective parts": report["bad"]} if "bad" in report else {})
    lines.append(used_table(used, report["left_out"]))
    return "\n".join(lines)
