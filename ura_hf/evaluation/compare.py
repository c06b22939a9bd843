"""Detectors side by side on one labelled test set: an uploaded zip in a layout with test images, or drawn parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.archives import unpack
from ..data.drawn.parts import KINDS, write_demo_data
from ..data.folder import holds_companions, subfolders
from ..data.layouts import beside, manifest, train_test
from ..data.progress import Progress, silent
from ..data.reader import read_dataset
from ..model.errors import UserError
from ..model.pipeline_uranet import URANetPipeline
from .evaluate import evaluate

DRAWN_GOOD, DRAWN_EACH = 20, 4  # images of a drawn test set: good ones, and of every defect type


def compare(detectors: Mapping[str, URANetPipeline], data: Path, progress: Progress = silent) -> dict[str, Any]:
    """What `evaluate` gives for each detector on the test images in `data`, by name, with curves; ready for JSON.

    The folder is read by `read_dataset` alone: it may be a stranger's, and tables of `datasets` name files and addresses.
    `progress` is called with the stages ``evaluation of NAME``, in images.

    Raises:
        UserError: There are no test images, only good or only anomalous ones, or one can't be read.
    """
    dataset = read_dataset(data, for_training=False)
    labels = {sample.label for sample in dataset.test}
    if labels != {0, 1}:
        missing = "test images" if not labels else "anomalous images" if labels == {0} else "good images"
        raise UserError(f"the set has no {missing}: {_EXPECTED}")
    results = {}
    for name, detector in detectors.items():

        def report(stage: str, done: int, total: int, losses: Any = None, name: str = name) -> None:
            progress(f"{stage} of {name}", done, total)

        results[name] = evaluate(detector, dataset, curves=True, progress=report)
    return results


_EXPECTED = (
    "put good ones in test/good, others in test/DEFECT, and their masks as ground_truth/DEFECT/NAME_mask.png; or good ones in OK "
    "and others in NG."
)


def unpack_test_set(archive: Path, folder: Path) -> Path:
    """Unpack a zip of one category below `folder`; returns the folder that holds test/, or a table of images.

    Folders of good and defective images beside each other, such as OK and NG, are moved into test/: all are test images.

    Raises:
        UserError: As `archives.unpack`, or no category or several are in it.
    """
    unpacked = unpack(archive, folder)
    if unpacked.damaged:
        name, reason = unpacked.damaged[0]
        raise UserError(f"{name} is {reason}.")
    roots = _categories(folder)
    if len(roots) > 1:
        names = ", ".join(sorted(path.name for path in roots)[:5])
        raise UserError(f"{archive.name} holds several categories ({names}): pack one of them.")
    if not roots:
        raise UserError(f"{archive.name} has no folder of good test images: {_EXPECTED}")
    root = roots[0]
    if not (manifest.matches(root) or train_test.matches(root)):
        types = [inner for inner in subfolders(root) if not holds_companions(inner)]
        (root / train_test.TEST).mkdir()
        for inner in types:
            inner.rename(root / train_test.TEST / inner.name)
    return root


def _categories(folder: Path) -> list[Path]:
    """The outermost folders that hold a category by their names."""
    if any(layout.matches(folder) for layout in (manifest, train_test, beside)):
        return [folder]
    return [root for inner in subfolders(folder) for root in _categories(inner)]


def draw_test_set(kind: str, folder: Path) -> Path:
    """Draw test images of a kind of part in `folder`, with masks; seeds differ from those of any training images."""
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}.")
    write_demo_data(kind, folder / kind, train=1, good=DRAWN_GOOD, each=DRAWN_EACH)
    return folder / kind
