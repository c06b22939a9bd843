"""What a training run leaves alone: the output of another run, random numbers, the umask; and who may read its files."""

from __future__ import annotations

import os
import random
import re
import threading

import numpy as np
import pytest
import torch
from conftest import ROOT, tiny_config
from processes import uranet
from safetensors.torch import load_file

from ura_hf import TrainingOptions, UserError, train
from ura_hf.data.progress import Cancelled
from ura_hf.model.device import pick_device

AT_WORK = "another run is at work in"


@pytest.fixture
def options(category, resnet18_weights, tmp_path) -> TrainingOptions:
    return TrainingOptions(category, tmp_path / "o", resnet18_weights, steps=2, batch_size=2, limit=4)


def test_a_second_run_into_one_output_is_refused(options, resnet18_weights, tmp_path):
    """From another thread and from another process, while the first run is in the middle; which then ends as if alone."""
    refused = []

    def try_here():
        try:
            train(options, tiny_config())
        except UserError as error:
            refused.append(str(error))

    def begin_others(stage, done, total, losses=None):
        if stage != "training" or refused:
            return
        thread = threading.Thread(target=try_here)
        thread.start()
        thread.join()
        said = tmp_path / "said.txt"
        backbone = ("--backbone", "resnet18", "--backbone-weights", resnet18_weights)
        other = uranet("train", "--data", options.data, "--output", options.output, *backbone, errors=said)
        other.join()
        refused.append(f"{other.exitcode} {said.read_text()}")

    train(options, tiny_config(), progress=begin_others)
    thread, process = refused
    assert AT_WORK in thread and process.startswith("2 ") and f"uranet: {AT_WORK} {options.output}" in process
    alone = TrainingOptions(**{**vars(options), "output": tmp_path / "alone"})
    train(alone, tiny_config())
    first, second = (load_file(folder / "model.safetensors") for folder in (options.output, alone.output))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_the_output_is_free_after_a_run_that_failed(options):
    def fail(stage, done, total, losses=None):
        raise Cancelled

    for _ in range(2):
        with pytest.raises(Cancelled):
            train(options, tiny_config(), progress=fail)
    train(options, tiny_config())


@pytest.mark.parametrize("stage", [None, "memory"])
def test_random_numbers_of_others_are_left_as_they_were(options, stage):
    def stop(now, done, total, losses=None):
        if now == stage:
            raise Cancelled

    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    if stage:
        with pytest.raises(Cancelled):
            train(options, tiny_config(), progress=stop)
    else:
        train(options, tiny_config())
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_get_the_usual_permissions_and_the_umask_is_left_alone(options, monkeypatch, umask, mode):
    """Other threads that write files meanwhile would get theirs wrong."""
    before, change = os.umask(umask), os.umask
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail(f"umask was set to {mask:o}"))
        train(options, tiny_config())
        files = {path.name: path.stat().st_mode & 0o777 for path in options.output.iterdir()}
        assert "model.safetensors" in files and set(files.values()) == {mode}
    finally:
        change(before)


def test_one_function_picks_the_device(monkeypatch):
    """Elsewhere it is only asked what there is: for the record of a run, and to keep a generator."""
    asks = re.compile(r"\b(cuda|mps)\.is_available\(\)")
    found = {path.relative_to(ROOT / "ura_hf").as_posix(): path.read_text() for path in (ROOT / "ura_hf").rglob("*.py")}
    asking = {name for name, text in found.items() if asks.search(text)}
    assert asking == {"model/device.py", "training/finish.py", "training/randomness.py"}
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device().type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device().type == "cuda"
