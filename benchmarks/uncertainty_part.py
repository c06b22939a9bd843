"""A data set prepared for `uncertainty.py`: what is normal is fitted to some of its good images, and perceptions are trained."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from detection import WEIGHTS
from perceptions import learn_perception
from runs import slug
from sets import data_folder
from torch import Tensor

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor
from ura_hf.data.reader import read_dataset
from ura_hf.data.textures import generated_textures
from ura_hf.model.configuration_uranet import PEAKS
from ura_hf.model.perception import AnomalyPerception, Perception, summarize
from ura_hf.model.scoring import log_residual
from ura_hf.training.batches import FeatureBatches
from ura_hf.training.calibration import peak_standard, standard
from ura_hf.training.features import cached_features, channel_statistics
from ura_hf.training.fit import fit_views
from ura_hf.training.imagenet import load_imagenet
from ura_hf.training.posterior import fit_posterior

HELD, MOST_HELD = 0.2, 30  # good images that are not trained on: share, and number that is used
BATCH = 16  # images at once
TURNS = 30  # of what is timed
PASSES = 8  # with dropout
SMOOTHED = 0.5  # cells, as by the config's default
MAPS = ("probability", "total", "aleatoric", "epistemic")
Maps = dict[str, Tensor]
Values = np.ndarray


class Part:
    """A data set with what is normal fitted to some of its good images, and perceptions trained on them."""

    def __init__(self, name: str, seed: int, options: argparse.Namespace, count: int | None = None) -> None:
        self.seed, self.options, self.processor = seed, options, URANetImageProcessor()
        torch.manual_seed(seed)
        self.model = URANetForAnomalyDetection(URANetConfig()).eval()
        load_imagenet(self.model.backbone, options.shared / WEIGHTS)
        self.dataset = read_dataset(data_folder(name, options.shared, seed))
        self.good = [sample.image for sample in self.dataset.train]
        order = np.random.default_rng(seed).permutation(len(self.good)).tolist()
        held = max(2, round(HELD * len(order)))
        self.held = sorted(order[:held][:MOST_HELD])
        self.rows = sorted(order[held:][:count])
        self.raw = self.features(self.good, "training")
        textures = self.features(generated_textures(options.work, self.model.config.image_size, 0), "texture")
        mean, deviations = channel_statistics(self.raw, self.rows)
        self.model.backbone.set_statistics(mean, self.model.backbone.level_deviations(deviations))
        self.batches = FeatureBatches(self.raw, self.rows, textures, self.model)
        views = self.model.uranet.views
        fit_views(views, self.batches.features_of, self.rows, seed)
        folder = options.work / slug(("components", name, seed, count))
        folder.mkdir(parents=True, exist_ok=True)
        self.batches.project(views, folder)
        self._set_standards()
        self.components = self.seen(self.raw[self.rows])
        self.photos = self.seen(textures)

    def features(self, images: Sequence[Path], name: str) -> np.ndarray:
        """Raw features of image files, (N, C, G, G)."""
        return cached_features(images, self.model.backbone, self.processor, self.options.work, name)

    def pictures(self, images: Sequence[Any]) -> np.ndarray:
        """Raw features of pictures, (N, C, G, G)."""
        steps = [images[at : at + BATCH] for at in range(0, len(images), BATCH)]
        pixels = [self.processor(step, return_tensors="pt")["pixel_values"] for step in steps]
        return torch.cat([self.model.backbone.raw(step) for step in pixels]).numpy()

    def seen(self, raw: np.ndarray) -> Tensor:
        """What perception sees of raw features: standardised components, (N, K, G, G)."""
        views = self.model.uranet.views
        steps = [self._standardized(raw[at : at + BATCH]) for at in range(0, len(raw), BATCH)]
        return torch.cat([views.standardize(views.project(step)) for step in steps])

    def _standardized(self, raw: np.ndarray) -> Tensor:
        return self.batches.standardize(torch.from_numpy(np.array(raw)))

    def learn(self, seed: int, dropout: float = 0.0) -> AnomalyPerception:
        """A perception trained as `uranet train` does, and the posterior of its last layer."""
        net = learn_perception(self.model.config, self.components, self.photos, self.options.steps, seed, dropout)
        self.model.uranet.perception = net
        fit_posterior(self.model, self.batches, len(self.rows), seed)
        return net

    def verdicts(self, raw: np.ndarray) -> tuple[Values, Values]:
        """Raw scores before they are made positive, (N,), and their maps, (N, S, S); by standards of the images held out."""
        maps, parts = self.model.uranet.add_up(self._look(raw))
        return self.model.uranet.score(parts).numpy(), maps.numpy()

    def _set_standards(self) -> None:
        config, logs = self.model.config, self._look(self.raw[self.held])
        config.standards = {name: standard(values) for name, values in logs.items()}
        _, peaks = self.model.uranet.add_up(logs)
        config.standards |= {name: peak_standard(values) for name, values in peaks.items() if name in PEAKS}

    @torch.no_grad()
    def decisions(self, raw: np.ndarray, maps: Maps | None, held: Maps | None) -> tuple[Values, Values]:
        """Scores before they are made positive: of raw features, (N,), and of images held out, which give the standards.

        With a perception's maps for both they also add its odds to the peak of content, as by `score_views` of the config.
        """
        uranet, kept = self.model.uranet, self.model.config.standards
        good, new = self._look(self.raw[self.held]), self._look(raw)
        if maps is not None and held is not None:
            good["perceived"], new["perceived"] = odds(held), odds(maps)
        try:
            self.model.config.standards = {name: standard(values) for name, values in good.items()}
            _, peaks = uranet.add_up(good)
            self.model.config.standards |= {k: peak_standard(v) for k, v in peaks.items() if k in PEAKS}
            return uranet.score(uranet.add_up(new)[1]).numpy(), uranet.score(uranet.add_up(good)[1]).numpy()
        finally:
            self.model.config.standards = kept

    @torch.no_grad()
    def believed(self, net: AnomalyPerception, raw: np.ndarray) -> Maps:
        """Maps (N, G, G) that a checkpoint with this perception gives for raw features, (N, C, G, G)."""
        uranet, steps = self.model.uranet, []
        uranet.perception = net
        for at in range(0, len(raw), BATCH):
            features = self._standardized(raw[at : at + BATCH])
            steps.append(uranet.believe(uranet.views.project(features), uranet.look(features)["memory"]))
        return gathered(steps)

    @torch.inference_mode()
    def milliseconds(self, image: Path, nets: list[AnomalyPerception], dropped: AnomalyPerception) -> dict[str, float]:
        """Processor time on one thread of a verdict with heatmap, and of the uncertainty maps from what that has made.

        Beside those of the first net's posterior, of dropout and of all nets.
        """
        uranet, threads = self.model.uranet, torch.get_num_threads()
        pixels = self.processor([image], return_tensors="pt")["pixel_values"]
        features = uranet.extract(pixels)
        components = uranet.views.project(features)
        near, seen = uranet.look(features)["memory"], uranet.views.standardize(components)
        uranet.perception = nets[0]
        ways: dict[str, Callable[[], Perception]] = {
            "uncertainty": lambda: uranet.believe(components, near),
            "dropout": lambda: _one([dropped], seen, PASSES, posterior=False),
            "ensemble": lambda: _one(nets, seen, 1, posterior=False),
        }

        def maps(believe: Callable[[], Perception]) -> None:
            belief = believe()
            for name in MAPS:
                uranet.to_image(getattr(belief, name))

        calls: dict[str, Callable[[], Any]] = {"verdict": lambda: self.model(pixels, num_samples=0)}
        calls |= {name: partial(maps, way) for name, way in ways.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        torch.set_num_threads(1)
        for _ in range(TURNS):
            for name, call in calls.items():
                began = time.process_time()
                call()
                times[name].append(1000 * (time.process_time() - began))
        torch.set_num_threads(threads)
        return {name: median(found) for name, found in times.items()}

    def _look(self, raw: np.ndarray) -> Maps:
        steps = [self.model.uranet.look(self._standardized(raw[at : at + BATCH])) for at in range(0, len(raw), BATCH)]
        return {name: torch.cat([step[name] for step in steps]) for name in steps[0]}


def odds(maps: Maps) -> Tensor:
    """Logs of the view `perceived` of a perception's maps, (N, 1, G, G)."""
    return log_residual(maps["odds"][:, None], SMOOTHED)


@torch.no_grad()
def perceived(nets: list[AnomalyPerception], seen: Tensor, passes: int = 1, posterior: bool = True) -> Maps:
    """Maps (N, G, G) of components (N, K, G, G); of several nets or passes as of so many settings of the weights."""
    return gathered([_one(nets, seen[at : at + BATCH], passes, posterior) for at in range(0, len(seen), BATCH)])


def of_methods(found: Part, nets: list[AnomalyPerception], dropped: AnomalyPerception, raw: Values) -> dict[str, Maps]:
    """Maps of raw features (N, C, G, G) by every way to make them."""
    seen = found.seen(raw)
    return {
        "posterior": found.believed(nets[0], raw),
        "without distance": perceived(nets[:1], seen),
        "deterministic": perceived(nets[:1], seen, posterior=False),
        "dropout": perceived([dropped], seen, PASSES, posterior=False),
        "ensemble": perceived(nets, seen, posterior=False),
    }


def gathered(steps: list[Perception]) -> Maps:
    """Maps (N, G, G) of some batches, and their logits."""
    return {name: torch.cat([getattr(step, name) for step in steps])[:, 0] for name in (*MAPS, "odds", "logits")}


def _one(nets: list[AnomalyPerception], seen: Tensor, passes: int, posterior: bool) -> Perception:
    if posterior:
        return nets[0].predict(seen)
    trained = [net(seen) for net in nets * passes]
    logits = torch.cat([net.head.mean(one) for net, one in zip(nets * passes, trained, strict=True)], 1).movedim(1, -1)
    return summarize(trained[0].movedim(1, -1), logits, torch.full((logits.shape[-1],), 1 / logits.shape[-1]))
