"""What a training ends with: the false alarms to expect, how firm the threshold is, and which of the good photos to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..data.files import as_text, write
from ..evaluation.visualization import fit_within, overlay
from ..model.configuration_uranet import URANetConfig
from ..model.image_processing_uranet import URANetImageProcessor
from ..model.scoring import positive
from ..model.verdicts import ranks_of
from .calibration import expected_false_alarms, outlying, rates_of_halves

UNUSUAL = 5  # good photos that are named, and shown
NAMED = 10  # photos that one sentence names
FEW = 5  # good photos, of which fewer tell next to nothing
PICTURE_SIDE = 640  # longest side of a picture [pixels]
GLOW = 0.6  # opacity of the glow, through which the part is seen
UNSURE = 2.0  # times the asked rate, or as little of it, that halves of the photos give where the threshold is unsure
SENTENCES = "report.txt"


@dataclasses.dataclass(frozen=True)
class FalseAlarms:
    """What is known of the share of good parts that the detector will call anomalous, from the photos themselves.

    Args:
        photos: Photos that the threshold comes from, each compared with the others.
        asked: The rate that the threshold was set for, which is what to expect.
        low, high: Bounds that hold 95 % of the real one.
    """

    photos: int
    asked: float
    low: float
    high: float

    @classmethod
    def of(cls, photos: int, rate: float) -> FalseAlarms:
        """The rate of a threshold set for `rate` on `photos` photos."""
        return cls(photos, rate, *expected_false_alarms(photos, rate))

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> FalseAlarms:
        """Of a training's record: images that show what another one shows set no threshold."""
        photos = record["images"]["fitted"] - len(record["near_copies"])
        return cls.of(photos, record["thresholds"]["false_positive_rate"])

    def sentence(self) -> str:
        """The rate in words."""
        bounds = f"{percent(self.low)} to {percent(self.high)}"
        return (
            f"Expect {percent(self.asked)} of good parts to be called anomalous, {bounds} with 95 % confidence. That is what "
            f"{self.photos} photos can tell, for parts photographed in the same way."
        )


def examine(
    names: Sequence[str], scores: Tensor, copies: Sequence[Sequence[str]], config: URANetConfig
) -> dict[str, Any]:
    """What the scores (N,) of unseen good photos, before they are made positive, tell of these; `copies` are `near_copies.named`.

    Returns:
        `most_unusual`: `UNUSUAL` files with their ranks; `outlying`: files that count little for the threshold since they differ
        so much; `near_copies`: pairs of a file and the one that it shows again; `halves`: the rates of the thresholds that
        halves of the photos give, None for fewer than four.
    """
    order = most_unusual(scores)
    ranks = ranks_of(positive(scores[order]), config)
    enough = len(scores) >= 4
    return {
        "most_unusual": [{"file": names[row], **rank} for row, rank in zip(order, ranks, strict=True)],
        "outlying": [names[row] for row in outlying(scores)],
        "near_copies": copies,
        "halves": list(rates_of_halves(scores, config.false_positive_rate)) if enough else None,
    }


def most_unusual(scores: Tensor) -> list[int]:
    """Rows of the highest scores (N,), the highest first."""
    return [int(row) for row in scores.argsort(descending=True)[:UNUSUAL]]


def sentences(found: Mapping[str, Any], rate: FalseAlarms) -> list[str]:
    """The report in words: `examine` and the false alarms to expect."""
    lines = [rate.sentence()]
    if rate.photos < FEW:
        lines.append(f"{rate.photos} photos are too few to rely on: take {FEW} or more, better 20.")
    if halves := found.get("halves"):
        low, high = halves
        unsure = high > UNSURE * rate.asked or low < rate.asked / UNSURE
        more = "more photos would make it surer" if unsure else "more photos would change it little"
        lines.append(f"Halves of these photos would set the threshold for {percent(low)} to {percent(high)}: {more}.")
    if copies := found.get("near_copies"):
        pairs, one = _listed([f"{name} (as {twin})" for name, twin in copies]), len(copies) == 1
        words = "photo shows what another one shows and tells" if one else "photos show what another one shows and tell"
        lines.append(f"{len(copies)} {words} nothing new: {pairs}.")
    if strange := found.get("outlying"):
        words = (
            "is unlike all others and hardly counts" if len(strange) == 1 else "are unlike all others and hardly count"
        )
        lines.append(f"{_listed(strange)} {words} for the threshold: look for a defect.")
    if unusual := found.get("most_unusual"):
        shown = ", ".join(f"{one['file']} (1 in {one['rank']:.0f})" for one in unusual)
        lines.append(f"The most unusual of them, are these really good? {shown}")
    return lines


def write_report(
    folder: Path,
    lines: Sequence[str],
    photos: Sequence[tuple[Any, Tensor]],
    processor: URANetImageProcessor,
) -> None:
    """Write the words, and a picture of each photo, a path or `Frame`, that is given with its map (S, S), not yet positive.

    NUMBER_NAME.jpg glows where the photo is most unusual, whether that is above a threshold or not.

    Raises:
        UserError: `folder` can't be written.
    """
    words = as_text("\n".join(lines) + "\n")
    write(folder / SENTENCES, lambda path: path.write_text(words, encoding="utf-8"))
    for number, (photo, heat) in enumerate(photos, 1):
        picture = fit_within(processor.load(photo), PICTURE_SIDE)
        size = (picture.shape[0], picture.shape[1])
        values = processor.restore_geometry(heat.clamp_min(0)[None], [size])[0].numpy()
        values = values / max(float(values.max()), np.finfo(np.float32).tiny)
        shown = Image.fromarray(overlay(picture, values, GLOW))
        stem = Path(getattr(photo, "place", photo)).stem  # that of a page or frame has its number
        write(folder / f"{number}_{stem}.jpg", lambda target, shown=shown: shown.save(target, quality=92))


def percent(share: float) -> str:
    """A share in per cent, with one digit after the point where it is small."""
    return f"{100 * share:.1f} %" if 0 < share < 0.095 else f"{100 * share:.0f} %"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
