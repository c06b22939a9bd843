"""The front matter of the README, with which the repository is a Space; and its GPU decorator."""

from __future__ import annotations

import hashlib
import os
import types
from pathlib import Path

import gradio
import numpy as np
import pytest
from browser import WAIT, launched
from conftest import ROOT, draw_part
from huggingface_hub import metadata_load
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image
from playwright.sync_api import expect

from ura_hf import UserError
from ura_hf.demo import examples, shared
from ura_hf.demo.page import build_demo
from ura_hf.demo.store import Detectors
from ura_hf.demo.tabs import detect

COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_the_front_matter_describes_a_space_that_can_start():
    found = metadata_load(ROOT / "README.md")
    assert found["sdk"] == "gradio" and (ROOT / found["app_file"]).is_file()
    requirements = map(Requirement, (ROOT / "requirements.txt").read_text().splitlines())
    allowed = next(requirement.specifier for requirement in requirements if requirement.name == "gradio")
    assert found["sdk_version"] in allowed and Version(found["sdk_version"]).major == Version(gradio.__version__).major
    assert isinstance(found["python_version"], str) and Version(found["python_version"]) >= Version("3.11")
    assert {found["colorFrom"], found["colorTo"]} <= COLORS and len(found["short_description"]) <= 60
    assert found["license"] == "apache-2.0" and found["title"] and found["emoji"]


def test_tools_for_agents_are_named_as_the_endpoints():
    """Gradio's MCP server names a tool by its function."""
    events = build_demo(Detectors()).fns.values()
    public = {event.api_name: event.fn.__name__ for event in events if event.api_visibility == "public"}
    assert public == {name: name for name in ("detect", "batch", "teach", "calibrate", "evaluate", "checkpoints")}


def test_pictures_are_written_once_and_nobody_can_guess_their_address(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    path = Path(detect._store(picture, tmp_path))
    assert (np.asarray(Image.open(path)) == picture).all() and [p.name for p in path.parent.iterdir()] == ["image.png"]
    for known in (path.read_bytes(), picture.tobytes()):
        assert path.parent.name != hashlib.sha256(known).hexdigest()
    os.utime(path, (0, 0))
    before = path.stat()
    assert detect._store(picture, tmp_path) == str(path)
    assert path.stat().st_ino == before.st_ino and path.stat().st_mtime > 1, "kept, and as young as a new one"
    assert detect._store(picture.reshape(30, 40, 3), tmp_path) != str(path)
    path.unlink()
    assert Path(detect._store(picture, tmp_path)).is_file()


def test_a_space_with_a_gpu_asks_for_a_few_seconds(monkeypatch):
    asked = []

    def gpu(duration):
        asked.append(duration)
        return lambda function: function

    monkeypatch.setattr(shared, "SPACES", types.SimpleNamespace(GPU=gpu))
    assert shared.on_gpu(detect.GPU_SECONDS)(len) is len
    assert asked == [detect.GPU_SECONDS] and asked[0] <= 10
    monkeypatch.setattr(shared, "SPACES", None)
    assert shared.on_gpu(5)(len) is len and asked == [detect.GPU_SECONDS]


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A folder with a photo of a drawn part, and no examples that were given before."""
    monkeypatch.setattr(examples, "_given", {})
    (tmp_path / "photos").mkdir()
    Image.fromarray(draw_part(0, defect=True)[0]).save(tmp_path / "photos/dark_spot.png")
    return tmp_path / "photos"


def test_given_examples_stand_in_place_of_drawn_ones(given):
    ring, cloth = "uranet-demo-ring", "uranet-demo-cloth"
    drawn = examples.example_images(cloth)  # nobody need have such a checkpoint
    examples.give_examples(ring, given)
    (photo,) = examples.example_images(ring)
    assert photo.read_bytes() == (given / "dark_spot.png").read_bytes() and photo.parent != given
    assert examples.has_examples(ring) and examples.example_images(cloth) == drawn
    examples.give_examples("mine", given)  # they may show anything, and no threshold comes from them
    assert examples.has_examples("mine") and not examples.has_calibration_images("mine")
    good, defective = examples.calibration_images(ring)
    assert (
        examples.has_calibration_images(ring) and len(good) == 30 and "scratch.png" in {path.name for path in defective}
    )
    for empty in (given / "none", given.parent / "empty"):
        with pytest.raises(UserError, match="must be a folder of photos"):
            examples.give_examples(ring, empty)


def test_a_given_example_is_checked_by_a_click(browse, given, checkpoint):
    store = Detectors()
    name = store.add(checkpoint, "disc")
    examples.give_examples(name, given)
    with launched(store, name) as demo, browse(demo.local_url) as page:
        page.locator("#examples").get_by_text("dark spot", exact=True).click()
        label = store.get(name)(str(given / "dark_spot.png"))["label"]
        expect(page.locator(f"#verdict .verdict.is-{label}")).to_be_visible(timeout=WAIT)
