"""The built wheel: all of the package and nothing else of the repository, and it works with the core dependencies alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

MOST = 20e6  # bytes of all bundled weights together
SOURCES = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "app.py",
    *("ura_hf", "weights_card", "tools", "benchmarks", "tests"),
)
MODULES = {"scikit-learn": "sklearn"}  # where a package's module has another name
PROGRAM = """
import importlib.util
import socket
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in sys.argv else self.finder.find_spec(name, path, target)

def refused(*_):
    raise OSError("the network is off")

sys.meta_path[:] = map(Without, sys.meta_path)
assert not any(importlib.util.find_spec(name) for name in sys.argv[1:])
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused
import inspect
from pathlib import Path
import ura_hf
from ura_hf import *
from ura_hf.cli import main
from ura_hf.data.extras import install_command
from ura_hf.inference import find
from ura_hf.data.drawn.parts import KINDS, demo_image
from ura_hf.hub.names import bundled
from PIL import Image

print(ura_hf.__file__)
assert all(hasattr(ura_hf, name) for name in ura_hf.__all__)
assert {name for name, _ in inspect.getmembers(ura_hf)} >= set(ura_hf.__all__)
try:
    train(TrainingOptions(Path("photos"), Path("output")), URANetConfig())
except UserError as error:
    assert "needs the package accelerate" in str(error) and install_command("train") in str(error), error
else:
    raise AssertionError("it trained")
for name in bundled():
    detect = ura_hf.load_detector(name)
    images = [Image.fromarray(demo_image("ring", 70_000, which)[0]) for which in (None, KINDS["ring"][2][0])]
    labels = [detect(image)["label"] for image in images]
    print(name, labels == (["normal", "anomalous"] if name == "uranet-demo-ring" else ["unknown"] * 2))
(one,) = find(ura_hf.load_detector("uranet-demo-ring"), images[-1:])
assert one.verdict()["label"] == "anomalous"
images[-1].save("part.png")
sys.exit(main(["predict", "uranet-demo-ring", "part.png", "--output", "maps"]))
"""


def optional_modules() -> set[str]:
    """The modules of every extra that users install."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split(r"[^\w.-]", wanted)[0] for extra in extras.keys() - {"dev"} for wanted in extras[extra]}
    return {MODULES.get(name, name.replace("-", "_")) for name in names - {"ura-hf"}}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def site(source, tmp_path_factory):
    """The package, built from the sources and installed into an empty folder without fetching anything."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index", "--no-compile"]
    done = subprocess.run([*pip, "--target", site, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


def test_holds_the_package_and_nothing_else(source, site):
    wanted, inside = (
        {path.relative_to(root).as_posix(): path for path in (root / "ura_hf").rglob("*") if path.is_file()}
        for root in (source, site)
    )
    assert {"ura_hf/__main__.py", "ura_hf/assets/uranet-demo-ring/model.safetensors"} <= set(wanted)
    assert set(inside) == set(wanted)
    assert all(path.read_bytes() == wanted[name].read_bytes() for name, path in inside.items())
    assert {path.name.split("-")[0] for path in site.iterdir()} == {"ura_hf", "bin"}
    assert [path.name for path in (site / "bin").iterdir()] == ["uranet"]
    weights = [path.stat().st_size for name, path in inside.items() if name.endswith(".safetensors")]
    assert len(weights) >= 5 and sum(weights) <= MOST
    assert [name for name in inside if name.endswith((".png", ".jpg"))] == ["ura_hf/assets/colormaps.png"]


def test_works_without_extras_and_network_in_an_empty_folder(site, tmp_path):
    """Every public name is there, and only a call that needs an optional package asks for it."""
    assert {"gradio", "matplotlib", "sklearn", "accelerate", "datasets", "onnx", "onnxruntime"} <= optional_modules()
    empty = tmp_path / "empty"
    empty.mkdir()
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "URA_HF_"))}
    environment = {**keep, "PYTHONPATH": str(site), "HF_HOME": str(tmp_path / "hf")}
    program = [sys.executable, "-c", PROGRAM, *optional_modules()]
    run = subprocess.run(program, cwd=empty, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    where, *checkpoints, verdict = run.stdout.splitlines()
    assert where.startswith(str(site)) and "part.png" in verdict
    assert len(checkpoints) == 5 and all(line.endswith("True") for line in checkpoints), checkpoints
    assert list((empty / "maps").iterdir())
