"""`uranet benchmark`: whole trees at toy size, kills, several processes, bad categories, tables."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from filelock import FileLock
from PIL import Image
from processes import uranet
from trees import MVTEC, btad_tree, mvtec_tree, oct_tree, visa_tree, write

from ura_hf.benchmark import job as job_module
from ura_hf.benchmark.job import Place, take_place
from ura_hf.benchmark.run import fingerprint
from ura_hf.benchmark.settings import PRESETS, Run, Settings
from ura_hf.benchmark.table import as_csv, as_markdown, collect
from ura_hf.cli.main import main
from ura_hf.data.records import METRIC_KEYS
from ura_hf.hub.load import load_checkpoint
from ura_hf.training.train import TrainingOptions

FIELDS = (
    "image_size=64",
    "grid_size=8",
    "hidden_size=32",
    "num_hidden_layers=1",
    "memory_tokens=16",
    "memory_cells=32",
)
TINY = ["--backbone", "uranet-small", "--batch-size", "4", "--partial", "--precision", "fp32"]
TINY += [
    f"--set={field}" for field in (*FIELDS, "smoothing_sigma=2", "perception_size=16", 'source_weights={"self": 1.0}')
]


def arguments(dataset: str, root: Path, output: Path, *more: object, steps: int = 2) -> list[str]:
    places = ["--dataset", dataset, "--root", root, "--output", output, "--steps", steps]
    return ["benchmark", *map(str, places), *TINY, *map(str, more)]


def figures(output: Path) -> list[list[str]]:
    """Category, seed and metrics of every run in results.csv."""
    with (output / "results.csv").open(newline="") as file:
        return [row[: 2 + len(METRIC_KEYS)] for row in csv.reader(file)]


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory) -> Path:
    return mvtec_tree(tmp_path_factory.mktemp("mvtec"))


@pytest.fixture(scope="module")
def benchmark(mvtec, tmp_path_factory) -> Path:
    """Two categories, run in one process."""
    output = tmp_path_factory.mktemp("one") / "out"
    assert main(arguments("mvtec", mvtec, output, "--categories", "bottle", "cable", steps=6)) == 0
    return output


def test_a_killed_benchmark_of_fifteen_categories_goes_on(mvtec, tmp_path):
    """One category is done, one half-trained, one not begun; those between count as done, with the figures of the first."""
    output = tmp_path / "out"
    call = arguments("mvtec", mvtec, output, "--save-every", 1, steps=8)  # long enough to be caught at its first step
    done = output / "runs/carpet-seed0.json"
    process = uranet(*call)
    unfinished = output / "seed0/uranet-mvtec-grid/unfinished"
    half_trained = unfinished / "checkpoint-1/trainer_state.json"
    deadline = time.monotonic() + 600
    while not half_trained.exists() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()  # as kill -9 does, and only the process that was started: the one that trains must notice
    process.join()
    with FileLock(unfinished / "run.lock", timeout=60):  # which the one that trains has held
        pass
    assert done.exists() and not (output / "runs/grid-seed0.json").exists()
    assert not (unfinished.parent / "training.json").exists(), "the one that trains went on"
    last = MVTEC[-1]
    for name in [name for name in MVTEC if name not in ("carpet", "grid", last)]:
        run = Run("mvtec", name, 0, mvtec / name, output)
        report = json.loads(done.read_text()) | {"category": name, "fingerprint": fingerprint(run.data)}
        run.result.write_text(json.dumps(report))
        assert run.checkpoint.name == f"uranet-mvtec-{name}"
    before = done.stat().st_mtime_ns
    assert main(call) == 0
    assert done.stat().st_mtime_ns == before
    assert json.loads((output / "runs/grid-seed0.json").read_text())["training"]["resumed"]
    assert [row[0] for row in figures(output)[1:]] == MVTEC
    table = (output / "results.md").read_text()
    assert "mean of all 15" in table and "mean of 5 textures" in table and "mean of 10 objects" in table
    assert "| PatchCore, published |  | 0.991 |" in table and "arXiv 2106.08265" in table
    names = sorted(path.name for path in (output / "seed0").iterdir())
    assert names == sorted(f"uranet-mvtec-{name}" for name in ("carpet", "grid", last))
    card = (output / "seed0/uranet-mvtec-grid/README.md").read_text()
    assert "license: cc-by-nc-sa-4.0" in card and "Not evaluated" not in card
    assert load_checkpoint(output / "seed0/uranet-mvtec-grid")[0].config.is_calibrated


def test_two_processes_give_the_table_of_one(benchmark, mvtec, tmp_path):
    call = arguments("mvtec", mvtec, tmp_path / "two", "--categories", "bottle", "cable", steps=6)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "-m", "ura_hf"]
    result = subprocess.run([*launch, *call], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    two, one = figures(tmp_path / "two"), figures(benchmark)
    assert [row[:2] for row in two] == [row[:2] for row in one] and len(two) == 3
    for cells, wanted in zip(two[1:], one[1:], strict=True):  # gradients summed over processes round otherwise
        assert [float(cell) for cell in cells[2:]] == pytest.approx([float(cell) for cell in wanted[2:]], abs=1e-4)
    assert "[2/2]" in result.stdout


def test_btad_and_oct_and_visa(tmp_path):
    assert main(arguments("btad", btad_tree(tmp_path / "btad"), tmp_path / "a")) == 0
    assert [row[0] for row in figures(tmp_path / "a")[1:]] == ["01", "02", "03"]
    assert main(arguments("oct2017", oct_tree(tmp_path / "oct"), tmp_path / "b")) == 0
    (row,) = figures(tmp_path / "b")[1:]
    assert row[0] == "oct2017" and float(row[2]) >= 0 and row[5:] == [""] * 4
    assert "image metrics only" in (tmp_path / "b/results.md").read_text()
    report = json.loads((tmp_path / "b/runs/oct2017-seed0.json").read_text())
    assert set(report["per_type"]) == {"CNV", "DME", "DRUSEN"}
    assert main(arguments("visa", visa_tree(tmp_path / "visa"), tmp_path / "c", "--categories", "pcb1")) == 0
    assert (tmp_path / "c/seed0/uranet-visa-pcb1/model.safetensors").exists()


def test_bad_categories_are_reported_and_the_others_go_on(mvtec, tmp_path, capsys):
    names = ["bottle", "cable", "pill", "wood", "zipper"]
    for name in names:
        shutil.copytree(mvtec / name, tmp_path / "data" / name)
    root = tmp_path / "data"
    write(root / "bottle/train/broken_large/0.png", 5, True)
    mask = next((root / "cable/ground_truth").rglob("*.png"))
    Image.new("L", (8, 8)).save(mask)
    shutil.rmtree(root / "pill/test")
    shutil.rmtree(root / "pill/ground_truth")
    shutil.rmtree(root / "wood/ground_truth")
    call = arguments("mvtec", root, tmp_path / "out", "--categories", *names, "screw", "--best-on-test", 2)
    assert main(call) == 1
    printed = capsys.readouterr().out
    assert "Traceback" not in printed
    table = printed[printed.index("Failed:") :]
    assert "bottle, seed 0:" in table and "beside good/ it has broken_large" in table
    assert "cable, seed 0:" in table and "must have the size of its image" in table
    assert "pill, seed 0:" in table and "no test images" in table
    assert "screw, seed 0: category screw is missing" in table
    assert "wood: no masks: image metrics only" in printed
    assert {row[0] for row in figures(tmp_path / "out")[1:]} == {"wood", "zipper"}
    assert "mean of these 2" in printed and "Upper envelope, not a result" in printed
    run = json.loads((tmp_path / "out/runs/zipper-seed0.json").read_text())
    assert all(run["best_on_test"][key] >= run[key] for key in METRIC_KEYS)
    assert list(json.loads((tmp_path / "out/runs/zipper-seed0.steps.json").read_text())) == ["1"]

    shutil.copytree(mvtec / "cable", root / "cable", dirs_exist_ok=True)  # mended, the rest is kept
    before = (tmp_path / "out/runs/zipper-seed0.json").stat().st_mtime_ns
    assert main(call) == 1
    assert {row[0] for row in figures(tmp_path / "out")[1:]} == {"cable", "wood", "zipper"}
    assert (tmp_path / "out/runs/zipper-seed0.json").stat().st_mtime_ns == before


def test_measuring_along_the_way_changes_no_run(benchmark, mvtec, tmp_path):
    call = arguments("mvtec", mvtec, tmp_path / "out", "--categories", "bottle", "--best-on-test", 3, steps=6)
    assert main(call) == 0
    assert figures(tmp_path / "out")[1] == figures(benchmark)[1]
    assert len(json.loads((tmp_path / "out/runs/bottle-seed0.steps.json").read_text())) == 2
    header = as_csv(json.loads((tmp_path / "out/results.json").read_text())).splitlines()[0]
    assert "best_on_test_image_auroc" in header


def test_counts_that_differ_need_to_be_allowed(mvtec, tmp_path, capsys):
    call = [a for a in arguments("mvtec", mvtec, tmp_path / "out", "--categories", "bottle") if a != "--partial"]
    assert main(call) == 1
    printed = capsys.readouterr().out
    assert "is not the published bottle (train: 6 images, published 209" in printed and "--partial" in printed
    assert not (tmp_path / "out/seed0").exists()
    assert main([*call, "--partial"]) == 0


def test_images_changed_after_training_are_refused(mvtec, tmp_path, capsys):
    """Killed after the training and before the result: the checkpoint is not given out as one of other images."""
    shutil.copytree(mvtec / "bottle", tmp_path / "data/bottle")
    call = arguments("mvtec", tmp_path / "data", tmp_path / "out", "--categories", "bottle")
    assert main(call) == 0
    (tmp_path / "out/runs/bottle-seed0.json").unlink()
    write(tmp_path / "data/bottle/train/good/new.png", 77)
    assert main(call) == 1
    assert "its images changed since it was trained" in capsys.readouterr().out


def test_a_finished_category_may_go(mvtec, tmp_path):
    """Its figures stay, and the others go on."""
    for name in ("bottle", "cable"):
        shutil.copytree(mvtec / name, tmp_path / "data" / name)
    call = arguments("mvtec", tmp_path / "data", tmp_path / "out", "--categories")
    assert main([*call, "bottle"]) == 0
    shutil.rmtree(tmp_path / "data/bottle/train")
    assert main([*call, "bottle", "cable"]) == 0
    assert [row[0] for row in figures(tmp_path / "out")[1:]] == ["bottle", "cable"]


def test_other_settings_and_changed_images_are_not_mixed(benchmark, mvtec, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(benchmark, output)
    names = ("--categories", "bottle", "cable")
    assert main(arguments("mvtec", mvtec, output, *names, steps=7)) == 2
    assert "another training" in capsys.readouterr().err
    report = json.loads((output / "runs/bottle-seed0.json").read_text())
    (output / "runs/bottle-seed0.json").write_text(json.dumps(report | {"fingerprint": "of other images"}))
    assert main(arguments("mvtec", mvtec, output, *names, steps=6)) == 2
    assert "images of bottle changed since bottle-seed0 was done" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "hiden_size=3"], "hiden_size"),
        (["--categories", "botle"], "botle"),
        (["--epochs", "3"], "--steps and --epochs"),
        (["--best-on-test", "-1"], "best-on-test"),
        (["--batch-size", "0"], "batch_size"),
        (["--seeds", "-1"], "seed"),
    ],
)
def test_wrong_options_are_one_sentence(mvtec, tmp_path, capsys, more, message):
    assert main(arguments("mvtec", mvtec, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_paper_preset_is_what_the_sources_state(tmp_path):
    settings = Settings("mvtec", str(tmp_path), "paper")
    config, options = settings.model(), settings.options(tmp_path, tmp_path / "o", 0, 209)
    assert (config.backbone, config.out_indices) == ("wide_resnet50_2.tv_in1k", [1, 2, 3])
    assert (config.image_size, config.grid_size, config.patch_size, config.num_hidden_layers) == (256, 64, 4, 8)
    assert config.views == ["restored"]
    assert options.learning_rate == 1e-4
    assert options.steps == 300 * 27  # 209 images in batches of 8
    assert Settings("mvtec", str(tmp_path), "paper", training={"steps": 5}).options(tmp_path, tmp_path, 0, 9).steps == 5
    assert set(PRESETS) == {"paper", "fast"}
    fast = Settings("mvtec", str(tmp_path))
    assert fast.options(tmp_path, tmp_path / "o", 0, 209) == TrainingOptions(tmp_path, tmp_path / "o", steps=600)


def test_launched_processes_keep_one_gpu_and_no_group(monkeypatch):
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x"}
    monkeypatch.setattr(os, "environ", {**environment, "CUDA_VISIBLE_DEVICES": "4,6", "HOME": "/"})
    assert take_place() == Place(5, 8)
    assert os.environ == {"CUDA_VISIBLE_DEVICES": "6", "HOME": "/"}
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(job_module.torch.cuda, "device_count", lambda: 0)
    assert take_place() == Place() and os.environ == {}


def test_table_of_several_seeds():
    def run(category: str, seed: int, value: float | None) -> dict:
        metrics = dict.fromkeys(METRIC_KEYS, value)
        training = {"seconds": 10.0, "resumed": seed == 1, "peak_gpu_memory_gib": None, "hardware": "a machine"}
        training |= {"precision": "fp32", "versions": {"torch": "2"}, "data_wait_share": 0.1}
        costs = {"evaluation_seconds": 2.0, "peak_memory_gib": 1.25, "notes": ["no masks"] if value is None else []}
        return {"category": category, "seed": seed, **metrics, **costs, "training": training, "best_on_test": None}

    report = {
        "command": "uranet benchmark",
        "dataset": "btad",
        "date": "2026-01-01",
        "settings": {"preset": "fast", "config": {}, "training": {"textures": "/secret/photos"}, "best_on_test": 0},
        "runs": [run("01", 0, 0.9), run("01", 1, 0.7), run("02", 0, 0.6), run("02", 1, None)],
        "failed": [{"category": "03", "seed": 0, "reason": "broken"}],
        "missing": ["03-seed1"],
    }
    table = as_markdown(report)
    assert "| 01 | 2 | 0.800 ± 0.100 |" in table and "| > 10 s | 2 s | 1.2 GiB |" in table
    assert "| 02 [1] | 2 | 0.600 |" in table and "[1] 02: no masks." in table
    assert "| **mean of these 2** |  | - |" in table
    assert "- 03, seed 0: broken" in table and "Not done yet: 03-seed1." in table
    assert "with textures photos; a machine" in table and "secret" not in table and "published" not in table


def test_a_failure_that_vanishes_while_it_is_read_is_none(tmp_path, monkeypatch):
    """Another process removes it when it tries that run again."""
    run = Run("folder", "a", 0, tmp_path, tmp_path)
    run.failure.parent.mkdir(parents=True)
    run.failure.write_text(json.dumps({"reason": "no memory"}))
    settings = Settings("folder", str(tmp_path))
    assert [found["reason"] for found in collect([run], settings, "c")["failed"]] == ["no memory"]
    read = Path.read_text

    def removed_first(path: Path) -> str:
        path.unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(Path, "read_text", removed_first)
    report = collect([run], settings, "c")
    assert not report["failed"] and report["missing"] == [run.name]
