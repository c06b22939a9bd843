"""The built wheel: it holds every bundled weight, and works from an empty folder without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT

from ura_hf.data.files import ASSETS

MOST = 12e6  # bytes of all bundled weights together
SOURCES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "ura_hf", "weights_card")
PROGRAM = """
import socket

def refused(*_):
    raise OSError("the network is off")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused
import ura_hf
from ura_hf.data.drawn.parts import KINDS, LOGICAL, demo_image
from ura_hf.hub.load import load_detector
from ura_hf.hub.names import bundled
from PIL import Image

print(ura_hf.__file__)
for name in bundled():
    kind = name.removeprefix("uranet-demo-")
    detect = load_detector(name)
    defects = [defect for defect in KINDS[kind][2] if defect not in LOGICAL]
    found = [detect(Image.fromarray(demo_image(kind, 70_000, which)[0])) for which in [None, *defects]]
    print(name, [each["label"] for each in found] == ["normal", *["anomalous"] * len(defects)], found[-1]["anomaly_map"].shape)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the sources, without fetching anything."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", out]
    subprocess.run([*pip, source], check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_holds_all_weights(wheel):
    inside = {entry.filename: entry.file_size for entry in zipfile.ZipFile(wheel).infolist()}
    wanted = {path.relative_to(ROOT).as_posix() for path in ASSETS.rglob("*") if path.is_file()}
    assert any(name.endswith("model.safetensors") for name in wanted)
    assert wanted <= set(inside)
    assert sum(size for name, size in inside.items() if name.endswith(".safetensors")) <= MOST
    assert not [name for name in inside if "tests" in name or name.endswith((".png", ".jpg"))]


def test_works_in_an_empty_folder_without_network(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "URA_HF_"))}
    environment = {**keep, "PYTHONPATH": str(site), "HF_HOME": str(tmp_path / "hf")}
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=empty, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    where, *checkpoints = run.stdout.splitlines()
    assert where.startswith(str(site))
    assert checkpoints and all("True (256, 256)" in line for line in checkpoints)
