"""What each choice of the method gains: `python benchmarks/ablation.py`. One change from the defaults a row.

A fifth of the good images of each data set is held out and gets artificial defects (`artificial.py`): what a user could
choose settings on. Test figures stand beside them and chose nothing. Goes on where it stopped, on another machine too: finished
rows are those in docs/results/ablation.json; --work holds checkpoints and cached features. `python benchmarks/render.py` renders
the tables into docs/results.md. --steps shortens every training alike, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from artificial import write_held_out
from detection import DATASETS, ROOT, TURNED, WEIGHTS, data_folder, written_once
from runs import commit, part, read_runs, run_missing, slug, write_report

from ura_hf import TrainingOptions, URANetConfig, URANetForAnomalyDetection, URANetImageProcessor, evaluate, train
from ura_hf.data.drawn.parts import write_demo_data
from ura_hf.data.folder import distinct, read_dataset
from ura_hf.data.records import METRIC_KEYS
from ura_hf.inference import Pair
from ura_hf.model.configuration_uranet import RESIDUAL_WEIGHTS, RESIDUALS
from ura_hf.training.calibration import spread_ratio
from ura_hf.training.material import split_rows

RING = "drawn_ring"
ALL = (RING, *DATASETS)
EVERY = (*ALL, *TURNED)
KEY = ("row", "dataset", "seed", "steps")
DEFAULTS, PLAIN = "defaults", "plain reconstruction (both, no normal tokens)"
BATCHES = 8
NOT_ADAPTED: dict[str, Any] = {"adapt_residuals": False, "reliabilities": None, "spread_ratio": None}


@dataclass(frozen=True)
class Row:
    """One change: config fields, options of training, and whether a checkpoint (that of row `of`) is only scored again."""

    group: str
    fields: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    rescore: bool = False
    of: str = DEFAULTS


def _residuals(*names: str, of: str = DEFAULTS) -> Row:
    fields = {"residuals": dict.fromkeys(names, 1.0), **NOT_ADAPTED}
    return Row("residuals, alike", fields, rescore=True, of=of)


def _without(*names: str, rescore: bool = True, **added: float) -> Row:
    weights = {name: weight for name, weight in RESIDUAL_WEIGHTS.items() if name not in names}
    return Row("residuals, weighed", {"residuals": weights | added}, rescore=rescore)


OFF: dict[str, Any] = {"weigh_keys": False, "take_out_queries": False, "memory_tokens": 0}
ROWS: dict[str, Row] = {
    DEFAULTS: Row("defaults"),
    **{
        f"source: {s} only": Row("synthesis source", {"source_weights": {s: 1.0}}) for s in ("texture", "self", "noise")
    },
    **{f"masks: {m} only": Row("mask family", {"mask_weights": {m: 1.0}}) for m in ("large", "small", "thin")},
    "deterministic perception": Row("perception", {"bayesian_perception": False}),
    "no uncertainty in the suspicion": Row("perception", {"uncertainty_weight": 0.0}),
    "keys not weighed": Row("restoration", {"weigh_keys": False}),
    "queries not taken out": Row("restoration", {"take_out_queries": False}),
    "no normal tokens": Row("restoration", {"memory_tokens": 0}),
    PLAIN: Row("restoration", OFF),
    "weights not adapted": Row("residuals", NOT_ADAPTED, rescore=True),
    "restored l2": _residuals("restored_l2"),
    "restored direction": _residuals("restored_direction"),
    "restored l2 x direction": _residuals("restored_l2", "restored_direction"),
    "restored direction, plain reconstruction": _residuals("restored_direction", of=PLAIN),
    "restored direction x probability": _residuals("restored_direction", "probability"),
    "memory of the deep levels": _residuals("memory_l2"),
    "memory of all levels": _residuals("memory_all_l2"),
    "memory of the shallowest level": _residuals("memory_shallow_l2"),
    "subspace": _residuals("subspace_l2"),
    "without restoration and perception": _without("restored_direction", "probability"),
    "without the memory of all levels": _without("memory_all_l2"),
    "without the memory of the shallowest level": _without("memory_shallow_l2"),
    "without the subspace": _without("subspace_l2"),
    "deep levels in place of the shallowest": _without("memory_shallow_l2", rescore=False, memory_l2=2.0),
    "all": _residuals(*RESIDUALS),
    "image score: the map alone": Row("image score", {"subspace_share": 0.0}, rescore=True),
    "image score: subspace share 1": Row("image score", {"subspace_share": 1.0}, rescore=True),
    "image score: spreads not weighed": Row("image score", {"spread_ratio": None}, rescore=True),
    **{f"pose {p}": Row("turned copies", training={"pose": p}) for p in ("fixed", "any")},
    "10 good images, pose fixed": Row("turned copies", training={"pose": "fixed", "limit": 10}),
    "grid 16": Row("grid", {"grid_size": 16}),
    "grid 64, tokens of 4x4": Row("grid", {"grid_size": 64, "patch_size": 4}),
    **{f"{n} restoration blocks": Row("depth", {"num_hidden_layers": n}) for n in (1, 4, 8)},
    "levels 2, 3": Row("levels", {"out_indices": [2, 3]}),
    "levels 1, 2": Row("levels", {"out_indices": [1, 2]}),
    **{f"level {n}": Row("levels", {"out_indices": [n]}) for n in (1, 2, 3)},
    "image score: standard deviation": Row("image score", {"image_score": "std"}, rescore=True),
    "image score: mean of the largest 1 %": Row("image score", {"image_score": "topk"}, rescore=True),
    **{f"{n} good images": Row("good images", training={"limit": n}) for n in (5, 10, 50)},
}


def prepare(dataset: str, options: argparse.Namespace) -> tuple[Path, Path]:
    """The category split for this work (`artificial.py`), made once, and the data set with the real test images."""
    if dataset == RING:
        drawn = options.work / RING / "drawn"
        source = written_once(drawn, lambda folder: write_demo_data("ring", folder, train=200, good=40, each=15))
    else:
        source = data_folder(dataset, options.shared)
    images = [sample.image for sample in read_dataset(source).train]
    return written_once(options.work / dataset / "split", lambda folder: write_held_out(images, folder, seed=0)), source


def trained(name: str, dataset: str, seed: int, options: argparse.Namespace) -> Path:
    """Folder of the row's checkpoint, trained where it is missing."""
    output = options.work / dataset / slug((name, seed, options.steps))
    if (output / "training.json").exists():
        return output
    row = ROWS[name]
    settings = TrainingOptions(
        data=prepare(dataset, options)[0],
        output=output,
        backbone_weights=options.shared / WEIGHTS,
        textures=options.shared / "data/textures",
        steps=options.steps,
        seed=seed,
        cache=options.work / "features",
        **row.training,
    )
    train(settings, URANetConfig(backbone="resnet18", **row.fields))
    return output


def held_out_images(checkpoint: Path) -> list[Path]:
    """Good images that the checkpoint's training held out, which no row limits."""
    asked = json.loads((checkpoint / "training.json").read_text())["options"]
    images = distinct([sample.image for sample in read_dataset(Path(asked["data"])).train])
    fields = {key: asked[key] for key in ("held_out", "seed")}
    rows, _ = split_rows(len(images), TrainingOptions(Path(asked["data"]), checkpoint, **fields))
    return [images[row] for row in rows]


@torch.inference_mode()
def measured_spread(
    model: URANetForAnomalyDetection, processor: URANetImageProcessor, images: list[Path]
) -> float | None:
    """`spread_ratio` as a training with the model's config measures it; None where the map has no subspace residual."""
    outputs = [model.uranet(processor([image], return_tensors="pt")["pixel_values"]) for image in images]
    wholes = [output.whole_image_residual for output in outputs if output.whole_image_residual is not None]
    of_maps = torch.cat([model.score_maps(output.anomaly_map) for output in outputs])
    return spread_ratio(of_maps, torch.cat(wholes)) if wholes else None


def run_one(name: str, dataset: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train where the row asks for it, and score held-out and test images."""
    row = ROWS[name]
    split, source = prepare(dataset, options)
    checkpoint = trained(row.of if row.rescore else name, dataset, seed, options)
    model = URANetForAnomalyDetection.from_pretrained(checkpoint).eval()
    for key, value in (row.fields if row.rescore else {}).items():
        setattr(model.config, key, value)
    processor = URANetImageProcessor.from_pretrained(checkpoint)
    if row.rescore and model.config.adapt_residuals and "spread_ratio" not in row.fields:
        model.config.spread_ratio = measured_spread(model, processor, held_out_images(checkpoint))
    result = {"row": name, "dataset": dataset, "seed": seed, "steps": options.steps, "commit": commit()}
    for place, data in (("held_out", split), ("test", source)):
        report = evaluate(Pair(model, processor), data, BATCHES)
        types = {kind: {k: values[k] for k in METRIC_KEYS} for kind, values in report["per_type"].items()}
        counts = {k: report[k] for k in ("n_normal", "n_anomalous")}
        result[place] = {**{k: report[k] for k in METRIC_KEYS}, **counts, "per_type": types}
    seconds = json.loads((checkpoint / "training.json").read_text())["cpu_seconds"]
    return {**result, "train_cpu_seconds": None if row.rescore else seconds}


def main() -> None:
    """Run what is missing, and write the results after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_places(parser, ROOT / "docs/results/ablation.json")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="default: all")
    parser.add_argument("--datasets", nargs="+", choices=EVERY, default=list(ALL))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="rows at a time, which share the cores (default: 1)")
    parser.add_argument("--redo", action="store_true", help="run the chosen rows anew")
    parser.add_argument("--only", nargs=4, metavar=("ROW", "DATASET", "SEED", "STEPS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, dataset, seed, options.steps = (*options.only[:2], int(options.only[2]), int(options.only[3]))
        result = run_one(name, dataset, seed, options)
        part(options.work, (name, dataset, seed, options.steps)).write_text(json.dumps(result))
        return
    for row in ROWS.values():
        URANetConfig(backbone="resnet18", **row.fields)  # a row that the config refuses stops the table at once
    first = sorted(options.rows, key=lambda name: (ROWS[name].rescore, list(ROWS).index(name)))
    wanted = [(r, d, s, options.steps) for s in options.seeds for d in options.datasets for r in first]
    if options.redo:
        forget(options, wanted)
    missing = [key for key in wanted if key not in read_runs(options.output, KEY)]
    for dataset in dict.fromkeys(key[1] for key in missing):
        prepare(dataset, options)
        again = {(ROWS[key[0]].of, key[2]) for key in missing if key[1] == dataset and ROWS[key[0]].rescore}
        for row, seed in sorted(again):  # what several rows score again is made before they run side by side
            trained(row, dataset, seed, options)

    def add(key: tuple[Any, ...], run: dict[str, Any]) -> None:
        write(options, read_runs(options.output, KEY) | {key: run})

    passed = ["--shared", options.shared, "--work", options.work]
    run_missing(__file__, missing, options.work, options.jobs, passed, add)


def add_places(parser: argparse.ArgumentParser, output: Path) -> None:
    """Options that say where things are and how long to train."""
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/ablation", help="checkpoints and features go there")
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument(
        "--steps", type=int, default=TrainingOptions.steps, help="of every training (default: %(default)s)"
    )


def forget(options: argparse.Namespace, keys: list[tuple[Any, ...]]) -> None:
    """Drop rows from the results, and what would bring them back."""
    for name, dataset, seed, steps in keys:
        part(options.work, (name, dataset, seed, steps)).unlink(missing_ok=True)
        shutil.rmtree(options.work / dataset / slug((name, seed, steps)), ignore_errors=True)
    write(options, {key: run for key, run in read_runs(options.output, KEY).items() if key not in keys})


def write(options: argparse.Namespace, found: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    """All rows in the order of the table."""
    order = sorted(found, key=lambda key: (EVERY.index(key[1]), list(ROWS).index(key[0]), key[2:]))
    groups = {name: row.group for name, row in ROWS.items()}
    write_report(options.output, {"groups": groups, "runs": [found[key] for key in order]})


if __name__ == "__main__":
    main()
