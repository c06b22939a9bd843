"""Test images in folders named after their defect, and the masks that belong to them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..companions import MASKS, masks_beside
from ..folder import GROUND_TRUTH, IMAGE_SUFFIXES, holds_companions, list_images, list_pictures, natural_key, subfolders
from ..samples import GOOD, Sample
from .words import child, means_good

IMAGES_INSIDE, MASKS_INSIDE = "img", "label"  # folders in a type's folder, in BMAD


@dataclass
class Tested:
    """Test images; masks that match none of them; why they can't be measured; and what is worth saying."""

    samples: list[Sample] = field(default_factory=list)
    unmatched: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def ground_truth(root: Path) -> Path:
    """The folder of masks: ground_truth, else one that is called so in another way."""
    named = {folder.name.lower(): folder for folder in subfolders(root) if holds_companions(folder)}
    return next((named[name] for name in (GROUND_TRUTH, *MASKS) if name in named), root / GROUND_TRUTH)


def image_folder(folder: Path) -> Path:
    """Where the images of a type lie: the folder itself, or `img` in it."""
    inside = child(folder, IMAGES_INSIDE)
    return inside if inside is not None and not list_images(folder) else folder


class Masks:
    """The masks of a category by the image that they belong to.

    In the folder of masks: `TYPE/STEM_mask.png`, `TYPE/STEM.png`, `TYPE/STEM/000.png` and others beside it (MVTec LOCO AD), or
    without a type where only one type has such an image. In the folder of a type: `label/STEM.png` (BMAD).
    """

    def __init__(self, types: Sequence[Path], folder: Path) -> None:
        self.types = types
        self.by_image: dict[tuple[str, str], list[Path]] = defaultdict(list)
        self.unmatched: set[Path] = set()
        for mask in list_pictures(folder, recursive=True) if folder.is_dir() else []:
            self._add(mask, mask.relative_to(folder).parts)
        for one in types:
            if (inside := child(one, MASKS_INSIDE)) is not None and image_folder(one) != one:
                for mask in list_pictures(inside):
                    self._add(mask, (one.name, mask.name))

    def _add(self, mask: Path, parts: tuple[str, ...]) -> None:
        kinds = [parts[0]]
        if len(parts) == 1:
            kinds = [one.name for one in self.types if _holds(one, mask.stem)]
        if len(parts) > 1 and means_good(parts[0]):
            return
        self.unmatched.add(mask)
        if len(parts) <= 3 and len(kinds) == 1:
            self.by_image[kinds[0].lower(), parts[1] if len(parts) == 3 else mask.stem].append(mask)

    def of(self, image: Path, kind: str) -> list[Path]:
        """The masks of an image, which are then no longer among `unmatched`."""
        named = [self.by_image.get((kind.lower(), stem), []) for stem in (f"{image.stem}_mask", image.stem)]
        self.unmatched.difference_update(*named)
        return next(filter(None, named), [])


def read_types(types: Sequence[Path], folder: Path) -> Tested:
    """The images of every type, and their masks in `folder` or beside them; good ones are recognised by the folder's name."""
    tested, masks = Tested(), Masks(types, folder)
    for one in types:
        place = image_folder(one)
        images = list_images(place)
        if means_good(one.name):
            tested.samples += [Sample(image, 0, GOOD) for image in images]
            continue
        beside, named = masks_beside(list_pictures(place)), Counter(image.stem for image in images)
        for image in images:
            own = masks.of(image, one.name)
            if own and named[image.stem] > 1:
                tested.unmatched += own
                tested.faults.append(
                    f"{place} holds {named[image.stem]} images named {image.stem}, so it is not known whose mask {own[0]} is; "
                    "rename images and masks"
                )
                own = []
            own = own or ([beside[image]] if image in beside else [])
            tested.samples.append(Sample(image, 1, one.name, own[0] if own else None, tuple(own[1:])))
    if not types and folder.name != GROUND_TRUTH:
        return tested  # good photos alone, and pictures of them
    tested.unmatched += sorted(masks.unmatched, key=natural_key)
    if masks.unmatched:
        first = min(masks.unmatched, key=natural_key)
        shown = first.relative_to(folder if first.is_relative_to(folder) else folder.parent)
        tested.faults.append(
            f"{len(masks.unmatched)} mask(s) in {folder} match no test image, e.g. {shown}; "
            f"rename each to {GROUND_TRUTH}/<type>/<image name>_mask.png after its image, or remove it"
        )
    if several := sum(bool(sample.more_masks) for sample in tested.samples):
        tested.notes.append(f"{several} image(s) have several masks: the defect is where one of them marks it.")
    return tested


def _holds(folder: Path, stem: str) -> bool:
    """Whether a folder holds an image whose mask has this stem."""
    return any(
        (folder / f"{name}{end}").exists() for name in {stem, stem.removesuffix("_mask")} for end in IMAGE_SUFFIXES
    )
