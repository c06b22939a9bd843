"""Good images of one folder, divided by a fixed seed where nobody else has divided them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..folder import distinct
from ..samples import GOOD, Sample

SEED = 0
TEST_OF = 5  # one of so many good images is for testing


def split_good(images: Sequence[Path]) -> tuple[list[Sample], list[Sample], list[Path]]:
    """Good samples to train on, good ones to test on, and the copies, which would lie on both sides; each in its order.

    Of fewer than `TEST_OF` different images none is for testing, and copies stay.
    """
    different = distinct(images)
    if len(different) < TEST_OF:
        return [Sample(image, 0, GOOD) for image in images], [], []
    drawn = set(np.random.default_rng(SEED).permutation(len(different))[: len(different) // TEST_OF].tolist())
    train = [Sample(image, 0, GOOD) for index, image in enumerate(different) if index not in drawn]
    test = [Sample(different[index], 0, GOOD) for index in sorted(drawn)]
    return train, test, sorted(set(images).difference(different))


def split_notes(train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """What is said about a split."""
    if not test:
        return []
    return [
        f"one folder holds all good images: a fixed seed keeps {len(test)} of {len(train) + len(test)} for testing, in training "
        "and in evaluation alike."
    ]
