"""What a run trains on: the good images, and photos of textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folder import MIN_TRAIN_IMAGES, distinct, list_images
from ..data.left_out import as_record, joined, left_out_of, require_nothing_left_out
from ..data.opening import open_each, sources
from ..data.samples import Dataset, LeftOut, Sample
from ..data.textures import packaged_photos
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from ..model.frames import ALL, all_frames, frames
from .options import MAX_IMAGES, TrainingOptions


@dataclass(frozen=True)
class Material:
    """Files of a run.

    Args:
        images: Good images that are used, in their order: files, and a `Frame` for each image of a file with several.
        good: How many different good images there are.
        files: How many files they lie in.
        sources: What was given as data, and how many of the used images are of each.
        kept: How many images are for testing, by what they are.
        left_out: Files that are not used, by reason.
        notes: How the data was read, where that is not a matter of course.
        textures: Photos that are a source of artificial anomalies; none where generated textures stand in for them.
        texture_source: What such anomalies are made of, in words; None: there are none.
    """

    images: list[Any]
    good: int
    files: int
    sources: list[tuple[str, int]]
    kept: dict[str, int]
    left_out: LeftOut
    notes: list[str]
    textures: list[Path]
    texture_source: str | None

    def counts(self) -> dict[str, Any]:
        """How many images the run fits, how many there are, and what was left out; for the record."""
        return {
            "images": {"fitted": len(self.images)},
            "good_images": self.good,
            "files": self.files,
            "sources": [{"data": data, "images": count} for data, count in self.sources],
            "kept": self.kept,
            "left_out": as_record(self.left_out),
            "notes": self.notes,
            "textures": self.texture_source,
        }


def read_material(options: TrainingOptions, config: URANetConfig) -> Material:
    """Find the images of a run; of too many, those that the seed draws.

    Raises:
        UserError: The data can't be read, the good images are copies of one, there are no textures where some were asked for, or
            anything is left out though `strict` forbids it.
    """
    parts = open_each(options.data, recursive=options.recursive)
    given = list(dict.fromkeys(sample.image for part in parts for sample in part.train))
    files = distinct(given)
    good = all_frames(files, options.frames)
    if len(good) < MIN_TRAIN_IMAGES:
        raise UserError(
            f"the {len(given)} good images in {given[0].parent} are copies of one: add images of other good parts."
        )
    images = draw_images(good, min(options.limit or MAX_IMAGES, MAX_IMAGES), options.seed)
    sides = [{sample.image for sample in part.train} for part in parts]
    counts = [sum(Path(image) in side for image in images) for side in sides]
    left_out = _left_out(parts, given, files, options.frames) | _not_drawn(good, images)
    if options.strict:
        require_nothing_left_out(left_out)
    return Material(
        images,
        len(good),
        len(files),
        list(zip(map(str, sources(options.data)), counts, strict=True)),
        _kept([sample for part in parts for sample in part.test]),
        left_out,
        [note for part in parts for note in part.notes],
        *_texture_photos(options, config),
    )


def _left_out(parts: Sequence[Dataset], given: list[Path], files: list[Path], which: str) -> LeftOut:
    """What training does not use of what was given, nor testing; images that the seed does not draw are apart."""
    kept = set(files)
    own = {
        "copies": [image for image in given if image not in kept],
        "later_pages": [] if which == ALL else [file for file in files if len(frames(file, which)) < len(frames(file))],
    }
    known = joined(*(part.train_left_out for part in parts), own)
    return left_out_of((folder for part in parts for folder in part.train_folders), files, known)


def _not_drawn(good: list[Any], images: list[Any]) -> LeftOut:
    drawn = set(images)
    return joined({"not_drawn": [image for image in good if image not in drawn]})


def _kept(test: Sequence[Sample]) -> dict[str, int]:
    """What evaluation would measure."""
    if not test:
        return {}
    defective = [sample for sample in test if sample.label]
    masks = sum(sample.mask is not None for sample in defective)
    return {f"for testing; {len(defective)} of them are defective, {masks} of these have a mask": len(test)}


def _texture_photos(options: TrainingOptions, config: URANetConfig) -> tuple[list[Path], str | None]:
    """Those of the options, else of scikit-image where it is installed, and what is used in words."""
    if not config.source_weights.get("texture"):
        return [], None
    if options.textures is None:
        packaged = packaged_photos()
        return packaged, "photos of scikit-image" if packaged else "generated"
    if not options.textures.is_dir():
        raise UserError(f"{options.textures} is not a folder of texture photos: correct --textures or leave it out.")
    photos = list_images(options.textures, recursive=True)
    if not photos:
        raise UserError(f"{options.textures} holds no images: correct --textures or leave it out.")
    return draw_images(photos, MAX_IMAGES, options.seed), "given photos"


def draw_images(images: list[Any], count: int | None, seed: int) -> list[Any]:
    """At most `count` images, drawn by the seed, in their order."""
    order = np.random.default_rng(seed).permutation(len(images))[:count].tolist()
    return [images[i] for i in sorted(order)]
