"""How well does the decoder draw the part, and is the defect gone from the restored picture? `python benchmarks/restored.py`

A fifth of the good images is held out, and gets artificial defects (`artificial.py`). PSNR and SSIM are of RGB in [0, 1] at the
size of the network's input: on held-out good images beside the mean photo of the training; on artificial defects against the
undamaged photo, inside the defect alone, with other sources of restored features beside ours. Test images are not used. Writes
docs/results/restored.json, and pictures of drawn rings and solar cells, docs/pictures/restored*.png. Goes on where it stopped:
--work holds checkpoints.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from artificial import KINDS, write_held_out
from claim import attended
from detection import WEIGHTS
from PIL import Image
from runs import commit, cpu_seconds, read_runs, write_report
from sets import RING, ROOT, SETS, SOLAR, data_folder, written_once
from torch import Tensor
from torch.nn import functional

from ura_hf import TrainingOptions, URANetConfig, train
from ura_hf.data.drawn.parts import write_demo_data
from ura_hf.data.files import read_json, write_json
from ura_hf.data.folder import list_images
from ura_hf.data.reader import read_dataset
from ura_hf.evaluation.visualization import to_pixels
from ura_hf.hub.load import load_detector
from ura_hf.model.images import load_image, load_mask
from ura_hf.model.picture import replaced
from ura_hf.model.pipeline_uranet import URANetPipeline

KEY = ("dataset", "seed", "steps")
MOST_HELD_OUT = 12
PICTURES = {RING: "restored.png", SOLAR: "restored_cells.png"}
"""Of what may be shown in the documents."""
SHOWN, SIDE = 4, 224  # rows of the figure, and side of its pictures [pixels]


class Stopwatch:
    """A `Progress` that measures the stage ``pictures``."""

    def __init__(self) -> None:
        self.began: tuple[float, float] | None = None
        self.spent: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int, *more: Any) -> None:
        now = time.monotonic(), cpu_seconds()
        if stage == "pictures" and self.began is None:
            self.began = now
        elif self.began is not None and not self.spent and stage != "pictures":
            names = ("decoder_seconds", "decoder_cpu_seconds")
            self.spent = {name: round(a - b, 1) for name, a, b in zip(names, now, self.began, strict=True)}


def prepare(dataset: str, options: argparse.Namespace) -> tuple[Path, Path]:
    """The category split for this work, made once, and the data set that it comes from."""
    if dataset == RING:
        drawn = options.work / RING / "drawn"
        source = written_once(drawn, lambda folder: write_demo_data("ring", folder, train=150, good=4, each=2))
    else:
        source = data_folder(dataset, options.shared, 0)
    images = [sample.image for sample in read_dataset(source).train]
    split = options.work / dataset / "split"
    return written_once(split, lambda folder: write_held_out(images, folder, 0, most=MOST_HELD_OUT)), source


def trained(dataset: str, split: Path, options: argparse.Namespace) -> Path:
    """A detector trained on the split, or the one of an earlier call."""
    output = options.work / dataset / f"checkpoint-{options.seed}-{options.steps}"
    if not (output / "decoder.json").exists():
        small = dataset == RING
        weights = None if small else options.shared / WEIGHTS
        chosen = TrainingOptions(split, output, weights, steps=options.steps, seed=options.seed, pose="fixed")
        watch = Stopwatch()
        train(chosen, URANetConfig(backbone="uranet-small" if small else "resnet18"), progress=watch)
        write_json(output / "decoder.json", watch.spent)
    return output


def sources(detector: URANetPipeline, pixels: Tensor) -> dict[str, Tensor]:
    """Pictures (B, 3, P, P) of images (B, 3, S, S) by where the components of suspicious cells come from."""
    model = detector.model.uranet
    out = detector.model(pixels, return_restored=True)
    views, draw = model.views, model.decoder
    seen = views.standardize(views.project(out.features))
    attention = views.standardize(views.project(attended(detector.model, out.features)))
    nearest = views.standardize(views.memory.nearest(views.unstandardize(seen)))
    gate = replaced(out.score_map[:, None], model.config.grid_size)
    drawn = {
        "attention everywhere": attention,
        "attention without the map, where suspicious": torch.lerp(seen, attention, gate),
        "nearest normal cell, where suspicious": torch.lerp(seen, nearest, gate),
    }
    own = {"plain reconstruction": out.seen_image, "restored": out.restored_image}
    return own | {name: draw(components).clamp(0, 1) for name, components in drawn.items()}


def figures(drawn: np.ndarray, photo: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """PSNR [dB] and SSIM of one picture (P, P, 3) inside a mask (P, P)."""
    from skimage.metrics import structural_similarity

    error = float(np.square(drawn - photo)[mask].mean())
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, alike = structural_similarity(photo, drawn, channel_axis=2, full=True, **settings)
    return -10 * np.log10(max(error, 1e-10)), float(alike[mask].mean())


def mean_figures(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The mean over images."""
    psnr, ssim = np.mean(pairs, axis=0)
    return {"psnr": round(float(psnr), 2), "ssim": round(float(ssim), 4)}


@torch.inference_mode()
def measure(detector: URANetPipeline, split: Path) -> dict[str, Any]:
    """Figures of held-out good images, and of artificial defects by source and kind."""
    processor, model = detector.image_processor, detector.model.uranet
    side = model.config.grid_size * model.decoder.cell_pixels

    def photo(path: Path) -> np.ndarray:
        pixels = processor([str(path)], do_normalize=False, return_tensors="pt")["pixel_values"]
        return functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()

    def draw(path: Path) -> dict[str, np.ndarray]:
        pixels = processor([str(path)], return_tensors="pt")["pixel_values"]
        return {name: one[0].permute(1, 2, 0).numpy() for name, one in sources(detector, pixels).items()}

    mean = np.mean([photo(path) for path in list_images(split / "train/good")], axis=0)
    good: dict[str, list[tuple[float, float]]] = {"mean photo": []}
    defects: dict[str, dict[str, list[tuple[float, float]]]] = {}
    whole = np.ones((side, side), dtype=bool)
    for path in list_images(split / "test/good"):
        wanted = photo(path)
        good["mean photo"].append(figures(mean, wanted, whole))
        for name, picture in draw(path).items():
            if name in ("plain reconstruction", "restored"):
                good.setdefault(name, []).append(figures(picture, wanted, whole))
        for kind in KINDS:
            mask = load_mask(split / f"ground_truth/{kind}/{path.stem}_mask.png", None)
            inside = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((side, side))) > 0.25
            inside = inside if inside.any() else np.asarray(Image.fromarray(mask).resize((side, side))) > 0
            if not inside.any():
                continue
            for name, picture in draw(split / f"test/{kind}/{path.name}").items():
                defects.setdefault(name, {}).setdefault(kind, []).append(figures(picture, wanted, inside))
    return {
        "held_out": len(good["mean photo"]),
        "good": {name: mean_figures(pairs) for name, pairs in good.items()},
        "defects": {
            name: {
                **{kind: mean_figures(pairs) for kind, pairs in kinds.items()},
                "all": mean_figures([pair for pairs in kinds.values() for pair in pairs]),
            }
            for name, kinds in defects.items()
        },
    }


def draw_figure(detector: URANetPipeline, images: Sequence[Path], output: Path) -> None:
    """A row an image: photo, what the network sees, restored photo; in grey where they are."""
    rows = []
    for path in images:
        found = detector(str(path), return_restored=True)
        pictures = (load_image(path), found["seen_image"], found["restored_image"])
        small = [Image.fromarray(to_pixels(one)).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for one in pictures]
        rows.append(np.concatenate([np.asarray(one) for one in small], axis=1))
    picture = np.concatenate(rows)
    grey = not np.ptp(picture, axis=2).any()
    Image.fromarray(picture[..., 0] if grey else picture).save(output, optimize=True)


def run_one(dataset: str, options: argparse.Namespace) -> dict[str, Any]:
    """One data set: split, training, figures; of some the picture, too."""
    split, source = prepare(dataset, options)
    folder = trained(dataset, split, options)
    detector = load_detector(folder, device="cpu")
    if dataset in PICTURES:
        defective = [sample.image for sample in read_dataset(source).test if sample.label]
        shown = defective[:: max(1, len(defective) // SHOWN)][:SHOWN]
        draw_figure(detector, shown, options.pictures / PICTURES[dataset])
    decoder = detector.model.uranet.decoder
    values = (*decoder.parameters(), *decoder.buffers())
    return {
        "dataset": dataset,
        "seed": options.seed,
        "steps": options.steps,
        "commit": commit(),
        "images": len(list_images(split / "train/good")),
        **read_json(folder / "decoder.json"),
        "training_cpu_seconds": read_json(folder / "training.json")["cpu_seconds"],
        "decoder_bytes": sum(2 * value.numel() for value in values),
        **measure(detector, split),
    }


def main() -> None:
    """Every data set that the result file lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared"))
    names = (RING, *SETS)
    parser.add_argument("--sets", nargs="+", choices=names, default=[RING, "pill", "bottle", "elpv_mono"])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shared", type=Path, default=shared, help="folder with data/ and backbones/")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/restored")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/restored.json")
    parser.add_argument("--pictures", type=Path, default=ROOT / "docs/pictures", help="pictures go there")
    options = parser.parse_args()
    runs = read_runs(options.output, KEY)
    for dataset in options.sets:
        if (key := (dataset, options.seed, options.steps)) not in runs:
            runs[key] = run_one(dataset, options)
            write_report(options.output, {"runs": list(runs.values())})


if __name__ == "__main__":
    main()
