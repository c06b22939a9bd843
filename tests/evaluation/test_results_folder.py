"""The folder of Parquet files that many machines write: every image once, whoever is ended and whatever is repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ura_hf.evaluation.results_file import HEADER
from ura_hf.evaluation.results_folder import ResultsFolder
from ura_hf.model.errors import UserError

parquet = pytest.importorskip("pyarrow.parquet")
SETTINGS = {"checkpoint": "abc", "--threshold": None}
GOOD = {"label": "normal", "score": 0.25, "rank": 2.0, "image_score": 0.1, "anomalous_fraction": 0.0, "boxes": []}


def results(*names: str, problem: str = "") -> list[dict[str, Any]]:
    return [{"image": name, **({"problem": problem} if problem else GOOD)} for name in names]


@pytest.fixture
def folder(tmp_path) -> ResultsFolder:
    made = ResultsFolder(str(tmp_path / "out"))
    assert made.begin(SETTINGS, ["a", "b"]) == set()
    return made


def files(folder: ResultsFolder) -> list[Path]:
    return sorted(Path(folder.address).iterdir())


def test_a_part_has_the_columns_of_the_csv(folder):
    folder.write(["a", "b"], results("a") + results("b", problem="b is empty"))
    settings, part, unread = files(folder)
    assert settings.name == "_run.json" and part.name.startswith("part-") and unread.name.startswith("unread-")
    (row,), (other,) = (parquet.read_table(path).to_pylist() for path in (part, unread))
    assert list(row) == list(HEADER) and row == {name: GOOD.get(name) for name in HEADER} | {"image": "a"}
    assert other == dict.fromkeys(HEADER) | {"image": "b", "problem": "b is empty"}
    assert parquet.read_table(folder.address).num_rows == 2  # who reads the folder overlooks what is not a result
    assert dict(folder.counts()) == {"normal": 1, "not checked": 1}


def test_a_part_that_is_done_again_replaces_its_files(folder):
    folder.write(["a", "b"], results("a") + results("b", problem="no answer"))
    folder.write(["a", "b"], results("a", "b"))
    assert dict(folder.counts()) == {"normal": 2} and len(files(folder)) == 2
    folder.write(["a"], results("a", problem="gone"))
    assert len(files(folder)) == 3


def test_a_second_run_knows_what_is_done(folder):
    folder.write(["a", "b"], results("a") + results("b", problem="no answer"))
    torn = Path(folder.address, f"_partial-{'01' * 16}")
    torn.write_bytes(b"PAR1")
    assert folder.begin(SETTINGS, ["a", "b"]) == {"a"} and not torn.exists()
    assert dict(folder.counts()) == {"normal": 1}


def test_unread_images_that_are_not_called_stay(folder):
    folder.write(["a", "b", "c"], results("a") + results("b", "c", problem="no answer"))
    folder.write(["d"], results("d", problem="no answer"))
    assert folder.begin(SETTINGS, ["c", "d"]) == {"a"}
    assert folder.unread("abcd") == [Path("b")] and dict(folder.counts()) == {"normal": 1, "not checked": 1}
    assert folder.begin(SETTINGS, ["b"]) == {"a"} and len(files(folder)) == 2


@pytest.mark.parametrize("begun", [False, True])
def test_files_of_others_stay(tmp_path, begun):
    folder, mine = ResultsFolder(str(tmp_path)), ["unread.txt", "unread-mail.txt", "_partial-list.csv"]
    if begun:
        folder.begin(SETTINGS, ["a", "b"])
        mine += ["unread-1.parquet", "part-1.parquet"]
    else:
        mine += [f"_partial-{'01' * 16}"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    assert folder.begin(SETTINGS, ["a", "b"]) == set() and not folder.counts()
    assert {path.name for path in files(folder)} == {*mine, "_run.json"}


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_folders_in_one_another_are_runs_of_their_own(tmp_path, place):
    root = str(tmp_path) if place == "disk" else "memory://runs"
    inner, outer = ResultsFolder(f"{root}/res/day1"), ResultsFolder(f"{root}/res")
    assert inner.begin(SETTINGS, ["a", "b"]) == set()
    inner.write(["a", "b"], results("a") + results("b", problem="no answer"))
    other = SETTINGS | {"--threshold": 0.6}
    assert outer.begin(other, ["c"]) == set()
    outer.write(["c"], results("c"))
    assert outer.begin(other, ["c"]) == {"c"} and dict(outer.counts()) == {"normal": 1}
    assert dict(inner.counts()) == {"normal": 1, "not checked": 1} and inner.begin(SETTINGS, ["a", "b"]) == {"a"}


def test_names_that_are_no_text(folder):
    folder.write(["\udcff.png"], results("\udcff.png"))
    assert folder.begin(SETTINGS, ["\udcff.png"]) == {"\\udcff.png"}


def test_other_settings_and_other_files_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match="begun with another --threshold: give another --output, or the same"):
        folder.begin(SETTINGS | {"--threshold": 0.6}, [])
    assert json.loads((tmp_path / "out/_run.json").read_text()) == SETTINGS
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not of an earlier run: give another --output"):
        ResultsFolder(str(tmp_path / "mine")).begin(SETTINGS, ["a", "b"])
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be used"):
        ResultsFolder(str(tmp_path / "file/out")).begin(SETTINGS, ["a", "b"])


def test_a_failed_write_leaves_nothing_of_the_name(folder, monkeypatch):
    monkeypatch.setattr(
        "fsspec.implementations.local.LocalFileSystem.mv", lambda *_: (_ for _ in ()).throw(OSError("full"))
    )
    with pytest.raises(UserError, match="OSError: full"):
        folder.write(["a"], results("a"))
    assert not [path for path in files(folder) if path.suffix == ".parquet"]
