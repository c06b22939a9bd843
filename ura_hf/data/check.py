"""Whether a category on disk is whole: counts against the published ones, masks, readable files, sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..model.errors import UserError
from ..model.images import image_size
from .datasets import Counts, archives, has_masks, published_counts
from .elpv import is_elpv
from .left_out import joined, listed
from .masks import defect_of
from .opening import open_dataset
from .prefetch import read_ahead
from .samples import Dataset, Sample


@dataclass
class Check:
    """What is wrong with a category. Without `error` and `damaged` it can be trained and measured.

    `counts`: images on disk. `error`: it can't be read at all. `damaged`: unreadable files and masks of another size.
    `differences`: from the published counts. `unmasked`: anomalous images without a mask, of which there should be one; `black`:
    masks of anomalous images that mark nothing. Pixel metrics leave both out. `reading`: how the category was read, where
    that is not a matter of course.
    """

    category: str
    folder: Path
    counts: Counts | None = None
    error: str | None = None
    damaged: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    unmasked: list[Path] = field(default_factory=list)
    black: list[Path] = field(default_factory=list)
    any_mask: bool = False
    reading: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Every problem in a sentence, the gravest first."""
        sentences = [self.error] if self.error else []
        sentences += self.damaged + self.differences
        if self.unmasked:
            first = self.unmasked[0]
            sentences.append(
                f"{len(self.unmasked)} anomalous images have no mask, e.g. {first}: expected "
                f"ground_truth/{first.parent.name}/{first.stem}_mask.png, in BTAD {first.stem}.png"
            )
        if self.black:
            sentences.append(
                f"{len(self.black)} masks of anomalous images are all black, e.g. {self.black[0]}: expected the defect in "
                "another value than 0"
            )
        return sentences

    @property
    def notes(self) -> list[str]:
        """What limits the figures, for the table."""
        more = f"; {len(self.differences) - 2} more" if len(self.differences) > 2 else ""
        shown = "; ".join(self.differences[:2]) + more
        notes = [f"counts differ from the published ones ({shown})"] if self.differences else []
        if self.counts and not self.any_mask:
            notes.append("no masks: image metrics only")
        elif left_out := len(self.unmasked) + len(self.black):
            notes.append(f"{left_out} anomalous images with no mask or a black one are left out of the pixel metrics")
        return notes


def check_category(key: str, category: str, folder: Path, decode: bool = True, workers: int = 4) -> Check:
    """Check one category of the dataset `key`; `decode` reads every image and mask to its end."""
    check = Check(category, folder)
    try:
        if not folder.is_dir() and not is_elpv(folder):
            raise UserError(f"category {category} is missing: expected the folder {folder}{_packed(folder)}")
        dataset = open_dataset(folder)
        if not dataset.test:
            raise UserError(f"{folder} has no test images: expected test/good and test/<defect type>{_packed(folder)}")
    except UserError as error:
        check.error = str(error)
        return check
    check.counts = Counts.of(dataset)
    check.damaged += dataset.test_faults
    check.reading = [*dataset.notes, *listed(joined(dataset.train_left_out, dataset.test_left_out))]
    published = [check.counts.differences(counts) for counts in published_counts(key, category)]
    check.differences = min(published, key=len, default=[])
    anomalous = [sample for sample in dataset.test if sample.label]
    check.any_mask = any(sample.mask for sample in anomalous)
    if has_masks(key) or check.any_mask:
        check.unmasked = [sample.image for sample in anomalous if not sample.mask]
    if decode:
        _read_all(check, dataset, workers)
    return check


def _packed(folder: Path) -> str:
    packed = archives(folder) or [path for path in archives(folder.parent) if path.name.startswith(folder.name)]
    return f"; {packed[0]} seems not to be extracted completely" if packed else ""


def _read_all(check: Check, dataset: Dataset, workers: int) -> None:
    samples = dataset.train + dataset.test
    outcomes = read_ahead(_read, samples, workers)
    for problem, black in tqdm(outcomes, f"checking {check.category}", len(samples), unit="image", leave=False):
        check.damaged += [problem] if problem else []
        check.black += [black] if black else []


def _read(sample: Sample) -> tuple[str | None, Path | None]:
    """What is damaged about an image and its mask, and the mask if it is all black."""
    try:
        size = image_size(sample.image)
        defect = defect_of(sample, size)
    except UserError as error:
        return str(error), None
    return None, sample.mask if defect is not None and not defect.any() else None
