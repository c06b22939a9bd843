"""What a run trains on: the good images, and photos of textures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.folder import MIN_TRAIN_IMAGES, distinct, images_below, list_images
from ..data.hub_datasets import open_dataset
from ..model.configuration_uranet import URANetConfig
from ..model.errors import UserError
from .options import MAX_IMAGES, TrainingOptions, split_sizes


@dataclass(frozen=True)
class Material:
    """Files of a run.

    Args:
        images: Good images that are used, in their order.
        good: How many different good images there are.
        left_out: How many images were left out, by reason: ``copies``, ``in_subfolders``.
        textures: Photos of textures, a source of artificial anomalies.
    """

    images: list[Path]
    good: int
    left_out: dict[str, int]
    textures: list[Path]

    def counts(self, held_out: Sequence[int]) -> dict[str, Any]:
        """How many images the run fits and holds out, how many there are, and how many were left out; for the record."""
        used = {"fitted": len(self.images) - len(held_out), "held_out": len(held_out)}
        return {"images": used, "good_images": self.good, "left_out": self.left_out}


def read_material(options: TrainingOptions, config: URANetConfig) -> Material:
    """Find the images of a run; of too many, those that the seed draws.

    Raises:
        UserError: The data can't be read, the good images are copies of one, or there are no textures where some were asked for.
    """
    given = [sample.image for sample in open_dataset(options.data).train]
    good = distinct(given)
    if len(good) < MIN_TRAIN_IMAGES:
        raise UserError(
            f"the {len(given)} good images in {given[0].parent} are copies of one: add images of other good parts."
        )
    left_out = {"copies": len(given) - len(good), "in_subfolders": len(images_below(given[0].parent))}
    images = draw_images(good, min(options.limit or MAX_IMAGES, MAX_IMAGES), options.seed)
    return Material(images, len(good), left_out, _texture_photos(options, config))


def _texture_photos(options: TrainingOptions, config: URANetConfig) -> list[Path]:
    if options.textures is None or not config.source_weights.get("texture"):
        return []
    if not options.textures.is_dir():
        raise UserError(f"{options.textures} is not a folder of texture photos: correct --textures or leave it out.")
    photos = list_images(options.textures, recursive=True)
    if not photos:
        raise UserError(f"{options.textures} holds no images: correct --textures or leave it out.")
    return draw_images(photos, MAX_IMAGES, options.seed)


def draw_images(images: list[Path], count: int | None, seed: int) -> list[Path]:
    """At most `count` images, drawn by the seed, in their order."""
    order = np.random.default_rng(seed).permutation(len(images))[:count].tolist()
    return [images[i] for i in sorted(order)]


def split_rows(count: int, options: TrainingOptions) -> tuple[list[int], list[int]]:
    """Rows held out for calibration and rows to fit, both sorted."""
    order = np.random.default_rng(options.seed).permutation(count).tolist()
    held_out, _ = split_sizes(count, options.held_out)
    return sorted(order[:held_out]), sorted(order[held_out:])
