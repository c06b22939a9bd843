"""How often verdicts err: thresholds from a few good images against good and defective ones that were not among them.

`python benchmarks/verdicts.py`. Of the good images of a data set (those to train on and those to test on) N are drawn, the views
are fitted to them and calibrated on them as `uranet train` does, and all others are scored. The networks are not trained: no
default view asks them. Good images of ball_screw are those to train on alone, since its test images are of other wear: what that
shift does, and what `uranet monitor` and `uranet calibrate` make of it, is told apart. Goes on where it stopped: --work keeps
scores and features. Writes docs/results/verdicts.json and a picture.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection import WEIGHTS
from runs import commit, part, read_runs, run_missing, write_report
from sets import ROOT, TURNED, data_folder
from tables_verdicts import plot

from ura_hf import URANetConfig, URANetForAnomalyDetection, URANetImageProcessor
from ura_hf.data.files import write_json
from ura_hf.data.reader import read_dataset
from ura_hf.data.textures import generated_textures
from ura_hf.evaluation.drift import drift
from ura_hf.model.scoring import fixed_scale, positive
from ura_hf.model.verdicts import LABELS, label, limits, score_at
from ura_hf.training.batches import FeatureBatches
from ura_hf.training.calibration import bound
from ura_hf.training.features import cached_features, channel_statistics
from ura_hf.training.fit import calibrate_score, fit_views
from ura_hf.training.imagenet import load_imagenet
from ura_hf.training.near_copies import near_copies
from ura_hf.training.pose import TURNED_COPIES, views_for

KEY = ("dataset", "count", "draw")
DATA = ("bottle", "pill", "magnetic_tile", "elpv_mono", "pill_turned", "ball_screw")
SHIFTED = "ball_screw"
COUNTS = (10, 20, 50, 100, 0)
"""Good images that are drawn; 0: all that are to train on."""
ASKED = (0.01, 0.02, 0.05, 0.1, 0.2)
BATCH = 16


def images_of(name: str, shared: Path) -> tuple[list[Path], int, list[Path], list[Path]]:
    """Good images, how many of them are to train on (these come first), defective ones, and good ones after a shift."""
    folder = data_folder(name, shared)
    dataset = read_dataset(folder)
    fresh = [sample.image for sample in dataset.test if not sample.label]
    fresh, moved = ([], fresh) if name == SHIFTED else (fresh, [])
    trained = [sample.image for sample in dataset.train]
    return trained + fresh, len(trained), [sample.image for sample in dataset.test if sample.label], moved


@torch.inference_mode()
def run_one(name: str, count: int, draw: int, options: argparse.Namespace) -> dict[str, Any]:
    """One draw: what its verdicts say of the other good images and of the defective ones."""
    good, trained, bad, moved = images_of(name, options.shared)
    model, processor = URANetForAnomalyDetection(URANetConfig()).eval(), URANetImageProcessor()
    load_imagenet(model.backbone, options.shared / WEIGHTS)
    copies, kept = TURNED_COPIES if name in TURNED else 0, options.work / "features"
    model.config.views = views_for(model.config.views, copies)
    features = cached_features(good, model.backbone, processor, kept, "good", copies)
    others = cached_features(bad, model.backbone, processor, kept, "bad")
    photos = generated_textures(kept, model.config.image_size, 0)
    textures = cached_features(photos, model.backbone, processor, kept, "texture")
    order = np.random.default_rng(draw).permutation(len(good))
    chosen = sorted(order[:count].tolist()) if count else list(range(trained))
    own = np.concatenate([features[copy * len(good) + np.asarray(chosen)] for copy in range(copies + 1)])
    rows = list(range(len(own)))
    mean, deviations = channel_statistics(own, rows)
    model.backbone.set_statistics(mean, model.backbone.level_deviations(deviations))
    batches = FeatureBatches(own, rows, textures, model)
    fit_views(model.uranet.views, batches.features_of, rows, draw)
    same = near_copies([good[row] for row in chosen], processor.load_pixels)
    calibrate_score(model, batches, len(chosen), draw, copies=same)
    rest = Found.of(model, batches, features, np.setdiff1d(np.arange(len(good)), chosen))
    defects = Found.of(model, batches, others, np.arange(len(bad)))
    key = {"dataset": name, "count": count, "draw": draw, "commit": commit()}
    images = {"fitted": len(chosen), "copies": len(same), "good": len(rest.raw), "defective": len(defects.raw)}
    report = key | {"images": images, "rates": rates(model, rest, defects), "verdicts": verdicts(model, rest, defects)}
    if moved:
        later = cached_features(moved, model.backbone, processor, kept, "moved")
        report["shift"] = shift(model, rest, Found.of(model, batches, later, np.arange(len(moved))), draw)
    return report


@dataclass(frozen=True)
class Found:
    """Raw scores and strangeness of images, (N,) each."""

    raw: np.ndarray
    strangeness: np.ndarray

    @classmethod
    def of(
        cls, model: URANetForAnomalyDetection, batches: FeatureBatches, features: np.ndarray, rows: np.ndarray
    ) -> Found:
        """Of rows of raw features."""
        raw, strange = [], []
        for start in range(0, len(rows), BATCH):
            logs = model.uranet.look(batches.standardize(torch.from_numpy(features[rows[start : start + BATCH]])))
            raw.append(positive(model.uranet.score(model.uranet.add_up(logs)[1])))
            strange.append(model.uranet.strangeness(logs))
        return cls(torch.cat(raw).double().numpy(), torch.cat(strange).double().numpy())


def rates(model: URANetForAnomalyDetection, good: Found, bad: Found) -> list[dict[str, float]]:
    """Of each asked rate: the realised one, misses, and misses at the threshold that has this rate on the good images."""
    found = []
    for asked in ASKED:
        limit = score_at(asked, model.config.false_alarms)
        perfect = float(np.quantile(good.raw, 1 - asked))
        realised = {"asked": asked, "false_alarms": float((good.raw > limit).mean())}
        found.append(
            realised | {"misses": float((bad.raw <= limit).mean()), "least": float((bad.raw <= perfect).mean())}
        )
    return found


def verdicts(model: URANetForAnomalyDetection, good: Found, bad: Found) -> dict[str, dict[str, float]]:
    """Shares of the labels at the default rates, of good and of defective images."""
    shares: dict[str, dict[str, float]] = {}
    for kind, found in (("good", good), ("defective", bad)):
        scores = fixed_scale(torch.from_numpy(found.raw), model.config.image_threshold).tolist()
        given = [label(s, w, *limits(model.config)) for s, w in zip(scores, found.strangeness, strict=True)]
        shares[kind] = {name: given.count(name) / len(given) for name in LABELS}
    return shares


def shift(model: URANetForAnomalyDetection, before: Found, after: Found, seed: int) -> dict[str, Any]:
    """What good images of another kind get, when `drift` notices, and what new thresholds from half of them give.

    `noticed`: how many of them had come; None: never. `false_alarm`: whether `drift` gave an alarm before they came.
    """
    rng = np.random.default_rng(seed)
    usual, moved = rng.permutation(before.raw), rng.permutation(after.raw)
    alarm, half = drift(np.concatenate([usual, moved])).alarm, len(moved) // 2
    first, second = (torch.from_numpy(part - 1 / part) for part in (moved[:half], moved[half:]))  # undoes `positive`
    asked = model.config.false_positive_rate
    return {
        "false_alarms": float((after.raw > score_at(asked, model.config.false_alarms)).mean()),
        "verdicts": verdicts(model, after, after)["good"],
        "false_alarm": drift(usual).alarm is not None,
        "noticed": None if alarm is None else alarm + 1 - len(usual),
        "calibrated": float((second > bound(first, asked)).double().mean()),
    }


def main() -> None:
    """Run what is missing in docs/results/verdicts.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=DATA, default=DATA, metavar="SET", help="of " + ", ".join(DATA))
    parser.add_argument("--draws", type=int, nargs="+", default=range(5))
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="good images; 0: all")
    parser.add_argument("--jobs", type=int, default=2)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/, open/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/verdicts")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/verdicts.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/pictures/verdicts.png")
    parser.add_argument("--only", nargs=3, metavar=KEY, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        key = (options.only[0], int(options.only[1]), int(options.only[2]))
        write_json(part(options.work, key), run_one(*key, options))
        return
    found = read_runs(options.output, KEY)
    wanted = [(name, count, draw) for draw in options.draws for name in options.sets for count in options.counts]
    missing = [key for key in wanted if key not in found and not (key[1] == 0 and (key[2] or key[0] == SHIFTED))]

    def add(key: tuple[Any, ...], run: dict[str, Any]) -> None:
        found = read_runs(options.output, KEY) | {key: run}
        order = sorted(found, key=lambda key: (DATA.index(key[0]), COUNTS.index(key[1]), key[2]))
        write_report(options.output, {"runs": [found[key] for key in order]})
        plot({"runs": [found[key] for key in order]}, options.picture)

    passed = ["--shared", options.shared, "--work", options.work]
    run_missing(__file__, missing, options.work, options.jobs, passed, add)


if __name__ == "__main__":
    main()
