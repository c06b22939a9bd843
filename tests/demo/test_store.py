"""The page's detectors: names, loading once, the least recently used leave, no server path is a name."""

from __future__ import annotations

import shutil
import threading

import pytest
from conftest import HUB

from ura_hf.demo import store as store_module
from ura_hf.demo.store import Detectors
from ura_hf.model.errors import UserError


@pytest.fixture
def loads(monkeypatch):
    """The folders that were loaded, in order."""
    seen = []
    load = store_module.load_detector

    def spy(folder):
        seen.append(folder)
        return load(folder)

    monkeypatch.setattr(store_module, "load_detector", spy)
    return seen


def test_names_are_added_bundled_and_local(checkpoint, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "uranet-local")
    monkeypatch.setenv("URA_HF_CHECKPOINTS", str(tmp_path))
    detectors = Detectors()
    assert detectors.add(checkpoint, "my part!") == "my-part"
    assert detectors.add(checkpoint, "my-part") == "my-part-2"
    assert detectors.add(checkpoint, "uranet-demo-ring") == "uranet-demo-ring-2"
    names = detectors.names()
    assert {"my-part", "my-part-2", "uranet-demo-ring", "uranet-local"} <= set(names) and len(names) == len(set(names))
    assert detectors.folder("my-part") == checkpoint and detectors.folder("uranet-local") == tmp_path / "uranet-local"
    assert {row["name"] for row in detectors.describe()} == set(names)


def test_a_detector_is_loaded_once_by_many_threads(checkpoint, loads):
    detectors = Detectors()
    name = detectors.add(checkpoint, "disc")
    found = []
    threads = [threading.Thread(target=lambda: found.append(detectors.get(name))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len({id(detector) for detector in found}) == 1 and len(found) == 8


def test_the_least_recently_used_leaves(checkpoint, loads):
    detectors = Detectors(in_memory=2)
    first, second, third = (detectors.add(checkpoint, name) for name in ("a", "b", "c"))
    kept = detectors.get(first)
    detectors.get(second)
    assert detectors.get(first) is kept
    detectors.get(third)  # b leaves
    assert detectors.get(first) is kept and len(loads) == 3
    detectors.get(second)
    assert len(loads) == 4


def test_a_server_path_is_no_name(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, tmp_path / "you" / "uranet-x")
    detectors = Detectors()
    for name in (str(checkpoint), "you/uranet-x", "../x", "", None, "."):
        with pytest.raises(UserError, match=r"name|checkpoint"):
            detectors.get(name)
    assert detectors.names() == Detectors().names()


def test_an_incomplete_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a checkpoint folder"):
        Detectors().add(tmp_path, "empty")


def test_from_the_hub(checkpoint, monkeypatch):
    """A name on the Hub works without a folder, is listed from then on, and is refused where its weights are too large."""
    HUB.add_repo("you/uranet-disc", {file.name: file.read_bytes() for file in checkpoint.iterdir() if file.is_file()})
    detectors = Detectors()
    assert detectors.get("you/uranet-disc").model.config.image_size == 64
    assert "you/uranet-disc" in detectors.names() and "Intended use" in detectors.card("you/uranet-disc")
    monkeypatch.setattr(store_module, "MAX_DOWNLOAD", 1000)
    with pytest.raises(UserError, match="GiB"):
        Detectors().get("you/uranet-disc")
    with pytest.raises(UserError, match="no checkpoint you/uranet-other"):
        detectors.get("you/uranet-other")


def test_the_card_has_no_title_and_no_picture():
    card = Detectors().card("uranet-demo-ring")
    assert "image AUROC" in card and "![" not in card and not card.startswith("# ") and "---" not in card[:5]
