"""Whether the uncertainty of a detector can be believed: `python benchmarks/uncertainty.py`.

The perception is trained on 80 % of the good images of a data set, without restoration, which takes no part in it. Its posterior
stands beside a deterministic net, dropout at inference and three nets. The other good images give thresholds and, with drawn
defects, the calibration of the probability. Nothing is chosen on test images. Goes on where it stopped: finished runs are those
in docs/results/uncertainty.json, --work holds features. Draws reliability and deferral, too.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from artificial import KINDS, add_defect
from changed_photos import CHANGES
from PIL import Image
from runs import commit, part, read_runs, run_missing, write_report
from sets import RING, ROOT, data_folder
from tables_uncertainty import plot
from torch import Tensor
from torch.nn import functional
from uncertainty_measures import (
    Values,
    area_under_risk,
    auroc,
    calibrated,
    calibrator,
    edge_share,
    ranks_added,
    region_figures,
    reliability,
    risk_curve,
)
from uncertainty_part import MAPS, Maps, Part, odds, of_methods

from ura_hf.data.files import read_json, write_json
from ura_hf.data.reader import read_dataset
from ura_hf.data.samples import Sample
from ura_hf.model.images import load_image, load_mask
from ura_hf.model.perception import AnomalyPerception
from ura_hf.training.calibration import bound

KEY = ("dataset", "seed", "steps", "count")
DATA = ("bottle", "pill", "magnetic_tile", "ball_screw", "cookies", RING)
CHANGED, FOREIGN = 12, 20  # good test images that are changed; images of each other set
MEMBERS, DROPOUT = 3, 0.1
COUNTS, COUNTED = (10, 50, 150), "bottle"  # good images to learn from, not all, and the set where this is tried
NEAR = "distance to the threshold"
BOTH = f"{NEAR}, and posterior, epistemic (ranks added)"
SORTED = {"posterior": "epistemic", "deterministic": "total", "dropout": "total", "ensemble": "total"}
"""By which map of each method curves are drawn; of an image by its largest value."""
SIDE, STRIDE = 256, 4  # pixels a side; every so many-th of a row and a column is judged


def enlarged(cells: Tensor) -> Values:
    """Maps of cells (N, G, G) at the size of the input, (N, S, S), as `URANetModel.to_image` enlarges them."""
    return functional.interpolate(cells[:, None], (SIDE, SIDE), mode="bilinear")[:, 0].numpy()


def thinned(maps: Values) -> Values:
    """The pixels that are judged, (N, S, S) -> (n,)."""
    return maps[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].reshape(-1)


def masks_of(samples: Sequence[Sample]) -> tuple[Values, list[int]]:
    """Masks (n, S, S) of the test images that have one or are good, and their places among all."""
    masks, rows = [], []
    for row, sample in enumerate(samples):
        if sample.mask is not None or not sample.label:
            mask = np.zeros((SIDE, SIDE), bool)
            if sample.mask is not None:
                given = torch.as_tensor(np.asarray(load_mask(sample.mask, None)), dtype=torch.float32)[None, None]
                mask = functional.interpolate(given, (SIDE, SIDE), mode="area")[0, 0].numpy() >= 0.5
            masks.append(mask)
            rows.append(row)
    return np.stack(masks), rows


def label_free(found: Part, net: AnomalyPerception) -> tuple[float, float]:
    """Calibration of the pixel probability on good images held out, each once as it is and once with a drawn defect."""
    shown, masks = [], []
    for number, row in enumerate(found.held):
        picture = np.rint(load_image(found.good[row]) * 255).astype(np.uint8)
        small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        drawn, mask = add_defect(small, KINDS[number % len(KINDS)], np.random.default_rng((found.seed, row)))
        shown.append(drawn)
        masks.append(mask)
    raw = np.concatenate([found.raw[found.held], found.pictures(shown)])
    maps = enlarged(found.believed(net, raw)["probability"])
    return calibrator(thinned(maps), thinned(np.concatenate([np.zeros_like(masks), np.stack(masks)])))


def by_image(maps: Tensor) -> dict[str, Values]:
    """The largest and the mean uncertainty of each image, from (N, G, G)."""
    return {"largest": maps.amax((1, 2)).numpy(), "mean": maps.mean((1, 2)).numpy()}


def risks(found: Part, methods: dict[str, Maps], raw: Values, labels: Values, masks: Values, rows: list[int]) -> Any:
    """Areas under risk-coverage of the verdict on images and pixels, and of each method's own pixels."""
    scores, maps = found.verdicts(raw)
    good = found.verdicts(found.raw[found.held])
    rate = found.model.config.false_positive_rate
    image_threshold = bound(torch.from_numpy(good[0]), rate)
    pixel_threshold = bound(torch.from_numpy(good[1].max((1, 2))), rate)
    wrong = ((scores > image_threshold) != labels).astype(float)
    truth, judged = thinned(masks), thinned(maps[rows])
    wrong_pixels = ((judged > pixel_threshold) != truth).astype(float)
    near, near_pixels = -np.abs(scores - image_threshold), -np.abs(judged - pixel_threshold)
    sure = methods["posterior"]["epistemic"]
    doubt, doubt_pixels = by_image(sure)["mean"], thinned(enlarged(sure)[rows])
    images = {NEAR: area_under_risk(wrong, near), BOTH: area_under_risk(wrong, ranks_added(near, doubt))}
    pixels = {
        NEAR: area_under_risk(wrong_pixels, near_pixels),
        BOTH: area_under_risk(wrong_pixels, ranks_added(near_pixels, doubt_pixels)),
    }
    own: dict[str, Any] = {}
    for name, method in methods.items():
        for kind in ("total", "epistemic"):
            if float(method[kind].max()) > 0:
                images |= {
                    f"{name}, {kind}, {how}": area_under_risk(wrong, v) for how, v in by_image(method[kind]).items()
                }
                pixels[f"{name}, {kind}"] = area_under_risk(wrong_pixels, thinned(enlarged(method[kind])[rows]))
        p = thinned(enlarged(method["probability"])[rows])
        own[name] = area_under_risk(((p > 0.5) != truth).astype(float), thinned(enlarged(method["total"])[rows]))
    curves = {"images": {NEAR: risk_curve(wrong, near)}, "pixels": {NEAR: risk_curve(wrong_pixels, near_pixels)}}
    for name, kind in SORTED.items():
        by = methods[name][kind]
        curves["images"][f"{name}, {kind}"] = risk_curve(wrong, by_image(by)["largest"])
        curves["pixels"][f"{name}, {kind}"] = risk_curve(wrong_pixels, thinned(enlarged(by)[rows]))
    rates = {"image_errors": float(wrong.mean()), "pixel_errors": float(wrong_pixels.mean()), "curves": curves}
    found_regions = of_regions(maps[rows], pixel_threshold, masks, methods["posterior"], rows)
    return {**rates, "images": images, "pixels": pixels, "own_pixels": own, "regions": found_regions}


def of_regions(shown: Values, limit: float, masks: Values, maps: Maps, rows: list[int]) -> dict[str, Any]:
    """How many regions above the threshold touch a defect, and how well figures of a region tell them from the others."""
    found = region_figures(shown, limit, masks, {kind: enlarged(maps[kind])[rows] for kind in MAPS[1:]})
    true, false = (np.array(values) for values in found.values())
    names = ("peak", *MAPS[1:])
    told = {name: auroc(false[:, i], true[:, i]) for i, name in enumerate(names)} if len(true) and len(false) else {}
    return {"true": len(true), "false": len(false), "auroc": told}


def means(maps: Maps) -> dict[str, float]:
    """Mean of every map."""
    return {name: float(maps[name].mean()) for name in MAPS}


def answers(found: Part, net: AnomalyPerception, test: Maps, masks: Values, rows: list[int]) -> dict[str, Any]:
    """Mean maps of changed good images, and inside the defects of each type, none of which training has seen."""
    samples = found.dataset.test
    good = [Image.open(s.image).convert("RGB").resize((SIDE, SIDE)) for s in samples if not s.label][:CHANGED]
    changed = {
        words: means(found.believed(net, found.pictures([change(image) for image in good])))
        for words, change in CHANGES.items()
    }
    large = {name: enlarged(test[name]) for name in MAPS}
    types: dict[str, Any] = {}
    for kind in sorted({samples[row].defect_type for row, mask in zip(rows, masks, strict=True) if mask.any()}):
        chosen = [(row, mask) for row, mask in zip(rows, masks, strict=True) if samples[row].defect_type == kind]
        inside = {name: np.concatenate([large[name][row][mask] for row, mask in chosen]) for name in MAPS}
        types[str(kind)] = {name: float(values.mean()) for name, values in inside.items()}
    return {"changed": changed, "inside_defects": types}


def foreign(name: str, found: Part, net: AnomalyPerception, test: Maps, options: argparse.Namespace) -> dict[str, Any]:
    """How well the mean uncertainty tells other parts' images from this part's test images, defective ones included."""
    result = {}
    for other in DATA:
        if other != name:
            images = [s.image for s in read_dataset(data_folder(other, options.shared, 0)).test]
            shown = images[:: max(1, len(images) // FOREIGN)][:FOREIGN]
            maps = found.believed(net, found.features(shown, "other"))
            result[other] = {
                kind: auroc(test[kind].mean((1, 2)).numpy(), maps[kind].mean((1, 2)).numpy()) for kind in MAPS
            }
    return result


def with_count(name: str, seed: int, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Mean maps of good test images where so many good images were learnt from."""
    found = Part(name, seed, options, count)
    raw = found.features([sample.image for sample in found.dataset.test], "test")
    good = raw[[row for row, sample in enumerate(found.dataset.test) if not sample.label]]
    return {"commit": commit(), "good": means(found.believed(found.learn(seed * MEMBERS), good))}


def detection(maps: Maps, labels: Values, masks: Values, rows: list[int]) -> dict[str, float]:
    """AUROC of images and pixels of the view `perceived` alone: the odds, smoothed by half a cell."""
    logs = odds(maps)[:, 0]
    scores, truth, shown = logs.amax((1, 2)).numpy(), thinned(masks), thinned(enlarged(logs)[rows])
    return {
        "image_auroc": auroc(scores[~labels], scores[labels]),
        "pixel_auroc": auroc(shown[~truth], shown[truth]),
    }


def decided(
    found: Part, raw: Values, labels: Values, maps: Maps | None = None, held: Maps | None = None
) -> dict[str, float]:
    """Figures of verdicts by the score, or that with a perception's odds; those nearest to their threshold are deferred first."""
    scores, good = found.decisions(raw, maps, held)
    threshold = bound(torch.from_numpy(good), found.model.config.false_positive_rate)
    wrong = ((scores > threshold) != labels).astype(float)
    area = area_under_risk(wrong, -np.abs(scores - threshold))
    return {"image_auroc": auroc(scores[~labels], scores[labels]), "errors": float(wrong.mean()), "area": area}


def run_one(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one data set, from all good images that are not held out."""
    found = Part(name, seed, options)
    nets = [found.learn(seed * MEMBERS + index) for index in range(MEMBERS)]
    dropped = found.learn(seed * MEMBERS, DROPOUT)
    samples = found.dataset.test
    raw = found.features([sample.image for sample in samples], "test")
    labels = np.array([bool(sample.label) for sample in samples])
    masks, rows = masks_of(samples)
    methods, held = (of_methods(found, nets, dropped, some) for some in (raw, found.raw[found.held]))
    test, scale = methods["posterior"], label_free(found, nets[0])
    p, truth = thinned(enlarged(test["probability"])[rows]), thinned(masks)
    edges = {kind: edge_share(enlarged(test[kind])[rows], masks) for kind in MAPS[1:]}
    return {
        "commit": commit(),
        "images": {"fitted": len(found.rows), "held_out": len(found.held), "test": len(samples)},
        "detection": {method: detection(maps, labels, masks, rows) for method, maps in methods.items()},
        "defect_share": float(truth.mean()),
        "calibration": {"slope": scale[0], "offset": scale[1]},
        "reliability": {
            "as trained": reliability(thinned(enlarged(test["logits"].sigmoid())[rows]), truth),
            "posterior": reliability(p, truth),
            "on drawn defects": reliability(calibrated(p, scale), truth),
        },
        "means": {
            "good": means({k: test[k][~labels] for k in MAPS}),
            "defective": means({k: test[k][labels] for k in MAPS}),
        },
        "risk": risks(found, methods, raw, labels, masks, rows),
        "decisions": {
            "none": decided(found, raw, labels),
            **{method: decided(found, raw, labels, maps, held[method]) for method, maps in methods.items()},
        },
        "edge_share": edges,
        **answers(found, nets[0], test, masks, rows),
        "milliseconds": found.milliseconds(samples[0].image, nets, dropped),
        "other_parts": foreign(name, found, nets[0], test, options),
    }


def main() -> None:
    """Run what is missing, and write the results after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/, open/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/uncertainty", help="features go there")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/uncertainty.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/pictures/reliability.png")
    parser.add_argument("--sets", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=200, help="of a training (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument("--only", nargs=4, metavar=("SET", "SEED", "STEPS", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, seed, options.steps, count = options.only[0], *map(int, options.only[1:])
        key = (name, seed, options.steps, count)
        found = with_count(name, seed, count, options) if count else run_one(name, seed, options)
        write_json(part(options.work, key), dict(zip(KEY, key, strict=True)) | found)
        return
    counts = {name: (0, *COUNTS) if name == COUNTED else (0,) for name in options.sets}
    wanted = [(name, seed, options.steps, n) for seed in options.seeds for name in options.sets for n in counts[name]]
    missing = [key for key in wanted if key not in read_runs(options.output, KEY)]

    def add(key: tuple[Any, ...], run: dict[str, Any]) -> None:
        found = read_runs(options.output, KEY) | {key: run}
        order = sorted(found, key=lambda k: (DATA.index(k[0]), *k[1:]))
        write_report(options.output, {"runs": [found[key] for key in order]})
        plot(read_json(options.output), options.picture)

    run_missing(
        __file__, missing, options.work, options.jobs, ["--shared", options.shared, "--work", options.work], add
    )


if __name__ == "__main__":
    main()
