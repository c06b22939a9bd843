"""Packages of an extra that are not installed: the command that installs them is named, whatever needs them."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

from ura_hf import UserError
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


def test_training_without_accelerate(category, tmp_path):
    """In a process of its own, as the package's modules are imported once."""
    program = "import sys; sys.modules['accelerate'] = None; from ura_hf.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "train", "--data", category, "--output", tmp_path / "o"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not (tmp_path / "o").exists()
    assert (
        'uranet: training needs the package accelerate, which is not installed: pip install "ura-hf[train]"'
        in done.stderr
    )


def test_what_is_wrong_inside_a_package_is_not_hidden():
    with pytest.raises(ImportError, match="no_such_name"), needs_extra("train", "this"):
        from sklearn.metrics import no_such_name  # noqa: F401


def test_every_extra_that_is_named_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"train", "demo", "datasets", "export", "benchmarks"} <= set(extras)
