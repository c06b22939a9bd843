"""Lists of checkpoints, whatever their records and cards hold."""

from __future__ import annotations

import json
import re
import shutil
import types

import pytest
import yaml

from ura_hf import UserError
from ura_hf.cli.main import build_parser, main
from ura_hf.data.records import EVALUATION
from ura_hf.hub.listing import here, on_the_hub
from ura_hf.hub.names import making_command


@pytest.fixture(autouse=True)
def hub(empty_hub):
    return empty_hub


def test_bundled_checkpoints_are_listed_with_their_figures_and_licences():
    entries = {entry.name: entry for entry in here() if entry.place == "bundled"}
    assert entries["uranet-demo-ring"].license == "apache-2.0"
    assert all(entry.image_auroc is not None and entry.license is not None for entry in entries.values())


def test_names_of_the_papers_datasets_that_are_nowhere_come_with_their_command(
    hub, evaluated, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("URA_HF_CHECKPOINTS", str(tmp_path))
    for name in ("uranet-mvtec-bottle", "uranet-oct2017"):
        shutil.copytree(evaluated, tmp_path / name)
    hub.add_repo("tester/uranet-btad-02", {})
    assert main(["list"]) == 0
    found = dict(re.findall(r"not here: (.*); made by `(.*)`", capsys.readouterr().out))
    mvtec, btad = found
    assert len(mvtec.split(", ")) == 13 and "bottle" not in mvtec and btad == "uranet-btad-01, uranet-btad-03"
    for command in (*found.values(), *(making_command("mvtec", name) for name in ("pill", "zipper"))):
        asked = build_parser().parse_args(command.split()[1:])
        assert asked.dataset in command and str(asked.root) == "DIR"


def test_the_list_of_an_unreachable_hub(hub, monkeypatch):
    monkeypatch.setattr("ura_hf.hub.listing.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="could not be reached"):
        on_the_hub()


def test_damaged_records_and_cards_break_no_list(hub, evaluated, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("URA_HF_CHECKPOINTS", str(tmp_path))
    for name, text in (("brackets", "[1]"), ("brace", "{"), ("shape", '{"image_auroc": "1"}')):
        shutil.copytree(evaluated, tmp_path / name)
        (tmp_path / name / EVALUATION).write_text(text)
    shutil.copytree(evaluated, tmp_path / "whole")
    figures = {entry.name: entry.image_auroc for entry in here() if entry.place == "local"}
    assert [figures[name] for name in ("brackets", "brace", "shape")] == [None] * 3 and figures["whole"] is not None
    result = {"task": {"type": "t"}, "dataset": {"type": "d", "name": "d"}}
    for number, value in enumerate(("high", [1], None, float("inf"), True, -1, 10**30, 10**400, "\ud7ff")):
        results = [{**result, "metrics": [{"type": "roc_auc", "name": "image_auroc", "value": value}]}]
        card = {"model-index": [{"name": "x", "results": results}]}
        hub.add_repo(f"tester/odd-{number}", {"README.md": f"---\n{yaml.safe_dump(card)}---\n".encode()})
    hub.add_repo("tester/odd-index", {"README.md": b"---\nmodel-index: 3\n---\n"})
    there = on_the_hub()
    assert len(there) == 10 and {entry.image_auroc for entry in there} == {None}
    assert main(["list"]) == 0
    assert "tester/odd-0" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [b"{}", b"[1]", b"no JSON", b'{"error": "x"}'])
def test_an_answer_that_is_no_list(monkeypatch, answer):
    class Session:
        def get(self, *_, **__):
            return types.SimpleNamespace(json=lambda: json.loads(answer), raise_for_status=lambda: None)

    monkeypatch.setattr("ura_hf.hub.listing.get_session", Session)
    monkeypatch.setattr("ura_hf.hub.listing.hf_raise_for_status", lambda _: None)
    if answer == b"{}":
        assert on_the_hub() == []
        return
    with pytest.raises(UserError, match="gave no list of models"):
        on_the_hub()


def test_without_a_namespace_nobody_is_asked(hub, monkeypatch):
    monkeypatch.delenv("URA_HF_NAMESPACE")
    with pytest.raises(UserError, match="set URA_HF_NAMESPACE"):
        on_the_hub()
    assert not hub.requests
