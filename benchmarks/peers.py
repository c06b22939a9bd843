"""URA-Net and anomalib's models on the same images, weights and evaluator: `python benchmarks/peers.py`.

Goes on where it stopped, on another machine too: finished runs are those in docs/results/peers.json; --work holds checkpoints
and half-trained rivals. Every run is a process of its own, --jobs of them at a time. `python benchmarks/render.py` renders the
table. Needs `pip install -e .[benchmarks]`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from descent import Budget
from detection import BACKBONES, RESNET, require_backbone, require_weights, weights_of
from detection import run as run_uranet
from peers_summary import ALL, summarise
from runs import commit, cpu_seconds, device_here, part, read_runs, run_missing, slug, versions, write_report
from sets import DATASETS, ROOT, data_folder

from ura_hf import URANetForAnomalyDetection, URANetImageProcessor, evaluate
from ura_hf.data.reader import read_dataset
from ura_hf.inference import Pair
from ura_hf.training.material import draw_images

KEY = ("model", "dataset", "seed")
OURS = "uranet"
FOR_FEW = "patchcore_all"  # its memory grows with the images
FITTED = ("patchcore_0.01", "patchcore_0.1", FOR_FEW, "mh_patchcore", "padim", "dfm")
DESCENDED = ("fre", "stfpm", "reverse_distillation", "supersimplenet")
NAMES = (OURS, *FITTED, *DESCENDED)
PACKAGES = ("torch", "transformers", "anomalib")
FEW = "Trained on {} good images, the same ones for every model, drawn by the seed."
NOTES = [
    "Same backbone and weights (ResNet-18 of ImageNet, if not named), 256x256 bilinear input without crop, ImageNet "
    "normalisation, one evaluator for all.",
    "URA-Net's views, their sizes and the rule that adds them up were chosen on test images of these data sets and three more "
    "(favours URA-Net); the others run at their documented settings, which their authors chose on MVTec AD, but "
    "for PatchCore at 0.01 and with all cells: 0.1 is documented.",
    "Maps are smoothed as each method has it: URA-Net's views with sigma 4, PatchCore's, MH-PatchCore's, PaDiM's and "
    "ReverseDistillation's with 4; STFPM's not at all, nor DFM's of 4x4 and FRE's of 8x8 cells.",
    "Image scores are each method's own: PatchCore's and MH-PatchCore's re-weighted patch maximum, URA-Net's sum of the largest "
    "content, the largest misplacement and the whole image's residual, DFM's and FRE's error summed over the image, "
    "SuperSimpleNet's classifier, the map's maximum elsewhere.",
    "FRE (220 epochs; one stored config of anomalib says 6), STFPM, ReverseDistillation and SuperSimpleNet stop at their "
    "documented epochs or at the budget of time, last step; where the budget came first the column of epochs says after how "
    "many (favours URA-Net).",
    "Runs that are said to be of a GPU compute convolutions in TF32, torch's default there; their seconds are the clock's, also "
    "where several runs share it.",
    "Frozen extractors see each training image once and students compute channels-last: the same mathematics, faster.",
    "PatchCore and MH-PatchCore coresets are selected by ura_hf.training.coreset.farthest_points, exact and faster; before every "
    "run it is compared with anomalib's own selection, on a CPU.",
    "MH-PatchCore's centre crop to 224 is left out, as every model sees the whole image.",
    "Left out of anomalib's list: CFA (compares every cell with 4096 centres at every step, hours on CPUs), DFKDE (wants the "
    "fourth stage and gives no map), and models with other networks or weights than a ResNet-18's first three stages.",
    "URA-Net trains in bf16 where the GPU computes in it or the processor has AMX (to 03b3f41 also with AVX-512's bf16); "
    "everything else, and every inference, is float32, on a GPU with TF32.",
    "Training is the CPU time of all threads from reading the images on, so that runs beside each other count alike; ms are one "
    "thread's CPU time for the model alone. Memory is the peak of the whole process: the others' holds anomalib and all training "
    "images as tensors (favours URA-Net); up to commit 8eae9d5 their time holds the import of anomalib, some seconds.",
]


def cost(began: tuple[float, float], earlier: float, device: str) -> dict[str, Any]:
    """Seconds since `began` (CPU, clock) and in earlier sittings, and peak memory; on a GPU it is the GPU's, and the clock's."""
    if device != "cpu":
        torch.cuda.synchronize()
        seconds, memory = time.perf_counter() - began[1], torch.cuda.max_memory_allocated() / 2**30
        figures = {"train_gpu_seconds": round(seconds + earlier, 1), "peak_gpu_memory_gib": round(memory, 2)}
        return {"gpu": torch.cuda.get_device_name(), **figures}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "linux" else 2**30)
    return {
        "train_cpu_seconds": round(cpu_seconds() - began[0] + earlier, 1),
        "peak_memory_gib": round(memory, 2),
    }


def latency(model: Any, pixels: torch.Tensor) -> float:
    """Median ms of one thread's CPU time for the model alone on one image (1, 3, 256, 256), 20 calls after 5."""
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(25):
            began = time.process_time()  # and not the clock's: other runs may share the cores
            model(pixels)
            times.append(time.process_time() - began)
    torch.set_num_threads(threads)
    return 1000 * statistics.median(times[5:])


def run_one(name: str, dataset: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate in this process."""
    if name != OURS:
        from rivals import train_rival  # not in its time
    facts: dict[str, Any] = {"model": name, "threads": torch.get_num_threads(), "commit": commit()}
    facts["versions"] = versions(*PACKAGES)
    began = cpu_seconds(), time.perf_counter()
    if name == OURS:
        extra = [f"--limit={options.limit}"] if options.limit else []
        found = run_uranet(dataset, seed, options.shared, options.work, extra, options.backbone)
        training = found.pop("training")
        checkpoint = options.work / f"{dataset}-{seed}"
        model = URANetForAnomalyDetection.from_pretrained(checkpoint).eval()
        if training["peak_gpu_memory_gib"] is None:
            facts |= {"train_cpu_seconds": training["cpu_seconds"], "peak_memory_gib": training["peak_memory_gib"]}
            photo = read_dataset(data_folder(dataset, options.shared, seed)).test[0]
            processor = URANetImageProcessor.from_pretrained(checkpoint)
            facts["ms_per_image"] = latency(model, processor([photo.image], return_tensors="pt")["pixel_values"])
        else:
            facts |= {"gpu": training["hardware"], "train_gpu_seconds": training["seconds"]}
            facts["peak_gpu_memory_gib"] = training["peak_gpu_memory_gib"]
        return {**found, **facts, "training": training}
    data = data_folder(dataset, options.shared, seed)
    processor = URANetImageProcessor(size={"height": 256, "width": 256})
    paths = draw_images([sample.image for sample in read_dataset(data).train], options.limit, seed)
    images = torch.cat([processor([path], return_tensors="pt")["pixel_values"] for path in paths]).to(options.device)
    budget = Budget(options.budget, kept(options.work, (name, dataset, seed)))
    weights = weights_of(options.backbone, options.shared, options.work)
    model, training = train_rival(name, weights, images, budget, seed, options.backbone)
    facts |= cost(began, training.get("earlier_seconds", 0), options.device)
    report = evaluate(Pair(model, processor), data)
    if options.device == "cpu":
        facts["ms_per_image"] = latency(model, images[:1])
    return {
        **report,
        **facts,
        "dataset": dataset,
        "seed": seed,
        "training": {"budget_seconds": options.budget, **training, "images": len(images)},
    }


def read_options(defaults: dict[str, Any]) -> argparse.Namespace:
    """The command line's options, with other defaults for some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "runs/peers", help="checkpoints go there, and half-trained rivals"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/peers.json")
    parser.add_argument("--models", nargs="+", choices=NAMES, default=[name for name in NAMES if name != FOR_FEW])
    parser.add_argument("--datasets", nargs="+", choices=ALL, default=list(DATASETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--budget",
        type=float,
        default=600,
        help="seconds of a gradient-trained rival, of CPU time a thread or of the clock on a GPU; more than before goes on "
        "where it ended (default: 600)",
    )
    parser.add_argument(
        "--device", type=device_here, choices=("cpu", "cuda"), default="cpu", help="of all models (default: cpu)"
    )
    parser.add_argument(
        "--add",
        nargs="+",
        type=Path,
        default=[],
        help="result files of this command, e.g. of a GPU machine, whose runs stand in for those that are missing here",
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the cores (default: 1)")
    parser.add_argument(
        "--redo", nargs="+", choices=NAMES, default=[], help="run these models anew, e.g. after a change"
    )
    parser.add_argument("--backbone", choices=BACKBONES, default=RESNET, help="of all models (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="train on this many good images, drawn by the seed (default: all)")
    parser.add_argument("--only", nargs=3, metavar=("MODEL", "DATASET", "SEED"), help=argparse.SUPPRESS)
    parser.set_defaults(**defaults)
    return parser.parse_args()


def main(**defaults: Any) -> Path:
    """Run what is missing, each in a process of its own, and write the results after every run; the file that holds them."""
    options = read_options(defaults)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # URA-Net would use a GPU
    if options.only:
        name, dataset, seed = options.only[0], options.only[1], int(options.only[2])
        result = run_one(name, dataset, seed, options)
        part(options.work, (name, dataset, seed)).write_text(json.dumps(result))
        return options.output
    require_backbone(options)
    wanted = [(m, d, s) for s in options.seeds for d in options.datasets for m in options.models]
    forget(options, [key for key in wanted if key[0] in options.redo])
    found = read_runs(options.output, KEY)
    if new := {key: run for file in options.add for key, run in made_elsewhere(file).items() if key in wanted}:
        found = new | found
        write(options, found)
    longer = [key for key in wanted if key in found and can_go_on(found[key], key, options)]
    for key in longer:
        part(options.work, key).unlink(missing_ok=True)
    missing = [key for key in wanted if key not in found or key in longer]
    if missing:
        require_weights(options)
    for _, dataset, seed in missing:
        data_folder(dataset, options.shared, seed)  # written once, and not in a run's time
    passed = [*("--shared", options.shared), *("--work", options.work), *("--budget", options.budget)]
    passed += ["--device", options.device, "--backbone", options.backbone]
    passed += ["--limit", options.limit] if options.limit else []

    def add(key: tuple[Any, ...], run: dict[str, Any]) -> None:
        write(options, read_runs(options.output, KEY) | {key: run})

    run_missing(__file__, missing, options.work, options.jobs, passed, add)
    return options.output


def made_elsewhere(file: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Runs of another machine's result file, which take its versions and hardware along."""
    report = json.loads(file.read_text())
    return {
        key: {**{k: report[k] for k in ("versions", "hardware")}, **run} for key, run in read_runs(file, KEY).items()
    }


def kept(work: Path, key: tuple[str, str, int]) -> Path:
    """File from which a rival's training goes on."""
    return work / f"{slug(key)}.pt"


def can_go_on(run: dict[str, Any], key: tuple[str, str, int], options: argparse.Namespace) -> bool:
    """Whether a smaller budget ended this run before its documented epochs, and its state is still there."""
    training = run["training"]
    cut = training.get("epochs", 0) < training.get("documented_epochs", 0)
    return cut and training["budget_seconds"] < options.budget and kept(options.work, key).exists()


def forget(options: argparse.Namespace, keys: list[tuple[str, str, int]]) -> None:
    """Drop runs from the results, and what would bring them back."""
    for name, dataset, seed in keys:
        part(options.work, (name, dataset, seed)).unlink(missing_ok=True)
        kept(options.work, (name, dataset, seed)).unlink(missing_ok=True)
        if name == OURS:
            shutil.rmtree(options.work / f"{dataset}-{seed}", ignore_errors=True)
            (options.work / f"{dataset}-{seed}.json").unlink(missing_ok=True)
    if keys and options.output.exists():
        left = {key: run for key, run in read_runs(options.output, KEY).items() if key not in keys}
        write(options, left)


def write(options: argparse.Namespace, found: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    """Write all runs with their summary."""
    names, datasets = list(NAMES), list(ALL)
    order = sorted(found, key=lambda key: (names.index(key[0]), datasets.index(key[1]), key[2]))
    runs = [found[key] for key in order]
    notes = [FEW.format(options.limit)] * bool(options.limit) + NOTES
    facts = {
        "backbone": options.backbone,
        "jobs": options.jobs,
        "limit": options.limit,
        "versions": versions(*PACKAGES),
    }
    write_report(options.output, {"notes": notes, **facts, "summary": summarise(runs), "runs": runs})


if __name__ == "__main__":
    main()
