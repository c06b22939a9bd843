"""Detectors side by side on one labelled test set: an uploaded zip in the MVTec AD layout, or drawn parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.archives import unpack
from ..data.drawn.parts import KINDS, write_demo_data
from ..data.folder import GOOD, GROUND_TRUTH, read_dataset
from ..data.progress import Progress, silent
from ..model.errors import UserError
from ..model.pipeline_uranet import URANetPipeline
from .evaluate import evaluate

DRAWN_GOOD, DRAWN_EACH = 20, 4  # images of a drawn test set: good ones, and of every defect type


def compare(detectors: Mapping[str, URANetPipeline], data: Path, progress: Progress = silent) -> dict[str, Any]:
    """What `evaluate` gives for each detector on the test images in `data`, by name, with curves; ready for JSON.

    `progress` is called with the stages ``evaluation of NAME``, in images.

    Raises:
        UserError: There are no test images, only good or only anomalous ones, or one can't be read.
    """
    samples = read_dataset(data, for_training=False).test
    labels = {sample.label for sample in samples}
    if labels != {0, 1}:
        missing = "test images" if not labels else "anomalous images" if labels == {0} else "good images"
        raise UserError(f"the set has no {missing}: {_EXPECTED}")
    results = {}
    for name, detector in detectors.items():

        def report(stage: str, done: int, total: int, losses: Any = None, name: str = name) -> None:
            progress(f"{stage} of {name}", done, total)

        results[name] = evaluate(detector, data, curves=True, progress=report)
    return results


_EXPECTED = "put good ones in test/good, others in test/DEFECT, and their masks as ground_truth/DEFECT/NAME_mask.png."


def unpack_test_set(archive: Path, folder: Path) -> Path:
    """Unpack a zip of one category below `folder`; returns the folder that holds test/, or good/ beside defect types.

    Raises:
        UserError: As `archives.unpack`, or no category or several are in it.
    """
    unpacked = unpack(archive, folder)
    if unpacked.damaged:
        name, reason = unpacked.damaged[0]
        raise UserError(f"{name} is {reason}.")
    images = [file.path for file in unpacked.files if file.path.parent.parent.name != GROUND_TRUTH]
    candidates = {path.parents[1] for path in images if path.parent.name == GOOD}
    roots = {path.parent if path.name in ("test", "train") else path for path in candidates}
    if len(roots) > 1:
        names = ", ".join(sorted(path.name for path in roots)[:5])
        raise UserError(f"{archive.name} holds several categories ({names}): pack one of them.")
    if not roots:
        raise UserError(f"{archive.name} has no folder of good test images: {_EXPECTED}")
    return roots.pop()


def draw_test_set(kind: str, folder: Path) -> Path:
    """Draw test images of a kind of part in `folder`, with masks; seeds differ from those of any training images."""
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}.")
    write_demo_data(kind, folder / kind, train=1, good=DRAWN_GOOD, each=DRAWN_EACH)
    return folder / kind
