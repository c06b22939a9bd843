"""How long waiting threads spin is settled before torch is there, unless the environment has settled it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize("start", ["from ura_hf.cli import main", "from app import main"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)],
)
def test_waiting_threads_spin_briefly(start, given, expected):
    script = f"""
import os, sys
{start}
assert "torch" not in sys.modules
sys.argv = ["program", "--help"]
try:
    main()
except SystemExit:
    pass
assert "torch" not in sys.modules and os.environ.get("GOMP_SPINCOUNT") == {expected!r}
"""
    plain = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=plain | given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
