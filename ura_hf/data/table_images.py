"""Images, kinds and masks in the rows of a table of the package `datasets`."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..model.errors import UserError
from ..model.image_sources import read_bytes
from ..model.pillow_images import FORMATS
from .folder import GROUND_TRUTH
from .layouts.words import ANOMALOUS, GOOD_WORDS, means_good
from .samples import GOOD

if TYPE_CHECKING:
    import datasets

IMAGE_COLUMNS = ("image", "img")  # of several columns of images, the one that is taken
LABEL_COLUMNS = ("label", "labels")
MASK_COLUMN = "mask"
LABELS = "names of classes, or 0 for good images and 1 for others"
File = tuple[bytes, str]  # content and suffix


@dataclass(frozen=True)
class Row:
    """One image as an encoded file; `kind` is ``good`` or the defect type."""

    name: str
    kind: str
    image: File
    mask: File | None


class Table:
    """A split of which the columns are known: one of images, maybe one of labels, maybe one of masks.

    Args:
        split: The rows.
        data: The name that errors use.

    Raises:
        UserError: There is no column of images, or the labels don't tell good images from others.
    """

    def __init__(self, split: datasets.Dataset, data: str | Path) -> None:
        import datasets

        self.data = data
        self.fingerprint = split._fingerprint
        images = [name for name, feature in split.features.items() if isinstance(feature, datasets.Image)]
        self.image = self._choose_image([name for name in images if name != MASK_COLUMN], list(split.features))
        self.mask = MASK_COLUMN if MASK_COLUMN in images else None
        self.label = next((name for name in LABEL_COLUMNS if name in split.features), None)
        self.kind = self._kinds(split.features[self.label]) if self.label else None
        for column in filter(None, (self.image, self.mask)):
            split = split.cast_column(column, datasets.Image(decode=False))
        self.split = split.select_columns([name for name in (self.image, self.mask, self.label) if name])

    def _choose_image(self, images: list[str], columns: list[str]) -> str:
        if len(images) == 1:
            return images[0]
        for name in IMAGE_COLUMNS:
            if name in images:
                return name
        raise UserError(
            f"{self.data} must have one column of images, or one named image, but {len(images) or 'none'} of its columns "
            f"{', '.join(columns)} hold images: rename a column, or cast it to datasets.Image()."
        )

    def _kinds(self, feature: Any) -> Callable[[Any], str]:
        """A function from a label to the kind of its image."""
        import datasets

        if isinstance(feature, datasets.ClassLabel):
            names = feature.names
            if not any(map(means_good, names)):
                raise UserError(
                    f"{self.data}: one class of {self.label} must be named {' or '.join(GOOD_WORDS[:4])}, but the classes are "
                    f"{', '.join(names[:10])}: rename the class of good images."
                )
            return lambda label: _kind(names[label])
        dtype = str(getattr(feature, "dtype", "a list"))
        if dtype in ("string", "large_string", "string_view"):
            return _kind
        if not dtype.startswith(("int", "uint", "bool")):
            raise UserError(f"{self.data}: {self.label} must hold {LABELS}, but it holds {dtype}: cast the column.")
        return lambda label: (GOOD, ANOMALOUS)[label]

    def rows(self, needs_labels: bool) -> Iterator[Row]:
        """The rows in their order; without a column of labels every image is good.

        Raises:
            UserError: There are no labels though they are needed, or one is of no known class, or an image can't be fetched.
        """
        if needs_labels and self.kind is None:
            raise UserError(
                f"{self.data} has no column {' or '.join(LABEL_COLUMNS)}, which must tell good test images from others: add it."
            )
        for index, row in enumerate(self.split):
            if row[self.image] is None:
                raise UserError(f"{self.data}: row {index} holds no image: fill it or remove it.")
            kind = self.kind(self._known(row[self.label])) if self.kind else GOOD
            mask = row[self.mask] if self.mask else None
            yield Row(f"{index:06d}", kind, _encoded(row[self.image]), _encoded(mask) if mask else None)

    def defective_rows(self) -> list[str]:
        """Names of the rows whose label is not good."""
        if self.kind is None:
            return []
        labels = self.split[str(self.label)]
        return [f"{index:06d}" for index, label in enumerate(labels) if self.kind(self._known(label)) != GOOD]

    def _known(self, label: Any) -> Any:
        feature = self.split.features[str(self.label)]
        if isinstance(label, str) or (label is not None and 0 <= label < getattr(feature, "num_classes", 2)):
            return label
        raise UserError(f"{self.data}: {self.label} must hold {LABELS}, but got {label!r}: correct it.")


def _kind(name: str) -> str:
    """The folder of a class."""
    if means_good(name):
        return GOOD
    cleaned = re.sub(r"[^\w.-]+", "_", name).strip("._")[:100]
    return cleaned if cleaned and cleaned != GROUND_TRUTH else ANOMALOUS


def _encoded(value: dict[str, Any]) -> File:
    """The file of an image as the dataset has it; one that is no image gets .png, and whoever reads it says what is wrong."""
    data = value["bytes"] if value["bytes"] is not None else read_bytes(value["path"])[0]
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            return data, FORMATS.get(str(image.format), FORMATS["JPEG"])[0]  # MPO begins with a JPEG
    except (OSError, Image.DecompressionBombError):
        return data, ".png"
