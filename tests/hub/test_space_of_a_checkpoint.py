"""A Space of a checkpoint: its files, a page that starts from them alone, and its way to the Hub and back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, draw_part
from gradio_client import Client, handle_file
from huggingface_hub import HfApi, metadata_load, snapshot_download
from PIL import Image
from started_page import started_page

from ura_hf.cli.main import main
from ura_hf.hub import space as space_module
from ura_hf.hub.load import load_detector
from ura_hf.hub.push import push

REPO = "tester/my-disc"
ONLY_THE_SPACE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
"""
"""Hides the package as the tests' environment has it."""


@pytest.fixture(autouse=True)
def hub(empty_hub):
    return empty_hub


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    paths = [tmp_path / name for name in ("fine.png", "dark_spot.png")]
    for seed, path in enumerate(paths):
        Image.fromarray(draw_part(seed, defect=path.stem != "fine")[0]).save(path)
    return paths


def uranet(*arguments: object) -> int:
    return main(list(map(str, arguments)))


def fails(capsys, *arguments: object) -> str:
    assert uranet(*arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_space_opens_on_its_checkpoint_with_nothing_but_its_own_files(evaluated, photos, tmp_path):
    space = tmp_path / "space"
    assert uranet("space", evaluated, "--to", REPO, "--output", space, "--examples", *photos) == 0
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(ONLY_THE_SPACE)
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment = os.environ | offline
    where = [sys.executable, "-c", "import ura_hf; print(ura_hf.__file__)"]
    found = subprocess.run(where, cwd=space, env=environment, capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(space / "ura_hf/__init__.py")
    assert subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True).returncode, (
        "elsewhere there is none"
    )
    with started_page(folder=space, env=environment) as (address, _, _):
        page = Client(address, verbose=False)
        assert page.predict(api_name="/checkpoints")[0]["name"] == "my-disc"
        verdict = page.predict(handle_file(str(photos[1])), api_name="/detect")
    expected = load_detector(evaluated)(str(photos[1]))
    assert verdict["checkpoint"] == "my-disc" and verdict["label"] == expected["label"]
    assert verdict["score"] == pytest.approx(expected["score"], abs=1e-3)


def test_a_pushed_space_comes_back_byte_for_byte(hub, evaluated, photos, tmp_path, capsys):
    assert uranet("space", evaluated, "--output", tmp_path / "my-disc", "--examples", *photos) == 0
    assert uranet("space", evaluated, "--to", REPO, "--private", "--examples", *photos) == 0
    assert f"spaces/{REPO}" in capsys.readouterr().out
    assert list(hub.repos) == [f"spaces/{REPO}"] and hub.repos[f"spaces/{REPO}"].private
    assert hub.objects, "weights go by LFS"
    fetched = Path(snapshot_download(REPO, repo_type="space", token=hub.token, cache_dir=tmp_path / "cache"))
    wanted = files_below(tmp_path / "my-disc")
    assert {name: data for name, data in files_below(fetched).items() if name != ".gitattributes"} == wanted
    assert wanted["checkpoint/my-disc/model.safetensors"] == (evaluated / "model.safetensors").read_bytes()
    assert {"app.py", "page.py", "LICENSE", "examples/fine.png", "ura_hf/assets/datasets.json"} <= set(wanted)
    assert not [name for name in wanted if "__pycache__" in name]
    assert HfApi(token=hub.token).space_info(REPO).sdk == "gradio"


def test_the_front_matter_is_the_repositorys_own_with_licence_and_models(hub, evaluated, tmp_path):
    push(evaluated, "tester/uranet-mvtec-disc")
    assert uranet("space", "tester/uranet-mvtec-disc", "--output", tmp_path / "of-a-model") == 0
    assert uranet("space", evaluated, "--output", tmp_path / "own", "--license", "mit") == 0
    ours, of_a_model, own = (metadata_load(f / "README.md") for f in (ROOT, tmp_path / "of-a-model", tmp_path / "own"))
    assert own == ours | {"title": "own", "license": "mit"}
    named = {"license": "cc-by-nc-sa-4.0", "models": ["tester/uranet-mvtec-disc"]}
    assert of_a_model == ours | {"title": "of-a-model"} | named
    assert (tmp_path / "own/requirements.txt").read_text() == (ROOT / "requirements.txt").read_text()


def test_a_repeated_call_replaces_checkpoint_and_examples_and_leaves_the_owners_files(hub, evaluated, photos):
    space = f"spaces/{REPO}"
    assert uranet("space", evaluated, "--to", REPO, "--examples", *photos) == 0
    hub.add_commit(space, {"notes.txt": b"the owner's", "ura_hf/old.py": b"of an older version"})
    hub.reset()
    assert uranet("space", "uranet-elpv-mono", "--to", REPO, "--examples", photos[0]) == 0
    files = hub.repos[space].at("main")[1]
    assert files["notes.txt"] and not {"ura_hf/old.py", "examples/dark_spot.png"} & set(files)
    assert files["checkpoint/my-disc/config.json"] != (evaluated / "config.json").read_bytes()
    hub.reset()
    assert uranet("space", "uranet-elpv-mono", "--to", REPO, "--examples", photos[0]) == 0
    assert not [path for method, path in hub.requests if method == "PUT"], "what is there is not sent again"


def test_what_is_refused(hub, evaluated, photos, tmp_path, capsys, monkeypatch):
    assert "give one of them" in fails(capsys, "space", evaluated)
    for name in ("no-namespace", "a/b/c", "a/b c"):
        assert "NAMESPACE/NAME" in fails(capsys, "space", evaluated, "--to", name)
        assert "NAMESPACE/NAME" in fails(capsys, "space", evaluated, "--to", name, "--output", tmp_path / "x")
    assert "hf auth login" in fails(capsys, "space", evaluated, "--to", "somebody/disc")
    assert "is not an empty folder" in fails(capsys, "space", evaluated, "--output", tmp_path)
    assert "no checkpoint" in fails(capsys, "space", "uranet-none", "--output", tmp_path / "x")
    again = shutil.copytree(photos[0].parent, tmp_path.parent / "again", ignore=shutil.ignore_patterns("x"))
    Image.open(photos[0]).save(tmp_path / "part.tif")
    (tmp_path / "text.png").write_text("no photo")
    for given, words in (
        (["part.tif"], "photos that browsers show"),
        (["text.png"], "text.png"),
        (["none.png"], "none.png"),
        (["fine.png", again / "fine.png"], "fine.png comes twice"),
    ):
        paths = [tmp_path / name for name in given]
        assert words in fails(capsys, "space", evaluated, "--output", tmp_path / "x", "--examples", *paths)
    broken = shutil.copytree(evaluated, tmp_path / "broken")
    for name, text, words in (
        (
            "config.json",
            json.dumps(json.loads((broken / "config.json").read_text()) | {"image_threshold": None}),
            "calibrate",
        ),
        ("training.json", "[1]", "training.json"),
        ("model.safetensors", None, "model.safetensors"),
    ):
        kept = (broken / name).read_bytes()
        (broken / name).unlink() if text is None else (broken / name).write_text(text)
        assert words in fails(capsys, "space", broken, "--output", tmp_path / "x")
        (broken / name).write_bytes(kept)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "401" in fails(capsys, "space", evaluated, "--to", REPO)
    assert not hub.repos and not (tmp_path / "x").exists()


def test_an_installed_package_asks_for_a_clone(evaluated, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(space_module, "PACKAGE", tmp_path / "ura_hf")
    assert "in a clone of the repository call `python -m ura_hf space`" in fails(
        capsys, "space", evaluated, "--output", tmp_path / "x"
    )
