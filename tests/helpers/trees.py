"""Small datasets in the layouts that are published, with drawn images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from conftest import draw_part
from PIL import Image

from ura_hf.data.datasets import facts

MVTEC = list(facts()["mvtec"]["categories"])


def write(path: Path, seed: int, defect: bool = False, mask: Path | None = None) -> None:
    """One part as an image, and the mask of its defect."""
    picture, marked = draw_part(seed, defect)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    if mask:
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(marked.astype(np.uint8) * 255).save(mask)


def mvtec_tree(root: Path, categories: list[str] = MVTEC, train: int = 6) -> Path:
    """MVTec AD at toy size: every category has 2 good and 2 defective test images, one of its own types."""
    for place, name in enumerate(categories):
        kind = next(iter(facts()["mvtec"]["categories"][name]["counts"][0]["types"]))
        for index in range(train):
            write(root / name / f"train/good/{index:03d}.png", 1000 * place + index)
        for index in range(2):
            write(root / name / f"test/good/{index:03d}.png", 1000 * place + 100 + index)
            mask = root / name / f"ground_truth/{kind}/{index:03d}_mask.png"
            write(root / name / f"test/{kind}/{index:03d}.png", 1000 * place + 200 + index, True, mask)
    return root


def btad_tree(root: Path) -> Path:
    """BTAD: ok and ko, .bmp images with .png masks in 01, .png in 02, .bmp in 03."""
    for name, suffix, masks in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for index in range(6):
            write(root / name / f"train/ok/{index:04d}.{suffix}", index)
        for index in range(2):
            write(root / name / f"test/ok/{index:04d}.{suffix}", 100 + index)
            mask = root / name / f"ground_truth/ko/{index:04d}.{masks}"
            write(root / name / f"test/ko/{index:04d}.{suffix}", 200 + index, True, mask)
    return root


def oct_tree(root: Path) -> Path:
    """OCT-2017 as Kermany et al. published it: train/ has the diseases as well, val/ is there, no masks."""
    for kind in ("NORMAL", "CNV", "DME", "DRUSEN"):
        for index in range(6):
            write(root / f"train/{kind}/{kind}-{index}.jpeg", index, kind != "NORMAL")
        for index in range(2):
            write(root / f"test/{kind}/{kind}-{100 + index}.jpeg", 100 + index, kind != "NORMAL")
            write(root / f"val/{kind}/{kind}-{200 + index}.jpeg", 200 + index, kind != "NORMAL")
    return root


def bmad_tree(root: Path) -> Path:
    """OCT-2017 as BMAD has it."""
    for folder, count, first in (("train/good", 6, 0), ("valid/good", 1, 50), ("test/good", 2, 100)):
        for index in range(count):
            write(root / folder / f"{index}.png", first + index)
    for folder, first in (("valid/Ungood", 150), ("test/Ungood", 200)):
        for index in range(2):
            write(root / folder / f"{index}.png", first + index, True)
    return root


def visa_tree(root: Path, categories: tuple[str, ...] = ("candle", "pcb1")) -> Path:
    """VisA as its archive unpacks, with the one-class split."""
    rows = []
    for name in categories:
        images = root / name / "Data/Images"
        for index in range(8):
            write(images / f"Normal/{index:04d}.JPG", index)
            split = "train" if index < 6 else "test"
            rows.append([name, split, "normal", f"{name}/Data/Images/Normal/{index:04d}.JPG", ""])
        for index in range(2):
            mask = root / name / f"Data/Masks/Anomaly/{index:03d}.png"
            write(images / f"Anomaly/{index:03d}.JPG", 200 + index, True, mask)
            row = [f"{name}/Data/Images/Anomaly/{index:03d}.JPG", f"{name}/Data/Masks/Anomaly/{index:03d}.png"]
            rows.append([name, "test", "anomaly", *row])
    (root / "split_csv").mkdir()
    with (root / "split_csv/1cls.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["object", "split", "label", "image", "mask"], *rows])
    return root
