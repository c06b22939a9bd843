"""Solar cells of the package elpv-dataset: which are good, which are for testing, and the commands that take them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import tiny_config
from trees import write

from ura_hf import train
from ura_hf.benchmark.settings import Settings
from ura_hf.cli.main import main
from ura_hf.data.check import check_category
from ura_hf.data.datasets import Counts, locate_categories
from ura_hf.data.elpv import read_cells
from ura_hf.data.opening import open_dataset
from ura_hf.hub.card import make_card
from ura_hf.model.errors import UserError

TINY = ("image_size=64", "grid_size=8", "hidden_size=32", "memory_cells=16", "memory_tokens=16", "perception_size=16")


def test_the_cells_of_the_package():
    for kind, count, good, defective, between in (("mono", 471, 117, 313, 173), ("poly", 736, 184, 402, 228)):
        found = open_dataset(f"elpv:{kind}")
        assert Counts.of(found) == Counts(count, good, {"defective": defective})
        assert len(found.train_left_out["between"]) == between and found.name == kind
        assert not check_category("elpv", kind, locate_categories("elpv", None)[kind], decode=False).problems
        assert all(sample.image.is_file() for sample in found.train + found.test)
        cells = read_cells(kind).good
        assert [sample.image for sample in found.test if not sample.label] == cells[4::5]
        assert [sample.image for sample in found.train][:5] == [*cells[:4], cells[5]]


@pytest.fixture
def few_cells(tmp_path, monkeypatch) -> Path:
    """A package of the same form with ten good, two defective and three doubtful cells of each kind."""
    root = tmp_path / "few/elpv_dataset"
    write(root / "data/images/cell0000.png", 0)
    (root / "__init__.py").touch()
    lines = []
    for index in range(30):
        probability = 0.0 if index < 20 else 1.0 if index < 24 else 0.3333333333333333
        name, kind = f"images/cell{index:04d}.png", ("mono", "poly")[index % 2]
        write(root / "data" / name, index, probability == 1)
        lines.append(f"{name}   {probability}   {kind}\n")
    (root / "data/labels.csv").write_text("".join(lines))
    monkeypatch.syspath_prepend(tmp_path / "few")
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    return root


def test_every_command_takes_them(few_cells, tmp_path, capsys):
    model = ["--backbone", "uranet-small", *(f"--set={field}" for field in TINY), "--steps", "1"]
    assert main(["train", "--data", "elpv:mono", "--output", str(tmp_path / "o"), *model]) == 0
    said = capsys.readouterr().out
    assert (
        "calibrated on 8 good images" in said
        and "left out  3  solar cells with a defect probability between 0 and 1" in said
    )
    assert json.loads((tmp_path / "o/training.json").read_text())["left_out"]["between"]["count"] == 3
    assert main(["evaluate", str(tmp_path / "o"), "--data", "elpv:mono", "--json", str(tmp_path / "r.json")]) == 0
    figures = json.loads((tmp_path / "r.json").read_text())
    assert (figures["n_normal"], figures["n_anomalous"], list(figures["per_type"])) == (2, 2, ["defective"])
    assert main(["data", "check", "--dataset", "elpv", "--categories", "poly"]) == 1
    assert "train: 8 images, published 736" in capsys.readouterr().out
    command = ["benchmark", "--dataset", "elpv", "--output", str(tmp_path / "b"), "--categories", "poly", "--partial"]
    assert main([*command, *model]) == 0
    assert (tmp_path / "b/seed0/uranet-elpv-poly/model.safetensors").is_file()
    notes = (tmp_path / "b/results.md").read_text()
    assert "every fifth good cell is for testing: 2 of 10" in notes and "left out: 3 solar cells" in notes
    refused = Settings("elpv", None, strict=True).options(Path("elpv:poly"), tmp_path / "c", 0, 8)
    with pytest.raises(UserError, match="--strict, but files are left out: 3 solar cells"):
        train(refused, tiny_config())


def test_other_kinds_and_roots_are_refused(tmp_path, capsys):
    assert main(["train", "--data", "elpv:thin", "--output", str(tmp_path / "o")]) == 2
    assert "elpv:thin must be one of elpv:mono, elpv:poly" in capsys.readouterr().err
    assert main(["data", "check", "--dataset", "elpv", "--root", str(tmp_path)]) == 2
    assert "leave out --root" in capsys.readouterr().err
    assert main(["data", "check", "--dataset", "mvtec"]) == 2
    assert "mvtec is read from a folder: give it as --root" in capsys.readouterr().err


def test_without_the_package_its_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with pytest.raises(
        UserError, match=r"solar cells, needs the package elpv_dataset, .* run pip install '\.\[examples\]'"
    ):
        open_dataset("elpv:mono")


def test_the_card_says_what_the_licence_and_the_split_are(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    text = str(make_card(tmp_path, "me/uranet-elpv-mono"))
    assert "license: cc-by-nc-sa-4.0" in text and "cells of one module may lie on both sides" in text
