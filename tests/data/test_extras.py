"""Packages of an extra that are not installed: the command that installs them is named, whatever needs them."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import import_module

import pytest
from conftest import ROOT, tiny_config

from ura_hf import TrainingOptions, UserError, evaluate, train
from ura_hf.cli.main import main
from ura_hf.data.extras import EXTRAS, needs_extra
from ura_hf.evaluation.metrics import AnomalyMetrics
from ura_hf.export import export
from ura_hf.hub.card import draw_figure, make_card
from ura_hf.hub.names import ASSETS
from ura_hf.inference import Pair


def measure(*_):
    metrics = AnomalyMetrics()
    metrics.update([0.1, 0.9], [0, 1], None, None, ["good", "spot"])
    metrics.compute()


def card(folder):
    make_card(ASSETS / "uranet-demo-ring", "you/ring")


@pytest.mark.parametrize(
    ("module", "extra", "use"),
    [
        ("sklearn.metrics", "train", measure),
        ("matplotlib.figure", "train", lambda folder: draw_figure({}, folder / "figure.png")),
        ("jinja2", "train", card),
        ("onnxruntime", "export", lambda folder: export("uranet-demo-ring", folder / "ring.onnx")),
    ],
)
def test_the_command_that_installs_it_is_named(tmp_path, monkeypatch, module, extra, use):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    with pytest.raises(
        UserError, match=rf"needs the package {package}, .*: run pip install '\.\[{extra}\]' in a clone"
    ):
        use(tmp_path)


def test_training_without_accelerate(category, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert main(["train", "--data", str(category), "--output", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert "uranet: training needs the package accelerate, which is not installed: run pip install '.[train]'" in said
    with pytest.raises(UserError, match=r"training needs the package accelerate, .*: run pip install '\.\[train\]'"):
        train(TrainingOptions(category, tmp_path / "o"), tiny_config())
    assert not (tmp_path / "o").exists()


def test_training_is_imported_without_accelerate(monkeypatch):
    training = sys.modules["ura_hf.training"]
    for name in [
        name for name in sys.modules if name.startswith("ura_hf.training.")
    ]:  # as if nothing had imported them yet
        monkeypatch.setattr(training, name.rpartition(".")[2], sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert import_module("ura_hf.training.train").train is not train


def test_evaluation_asks_for_its_packages_before_it_looks_at_an_image(category, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    monkeypatch.setattr("ura_hf.evaluation.evaluate.find", lambda *given, **more: pytest.fail("looked at images"))
    with pytest.raises(UserError, match="evaluation needs the package sklearn"):
        evaluate(Pair(None, None), category)


def test_what_is_wrong_inside_a_package_is_not_hidden():
    with pytest.raises(ImportError, match="no_such_name"), needs_extra("train", "this"):
        from sklearn.metrics import no_such_name  # noqa: F401


def test_every_extra_that_is_named_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS) <= set(extras)


def test_no_command_names_the_package_on_an_index():
    """Whoever registers the name there would get what is installed."""
    sources = [*(ROOT / "ura_hf").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert not [path for path in sources if re.search(r"pip install [^\n]*ura[-_]hf", path.read_text())]
