"""The Dockerfile, read without Docker: it copies all that the page needs, and its command serves the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from gradio_client import Client
from packaging.version import Version
from started_page import answering


def instructions() -> list[tuple[str, str]]:
    """Names and arguments, without comments."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    return [
        (name, given) for line in lines if line and not line.startswith("#") for name, _, given in [line.partition(" ")]
    ]


def arguments(name: str) -> list[str]:
    return [given for known, given in instructions() if known == name]


@pytest.fixture
def image(tmp_path) -> Path:
    """What the image holds of the repository: what is copied and not ignored."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*" and rules[-1] == "**/__pycache__"
    kept = {rule.removeprefix("!") for rule in rules[1:-1]}
    for copied in arguments("COPY"):
        source, target = copied.split()
        assert source in kept and (tmp_path / target).resolve() in (tmp_path, tmp_path / source), copied
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / source, tmp_path / source)
    assert kept == {path.name for path in tmp_path.iterdir()}, "no rule is left over"
    return tmp_path


def test_the_order_and_the_names_of_the_instructions():
    names = [name for name, _ in instructions()]
    assert names[0] == "FROM" and names[-2:] == ["ENTRYPOINT", "CMD"] and names.index("USER") > names.index("RUN")
    assert set(names) <= {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}
    python = re.fullmatch(r"python:([\d.]+)-slim", arguments("FROM")[0])
    assert python and Version(python[1]) >= Version("3.11")
    assert arguments("WORKDIR") == ["/app"] and arguments("USER") == ["uranet"]


def test_the_requirements_are_installed_as_pip_takes_them(image):
    install, add_user = arguments("RUN")
    assert install.startswith("pip install ") and add_user == "useradd --create-home uranet"
    checked = f"{sys.executable} -m {install} --dry-run --no-deps --no-index --find-links ."
    done = subprocess.run(checked, shell=True, cwd=image, capture_output=True, text=True, check=False)
    assert "no such option" not in done.stderr and "Could not open requirements file" not in done.stderr
    assert done.returncode == 0, done.stderr  # all are installed here


def test_the_command_serves_a_page_for_strangers(image):
    command = [*json.loads(arguments("ENTRYPOINT")[0]), *json.loads(arguments("CMD")[0])]
    assert command[:2] == ["python", "app.py"] and {"--public", "0.0.0.0"} <= set(command)
    assert arguments("EXPOSE") == [command[command.index("--port") + 1]]
    bin_folder = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": bin_folder, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    with answering(lambda port: ["sh", "-c", f"exec {shlex.join(command)} --port {port}"], image, environment) as found:
        rows = Client(found[0], verbose=False).predict(api_name="/checkpoints")
    assert "uranet-demo-ring" in {row["name"] for row in rows}
