"""What a reader of datasets returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GOOD = "good"


@dataclass(frozen=True)
class Sample:
    """One image: `label` 0 normal or 1 anomalous, `defect_type` "good" for normals, `mask` None if there is none."""

    image: Path
    label: int
    defect_type: str
    mask: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """The images of one category; `train` holds normal images only, `test` may be empty."""

    name: str
    root: Path
    train: list[Sample]
    test: list[Sample]
