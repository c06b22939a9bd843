"""Packages of an extra that are not installed: the command that installs them is named, whatever needs them."""

from __future__ import annotations

import sys
import tomllib

import pytest
from conftest import ROOT

from ura_hf import UserError
from ura_hf.cli.main import main
from ura_hf.data.extras import needs_extra
from ura_hf.evaluation.metrics import AnomalyMetrics
from ura_hf.export import export
from ura_hf.hub.card import draw_figure, make_card
from ura_hf.hub.names import ASSETS


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
    with pytest.raises(UserError, match=rf'needs the package {package}, .*: pip install "ura-hf\[{extra}\]"'):
        use(tmp_path)


def test_training_without_accelerate(category, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    for name in ("processes", "default_backbone"):  # as if nothing had imported them yet
        monkeypatch.delitem(sys.modules, f"ura_hf.training.{name}", raising=False)
    assert main(["train", "--data", str(category), "--output", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert 'uranet: training needs the package accelerate, which is not installed: pip install "ura-hf[train]"' in said
    assert not (tmp_path / "o").exists()


def test_what_is_wrong_inside_a_package_is_not_hidden():
    with pytest.raises(ImportError, match="no_such_name"), needs_extra("train", "this"):
        from sklearn.metrics import no_such_name  # noqa: F401


def test_every_extra_that_is_named_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"train", "demo", "datasets", "export", "benchmarks"} <= set(extras)
