"""What a reader of datasets returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

GOOD = "good"
LeftOut = dict[str, list[Path]]
"""Files that were there and are not used, by reason, a key of `left_out.REASONS`."""


@dataclass(frozen=True)
class Sample:
    """One image: `label` 0 normal or 1 anomalous, `defect_type` "good" for normals, `mask` None if there is none.

    The defect is where `mask` or one of `more_masks` marks it.
    """

    image: Path
    label: int
    defect_type: str
    mask: Path | None = None
    more_masks: tuple[Path, ...] = ()

    @property
    def masks(self) -> tuple[Path, ...]:
        """All masks of the image."""
        return () if self.mask is None else (self.mask, *self.more_masks)


@dataclass(frozen=True)
class Dataset:
    """The images of one category; `train` holds normal images only, `test` may be empty.

    Args:
        name: Of the category.
        root: Its folder.
        train: Images to train on.
        test: Images to test on.
        train_folders: Folders that were searched for training images; the first is where they are expected.
        test_folders: Folders that were searched for test images.
        train_left_out: What the reader found and training does not use.
        test_left_out: What the reader found and testing does not use.
        notes: How it was read, in sentences, where that is not a matter of course.
        train_faults: Why it can't be trained on, in sentences.
        test_faults: Why it can't be tested on.
    """

    name: str
    root: Path
    train: list[Sample]
    test: list[Sample]
    train_folders: list[Path] = field(default_factory=list)
    test_folders: list[Path] = field(default_factory=list)
    train_left_out: LeftOut = field(default_factory=dict)
    test_left_out: LeftOut = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    train_faults: list[str] = field(default_factory=list)
    test_faults: list[str] = field(default_factory=list)
