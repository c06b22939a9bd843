"""Does restoration attention restore anomalies and keep what is normal? `python benchmarks/claim.py`

URA-Net beside itself with the probability alone as suspicion, and beside plain reconstruction: the same network with key
weighting, query take-out and normal tokens switched off. A fifth of the good images is held out and gets artificial defects
(`artificial.py`). Writes docs/results/claim.json (rendered into docs/results.md), a figure of each data set into --work, and that
of the drawn ring to docs/pictures/claim.png.

A figure of any two checkpoints and images: `python benchmarks/claim.py --figure URANET PLAIN FOLDER OUTPUT.png`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation import DEFAULT, VARIANTS
from artificial import KINDS, write_held_out
from detection import WEIGHTS
from PIL import Image, ImageDraw, ImageFont
from runs import commit, read_runs, slug, write_report
from sets import DATASETS, RING, ROOT, data_folder, written_once
from torch import Tensor
from torch.nn import functional

from ura_hf import TrainingOptions, URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, train
from ura_hf.data.drawn.parts import write_demo_data
from ura_hf.data.folder import list_images
from ura_hf.data.reader import read_dataset
from ura_hf.data.samples import Sample
from ura_hf.evaluation.visualization import colorize, pca_colors
from ura_hf.model.images import load_image, load_mask
from ura_hf.training.options import STEPS
from ura_hf.training.synthesis import synthesize

KEY = ("dataset", "seed", "steps")

MODELS = {"uranet": DEFAULT, "without_uncertainty": "without uncertainty", "plain": "plain reconstruction"}
"""Names in the results, and variants of `ablation.py`."""
ALL = (RING, *DATASETS)
SIDE = 160  # of a picture in the figure, pixels
MARGIN = 3  # cells around a drawn defect that it reaches through the CNN's field of view
COLUMNS = ("input", "defect", "features", "restored", "restored, plain", "difference", "difference, plain")


def _enlarge(cells: np.ndarray) -> np.ndarray:
    """Crisp squares of at least SIDE pixels in all, from a picture with a pixel a cell (G, G, 3)."""
    factor = -(-SIDE // cells.shape[0])
    return cells.repeat(factor, 0).repeat(factor, 1)


def prepare(dataset: str, options: argparse.Namespace) -> tuple[Path, Path]:
    """The category split for this work (`artificial.py`), made once, and the data set with the real test images."""
    if dataset == RING:
        drawn = options.work / RING / "drawn"
        source = written_once(drawn, lambda folder: write_demo_data("ring", folder, train=200, good=40, each=15))
    else:
        source = data_folder(dataset, options.shared)
    images = [sample.image for sample in read_dataset(source).train]
    return written_once(options.work / dataset / "split", lambda folder: write_held_out(images, folder, seed=0)), source


def trained(variant: str, dataset: str, seed: int, options: argparse.Namespace) -> Path:
    """Folder of the checkpoint, trained where it is missing."""
    output: Path = options.work / dataset / slug((variant, seed, options.steps))
    if not (output / "training.json").exists():
        settings = TrainingOptions(
            data=prepare(dataset, options)[0],
            output=output,
            backbone_weights=options.shared / WEIGHTS,
            textures=options.shared / "data/textures",
            steps=options.steps,
            seed=seed,
            cache=options.work / "features",
        )
        train(settings, URANetConfig(**VARIANTS[variant]))
    return output


def load(checkpoint: Path) -> tuple[URANetForAnomalyDetection, URANetImageProcessor]:
    """A checkpoint, ready to score, and its image processor."""
    model = URANetForAnomalyDetection.from_pretrained(checkpoint).eval()
    return model, URANetImageProcessor.from_pretrained(checkpoint)


class Error:
    """Restoration error inside of masks over the anomaly's size, and outside over the features' size."""

    def __init__(self) -> None:
        self.sums = np.zeros(4)

    def add(self, clean: Tensor, altered: Tensor, restored: Tensor, inside: Tensor, outside: Tensor) -> None:
        """Three (B, C, G, G) and two masks (B, 1, G, G) of 0 and 1."""
        wrong, anomaly, size = (x.square().sum(1, keepdim=True) for x in (restored - clean, altered - clean, clean))
        pairs = ((wrong, inside), (anomaly, inside), (wrong, outside), (size, outside))
        self.sums += [float((values * mask).sum()) for values, mask in pairs]

    def ratios(self) -> dict[str, float]:
        """||F^ - F||^2 / ||F~ - F||^2 inside and ||F^ - F||^2 / ||F||^2 outside; 0 is a perfect restoration, 1 none inside."""
        return {"inside": self.sums[0] / self.sums[1], "outside": self.sums[2] / self.sums[3]}


def attended(model: URANetForAnomalyDetection, features: Tensor) -> Tensor:
    """Features (B, C, G, G) that restoration attention gives, before the memory is asked for the nearest normal cells."""
    uranet = model.uranet
    seen = uranet.views.standardize(uranet.views.project(features))
    restored = uranet.restoration(seen, uranet.suspicion_of(uranet.perception(seen)))
    return uranet.views.features(uranet.views.unstandardize(restored))


@torch.inference_mode()
def on_synthesis(models: Sequence[URANetForAnomalyDetection], features: Tensor, seed: int) -> list[dict[str, float]]:
    """Errors on anomalies of two of the training's sources in features (N, C, G, G) of held-out good images, alike for all."""
    config, errors = models[0].config, [Error() for _ in models]
    torch.manual_seed(seed)
    weights = {kind: weight for kind, weight in config.mask_weights.items() if kind != "empty"}
    for batch in features.split(8):
        altered, mask = synthesize(batch, None, {"self": 1.0, "noise": 1.0}, weights, config.max_blend)
        for model, error in zip(models, errors, strict=True):
            restored = attended(model, altered)
            error.add(batch, altered, restored, mask, 1 - mask)
    return [error.ratios() for error in errors]


@torch.inference_mode()
def on_drawn(
    models: Sequence[URANetForAnomalyDetection], processor: URANetImageProcessor, split: Path
) -> list[dict[str, float]]:
    """Errors on defects drawn into held-out good images, whose features without the defect are known."""
    errors = [Error() for _ in models]
    for kind in KINDS:
        for path in list_images(split / "test" / kind):
            pair = [split / "test/good" / path.name, path]
            clean, altered = models[0].uranet.extract(processor(pair, return_tensors="pt")["pixel_values"]).split(1)
            mask = load_mask(split / f"ground_truth/{kind}/{path.stem}_mask.png", None)
            pixels = torch.from_numpy(mask.astype(np.float32))[None, None]
            inside = functional.adaptive_max_pool2d(pixels, clean.shape[-2:])
            reached = functional.max_pool2d(inside, 2 * MARGIN + 1, stride=1, padding=MARGIN)
            for model, error in zip(models, errors, strict=True):
                restored = attended(model, altered)
                error.add(clean, altered, restored, inside, 1 - reached)
    return [error.ratios() for error in errors]


def choose(folder: Path, count: int) -> list[Sample]:
    """Anomalous test images of a category, types in turn, or the first images of any other folder."""
    if (folder / "test").is_dir():
        samples = [s for s in read_dataset(folder, for_training=False).test if s.label]
        types = list(dict.fromkeys(s.defect_type for s in samples))
        by_type = [[s for s in samples if s.defect_type == t] for t in types]
        turns = [own[i] for i in range(max(map(len, by_type), default=0)) for own in by_type if i < len(own)]
        return turns[:count]
    return [Sample(path, 0, "good") for path in list_images(folder)[:count]]


@torch.inference_mode()
def figure(
    models: Sequence[URANetForAnomalyDetection], processor: URANetImageProcessor, samples: Sequence[Sample]
) -> Any:
    """A row an image: input, mask, input features, both restorations in shared PCA colours, both differences on one scale."""
    top = 18
    canvas = Image.new("RGB", (len(COLUMNS) * SIDE, top + len(samples) * SIDE), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(COLUMNS):
        draw.text((column * SIDE + 4, 2), title, fill="black", font=ImageFont.load_default(12))
    for row, sample in enumerate(samples):
        pixels = processor([sample.image], return_tensors="pt")["pixel_values"]
        features = models[0].uranet.extract(pixels)
        restored = [attended(model, features) for model in models]
        maps = torch.cat([features, *restored], 3)[0].numpy()  # side by side, so that one PCA colours all three
        colours = np.split(pca_colors(maps, maps)[0], 3, axis=1)
        errors = [(x - features).square().mean(1)[0].numpy() for x in restored]
        scale = max(float(np.percentile(error, 99.5)) for error in errors)
        mask = np.zeros((8, 8)) if sample.mask is None else load_mask(sample.mask, None)
        shown = [
            np.rint(load_image(sample.image) * 255).astype(np.uint8),
            np.repeat((mask != 0).astype(np.uint8)[..., None] * 255, 3, 2),
            *(_enlarge(colour) for colour in colours),
            *(_enlarge(colorize(error, 0, scale)) for error in errors),
        ]
        for column, picture in enumerate(shown):
            tile = Image.fromarray(picture).resize((SIDE - 2, SIDE - 2), Image.Resampling.BILINEAR)
            canvas.paste(tile, (column * SIDE + 1, top + row * SIDE + 1))
    return canvas


def run(dataset: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Both errors of every model on one data set, and its figure."""
    checkpoints = [trained(variant, dataset, seed, options) for variant in MODELS.values()]
    models = [load(checkpoint)[0] for checkpoint in checkpoints]
    processor = load(checkpoints[0])[1]
    split, source = prepare(dataset, options)
    paths = list_images(split / "test/good")
    with torch.inference_mode():
        batches = [paths[start : start + 8] for start in range(0, len(paths), 8)]
        pixels = [processor(batch, return_tensors="pt")["pixel_values"] for batch in batches]
        features = torch.cat([models[0].uranet.extract(batch) for batch in pixels])
    picture = figure([models[0], models[-1]], processor, choose(source, 6))
    picture.save(options.work / f"claim-{dataset}.png")
    if dataset == RING:
        picture.save(options.picture, optimize=True)
    return {
        "dataset": dataset,
        "seed": seed,
        "steps": options.steps,
        "commit": commit(),
        "held_out_images": len(paths),
        "synthesis": dict(zip(MODELS, on_synthesis(models, features, seed), strict=True)),
        "drawn": dict(zip(MODELS, on_drawn(models, processor, split), strict=True)),
    }


def main() -> None:
    """Measure what is missing, or make one figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/claim", help="checkpoints and features go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/claim.json")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a training (default: %(default)s)")
    parser.add_argument(
        "--picture", type=Path, default=ROOT / "docs/pictures/claim.png", help="figure of the drawn ring"
    )
    parser.add_argument("--datasets", nargs="+", choices=ALL, default=list(ALL))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--figure", nargs=4, type=Path, metavar=("URANET", "PLAIN", "FOLDER", "OUTPUT"))
    parser.add_argument("--count", type=int, default=6, help="images in that figure (default: %(default)s)")
    options = parser.parse_args()
    if options.figure:
        first, second, folder, output = options.figure
        (model, processor), (plain, _) = load(first), load(second)
        own, other = (m.backbone.state_dict() for m in (model, plain))
        if own.keys() != other.keys() or not all(torch.equal(own[k], other[k]) for k in own):
            raise SystemExit(
                f"{first} and {second} must have the same features: train both on the same images and seed."
            )
        figure([model, plain], processor, choose(folder, options.count)).save(output)
        return
    for key in [(d, s, options.steps) for s in options.seeds for d in options.datasets]:
        found = read_runs(options.output, KEY)
        if key not in found:
            found[key] = run(key[0], key[1], options)
            order = sorted(found, key=lambda k: (ALL.index(k[0]), k[1:]))
            write_report(options.output, {"runs": [found[k] for k in order]})


if __name__ == "__main__":
    main()
