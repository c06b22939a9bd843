"""The tab Calibrate in a real Chromium, wide and narrow, and its endpoint through the real client."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, HEIGHT, PHONE, WAIT, launched, screenshot
from conftest import draw_part
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import expect

from ura_hf.demo.histogram import BINS, histogram_html
from ura_hf.demo.store import Detectors
from ura_hf.hub.load import load_detector


@pytest.fixture(scope="module")
def demo(checkpoint):
    """A page for strangers, on which what a visitor makes is theirs alone."""
    store = Detectors(public=True)
    with launched(store, store.add(checkpoint, "disc")) as blocks:
        yield blocks


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> tuple[list[Path], list[Path]]:
    """Twelve good discs under less light, and four with a spot."""
    folder = tmp_path_factory.mktemp("photos")
    kinds = {"good": range(500, 512), "bad": range(600, 604)}
    for kind, seeds in kinds.items():
        for seed in seeds:
            picture = (0.8 * draw_part(seed, kind == "bad")[0]).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{kind}-{seed}.png")
    good, bad = (sorted(folder.glob(f"{kind}-*.png")) for kind in kinds)
    return good, bad


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_threshold_is_moved_and_saved(browse, demo, photos, checkpoint, tmp_path):
    before = contents(checkpoint)
    with browse(demo.local_url) as page:
        page.get_by_role("tab", name="Calibrate", exact=True).click()
        screenshot(page, "calibrate-empty")
        for box, files in zip(("good", "bad"), photos, strict=True):
            page.locator(f"#calibrate-{box} input[type=file]").set_input_files(files)
            expect(page.locator(f"#calibrate-{box}")).to_contain_text(files[0].stem[:5], timeout=WAIT)
        page.locator("#calibrate-start").click()
        status, words = page.locator("#calibrate-status"), page.locator("#calibrate-words")
        expect(status).to_contain_text("Measured with disc on 12 good and 4 defective photos", timeout=WAIT)
        expect(words).to_contain_text("5.0 % of good parts")
        line = page.locator("#calibrate-histogram b.is-threshold")
        first = line.bounding_box()["x"]
        number = page.locator("#calibrate-threshold input[type=number]")
        number.fill("0.1")
        expect(words).to_contain_text("Above 0.100")
        expect(words).to_contain_text("50 % of good parts or more")
        expect(words).to_contain_text("It calls 12 of these 12 good photos anomalous")
        assert line.bounding_box()["x"] < first
        for width in (PHONE, DESKTOP):
            page.set_viewport_size({"width": width, "height": HEIGHT})
            screenshot(page, f"calibrate-{width}")
            assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        number.fill("0.6")
        expect(words).to_contain_text("Above 0.600")
        page.locator("#calibrate-name input, #calibrate-name textarea").fill("disc, dim light")
        page.locator("#calibrate-save").click()
        expect(page.locator("#calibrate-saved")).to_contain_text("disc-dim-light is ready", timeout=WAIT)
        expect(page.locator("#calibrate-saved")).to_contain_text("Only you can use it here, for 60 minutes")
        expect(page.locator("#checkpoint input")).to_have_value("disc-dim-light", timeout=WAIT)
        with page.expect_download() as waiting:
            page.locator("#calibrate-download").click()
        waiting.value.save_as(tmp_path / "new.zip")
        screenshot(page, "calibrate-saved")
        assert tempfile.gettempdir() not in page.locator("body").inner_text()
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        archive.extractall(tmp_path)
    new, old = load_detector(tmp_path / "disc-dim-light"), load_detector(checkpoint)
    assert new.model.config.image_threshold == pytest.approx(old.model.config.image_threshold * 0.6 / 0.4)
    assert contents(checkpoint) == before
    other = {row["name"] for row in Client(demo.local_url, verbose=False).predict(api_name="/checkpoints")}
    assert "disc-dim-light" not in other


def test_the_endpoint_calibrate(demo, photos, checkpoint, tmp_path):
    client = Client(demo.local_url, verbose=False)
    good, bad = ([handle_file(str(path)) for path in kind] for kind in photos)
    report, archive = client.predict(good, bad, "disc", api_name="/calibrate")
    assert archive is None and report["name"] is None and report["good"] == 12 and report["bad"] == 4
    assert report["asked"] == 0.05 and report["low"] < 0.05 < report["high"]
    zipped = tmp_path / "good.zip"
    with zipfile.ZipFile(zipped, "w") as packed:
        for path in photos[0]:
            packed.write(path, path.name)
    chosen, archive = client.predict([handle_file(str(zipped))], None, "disc", 0.7, "new", api_name="/calibrate")
    assert chosen["name"] == "new" and chosen["threshold"] == pytest.approx(0.7) and "misses" not in chosen
    assert zipfile.is_zipfile(archive) and tempfile.gettempdir() not in json.dumps(chosen)
    found, *_ = client.predict(good[:1], "new", api_name="/batch")
    expected = load_detector(checkpoint)(str(photos[0][0]))["image_score"]
    assert found["rows"][0]["image_score"] == pytest.approx(expected, rel=1e-4)


def test_every_page_is_a_photo(demo, photos, tmp_path):
    for kind, paths in zip(("good", "bad"), photos, strict=True):
        first, *others = map(Image.open, paths)
        first.save(tmp_path / f"{kind}.tif", save_all=True, append_images=others)
    files = ([handle_file(str(tmp_path / f"{kind}.tif"))] for kind in ("good", "bad"))
    report, _ = Client(demo.local_url, verbose=False).predict(*files, "disc", api_name="/calibrate")
    assert report["good"] == 12 and report["bad"] == 4
    assert {one["file"].partition("#")[0] for one in report["most_unusual"]} == {"good.tif"}


def test_photos_that_can_not_be_used_are_one_sentence(demo, photos, tmp_path):
    client, good = Client(demo.local_url, verbose=False), [handle_file(str(path)) for path in photos[0]]
    copies = [tmp_path / f"{quality}.jpg" for quality in range(88, 95)]
    for path in copies:
        Image.fromarray(np.kron(draw_part(500)[0], np.ones((8, 8, 1), np.uint8))).save(path, quality=int(path.stem))
    (tmp_path / "text.png").write_bytes(b"text")
    known = {row["name"] for row in client.predict(api_name="/checkpoints")}
    for files, checkpoint, words in (
        ([], "disc", "There are no good photos yet: drop 5 or more"),
        (good[:4], "disc", "at least 5 photos of good parts are needed, better 20 or more, but got 4"),
        ([handle_file(str(path)) for path in copies], "disc", "but only 1 of the 7 differ"),
        ([*good, handle_file(str(tmp_path / "text.png"))], "disc", "1 of 13 photos can't be read.*text.png"),
        (good, "", "nothing is not the name of a checkpoint"),
    ):
        with pytest.raises(AppError, match=words):
            client.predict(files, None, checkpoint, None, "never", api_name="/calibrate")
    assert {row["name"] for row in client.predict(api_name="/checkpoints")} == known


def test_the_histogram_counts_every_score():
    """Stacked, on the fixed scale; no line for a review that begins at the threshold."""
    html = histogram_html([0.01, 0.012, 0.5], [0.5, 0.99], 0.61, 0.55)
    assert html.count("<div>") == BINS and html.count('class="is-good"') == 2 and html.count('class="is-bad"') == 2
    assert 'is-good" style="height:100.0%"' in html and 'is-bad" style="height:50.0%"' in html
    assert 'b class="is-threshold" style="left:61.00%"' in html and 'b class="is-review" style="left:55.00%"' in html
    assert "3 good photos and 2 defective ones" in html
    assert "is-review" not in histogram_html([0.2], [], 0.5, 0.5)
