"""`uranet predict --engine ray`: a cluster of two nodes on this machine, and an S3 server on loopback."""

from __future__ import annotations

import csv
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ura_hf.cli.main import main
from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.many_images import Images, find_images
from ura_hf.deploy import archive
from ura_hf.evaluation.results_file import HEADER

parquet = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")
psutil = pytest.importorskip("psutil")

RING = "uranet-demo-ring"
BUCKET = "s3://archive"
COUNT = 30
HELD = "7.png"  # a photo that no worker gets before one of them was ended
PATIENCE = 300  # seconds that a machine with other work may take until a first part is there


class Gate:
    """A WSGI application that gives what lies at a path only once `opened` is set."""

    def __init__(self, application: Any, path: str) -> None:
        self.application, self.path, self.opened = application, path, threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"] == self.path:
            self.opened.wait(PATIENCE)
        return self.application(environ, start_response)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """An S3 server on loopback, as werkzeug has it; one photo waits there for its gate."""
    moto = pytest.importorskip("moto.moto_server.werkzeug_app", reason="needs moto[server], of the extra dev")
    serving = pytest.importorskip("werkzeug.serving")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    application = Gate(moto.DomainDispatcherApplication(moto.create_backend_app), f"/archive/photos/{HELD}")
    server = serving.make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


@pytest.fixture(scope="module")
def store(server) -> Iterator[Any]:
    """The server's empty bucket, as fsspec has it; every process that starts later finds it in its environment."""
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs, of the extra dev")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in archive.LOOPBACK.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        files = s3fs.S3FileSystem()
        files.mkdir("archive")
        yield files


@pytest.fixture(scope="module")
def rings(tmp_path_factory) -> Path:
    """Rings, every fifth one scratched, and a file that is no image."""
    folder = tmp_path_factory.mktemp("rings")
    for index in range(COUNT):
        Image.fromarray(demo_image("ring", 40 + index, None if index % 5 else "scratch")[0]).save(
            folder / f"{index}.png"
        )
    (folder / "torn.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def cluster(store) -> Iterator[Any]:
    """Two nodes with a core each."""
    utils = pytest.importorskip("ray.cluster_utils", reason="needs Ray: pip install '.[ray]'")
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}
    made = utils.Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        made.add_node(**node)
        yield made
    finally:
        made.shutdown()


def rows_of(folder: str) -> list[dict[str, Any]]:
    import fsspec

    files, path = fsspec.core.url_to_fs(folder)
    files.invalidate_cache()
    return [
        row
        for one in sorted(files.find(path))
        if one.endswith(".parquet")
        for row in parquet.read_table(files.open(one)).to_pylist()
    ]


def predict(*words: object) -> int:
    return main(["predict", RING, *map(str, words)])


def end_a_worker(cluster: Any, files: Any, folder: str, gate: Gate, told: dict[str, Any]) -> None:
    """SIGKILL a process with a model as soon as a part of the results is there, then open the gate."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()]
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        files.invalidate_cache()
        parts = [one for one in files.find(folder) if "/part-" in one]
        workers = workers_below(raylets) if parts else []
        if workers:
            files.pipe_file(f"{folder}/_partial-{'0' * 32}", b"as of a worker that was ended while it wrote")
            os.kill(workers[0], signal.SIGKILL)
            told.update(parts=len(parts), workers=len(workers))
            break
        time.sleep(0.1)
    gate.opened.set()


def workers_below(raylets: list[int]) -> list[int]:
    """The processes with a model; Ray begins and ends others all the time, and one that has ended has no name any more."""
    found = []
    for child in [child for raylet in raylets for child in psutil.Process(raylet).children(recursive=True)]:
        with suppress(psutil.Error):
            found += [child.pid] if "MapWorker" in " ".join(child.cmdline()) else []
    return found


@pytest.fixture(scope="module")
def ended(cluster, server, store, rings) -> tuple[list[Any], int, dict[str, Any]]:
    """A run in which a worker is ended: its command, the exit code, and what was there when the worker was ended."""
    store.put(f"{rings}/", "archive/photos/", recursive=True)
    told: dict[str, Any] = {}
    passed = (cluster, store, "archive/out", server.app, told)
    watcher = threading.Thread(target=end_a_worker, args=passed, daemon=True)
    watcher.start()
    words = ["--engine", "ray", "--output", f"{BUCKET}/out", "--batch-size", 2, "--address", cluster.address]
    code = predict(f"{BUCKET}/photos", *words)
    return words, code, told


def test_a_worker_is_ended_and_every_image_is_there_once(ended, store, rings):
    _, code, told = ended
    assert code == 2  # one file is no image
    rows = {row["image"]: row for row in rows_of(f"{BUCKET}/out")}
    assert told["workers"] and told["parts"] < len(parts_of(store))
    assert sorted(rows) == sorted(f"{BUCKET}/photos/{path.name}" for path in rings.iterdir())
    assert len(rows_of(f"{BUCKET}/out")) == len(rows) and list(next(iter(rows.values()))) == list(HEADER)
    assert not [one for one in store.find("archive/out") if "_partial" in one]
    torn = rows[f"{BUCKET}/photos/torn.png"]
    assert torn["label"] is None and f"not an image that can be read: {BUCKET}/photos/torn.png" in torn["problem"]


def parts_of(store: Any) -> dict[str, Any]:
    """The files with verdicts, and when they were written."""
    store.invalidate_cache()
    return {one: store.info(one)["LastModified"] for one in store.find("archive/out") if "/part-" in one}


def test_scores_are_those_of_one_process(ended, rings, tmp_path):
    assert predict(rings, "--csv", tmp_path / "t.csv", "--batch-size", 3) == 2  # with other images in the batch
    rows = {row["image"]: row for row in rows_of(f"{BUCKET}/out")}
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            other = rows[f"{BUCKET}/photos/{Path(row['image']).name}"]
            assert (row["label"] or None) == other["label"]
            for name in ("score", "rank", "image_score", "anomalous_fraction") if row["label"] else ():
                assert other[name] == pytest.approx(float(row[name]), rel=1e-4, abs=1e-6)


def make_tables(store: Any, rings: Path, folder: Path) -> tuple[list[str], list[Images]]:
    """A CSV of paths, Parquet with paths, Parquet with images as `datasets` writes them, in three row groups; what they name."""
    store.put(str(rings / "4.png"), "archive/more/4.png")
    store.put(str(rings / "4.png"), "archive/held/4.png")
    (folder / "m.csv").write_text(f"image,label\n{rings / '5.png'},good\nmissing.png,good\n")
    with store.open("archive/more/p.parquet", "wb") as file:
        parquet.write_table(pa.table({"path": [f"{BUCKET}/more/4.png", "4.png"]}), file)
    cells = [{"bytes": (rings / f"{index}.png").read_bytes(), "path": f"{index}.png"} for index in range(4)]
    cells += [{"bytes": None, "path": "4.png"}, {"bytes": None, "path": None}]
    table = f"{BUCKET}/held/train.parquet"
    with store.open(table, "wb") as file:
        parquet.write_table(pa.table({"label": [0] * 6, "image": cells}), file, row_group_size=2)
    files = Images([str(rings / "5.png"), str(folder / "missing.png"), f"{BUCKET}/more/4.png"])
    held = [Images([f"{table}#{row}" for row in rows], table) for rows in ((1, 2), (3, 4), (5, 6))]
    return [str(folder / "m.csv"), f"{BUCKET}/more/p.parquet", f"{BUCKET}/held/*.parquet"], [files, *held]


def test_a_second_run_does_what_is_missing_and_tables_too(ended, store, rings, tmp_path, capsys):
    before, (inputs, named) = parts_of(store), make_tables(store, rings, tmp_path)
    assert find_images(inputs) == (named, {})
    store.put(str(rings / "1.png"), "archive/photos/torn.png")  # mended
    store.put(str(rings / "0.png"), "archive/photos/new.png")
    assert predict(f"{BUCKET}/photos", *inputs, *ended[0]) == 2
    said = capsys.readouterr()
    assert f"has {COUNT} of {COUNT + 11} images, going on" in said.err
    assert f"2 of {COUNT + 11} images have no verdict, see unread-*.parquet" in said.err
    assert f"used      {COUNT + 9}  images\nleft out   2  images without a verdict" in said.err
    added = parts_of(store)
    assert all(added.pop(one) == when for one, when in before.items())
    new = {row["image"]: row for one in added for row in parquet.read_table(store.open(one)).to_pylist()}
    rows = rows_of(f"{BUCKET}/out")
    new |= {row["image"]: row for row in rows if row["problem"]}
    (files, *_), held = (group.names for group in named), [name for group in named[1:] for name in group.names]
    assert set(new) == {f"{BUCKET}/photos/torn.png", f"{BUCKET}/photos/new.png", *files, *held}
    assert [new[name]["label"] for name in held] == ["anomalous", *["normal"] * 4, None]
    assert [new[name]["label"] for name in files] == ["anomalous", None, "normal"]
    assert "holds no image" in new[held[5]]["problem"] and "file not found" in new[files[1]]["problem"]
    assert max(Counter(row["image"] for row in rows).values()) == 1 and len(rows) == COUNT + 11
    assert predict(f"{BUCKET}/photos", *ended[0], "--threshold", 0.6) == 2
    assert "was begun with another --threshold: give another --output" in capsys.readouterr().err
