"""Files that are hardly images: a clear sentence or a right answer each, never a path of the server; nothing is left behind."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import urllib.request
import uuid
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from gradio.components import Component
from gradio.route_utils import delete_files_created_by_app
from gradio_client import Client, handle_file
from PIL import Image

from ura_hf.data.drawn.parts import demo_image
from ura_hf.demo.analysis import SharedSet
from ura_hf.demo.page import build_demo
from ura_hf.demo.store import Detectors
from ura_hf.hub.load import load_detector

RING = "uranet-demo-ring"


@pytest.fixture(scope="module")
def address(demo_address):
    return demo_address


@pytest.fixture(scope="module")
def temporary(server_folder):
    return server_folder


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


@pytest.fixture(scope="module")
def ring():
    return Image.fromarray(demo_image("ring", 50_001, "scratch")[0])


def check(client: Client, path: Path) -> dict:
    return client.predict(handle_file(str(path)), api_name="/detect")


def png_bytes(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def bad(kind: str, ring: Image.Image) -> bytes:
    if kind == "text":
        return b"This is no picture.\n" * 40
    if kind == "empty":
        return b""
    if kind == "truncated":
        stream = io.BytesIO()
        ring.save(stream, "JPEG", quality=95)
        return stream.getvalue()[:3000]
    if kind == "svg":
        return b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    side = (20_000, 18_000) if kind == "huge" else (6000, 5000)
    return png_bytes(Image.new("1", side))


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("text", "text.png", "not an image that can be read: text.png"),
        ("empty", "empty.png", "empty"),
        ("truncated", "cut.jpg", "truncated or damaged: cut.jpg"),
        ("svg", "drawing.svg", "not an image that can be read: drawing.svg"),
        ("huge", "huge.png", "too large: huge.png"),
        ("large", "large.png", "6000x5000 pixels, but at most 25 megapixels"),
    ],
)
def test_a_clear_sentence(client, ring, tmp_path, temporary, kind, name, said):
    (tmp_path / name).write_bytes(bad(kind, ring))
    with pytest.raises(Exception, match="image") as caught:
        check(client, tmp_path / name)
    message = str(caught.value)
    assert said in message and str(temporary) not in message and "Traceback" not in message and "/tmp" not in message


def test_sixteen_bits_animation_and_one_pixel(client, ring, tmp_path):
    """A 16-bit TIFF answers as the same picture in 8 bits; an animated GIF is refused; one pixel gets an answer."""
    grey = ring.convert("L")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "deep.tif")
    grey.save(tmp_path / "grey.png")
    assert check(client, tmp_path / "deep.tif")["score"] == pytest.approx(check(client, tmp_path / "grey.png")["score"])
    frames = [ring.convert("P"), Image.new("P", ring.size)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(Exception, match=r"moving\.gif holds 2 images: check them in the Batch tab"):
        check(client, tmp_path / "moving.gif")
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    dot = check(client, tmp_path / "dot.png")
    assert dot["image_size"] == [1, 1] and 0 < dot["score"] < 1


def test_the_answer_is_that_of_the_pipeline(client, ring, tmp_path):
    ring.save(tmp_path / "ring.png")
    expected = load_detector(RING)(str(tmp_path / "ring.png"))
    assert check(client, tmp_path / "ring.png")["score"] == pytest.approx(expected["score"], rel=1e-4)


def test_a_path_in_a_file_name_stays_inside(address, client, ring, temporary):
    """An upload named like a path of the server is stored under its last part alone."""
    boundary = uuid.uuid4().hex
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="../../../evil.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode() + png_bytes(ring)
    request = urllib.request.Request(
        f"{address}gradio_api/upload",
        body + f"\r\n--{boundary}--\r\n".encode(),
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    urllib.request.urlopen(request, timeout=60).close()
    stored = list(temporary.rglob("*evil*"))
    assert stored and all("uranet-page-" in str(path.parent) for path in stored)
    assert not list(temporary.parent.glob("evil*"))


@pytest.mark.parametrize("uploaded", [True, False])
def test_a_file_of_the_server_is_not_read(client, address, ring, tmp_path, uploaded):
    """The client would upload it, so the request is made by hand; a good photo, so that nothing else is wrong with it."""
    ring.save(tmp_path / "ring.png")
    path = upload(address, tmp_path / "ring.png") if uploaded else str(tmp_path / "ring.png")
    found = call(address, "detect", file_data(path), RING, 0.5, None, None)
    assert ("anomalous" in found) == uploaded and ("event: error" in found) != uploaded


@pytest.mark.parametrize(
    ("endpoint", "name", "arguments"),
    [
        ("detect", "photo.png", lambda file: (file, RING, 0.5, None, None)),
        ("batch", "photo.png", lambda file: ([file], RING)),
        ("batch", "photos.zip", lambda file: ([file], RING)),
        ("teach", "photo.png", lambda file: ([file], "part", [])),
        ("look", "photos.zip", lambda file: ([file],)),
        ("evaluate", "photos.zip", lambda file: ("Your own, as a zip", file, RING, None)),
    ],
)
def test_an_upload_that_has_been_deleted_is_one_sentence(address, tmp_path, endpoint, name, arguments):
    """As Gradio does with what is an hour old, while the page goes on to show it."""
    (tmp_path / name).write_bytes(b"old")
    path = Path(upload(address, tmp_path / name))
    path.unlink()
    found = call(address, endpoint, *arguments(file_data(path)))
    assert f"{name} was uploaded too long ago and has been deleted from the server: upload it again." in found


def file_data(path: str | Path) -> dict[str, object]:
    """What the page sends for a file that lies on the server."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def call(address: str, endpoint: str, *data: object) -> str:
    """All that the server answers to a request."""
    request = urllib.request.Request(
        f"{address}gradio_api/call/{endpoint}",
        json.dumps({"data": data}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{address}gradio_api/call/{endpoint}/{event}", timeout=60) as answer:
        return answer.read().decode()


def upload(address: str, path: Path) -> str:
    """Where the server keeps an uploaded file."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
    request = urllib.request.Request(
        f"{address}gradio_api/upload",
        head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode(),
        {"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.load(answer)[0])


@pytest.mark.parametrize("threshold", [0, 1, 7])
def test_a_threshold_off_the_scale(client, ring, tmp_path, threshold):
    ring.save(tmp_path / "ring.png")
    with pytest.raises(Exception, match=r"minimum value 0\.05|maximum value 0\.95"):
        client.predict(handle_file(str(tmp_path / "ring.png")), threshold=threshold, api_name="/detect")


def test_a_checkpoint_that_is_a_path(client, ring, tmp_path, temporary):
    ring.save(tmp_path / "ring.png")
    for name in (str(Path.cwd()), "/etc/no-such-file", "../x", "a" * 300):
        with pytest.raises(Exception, match="not the name of a checkpoint") as caught:
            client.predict(handle_file(str(tmp_path / "ring.png")), name, api_name="/detect")
        assert str(Path.cwd()) not in str(caught.value)


def test_a_job_leaves_nothing_when_the_page_stops_amid_it(tmp_path):
    code = """
import sys, time
from ura_hf.demo.jobs import Job

def work(progress, folder):
    (folder / "photo.jpg").write_bytes(b"secret")
    time.sleep(60)

with Job(work) as job:
    while not list(job.folder.iterdir()):
        time.sleep(0.01)
    sys.exit(str(job.folder))
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert str(tmp_path) in done.stderr and not list(tmp_path.iterdir())


def test_old_files_are_removed_while_others_come(tmp_path):
    """By Gradio's own sweep, on every set of files that the page has."""
    demo = build_demo(Detectors())
    assert len(demo.temp_file_sets) > 5 and all(isinstance(files, SharedSet) for files in demo.temp_file_sets)
    known = {id(files) for files in demo.temp_file_sets}
    components = [block for block in demo.blocks.values() if isinstance(block, Component)]
    assert {id(component.temp_files) for component in components} <= known
    assert id(demo.upload_file_set) in known
    files = demo.upload_file_set
    for index in range(3000):
        (tmp_path / str(index)).touch()
        files.add(str(tmp_path / str(index)))
    done = threading.Event()

    def come() -> None:
        while not done.wait(0.0005):
            files.add(str(tmp_path / f"new-{len(files)}"))

    adding = threading.Thread(target=come)
    adding.start()
    try:
        delete_files_created_by_app(demo, -1)
    finally:
        done.set()
        adding.join()
    assert not list(tmp_path.iterdir())
