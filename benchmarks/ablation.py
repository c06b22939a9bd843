"""What each part of the score gains, on six data sets: `python benchmarks/ablation.py`.

One training a variant, data set and seed; its rows are scored from the same features, memories and networks, each with standards
of its own (`training.fit.calibrate_score`). Nothing is chosen on the test images. Goes on where it stopped: finished runs are
those in docs/results/ablation.json, --work holds checkpoints and features. `python benchmarks/render.py` renders the table.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detection import WEIGHTS
from runs import commit, part, read_runs, run_missing, slug, write_report
from sets import ROOT, SETS, TURNED, data_folder
from torch import Tensor

from ura_hf import TrainingOptions, URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, train
from ura_hf.data.files import read_json, write_json
from ura_hf.data.reader import read_dataset
from ura_hf.data.samples import Sample
from ura_hf.evaluation.metrics import AnomalyMetrics
from ura_hf.model.configuration_uranet import DEFAULT_VIEWS, PEAKS, VIEWS
from ura_hf.model.images import load_image, load_mask
from ura_hf.model.modeling_uranet import URANetModel
from ura_hf.model.scoring import standardized
from ura_hf.training.batches import FeatureBatches
from ura_hf.training.calibration import peak_standard, standard
from ura_hf.training.features import cached_features
from ura_hf.training.fit import unseen
from ura_hf.training.near_copies import near_copies
from ura_hf.training.options import STEPS

KEY = ("variant", "dataset", "seed", "steps")
DEFAULT = "default"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "attention without suspicion": {"weigh_keys": False, "take_out_queries": False},
    "attention's suspicion without entropy": {"uncertainty_weight": 0.0},
    "plain reconstruction": {"weigh_keys": False, "take_out_queries": False, "memory_tokens": 0},
}
"""Trainings, and what their configs change: the attention. The memory is asked for p content and 1 - p surroundings in all."""
PERCEIVED = ("perceived",)  # in the peak of content of the score alone


SURE, WITHOUT_DISTANCE = "sure", "without distance"
"""What is believed by the mean weights, and by the weights' posterior alone."""
ATTENTION = "attention"
"""What attention makes of the features, without the nearest normal cell."""


class Row(NamedTuple):
    """What is scored: views of map and score, views of the score alone, and what stands for perception and restoration.

    With `plain` the score is the maximum of the map.
    """

    views: tuple[str, ...]
    score_views: tuple[str, ...] = ()
    perceived: str = "perceived"
    restored: str = "restored"
    plain: bool = False

    @property
    def needs(self) -> set[str]:
        """Names of the views that it adds up."""
        return {*self.views, *self.score_views}


def restored_by(how: str) -> str:
    """Name of the logs of restoration where it goes another way."""
    return f"restored, {how}"


ROWS: dict[str, Row] = {
    "the score": Row(DEFAULT_VIEWS),
    "largest sum of memory, place and remainder": Row(("memory", "place", "remainder"), plain=True),
    "nearest normal cell alone": Row(("memory",)),
    "Gaussian of the place alone": Row(("place",)),
    "remainder of the projection alone": Row(("remainder",)),
    "whole image alone": Row(("image",)),
    "restoration alone": Row(("restored",)),
    "restoration alone, p without distance": Row(("restored",), restored=restored_by(WITHOUT_DISTANCE)),
    "restoration alone, p without uncertainty": Row(("restored",), restored=restored_by(SURE)),
    "restoration alone, without the memory's cells": Row(("restored",), restored=restored_by(ATTENTION)),
    "perception alone": Row(PERCEIVED),
    "perception alone, without distance": Row(PERCEIVED, perceived=WITHOUT_DISTANCE),
    "perception alone, without uncertainty": Row(PERCEIVED, perceived=SURE),
    **{f"without {name}": Row(tuple(v for v in DEFAULT_VIEWS if v != name)) for name in DEFAULT_VIEWS},
    "with perception": Row(DEFAULT_VIEWS, PERCEIVED),
    "with perception, without distance": Row(DEFAULT_VIEWS, PERCEIVED, WITHOUT_DISTANCE),
    "with perception, without uncertainty": Row(DEFAULT_VIEWS, PERCEIVED, SURE),
    "with memory twice": Row(DEFAULT_VIEWS, PERCEIVED, "memory"),
    "with perception, in the map, too": Row((*DEFAULT_VIEWS, *PERCEIVED)),
    "with restoration": Row((*DEFAULT_VIEWS, "restored")),
    "restoration in place of memory": Row(tuple("restored" if view == "memory" else view for view in DEFAULT_VIEWS)),
}
"""A variant has only the rows with restoration."""
ALL = (*SETS, *TURNED)
BATCH = 8
Logs = dict[str, Tensor]


class Scorer:
    """One row: its views with standards of its own, and its figures so far."""

    def __init__(self, model: URANetModel, row: Row, good: Mapping[str, Tensor]) -> None:
        self.model, self.row, self.metrics = model, row, AnomalyMetrics()
        own = self._own(good)
        self.standards = {name: standard(values) for name, values in own.items()}
        if self.has_map:
            _, parts = self._add_up(own)
            self.standards |= {name: peak_standard(values) for name, values in parts.items() if name in PEAKS}

    @property
    def has_map(self) -> bool:
        """Whether any of the views is a map."""
        return self.row.views != ("image",)

    def _own(self, logs: Mapping[str, Tensor]) -> Logs:
        known = {**logs, "perceived": logs[self.row.perceived], "restored": logs[self.row.restored]}
        return {name: known[name] for name in known if name in self.row.needs}

    def _add_up(self, logs: Logs) -> tuple[Tensor, Logs]:
        config = self.model.config
        config.views, config.score_views, config.standards = [*self.row.views], [*self.row.score_views], self.standards
        return self.model.add_up(logs)

    def add(self, logs: Mapping[str, Tensor], samples: Sequence[Sample], processor: URANetImageProcessor) -> None:
        """Test images: what `look` gives for them. Maps are compared with the masks at the size of the images."""
        maps: Tensor | None = None
        if self.has_map:
            maps, parts = self._add_up(self._own(logs))
            scores = maps.amax((1, 2)) if self.row.plain else self.model.score(parts)
        else:
            scores = standardized(logs["image"], self.standards["image"])
        for row, sample in enumerate(samples):
            mask = None if sample.mask is None else load_mask(sample.mask, None)
            shown = None
            if maps is not None and (mask is not None or not sample.label):
                size = load_image(sample.image).shape[:2] if mask is None else mask.shape
                shown = processor.restore_geometry(maps[row : row + 1], [size])
            masks = None if mask is None else [mask]
            self.metrics.update(scores[row : row + 1], [sample.label], shown, masks, [sample.defect_type])


def trained(variant: str, name: str, seed: int, options: argparse.Namespace) -> Path:
    """Folder of the checkpoint, trained where it is missing."""
    output: Path = options.work / slug((variant, name, seed, options.steps))
    if not (output / "training.json").exists():
        settings = TrainingOptions(
            data=data_folder(name, options.shared, seed),
            output=output,
            backbone_weights=options.shared / WEIGHTS,
            steps=options.steps,
            seed=seed,
            cache=options.work / "features",
        )
        train(settings, URANetConfig(**VARIANTS[variant]))
    return output


def rows_of(variant: str, turned: bool) -> dict[str, Row]:
    """The rows of a training; of turned parts without the view of the place, which a checkpoint leaves out, too."""
    wanted = {name: row for name, row in ROWS.items() if variant == DEFAULT or "restored" in row.needs}
    if not turned:
        return wanted
    wanted.pop("without place", None)
    fewer = {name: row._replace(views=tuple(v for v in row.views if v != "place")) for name, row in wanted.items()}
    return {name: row for name, row in fewer.items() if row.views}


def other_ways(model: URANetModel, features: Tensor) -> Logs:
    """Logs of what perception says of features (B, C, G, G) with less uncertainty, and of what is restored with that."""
    views = model.views
    components = views.project(features)
    seen = views.standardize(components)
    near = model.believe(components, None)
    odds = model.perception.head.mean(near.logits).exp()
    sure = replace(near, probability=odds / (1 + odds))
    rewritten = views.unstandardize(model.restoration(seen, model.suspicion_of(near.logits)))
    restored = {
        WITHOUT_DISTANCE: model.restore(features, components, near),
        SURE: model.restore(features, components, sure),
        ATTENTION: views.features(rewritten),
    }
    residuals = {restored_by(how): (features - new).square().mean(1, keepdim=True) for how, new in restored.items()}
    residuals |= {SURE: odds, WITHOUT_DISTANCE: near.odds}
    return {name: model.log(values) for name, values in residuals.items()}


def run_one(variant: str, name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train where it is missing, and score every row on one data set."""
    return scored(trained(variant, name, seed, options), variant, name, seed, options)


@torch.inference_mode()
def scored(checkpoint: Path, variant: str, name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of every row, from one checkpoint."""
    model = URANetForAnomalyDetection.from_pretrained(checkpoint).eval()
    processor = URANetImageProcessor.from_pretrained(checkpoint)
    uranet, dataset = model.uranet, read_dataset(data_folder(name, options.shared, seed))
    calibrated = uranet.config.standards
    uranet.config.views, uranet.config.score_views = list(VIEWS), []
    record = read_json(checkpoint / "training.json")
    copies = record["pose"]["turned_copies"]
    images = [sample.image for sample in dataset.train]
    features = cached_features(images, model.backbone, processor, options.work / "features", "training", copies)
    batches = FeatureBatches(features, list(range(len(features))), None, model)
    twice = near_copies(images, processor.load_pixels)
    good = unseen(model, batches, len(images), seed, copies=twice)
    rows = [row for row in range(len(images)) if row not in twice]
    others = [other_ways(uranet, batches.features_of([row])) for row in rows]
    good |= {name: torch.cat([one[name] for one in others]) for name in others[0]}
    scorers = {name: Scorer(uranet, row, good) for name, row in rows_of(variant, bool(copies)).items()}
    for at in range(0, len(dataset.test), BATCH):
        samples = dataset.test[at : at + BATCH]
        seen = uranet.extract(processor([s.image for s in samples], return_tensors="pt")["pixel_values"])
        uranet.config.views, uranet.config.score_views, uranet.config.standards = list(VIEWS), [], calibrated
        logs = uranet.look(seen) | other_ways(uranet, seen)
        for scorer in scorers.values():
            scorer.add(logs, samples, processor)
    figures = {row: {k: v for k, v in s.metrics.compute().items() if k != "per_type"} for row, s in scorers.items()}
    costs = {key: record[key] for key in ("cpu_seconds", "images", "pose")}
    key = {"variant": variant, "dataset": name, "seed": seed, "steps": options.steps}
    return {**key, "commit": commit(), "training": costs, "rows": figures}


def main() -> None:
    """Run what is missing, and write the results after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/, open/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/ablation", help="checkpoints and features go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/ablation.json")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[DEFAULT])
    parser.add_argument("--sets", nargs="+", choices=ALL, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS, help="of a training (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--only", nargs=4, metavar=("VARIANT", "SET", "SEED", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        variant, name, seed, options.steps = (*options.only[:2], int(options.only[2]), int(options.only[3]))
        key = (variant, name, seed, options.steps)
        write_json(part(options.work, key), run_one(variant, name, seed, options))
        return
    wanted = [(v, d, s, options.steps) for s in options.seeds for v in options.variants for d in options.sets]
    missing = [key for key in wanted if key not in read_runs(options.output, KEY)]

    def add(key: tuple[Any, ...], run: dict[str, Any]) -> None:
        found = read_runs(options.output, KEY) | {key: run}
        order = sorted(found, key=lambda k: (list(VARIANTS).index(k[0]), ALL.index(k[1]), k[2:]))
        write_report(options.output, {"runs": [found[key] for key in order]})

    passed = ["--shared", options.shared, "--work", options.work]
    run_missing(__file__, missing, options.work, options.jobs, passed, add)


if __name__ == "__main__":
    main()
