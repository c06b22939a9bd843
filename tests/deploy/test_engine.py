"""What `--engine ray` refuses, and how it shares out a cluster, without one."""

from __future__ import annotations

import json
import socket
import sys
from types import SimpleNamespace

import pytest

from ura_hf.cli.main import main
from ura_hf.deploy import archive
from ura_hf.deploy.archive import Workers, connected, plan_workers
from ura_hf.hub.load import load_detector
from ura_hf.model.errors import UserError

RING = "uranet-demo-ring"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.png", "--engine", "ray"], "name a folder or an address for them with --output"),
        (["a.png", "--engine", "ray", "--output", "o", "--masks"], "leave --masks out"),
        (["a.png", "--engine", "ray", "--output", "o", "--csv", "t.csv"], "leave --csv out"),
        (["a.png", "--engine", "ray", "--output", "o", "--frames", "first"], "leave --frames out"),
        (["a.png", "--engine", "ray", "--output", "o", "--device", "cuda:1"], "--device must be cpu or cuda"),
        (["a.png", "--engine", "ray", "--output", "o", "--workers", "0"], "must be at least 1"),
        (
            ["a.png", "--engine", "ray", "--output", "o", "--batch-size", "0"],
            "--batch-size must be at least 1, but got 0",
        ),
        (["a.png", "--batch-size", "-1"], "--batch-size must be at least 1, but got -1"),
        (["a.png", "--address", "auto"], "--address is of --engine ray: add that"),
        (["a.png", "--worker-cores", "2"], "--worker-cores is of --engine ray: add that"),
        (["s3://a/b.png"], "s3://a/b.png is not on this machine's disk: add --engine ray"),
        (["a.png", "--output", "s3://a/b"], "s3://a/b is not on this machine's disk: add --engine ray"),
        (["nowhere", "--engine", "ray", "--output", "o"], "nowhere does not exist"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", RING, *words]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_strict_refuses_what_is_left_out(tmp_path, capsys):
    for name in ("a.png", "notes.txt"):
        (tmp_path / name).touch()
    words = ["predict", RING, str(tmp_path), "--engine", "ray", "--output", str(tmp_path / "o"), "--strict"]
    assert main(words) == 2
    assert "--strict, but files are left out: 1 files that are no images by name" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_ray_is_asked_for_only_with_its_engine(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "a.png").touch()
    assert main(["predict", RING, str(tmp_path), "--engine", "ray", "--output", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err
    assert "--engine ray needs the package ray, which is not installed: run pip install '.[ray]' in a clone" in said
    assert main(["predict", RING, str(tmp_path), "--csv", str(tmp_path / "t.csv")]) == 2
    assert "package ray" not in capsys.readouterr().err


def cluster_of(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, float]) -> None:
    told = [{"Alive": True, "Resources": node} for node in nodes] + [{"Alive": False, "Resources": {"CPU": 64.0}}]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: told))


def test_a_worker_has_a_core_or_a_gpu(monkeypatch):
    cluster_of(monkeypatch, {"CPU": 3.0}, {"CPU": 4.0}, {})
    assert plan_workers() == Workers(7, 1, 0)
    assert plan_workers(cores=2) == Workers(3, 2, 0)
    assert plan_workers(count=50) == Workers(50, 1, 0)
    with pytest.raises(UserError, match=r"needs 5 core\(s\) of one machine, but none of the cluster's 3 has that"):
        plan_workers(cores=5)
    with pytest.raises(UserError, match="and a GPU of one machine"):
        plan_workers(device="cuda")
    cluster_of(monkeypatch, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0})
    assert plan_workers() == Workers(2, 4, 1)
    assert plan_workers(cores=12) == Workers(1, 12, 1)
    assert plan_workers(device="cpu") == Workers(24, 1, 0)


def test_a_worker_says_why_it_cannot_write(tmp_path):
    """It gives the reason back: Ray would wrap an error in its own words."""
    (tmp_path / "file").touch()
    worker = archive.Worker.__new__(archive.Worker)
    worker._task, worker._detector = archive.Task(str(tmp_path / "file")), load_detector(RING, device="cpu")
    part = json.dumps({"names": [str(tmp_path / "absent.png")], "table": ""})
    found = worker({"part": [part]})
    assert found["images"] == found["unread"] == [1]
    assert f"{tmp_path}/file can't be used (NotADirectoryError" in found["problem"][0]


def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch):
    for name, value in archive.LOOPBACK.items():  # which Ray reads when it is imported, and other tests import it, too
        monkeypatch.setenv(name, value)
    pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(UserError, match=rf"can't be used at {address} \(.*refused\): check --address"),
            connected(address),
        ):
            pass
