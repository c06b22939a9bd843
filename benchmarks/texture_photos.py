"""Do photos that scikit-image ships serve training better than generated textures? `python benchmarks/texture_photos.py`

The trained parts alone are measured, since the other parts see no textures: image AUROC and pixel AP of the views `restored` and
`perceived` on defects drawn into held-out good images (`artificial.py`). Defects of another material are left out, which are of
generated textures themselves. One fit a data set and seed, from which each source of textures trains. No test image is used.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from artificial import write_held_out
from detection import WEIGHTS
from runs import commit, read_runs, write_report
from sets import ROOT, data_folder, written_once
from torch import Tensor

from ura_hf import TrainingOptions, URANetConfig, URANetForAnomalyDetection, URANetImageProcessor
from ura_hf.data.progress import silent
from ura_hf.data.reader import read_dataset
from ura_hf.data.samples import Sample
from ura_hf.data.textures import PHOTOS, packaged_photos
from ura_hf.evaluation.metrics import AnomalyMetrics
from ura_hf.model.images import load_mask
from ura_hf.training.features import cached_features
from ura_hf.training.material import read_material
from ura_hf.training.processes import processes
from ura_hf.training.randomness import seeded_generators
from ura_hf.training.train import extract, fit, make_processor
from ura_hf.training.trainer import learn

KEY = ("dataset", "seed", "steps", "source")
DATASETS = ("bottle", "pill", "elpv_mono")
SOURCES = ("none", "generated", "photos")
VIEWS = ["restored", "perceived"]
FIGURES = ("image_auroc", "pixel_ap")
SMALL: dict[str, Any] = {"image_size": 128, "grid_size": 16, "smoothing_sigma": 3.0, "memory_cells": 256}
"""Of the config: a quarter of the cells, so that a run takes seconds. Restored features are cells of this memory."""
HELD_OUT = 20  # good images with drawn defects
GOOD = 100  # good images to train on, at most
BATCH = 8


def trained(model: URANetForAnomalyDetection, options: TrainingOptions, batches: Any, textures: Any) -> Any:
    """A copy of a fitted model that learned with these features of textures, or with none."""
    learner, own = copy.deepcopy(model), copy.copy(batches)
    own.textures, own.seen_textures = textures, None
    with tempfile.TemporaryDirectory() as work, seeded_generators(options.seed):
        own.project(learner.uranet.views, Path(work))
        learn(options, learner, own, Path(work), None, (), silent)
    return learner.eval()


@torch.inference_mode()
def measured(
    model: URANetForAnomalyDetection, processor: URANetImageProcessor, features: Tensor, samples: list[Sample]
) -> dict[str, Any]:
    """Figures of each view alone; `features` (N, C, G, G) are standardised."""
    metrics = {view: AnomalyMetrics() for view in VIEWS}
    for at in range(0, len(samples), BATCH):
        logs = model.uranet.look(features[at : at + BATCH])
        for row, sample in enumerate(samples[at : at + BATCH]):
            mask = None if sample.mask is None else load_mask(sample.mask, None)
            for view in VIEWS:
                shown = model.uranet.to_image(logs[view][row : row + 1])
                if mask is not None:
                    shown = processor.restore_geometry(shown, [mask.shape])
                metrics[view].update([shown[0].max()], [sample.label], shown, [mask], [sample.defect_type])
    return {view: {key: metrics[view].compute()[key] for key in FIGURES} for view in VIEWS}


def run(dataset: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One fit, and a training with each source of textures."""
    good = [sample.image for sample in read_dataset(data_folder(dataset, options.shared, 0)).train]
    folder = options.work / f"{dataset}-{seed}"
    split = written_once(folder, lambda place: write_held_out(good, place, seed, most=HELD_OUT))
    config = URANetConfig(views=VIEWS, **SMALL)
    settings = TrainingOptions(
        data=split,
        output=options.work,
        backbone_weights=options.shared / WEIGHTS,
        steps=options.steps,
        seed=seed,
        limit=GOOD,
        pose="fixed",
        cache=options.work / "features",
    )
    with seeded_generators(seed):
        model, processor = URANetForAnomalyDetection(config), make_processor(settings, config)
        seen = extract(settings, read_material(settings, config), model, processor, options.work, processes(), silent)
        batches = fit(settings, model, seen, options.work, processes(), silent)
    textures = {"none": None, "generated": seen.strangers, "photos": seen.textures}
    samples = [sample for sample in read_dataset(split).test if sample.defect_type != "texture"]
    images = [sample.image for sample in samples]
    raw = np.array(cached_features(images, model.backbone, processor, options.work / "features", "test"))
    features = batches.standardize(torch.from_numpy(raw))
    facts = {"steps": options.steps, "images": len(samples), "commit": commit()}
    runs = []
    for source in SOURCES:
        learner = trained(model, settings, batches, textures[source])
        figures = measured(learner, processor, features, samples)
        runs.append({"dataset": dataset, "seed": seed, "source": source, **facts, **figures})
    return runs


def gains(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Photos minus generated textures, and minus none, for each figure: mean, least and most over data sets and seeds."""
    found = {(run["dataset"], run["seed"], run["source"]): run for run in runs}
    places = sorted({key[:2] for key in found})
    report: dict[str, Any] = {}
    for other in SOURCES[:2]:
        for view in VIEWS:
            for figure in FIGURES:
                pairs = [(found[(*place, "photos")], found[(*place, other)]) for place in places]
                gained = [photos[view][figure] - against[view][figure] for photos, against in pairs]
                numbers = {"mean": float(np.mean(gained)), "least": min(gained), "most": max(gained)}
                report[f"photos - {other}, {view}, {figure}"] = {k: round(v, 4) for k, v in numbers.items()}
    return report


def write(output: Path, runs: list[dict[str, Any]]) -> None:
    """All runs, and the gains of each length of training."""
    lengths = sorted({run["steps"] for run in runs})
    gained = {str(steps): gains([run for run in runs if run["steps"] == steps]) for steps in lengths}
    write_report(output, {"photos": list(PHOTOS), "config": SMALL, "gains": gained, "runs": runs})


def main() -> None:
    """Run what is missing, and write the results after every data set and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/texture_photos", help="images and features go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/texture_photos.json")
    parser.add_argument("--sets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=60, help="of a training (default: %(default)s)")
    options = parser.parse_args()
    if not packaged_photos():
        parser.error("needs scikit-image: pip install -e '.[benchmarks]'")
    for seed in options.seeds:
        for dataset in options.sets:
            found = read_runs(options.output, KEY)
            if (dataset, seed, options.steps, SOURCES[-1]) not in found:
                write(options.output, [*found.values(), *run(dataset, seed, options)])


if __name__ == "__main__":
    main()
