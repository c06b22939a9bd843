"""The command `uranet evaluate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..data.files import write
from ..data.records import EVALUATION, METRIC_KEYS, write_record
from ..model.errors import UserError


def add_evaluate(commands: Any, add_command: Any) -> None:
    """Add the command to the parser's; `add_command` makes one."""
    parser = add_command(
        commands,
        "evaluate",
        _evaluate,
        "measure a checkpoint on labelled test images",
        """Measure a checkpoint on the test images of a category, or on the test split of a dataset, in any form that
`uranet train` takes.

Prints image AUROC, AP and F1-max, pixel AUROC, AP and F1-max, and AUPRO up to a false-positive rate of 0.3, overall
and per defect type, and how the calibrated threshold did. Maps are compared with the masks at the size of the images.""",
        "uranet evaluate runs/bottle --data mvtec/bottle --json bottle.json",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder that `uranet train` wrote, or a bundled name")
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DATA",
        help="category: test/, and ground_truth/ for masks; or dataset; may be given several times",
    )
    parser.add_argument("--strict", action="store_true", help="refuse data of which anything would be left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--images", type=Path, metavar="FILE", help="write each image's score and verdict there, as CSV"
    )
    parser.add_argument("--save", action="store_true", help="keep the figures in the checkpoint, for its card")
    parser.add_argument("--device", metavar="NAME", help="such as cpu or cuda:1 (default: the GPU if there is one)")
    parser.add_argument("--batch-size", type=int, default=8, help="images at once (default: %(default)s)")


def _evaluate(options: argparse.Namespace) -> None:
    from ..evaluation.batch import write_table
    from ..evaluation.evaluate import IMAGE_COLUMNS, evaluate
    from ..hub.download import checkpoint_folder
    from ..hub.exported import is_exported
    from ..hub.load import load_detector

    exported = is_exported(options.checkpoint)
    if exported and options.save:
        raise UserError("--save keeps the figures in a checkpoint folder, but got an exported file: take --json FILE.")
    place = Path(options.checkpoint) if exported else checkpoint_folder(options.checkpoint)
    detector = load_detector(place, device=options.device)
    rows: list[dict[str, Any]] = []
    result = evaluate(detector, options.data, options.batch_size, strict=options.strict, row=rows.append)
    try:
        _print_figures(result)
    finally:
        if options.images:
            write(options.images, lambda path: write_table(IMAGE_COLUMNS, [list(row.values()) for row in rows], path))
        if options.json:
            write(options.json, lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))
        if options.save:  # in place of a link into the Hub's cache, whose file must stay as it came
            write(place / EVALUATION, lambda path: write_record(path, result))


def _print_figures(result: dict[str, Any]) -> None:
    from ..data.left_out import used_table

    rows = {"all": result, **result["per_type"]}
    width = max(len(name) for name in rows) + 2
    print("".ljust(width) + "  ".join(key.rjust(11) for key in METRIC_KEYS))
    for name, row in rows.items():
        cells = ["-" if row[key] is None else f"{row[key]:.4f}" for key in METRIC_KEYS]
        print(name.ljust(width) + "  ".join(cell.rjust(11) for cell in cells))
    at = result["at_threshold"]
    rates = {"false alarms": at["false_alarm_rate"], "misses": at["miss_rate"]}
    if said := [f"{rate:.1%} {name}" for name, rate in rates.items() if rate is not None]:
        print(f"at the calibrated threshold: {', '.join(said)}")
    for label, words in (("review", "to review"), ("unknown", "not the part")):
        shares = [f"{one[label]:.1%} of the {kind} ones" for kind, one in result["verdicts"].items()]
        if any(one[label] for one in result["verdicts"].values()):
            print(f"{words}: {', '.join(shares)}")
    if not result["n_normal"]:
        print("there are no good test images, so most figures can't be had: put some into test/good.")
    for note in result["notes"]:
        print(note)
    print(used_table(result["used"], result["left_out"]))
