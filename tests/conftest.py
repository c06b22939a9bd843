"""Fixtures that every test file shares."""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers of pytest-xdist share the cores; NumPy and torch read it once
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
from filelock import FileLock
from hub_server import HubServer
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy import ndimage

HUB = HubServer()  # the real client reads its address when it is imported, so all tests share one
HOME = tempfile.mkdtemp(prefix="hf-home-")
os.environ.update(HF_ENDPOINT=HUB.__enter__().url, HF_HUB_DISABLE_XET="1", HF_HOME=HOME)
atexit.register(HUB.__exit__)
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ["GRADIO_TEMP_DIR"] = (
    f"{HOME}/gradio"  # where the page of another process, which ends, removes no photo of ours
)

import ura_hf  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
pytest_plugins = ["browser"]
LONGEST = (
    *("test_archive", "test_page", "test_documents", "test_tabs", "test_benchmark", "test_export", "test_train"),
    *("test_download", "test_benchmarks", "test_load", "test_cli", "test_predict", "test_public"),
)
"""Files with the most work, the longest first."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are cores: a test that waits for a page or for a process leaves its core to another."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin every process's share with some of the longest files, so that none of these is the last one at work.

    The scheduler `worksteal` first cuts the list into as many equal parts as there are processes.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    shares: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for place, name in enumerate(LONGEST):
        shares[place % processes] += [item for item in items if item.path.stem == name]
    others = [item for item in items if item.path.stem not in LONGEST]
    for share in shares:
        missing = max(0, len(items) // processes - len(share))
        share += others[:missing]
        del others[:missing]
    items[:] = [item for share in shares for item in share] + others


def pytest_collection_finish() -> None:
    """Spare every training's collection of garbage the millions of objects that imports made."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def few_textures() -> Iterator[None]:
    """Eight generated textures stand for a hundred, and for photos: every run without `--textures` makes and sees them all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ura_hf.data.textures.TEXTURE_COUNT", 8)
        patch.setattr("ura_hf.training.material.packaged_photos", list)
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real backbones and images (``URA_HF_SHARED``, default ``../shared``); skips where it is absent."""
    folder = Path(os.environ.get("URA_HF_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "data").is_dir():
        pytest.skip(f"no real material at {folder}: set URA_HF_SHARED to the folder that holds data/ and backbones/")
    return folder


@pytest.fixture(scope="session")
def resnet18_weights(shared_dir: Path) -> Path:
    """ImageNet weights of timm's resnet18, stages 1 to 3."""
    return shared_dir / "backbones" / "resnet18_in1k_stages1-3.safetensors"


TINY = {
    "backbone": "resnet18",
    "image_size": 64,
    "grid_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "memory_tokens": 16,
    "components": 32,
    "place_components": 8,
    "memory_cells": 32,
    "image_rank": 8,
    "smoothing_sigma": 2.0,
    "perception_size": 16,
}


def tiny_config(**fields: object) -> ura_hf.URANetConfig:
    """A detector that trains in seconds."""
    return ura_hf.URANetConfig(**{**TINY, **fields})


def draw_part(seed: int, defect: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A grey disc on noise, uint8 (48, 64, 3), and the mask of its defect, a dark spot."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    disc = (y - 24) ** 2 + (x - 32) ** 2 < 18**2
    grey = 60 + 120 * ndimage.gaussian_filter(disc.astype(float), 1) + 6 * rng.standard_normal(disc.shape)
    mask = (y - 20 - rng.integers(8)) ** 2 + (x - 28 - rng.integers(8)) ** 2 < 16 if defect else np.zeros_like(disc)
    picture = np.where(mask, 20, grey).clip(0, 255).astype(np.uint8)
    return np.repeat(picture[..., None], 3, 2), mask


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder below the session's that `make` fills once for all workers of pytest-xdist: only to read."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, done = root / "shared" / name, root / "shared" / f"{name.replace('/', '-')}.done"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(done.with_suffix(".lock")):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def category(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small category in the MVTec layout: 12 good training images, 4 good and 4 spotted test images with masks."""
    return made_once(tmp_path_factory, "category/disc", draw_category)


def draw_category(root: Path) -> None:
    for folder, count, first, defect in (
        ("train/good", 12, 0, False),
        ("test/good", 4, 100, False),
        ("test/spot", 4, 200, True),
    ):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            picture, mask = draw_part(first + index, defect)
            Image.fromarray(picture).save(root / folder / f"{index:03d}.png")
            if defect:
                (root / "ground_truth/spot").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(root / f"ground_truth/spot/{index:03d}_mask.png")


@pytest.fixture(scope="session")
def checkpoint(category: Path, resnet18_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector trained on `category` for a few seconds."""

    def make(output: Path) -> None:
        options = ura_hf.TrainingOptions(category, output, resnet18_weights, steps=200, batch_size=4)
        ura_hf.train(options, tiny_config())

    made = made_once(tmp_path_factory, "checkpoint/disc", make)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("checkpoint") / "disc"))


@pytest.fixture(scope="session")
def without_decoder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`checkpoint` as a version before the decoder of pictures would have written it."""
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("checkpoint") / "old"))
    tensors = {
        name: value for name, value in load_file(folder / "model.safetensors").items() if ".decoder." not in name
    }
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "cell_pixels"}))
    return folder


@pytest.fixture(scope="session")
def evaluated(checkpoint: Path, category: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`checkpoint` with its figures, under a name for the Hub."""
    from ura_hf.cli.main import main

    def make(folder: Path) -> None:
        shutil.copytree(checkpoint, folder)
        assert main(["evaluate", str(folder), "--data", str(category), "--save"]) == 0

    made = made_once(tmp_path_factory, "evaluated/uranet-disc", make)
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("evaluated") / "uranet-disc"))


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """An empty Hub whose user is logged in, and whose namespace is the one of bare names."""
    HUB.repos.clear()
    HUB.objects.clear()
    HUB.reset()
    HUB.fail_next, HUB.delay, HUB.cut_after, HUB.corrupt = 0, 0.0, None, False
    monkeypatch.setenv("HF_TOKEN", HUB.token)
    monkeypatch.setenv("URA_HF_NAMESPACE", HUB.user)
    return HUB
