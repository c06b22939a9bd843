"""Tables from results made up here, and those of the documents."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys

import backbone
import latency
import peers
import pytest
import render
import tables_methods
import tables_provenance
import torch
from conftest import ROOT

from ura_hf.data.records import METRIC_KEYS


def test_backbone_table_says_how_far_from_the_teacher():
    """Means over seeds, differences to the teacher on the same seeds, and what is not measured yet named so."""
    figures = {("teacher", 0): 0.98, ("teacher", 1): 0.96, ("uranet-small", 0): 0.97, ("uranet-small", 1): 0.98}
    runs = [
        {"row": row, "dataset": "pill", "seed": seed, **dict.fromkeys(METRIC_KEYS, value)}
        for (row, seed), value in figures.items()
    ]
    summary = backbone.summarise(runs)
    found = summary["uranet-small"]["pill"]["image_auroc"]
    assert abs(found["mean"] - 0.975) < 1e-9 and abs(found["spread"] - 0.01) < 1e-9
    assert abs(found["minus_teacher"] - 0.005) < 1e-9
    speed = {"median_ms": 6.0, "teacher_median_over_this": 3.21}
    report = {
        "teacher": "resnet18",
        "summary": summary,
        "runs": runs,
        "latency": {"threads": 2, "teacher": speed, "uranet-small": speed, "untrained": speed},
        "parameters": {"teacher": 2.8e6, "uranet-small": 0.57e6, "untrained": 0.57e6},
        "file_bytes": 1_170_000,
        "hardware": "2 CPU cores",
        "torch": "2",
        "date": "today",
        "command": "python benchmarks/backbone.py",
    }
    table = render.backbone(report)
    assert "| uranet-small (1.17 MB) | 0.975 (+0.005) | 0.975 (+0.005) | 6.0 | 3.2 | 0.57 M |" in table
    assert "| the same, untrained | not yet | not yet |" in table


def test_latencies_are_of_all_three(tmp_path, monkeypatch, resnet18_weights):
    """The ratio is the teacher's median over the row's, so the teacher's own is 1."""
    monkeypatch.setattr(backbone, "ROUNDS", 3)
    random = backbone.untrained(tmp_path / "random.safetensors", 0)
    found = backbone.latencies({"teacher": resnet18_weights, "uranet-small": None, "untrained": random})
    assert found["teacher"]["teacher_median_over_this"] == 1
    for row in found.values():
        assert abs(row["teacher_least_over_this"] * row["least_ms"] - found["teacher"]["least_ms"]) < 1e-9


def test_table_of_a_bundled_checkpoint_names_logical_types():
    """Without masks it has image figures alone."""
    row = {"image_auroc": 0.5, "pixel_auroc": 0.7, "pixel_ap": 0.1, "aupro": 0.2}
    report = {
        **row,
        "per_type": {"hair": row, "missing_part": row},
        "at_threshold": {"false_alarm_rate": 0.025, "miss_rate": 0.5},
        "n_normal": 40,
        "n_anomalous": 30,
        "checkpoint_bytes": 3_100_000,
        "training": {"seed": 0, "seconds": 300, "hardware": "2 CPU cores", "images": {"fitted": 320}},
        "date": "today",
        "command": "python benchmarks/bundled.py uranet-demo-board",
    }
    table = render.bundled(report)
    assert "| missing_part (logical) | 0.500 | 0.700 | 0.100 | 0.200 |" in table and "| hair | 0.500" in table
    assert "30 defective test images, 2.5% false alarms, 50.0% misses" in table and "3.1 MB" in table
    bare = {"image_auroc": 0.5, "pixel_auroc": None, "pixel_ap": None, "aupro": None}
    table = render.bundled({**report, **bare, "per_type": {"defective": bare}})
    assert "| type | image AUROC |" in table and "| defective | 0.500 |" in table


def test_models_take_turns_and_the_faster_format_counts():
    turns, images = [], [torch.full((1,), index) for index in range(2)]
    entries = [("uranet", "contiguous"), ("theirs", "contiguous")]
    calls = {entry: lambda image, name=entry[0]: turns.append((name, int(image))) for entry in entries}
    times = latency.take_turns(calls, images, rounds=3)
    assert turns[:6] == [("uranet", 0), ("theirs", 0), ("uranet", 1), ("theirs", 1), ("uranet", 0), ("theirs", 0)]
    assert {entry: len(found) for entry, found in times.items()} == dict.fromkeys(entries, 3)
    times = {
        ("uranet", "contiguous"): [50.0, 40.0, 45.0],
        ("uranet", "channels_last"): [40.0, 20.0, 30.0],
        ("theirs", "contiguous"): [60.0, 60.0, 60.3],
    }
    ours, theirs = latency.compare(times)
    assert ours == {
        "model": "uranet",
        "memory_format": "channels_last",
        "median_ms": 30,
        "least_ms": 20,
        "times_of_uranet": 1,
    }
    assert theirs["times_of_uranet"] == pytest.approx(2.01)  # the median of 1.5, 3 and 2.01
    runs = [{"dataset": "pill", "threads": 2, **row} for row in (ours, theirs)]
    facts = {"rounds": 3, "commit": "abc", "versions": {"torch": "2"}, "hardware": "2 cores", "date": "today"}
    table = tables_methods.latency({"runs": runs, "command": "it", **facts})
    assert "| model | pill, 2 threads |" in table and "| theirs | 60 (2.0) |" in table


def test_a_format_that_a_model_refuses_is_left_out(capsys):
    class Fussy(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.view(-1)

    calls = latency.in_formats({"fussy": Fussy()}, torch.rand(1, 3, 4, 4))
    assert (
        list(calls) == [("fussy", "contiguous")] and "fussy cannot compute in channels_last" in capsys.readouterr().err
    )


def test_turned_parts_are_in_no_mean():
    """Nor in the README's table, and a table of them alone has none."""
    real, turned = (json.loads((ROOT / f"docs/results/{name}.json").read_text()) for name in ("peers", "any_rotation"))
    for run in turned["runs"]:  # the line below the table tells the days of all
        run["date"] = real["runs"][0]["date"]
    turned["summary"] = peers.summarise(turned["runs"])
    both = {**real, "runs": real["runs"] + turned["runs"]}
    both["summary"] = peers.summarise(both["runs"])
    assert tables_methods.figures(both) == tables_methods.figures({**real, "summary": peers.summarise(real["runs"])})
    assert both["summary"]["uranet"]["mean"] == real["summary"]["uranet"]["mean"]
    assert "**pill_turned**" in tables_methods.models(both)
    assert "Mean over" in tables_methods.models(real) and "Mean over" not in tables_methods.models(turned)


def test_every_result_file_names_where_it_comes_from():
    """A row a file, with the commits of our own runs, and of all runs where none is ours."""
    reports = render.read(ROOT / "docs/results")
    rows = {line.split("`")[1]: line for line in tables_provenance.provenance(reports).splitlines() if "`" in line}
    assert rows.keys() == reports.keys() - {"gpu/uranet-training.json"}
    for name in ("peers.json", "few_shot.json", "fifty.json", "any_rotation.json"):
        ours = {run["commit"] for run in reports[name]["runs"] if run["model"] == "uranet"}
        others = {run["commit"] for run in reports[name]["runs"]} - ours
        assert ours and others and all(commit in rows[name] for commit in ours)
        assert not any(commit in rows[name] for commit in others)
    assert "ac97f74" in rows["gpu/pill.json"] and "not recorded" in rows["load.json"]


def test_captions_are_one_line_of_command_data_hardware_and_date():
    made = 0
    for name, (results, make, _) in render.TABLES.items():
        if name.startswith("benchmark-") or name in ("datasets", "names", "on-gpu", "provenance"):
            continue
        if not (ROOT / results).exists():  # not measured yet
            continue
        made += 1
        lines = make(render.read(ROOT / results)).splitlines()
        assert lines[-2] == "" and lines[-1].startswith("`python benchmarks/"), name
        assert lines[-1].count(" · ") >= 3 and re.search(r"\b2026-\d\d-\d\d$", lines[-1]), name
    assert made > 20


def test_the_table_of_solar_cells_says_its_backbone():
    facts = {"hardware": "2 cores", "date": "2026-01-01", "backbone": "uranet-small"}
    made = [{**a_run(model, 0), "dataset": "elpv_mono"} for model in ("uranet", "padim")]
    table = tables_methods.solar({**facts, "runs": made, "summary": peers.summarise(made)})
    assert "| **URA-Net** | 0.900 | 0.900 | 0.900 |" in table and "| PaDiM |" in table
    assert "peers_solar.py --backbone uranet-small` · 200 good cells, seed 0 · uranet-small" in table


def test_the_readme_compares_five_models():
    table = tables_methods.figures(json.loads((ROOT / "docs/results/peers.json").read_text()))
    models = [line.split(" | ")[0][2:] for line in table.splitlines() if line.startswith("| ")][1:]
    assert models == list(tables_methods.README_MODELS.values()) and len(models) == 5


def a_run(model: str, seed: int, **facts: object) -> dict:
    return {**dict.fromkeys(METRIC_KEYS, 0.9), "model": model, "dataset": "pill", "seed": seed, "training": {}, **facts}


def test_runs_of_another_machine_stand_in_for_missing_ones(tmp_path, monkeypatch):
    """They take versions and hardware along, the table names them, and costs that not all runs know are left empty."""
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    options = argparse.Namespace(output=there, jobs=1, limit=None, backbone="resnet18")
    on_gpu = {"gpu": "a GPU", "train_gpu_seconds": 30.0, "peak_gpu_memory_gib": 1.0, "versions": {"torch": "2.11"}}
    made = [a_run("stfpm", seed, **on_gpu) for seed in (0, 1)] + [a_run("padim", seed, **on_gpu) for seed in (0, 1)]
    peers.write(options, {(run["model"], "pill", run["seed"]): run for run in made})
    on_cpu = {"train_cpu_seconds": 500.0, "ms_per_image": 80.0, "peak_memory_gib": 2.0}
    options.output = here
    peers.write(options, {("stfpm", "pill", 0): a_run("stfpm", 0, **on_cpu)})
    wanted = ["--models", "stfpm", "padim", "--datasets", "pill", "--seeds", "0", "1"]
    monkeypatch.setattr(peers, "data_folder", lambda *place: tmp_path)
    arguments = ["--output", str(here), "--work", str(tmp_path / "work"), "--add", str(there), *wanted]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["peers.py", *arguments])
    peers.main()
    report = json.loads(here.read_text())
    found = {(run["model"], run["seed"]): run for run in report["runs"]}
    assert "gpu" not in found["stfpm", 0] and found["stfpm", 1]["hardware"] == json.loads(there.read_text())["hardware"]
    table = tables_methods.models(report)
    rows = {line.split(" | ")[0][2:]: line for line in table.splitlines() if line.startswith(("| stfpm", "| padim"))}
    assert rows["padim"].endswith("|  | GPU 30 |  | GPU 1.0 |") and rows["stfpm"].endswith("|  |  |  |  |")
    on_gpu = tables_methods.on_gpu(report)
    assert "| padim | pill 0, 1 | a GPU, torch 2.11 |" in on_gpu and "| stfpm | pill 1 | a GPU, torch 2.11 |" in on_gpu


def test_verdicts_are_of_every_run_of_ours():
    report = json.loads((ROOT / "docs/results/few_shot.json").read_text())
    ours = [run for run in report["runs"] if run["model"] == "uranet"]
    ours[0]["at_threshold"] = {"false_alarm_rate": 0.123, "miss_rate": 0.456}
    lines = tables_methods.models(report).split("URA-Net's verdicts")[1].splitlines()
    rows = [line for line in lines if line.startswith(("| bottle", "| pill"))]
    assert len(rows) == len(ours) and "| 10 | 12.3% of 20 | 45.6% of 63 |" in rows[0]


def test_a_table_behind_its_results_is_noticed(tmp_path, monkeypatch):
    for name in ("docs", "README.md", "weights_card/README.md", "ura_hf/assets/datasets.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.setattr(render, "ROOT", tmp_path)
    results = tmp_path / "docs/results/peers.json"
    report = json.loads(results.read_text())
    report["summary"]["padim"]["pill"]["image_auroc"]["mean"] = 0.123
    results.write_text(json.dumps(report))
    monkeypatch.setattr(sys, "argv", ["render.py", "--check"])
    assert render.main() == 1
    monkeypatch.setattr(sys, "argv", ["render.py"])
    assert render.main() == 0
    assert "0.123" in (tmp_path / "README.md").read_text()
    monkeypatch.setattr(sys, "argv", ["render.py", "--check"])
    assert render.main() == 0
