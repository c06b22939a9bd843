"""Whether what is not the part is told from its defects: `python benchmarks/unknown.py`.

The views are fitted to 50 good images of a data set as `uranet train` fits them. Then come its other good images, its defective
ones, images of the other data sets, photos of anything, and good images that were changed: turned by 180 degrees, twice and half
as large, blurred, too bright, too dark; and flat pictures and noise. Writes docs/results/unknown.json.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection import WEIGHTS
from PIL import Image, ImageEnhance, ImageFilter
from runs import commit, write_report
from sets import ROOT, SETS, data_folder
from sklearn.metrics import roc_auc_score

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor
from ura_hf.data.folder import list_images
from ura_hf.data.reader import read_dataset
from ura_hf.data.textures import generated_textures
from ura_hf.training.batches import FeatureBatches
from ura_hf.training.features import cached_features, channel_statistics
from ura_hf.training.fit import calibrate_score, fit_views
from ura_hf.training.imagenet import load_imagenet

COUNT, OTHERS, CHANGED, BATCH = 50, 40, 12, 16  # images that are fitted, of each other set, that are changed, at once
Picture = Image.Image


def _half(image: Picture) -> Picture:
    """Half as large on a ground of the colour of its corner."""
    ground = Image.new("RGB", image.size, image.getpixel((0, 0)))
    ground.paste(image.resize((image.width // 2, image.height // 2)), (image.width // 4, image.height // 4))
    return ground


def _twice(image: Picture) -> Picture:
    return image.crop((image.width // 4, image.height // 4, 3 * image.width // 4, 3 * image.height // 4))


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "turned by 180 degrees": lambda image: image.rotate(180),
    "twice as large": _twice,
    "half as large": _half,
    "blurred (5 of 256 pixels)": lambda image: image.resize((256, 256)).filter(ImageFilter.GaussianBlur(5)),
    "2.5 times as bright": lambda image: ImageEnhance.Brightness(image).enhance(2.5),
    "a quarter of the light": lambda image: ImageEnhance.Brightness(image).enhance(0.25),
}


def drawn() -> dict[str, list[Picture]]:
    """Pictures of nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), dtype=np.uint8)
    flat = [Image.new("RGB", (256, 256), (value, value, value)) for value in (0, 64, 128, 255)]
    return {"black, grey, white": flat, "noise": [Image.fromarray(values) for values in noise]}


class Measured:
    """The strangeness of images, for one part."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.options, self.processor = options, URANetImageProcessor()
        self.model = URANetForAnomalyDetection(URANetConfig()).eval()
        load_imagenet(self.model.backbone, options.shared / WEIGHTS)
        dataset = read_dataset(data_folder(name, options.shared, 0))
        good = [sample.image for sample in dataset.train]
        chosen = sorted(np.random.default_rng(0).permutation(len(good))[:COUNT].tolist())
        self.good = [image for index, image in enumerate(good) if index not in set(chosen)]
        self.good += [sample.image for sample in dataset.test if not sample.label]
        self.bad = [sample.image for sample in dataset.test if sample.label]
        own, textures = self._features([good[row] for row in chosen]), self._features(self._textures())
        rows = list(range(len(own)))
        mean, deviations = channel_statistics(own, rows)
        self.model.backbone.set_statistics(mean, self.model.backbone.level_deviations(deviations))
        self.batches = FeatureBatches(own, rows, textures, self.model)
        fit_views(self.model.uranet.views, self.batches.features_of, rows, 0)
        calibrate_score(self.model, self.batches, len(rows), 0)

    def _textures(self) -> list[Path]:
        return generated_textures(self.options.work, self.model.config.image_size, 0)

    def _features(self, images: Sequence[Path]) -> np.ndarray:
        return cached_features(images, self.model.backbone, self.processor, self.options.work, "seen")

    def files(self, images: Sequence[Path]) -> np.ndarray:
        """Of image files, (N,)."""
        return self._of(self._features(images))

    def pictures(self, images: Sequence[Picture]) -> np.ndarray:
        """Of pictures, (N,)."""
        return self._of(
            self.model.backbone.raw(self.processor(list(images), return_tensors="pt")["pixel_values"]).numpy()
        )

    def _of(self, raw: np.ndarray) -> np.ndarray:
        uranet, found = self.model.uranet, []
        for start in range(0, len(raw), BATCH):
            features = self.batches.standardize(torch.from_numpy(np.array(raw[start : start + BATCH])))
            found.append(uranet.strangeness(uranet.look(features)))
        return torch.cat(found).numpy()


@torch.inference_mode()
def run_one(name: str, others: Mapping[str, Sequence[Path]], options: argparse.Namespace) -> dict[str, Any]:
    """Shares that are called unknown, and how well the strangeness of other parts and photos is told from the part's own."""
    measured = Measured(name, options)
    good, bad = measured.files(measured.good), measured.files(measured.bad)
    foreign = {f"{other}": measured.files(images) for other, images in others.items() if other != name}
    pictures = [Image.open(path).convert("RGB") for path in measured.good[-CHANGED:]]
    changed = {words: measured.pictures([change(picture) for picture in pictures]) for words, change in CHANGES.items()}
    changed |= {words: measured.pictures(images) for words, images in drawn().items()}
    own, all_foreign = np.concatenate([good, bad]), np.concatenate([*foreign.values()])
    kinds = np.r_[np.zeros(len(own)), np.ones(len(all_foreign))]
    groups = {"its good images": good, "its defective images": bad, "other parts and photos": all_foreign, **changed}
    return {
        "dataset": name,
        "commit": commit(),
        "seed": 0,
        "auroc": float(roc_auc_score(kinds, np.concatenate([own, all_foreign]))),
        "unknown": {words: float((found > 1).mean()) for words, found in groups.items()},
        "images": {words: len(found) for words, found in groups.items()},
    }


def main() -> None:
    """Every data set in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/, open/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/unknown", help="features go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/unknown.json")
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    others: dict[str, Sequence[Path]] = {}
    for name in SETS:
        images = [sample.image for sample in read_dataset(data_folder(name, options.shared, 0)).train]
        others[name] = [images[row] for row in sorted(draw.permutation(len(images))[:OTHERS].tolist())]
    others["photos"] = list_images(options.shared / "data/textures", recursive=True)[:OTHERS]
    write_report(options.output, {"runs": [run_one(name, others, options) for name in SETS]})


if __name__ == "__main__":
    main()
