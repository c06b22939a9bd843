"""The solar cells of the package `elpv-dataset`, read where pip put them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ..model.errors import UserError
from .extras import needs_extra
from .samples import GOOD, Dataset, Sample

ELPV = "elpv"
KINDS = ("mono", "poly")  # of the crystal
DEFECTIVE = "defective"
TEST_EVERY = 5


@dataclass(frozen=True)
class Cells:
    """Photos of cells by their defect probability: 0, 1, or between; each in the order of the package's labels.csv."""

    good: list[Path]
    defective: list[Path]
    between: list[Path]


def is_elpv(data: str | Path) -> bool:
    """Whether `data` is written as elpv:KIND."""
    return str(data).partition(":")[0] == ELPV and ":" in str(data)


def elpv_name(kind: str) -> str:
    """What `read_elpv` takes: `elpv:mono`."""
    return f"{ELPV}:{kind}"


def read_elpv(data: str | Path) -> Dataset:
    """The cells of `elpv:mono` or `elpv:poly`; every fifth good one is for testing, and so is every defective one.

    Cells between good and defective are left out. There are no masks.

    Raises:
        UserError: There is no such kind, or the package is not installed.
    """
    kind = str(data).partition(":")[2]
    if kind not in KINDS:
        raise UserError(f"{data} must be one of {', '.join(map(elpv_name, KINDS))}: correct --data.")
    cells = read_cells(kind)
    samples = [Sample(path, 0, GOOD) for path in cells.good]
    test = samples[TEST_EVERY - 1 :: TEST_EVERY]
    train = [sample for index, sample in enumerate(samples, 1) if index % TEST_EVERY]
    test += [Sample(path, 1, DEFECTIVE) for path in cells.defective]
    left_out = {"between": cells.between}
    notes = [f"every fifth good cell is for testing: {len(test) - len(cells.defective)} of {len(samples)}."]
    return Dataset(
        kind, cells.good[0].parent, train, test, train_left_out=left_out, test_left_out=left_out, notes=notes
    )


def read_cells(kind: str) -> Cells:
    """The photos of one of `KINDS`.

    Raises:
        UserError: The package is not installed.
    """
    with needs_extra("examples", f"{ELPV}, photos of solar cells,"):
        import elpv_dataset
    root = Path(elpv_dataset.__path__[0]) / "data"
    found = Cells([], [], [])
    with (root / "labels.csv").open(newline="", encoding="utf-8") as file:
        for name, probability, crystal in csv.reader(file, delimiter=" ", skipinitialspace=True):
            if crystal == kind:
                place = {0.0: found.good, 1.0: found.defective}.get(float(probability), found.between)
                place.append(root / name)
    return found
