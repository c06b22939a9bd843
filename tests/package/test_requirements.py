"""requirements.txt, from which a Space is built: the core, what trains, what the page needs and the example photos."""

from __future__ import annotations

import tomllib

from conftest import ROOT


def test_requirements_are_those_of_the_core_of_training_of_the_page_and_of_the_examples():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["train"], *extras["demo"], *extras["examples"]]
    own = [line for line in wanted if line.startswith("ura-hf[")]
    assert own == ["ura-hf[train]"]  # of [demo], and listed itself
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert sorted(line for line in lines if line) == sorted(set(wanted) - set(own))
