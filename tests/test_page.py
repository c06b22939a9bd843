"""The page in a real Chromium, and its endpoint through the real client, on a real defect."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tiny_config
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from ura_hf.hub import load_detector
from ura_hf.images import load_mask
from ura_hf.training import TrainingOptions, train

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DEFECT = "contamination/003"


@pytest.fixture(scope="module")
def pill(shared_dir):
    return shared_dir / "data/mvtec/pill"


@pytest.fixture(scope="module")
def pill_checkpoint(pill, resnet18_weights, tmp_path_factory):
    """A detector trained on 60 real pills for half a minute."""
    output = tmp_path_factory.mktemp("pill") / "pill"
    config = tiny_config(image_size=128, grid_size=16, memory_cells=1024, smoothing_sigma=3.0)
    train(TrainingOptions(pill, output, resnet18_weights, steps=40, limit=60), config)
    return output


def start(port: int, *arguments: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "app.py", "--port", str(port), *map(str, arguments)], cwd=ROOT)
    for _ in range(240):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
            return process
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "app.py stopped"
            time.sleep(0.5)
    raise AssertionError("app.py did not answer within two minutes")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(pill_checkpoint):
    port = free_port()
    process = start(port, "--checkpoint", pill_checkpoint)
    yield f"http://127.0.0.1:{port}/"
    process.terminate()
    process.wait(20)


@contextmanager
def browse(address: str) -> Iterator[Page]:
    """A tab of a real Chromium on the page; fails if it asks another host or a script of it fails."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 1600})
        hosts: set[str] = set()
        tab.on("request", lambda request: hosts.add(re.sub(r"^\w+://([^/:]*).*", r"\1", request.url)))
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        yield tab
        outside = {host for host in hosts if host not in ("127.0.0.1", "localhost") and not host.startswith("data")}
        assert not {host for host in outside if "." in host}, f"the page asked other hosts: {outside}"
        assert not errors
        browser.close()


@pytest.fixture
def page(address):
    with browse(address) as tab:
        yield tab


def upload(page: Page, path: Path) -> None:
    page.locator("#image input[type=file]").set_input_files(path)


def picture(page: Page, name: str) -> np.ndarray:
    image = page.locator(f"#{name} img")
    expect(image).to_be_visible(timeout=60_000)
    source = image.get_attribute("src")
    data = page.request.get(source).body()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_real_defect_is_shown(page, pill, pill_checkpoint):
    image, mask_file = pill / f"test/{DEFECT}.png", pill / f"ground_truth/{DEFECT}_mask.png"
    expected = load_detector(pill_checkpoint)(str(image))
    assert expected["label"] == "anomalous"
    upload(page, image)
    card = page.locator("#verdict .verdict.is-anomalous")
    expect(card).to_be_visible(timeout=60_000)
    expect(card).to_contain_text("Anomalous")
    expect(card).to_contain_text(f"Score {expected['score']:.3f}, threshold 0.5")
    heatmap = picture(page, "heatmap").astype(float)
    original = np.asarray(Image.open(image).convert("RGB")).astype(float)
    assert heatmap.shape == original.shape
    glow = np.abs(heatmap - original).max(2)
    mask = load_mask(mask_file, original.shape[:2]).astype(bool)
    assert glow[mask].mean() > 5 * glow[~mask].mean() and glow[mask].mean() > 30
    shown = {name: picture(page, name) for name in ("features", "restored", "residual", "uncertainty")}
    assert shown["features"].shape == shown["restored"].shape
    assert all(pixels.std() > 1 for pixels in shown.values())
    assert shown["residual"].shape == shown["uncertainty"].shape == original.shape


def test_the_next_image_replaces_the_first(page, pill, pill_checkpoint):
    upload(page, pill / f"test/{DEFECT}.png")
    expect(page.locator("#verdict .verdict.is-anomalous")).to_be_visible(timeout=60_000)
    first = picture(page, "residual")
    page.get_by_role("button", name="Remove Image").click()
    expect(page.locator("#verdict .verdict.is-empty")).to_be_visible()
    expect(page.locator("#details")).to_be_hidden()
    good = pill / "test/good/002.png"
    upload(page, good)
    label = load_detector(pill_checkpoint)(str(good))["label"]
    kind = {"normal": "is-normal", "anomalous": "is-anomalous"}[label]
    expect(page.locator(f"#verdict .verdict.{kind}")).to_be_visible(timeout=60_000)
    assert not np.array_equal(picture(page, "residual"), first)


def test_an_unreadable_file_is_one_sentence(page, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"no image at all")
    upload(page, tmp_path / "photo.png")
    toast = page.get_by_text("not an image that can be read: photo.png")
    expect(toast).to_be_visible(timeout=60_000)
    text = page.locator("body").inner_text()
    assert "photo.png" in text and "Traceback" not in text and "/tmp" not in text


def test_sixteen_bit_images_arrive_whole(page, pill, tmp_path):
    """A 16-bit file is not clipped on its way to the model: its verdict is that of the same picture in 8 bits."""
    grey = Image.open(pill / f"test/{DEFECT}.png").convert("L")
    grey.save(tmp_path / "8.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "16.png")
    scores = []
    for name in ("8.png", "16.png"):
        page.reload()
        upload(page, tmp_path / name)
        score = page.locator("#verdict .verdict-score b").first
        expect(score).to_be_visible(timeout=60_000)
        scores.append(float(score.inner_text()))
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)


def test_the_endpoint(address, pill, pill_checkpoint):
    path = str(pill / f"test/{DEFECT}.png")
    summary, *pictures, verdict = Client(address, verbose=False).predict(handle_file(path), api_name="/detect")
    expected = load_detector(pill_checkpoint)(path)
    assert summary["label"] == expected["label"]
    assert summary["score"] == pytest.approx(expected["score"], rel=1e-5)
    assert summary["image_size"] == [320, 320]
    assert len(pictures) == 5 and all(Image.open(p["path"] if isinstance(p, dict) else p).size[0] for p in pictures)
    assert "Anomalous" in verdict


def test_the_page_of_make_demo(tmp_path):
    """No argument, no network: a click on a drawn defect shows it. The picture in the README is made here."""
    port = free_port()
    process = start(port)
    try:
        with browse(f"http://127.0.0.1:{port}/") as page:
            for example, kind in (("dent", "anomalous"), ("good", "normal"), ("crack", "anomalous")):
                page.locator("#examples").get_by_text(example, exact=True).click()
                expect(page.locator(f"#verdict .verdict.is-{kind}")).to_be_visible(timeout=60_000)
            assert picture(page, "heatmap").std() > 1 and picture(page, "uncertainty").std() > 1
            page.screenshot(path=os.environ.get("URA_HF_SCREENSHOT", tmp_path / "page.png"), full_page=True)
    finally:
        process.terminate()
        process.wait(20)


def test_a_wrong_checkpoint_is_one_sentence(tmp_path):
    result = subprocess.run(
        [sys.executable, "app.py", "--checkpoint", tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert str(tmp_path) in result.stderr and "Traceback" not in result.stderr
