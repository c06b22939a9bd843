"""The house plan: imports go one way through the rooms, in functions too; `model/` is closed; nothing heavy loads unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from conftest import ROOT
from importlinter.cli import lint_imports

ROOMS = ("model", "data", "inference", "evaluation", "training", "hub", "export", "benchmark", "deploy", "cli", "demo")
LAZY = ("torch", "transformers", "timm", "numpy", "PIL", "scipy", "huggingface_hub")


def graph_of(folder: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> grimp.ImportGraph:
    monkeypatch.syspath_prepend(folder)
    return grimp.build_graph(package, include_external_packages=True, cache_dir=None)


@pytest.fixture
def graph(monkeypatch) -> grimp.ImportGraph:
    return graph_of(ROOT, "ura_hf", monkeypatch)


def cycles(graph: grimp.ImportGraph, package: str) -> set[frozenset[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    own = {name for name in graph.modules if name.split(".")[0] == package}
    after = {name: graph.find_downstream_modules(name) & own for name in own}
    groups = {name: frozenset(other for other in after[name] if name in after[other]) for name in own}
    return {group | {name} for name, group in groups.items() if group}


def imported_from(graph: grimp.ImportGraph, room: str) -> set[str]:
    """Modules outside of a room that its modules import, at the top or in functions."""
    inside = graph.find_descendants(room) | {room}
    return {target for name in inside for target in graph.find_modules_directly_imported_by(name)} - inside


def test_the_contracts_of_pyproject_hold(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("logging.config.dictConfig", lambda settings: None)  # it would switch our loggers off
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0
    assert ", 0 broken" in capsys.readouterr().out


def test_every_module_has_a_room(graph):
    outside = {"registration", "__main__"}
    parts = {name.split(".")[1] for name in graph.modules if name.startswith("ura_hf.")}
    assert parts == {*ROOMS, *outside}
    assert imported_from(graph, "ura_hf.registration") & graph.find_descendants("ura_hf") <= {
        "ura_hf.model.loading",
        "ura_hf.model.configuration_uranet",
        "ura_hf.model.modeling_uranet",
        "ura_hf.model.image_processing_uranet",
        "ura_hf.model.pipeline_uranet",
        "ura_hf.hub.download",
        "ura_hf.hub.push",
    }


def test_the_model_is_flat_and_closed(graph):
    assert not [name for name in imported_from(graph, "ura_hf.model") if name.split(".")[0] == "ura_hf"]
    found = {path.name for path in (ROOT / "ura_hf/model").iterdir()} - {"__pycache__"}
    assert all(name.endswith(".py") for name in found) and "modeling_uranet.py" in found
    assert (ROOT / "ura_hf/model/__init__.py").read_text().count(
        "\n"
    ) == 1  # a docstring: it travels with no checkpoint


def test_no_modules_import_each_other(graph):
    assert not cycles(graph, "ura_hf")


def test_a_bad_import_is_found(tmp_path, monkeypatch):
    """The tests above can fail: imports in functions are seen, and circles through several modules."""
    files = {
        "model/a.py": "def late():\n    from ..hub import b",
        "hub/b.py": "from ..hub import c",
        "hub/c.py": "def late():\n    import badly_built.model.a",
    }
    for name in ("", "model/", "hub/"):
        (tmp_path / "badly_built" / name).mkdir(exist_ok=True)
        (tmp_path / "badly_built" / name / "__init__.py").touch()
    for name, text in files.items():
        (tmp_path / "badly_built" / name).write_text(text)
    graph = graph_of(tmp_path, "badly_built", monkeypatch)
    assert imported_from(graph, "badly_built.model") == {"badly_built.hub.b"}
    assert cycles(graph, "badly_built") == {frozenset(f"badly_built.{n}" for n in ("model.a", "hub.b", "hub.c"))}


def run(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_importing_the_package_imports_nothing_heavy():
    run(
        f"import sys, ura_hf; found = set({LAZY}) & set(sys.modules); assert not found, found; assert 'train' in dir(ura_hf)"
    )


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("predict", "--help")])
def test_help_imports_nothing_heavy(arguments):
    script = """
import sys
from ura_hf.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code
found = {"torch", "transformers", "timm", "gradio", "matplotlib", "sklearn"} & set(sys.modules)
assert not found, found
"""
    run(script, *arguments)
