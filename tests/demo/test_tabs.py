"""The tabs Batch, Teach and Compare in a real Chromium, wide and narrow, and their endpoints through the real client."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, PHONE, browse, screenshot
from conftest import draw_part
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Page, expect

from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.progress import Cancelled
from ura_hf.demo.page import build_demo, launch_options
from ura_hf.demo.store import Detectors
from ura_hf.demo.tabs import batch as batch_tab
from ura_hf.demo.tabs import teach as teach_tab
from ura_hf.demo.tabs import teach_layout
from ura_hf.evaluation import compare as comparison
from ura_hf.evaluation.evaluate import evaluate
from ura_hf.hub.load import load_detector
from ura_hf.model.errors import UserError
from ura_hf.training import teaching

WAIT = 120_000  # ms
QUICK = {"image_size": 64, "grid_size": 8, "hidden_size": 32, "num_attention_heads": 2, "memory_cells": 128}


@pytest.fixture(scope="module")
def address(checkpoint):
    """The page in this process, teaching at a size that trains in seconds."""
    patch = pytest.MonkeyPatch()
    patch.setattr(teaching, "CONFIG", {**teaching.CONFIG, **QUICK})
    patch.setattr(teaching, "OPTIONS", {**teaching.OPTIONS, "steps": 30, "batch_size": 4})
    patch.setattr(teach_layout, "OPTIONS", teaching.OPTIONS)
    patch.setattr(comparison, "DRAWN_GOOD", 4)
    patch.setattr(comparison, "DRAWN_EACH", 1)
    store = Detectors()
    store.add(checkpoint, "disc")
    demo = build_demo(store, "disc")
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield demo.local_url
    demo.close()
    patch.undo()


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """A zip of 4 good and 4 spotted discs in folders, and a text that calls itself a photo."""
    folder = tmp_path_factory.mktemp("parts")
    for kind, first, defect in (("good", 100, False), ("spot", 200, True)):
        (folder / "lot" / kind).mkdir(parents=True)
        for seed in range(first, first + 4):
            Image.fromarray(draw_part(seed, defect)[0]).save(folder / "lot" / kind / f"{seed}.png")
    (folder / "lot/note.png").write_bytes(b"no image at all")
    return Path(shutil.make_archive(str(folder / "lot"), "zip", folder / "lot"))


@pytest.fixture(scope="module")
def rings(tmp_path_factory) -> list[Path]:
    """Twelve good rings, a second copy of one, one with a red patch, and a text."""
    folder = tmp_path_factory.mktemp("rings")
    pictures = {f"ring-{i:02d}.png": demo_image("ring", 800 + i, side=128)[0] for i in range(13)}
    pictures["copy-of-03.png"] = pictures["ring-03.png"]
    pictures["ring-12.png"] = pictures["ring-12.png"].copy()
    pictures["ring-12.png"][20:50, 70:100] = (200, 40, 40)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    (folder / "text.png").write_bytes(b"no image at all")
    return sorted(folder.iterdir())


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def upload(page: Page, box: str, *files: Path) -> None:
    page.locator(f"#{box} input[type=file]").set_input_files(files)


def says(page: Page, box: str, words: str) -> None:
    expect(page.locator(f"#{box}")).to_contain_text(words, timeout=WAIT)


def fits(page: Page) -> None:
    """Nothing sticks out to the right, and no server path is shown."""
    wide = """() => document.documentElement.scrollWidth <= window.innerWidth ? [] : [...document.querySelectorAll('body *')]
        .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1).map(one => one.outerHTML.slice(0, 160))"""
    assert page.evaluate(wide) == []
    assert tempfile.gettempdir() not in page.locator("body").inner_text()


def job_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("uranet-job-*"))


def gone(folders: set[Path]) -> bool:
    """Whether no other job folders are left after a while."""
    for _ in range(100):
        if job_folders() <= folders:
            return True
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_a_batch_comes_worst_first(address, parts, checkpoint, tmp_path, width):
    before = job_folders()
    with browse(address, width) as page:
        open_tab(page, "Batch")
        screenshot(page, f"batch-empty-{width}")
        upload(page, "batch-files", parts)
        page.locator("#batch-start").click()
        says(page, "batch-status", "of 8 photos look anomalous")
        says(page, "batch-status", "1 file could not be checked")
        expect(page.locator("#batch-results")).to_be_visible()
        captions = page.locator("#batch-gallery .caption-label").all_inner_texts()
        scores = [float(caption.split()[0]) for caption in captions]
        assert len(scores) == 8 and scores == sorted(scores, reverse=True)
        assert "spot/" in captions[0]
        table = page.locator("#batch-table")
        expect(table).to_contain_text("not an image that can be read: note.png")
        screenshot(page, f"batch-{width}")
        fits(page)
        with page.expect_download() as waiting:
            page.locator("#batch-csv").click()
        waiting.value.save_as(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and rows[-1]["problem"] and not rows[-1]["score"]
    assert gone(before)


def test_the_endpoint_batch(address, parts, checkpoint, tmp_path):
    with zipfile.ZipFile(parts) as archive:
        archive.extractall(tmp_path)
    report, table, overlays, *_ = Client(address, verbose=False).predict(
        [handle_file(str(parts)), handle_file(str(tmp_path / "good/100.png"))], "disc", api_name="/batch"
    )
    assert report["checkpoint"] == "disc" and report["images"] == 10 and report["not_checked"] == 1
    detector = load_detector(checkpoint)
    for row in report["rows"][:-1]:
        path = tmp_path / (row["file"] if "/" in row["file"] else "good/100.png")
        expected = detector(str(path))
        assert row["label"] == expected["label"] and row["score"] == pytest.approx(expected["score"], rel=1e-4)
    assert Path(table).read_text().count("\n") == 11
    with zipfile.ZipFile(overlays) as archive:
        assert len(archive.namelist()) == 9 and "spot/200_heatmap.jpg" in archive.namelist()


def test_a_batch_can_be_cancelled(address, parts, monkeypatch):
    before, checked, plain = job_folders(), [], batch_tab.check_batch

    def slow(*arguments):
        for row in plain(*arguments):
            time.sleep(0.7)
            checked.append(row)
            yield row

    monkeypatch.setattr(batch_tab, "check_batch", slow)
    with browse(address) as page:
        open_tab(page, "Batch")
        upload(page, "batch-files", parts)
        page.locator("#batch-start").click()
        says(page, "batch-status", "left")
        screenshot(page, "batch-running")
        page.locator("#batch-cancel").click()
        says(page, "batch-status", "Cancelled")
        expect(page.locator("#batch-start")).to_be_visible()
        assert gone(before) and len(checked) < 9
        expect(page.locator("#batch-results")).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "words"),
    [("bomb.zip", "times its size"), ("outside.zip", "leads outside of it"), ("text.zip", "text.zip is not a zip")],
)
def test_a_bad_zip_is_one_sentence(address, tmp_path, name, words):
    if name == "text.zip":
        (tmp_path / name).write_bytes(b"text")
    else:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            entry = ("zeros.png", bytes(100 << 20)) if name == "bomb.zip" else ("../evil.png", b"x")
            archive.writestr(*entry)
    with browse(address) as page:
        open_tab(page, "Batch")
        upload(page, "batch-files", tmp_path / name)
        page.locator("#batch-start").click()
        expect(page.get_by_text(words)).to_be_visible(timeout=WAIT)
        expect(page.locator("#batch-start")).to_be_visible()
        says(page, "batch-status", "Nothing checked yet")
        fits(page)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_photos_are_looked_through_and_taught(address, rings, tmp_path, width):
    name = f"ring-{width}"
    with browse(address, width) as page:
        open_tab(page, "Teach")
        screenshot(page, f"teach-empty-{width}")
        upload(page, "teach-files", *rings)
        says(page, "teach-status", "14 of 15 photos can be used")
        says(page, "teach-status", "not an image that can be read: text.png")
        says(page, "teach-flagged", "shown twice")
        says(page, "teach-flagged", "ring-12.png: perhaps not good")
        expect(page.locator("#teach-leave-out input:checked")).to_have_count(
            page.locator("#teach-leave-out input").count()
        )
        screenshot(page, f"teach-flagged-{width}")
        page.locator("#teach-name input, #teach-name textarea").fill(name)
        page.locator("#teach-start").click()
        says(page, "teach-status", f"{name} is ready")
        says(page, "teach-status", "of good parts to be called anomalous")
        expect(page.locator("#teach-losses canvas, #teach-losses svg").first).to_be_visible(timeout=WAIT)
        expect(page.locator("#checkpoint input")).to_have_value(name, timeout=WAIT)
        screenshot(page, f"teach-{width}")
        fits(page)
        with page.expect_download() as waiting:
            page.locator("#teach-download").click()
        waiting.value.save_as(tmp_path / "taught.zip")
        open_tab(page, "Detect")
        page.locator("#image input[type=file]").set_input_files(rings[-2])
        card = page.locator("#verdict .verdict:not(.is-empty)")
        expect(card).to_be_visible(timeout=WAIT)
        shown = card.inner_text()
    with zipfile.ZipFile(tmp_path / "taught.zip") as archive:
        archive.extractall(tmp_path)
    assert f"Score {load_detector(tmp_path / name)(str(rings[-2]))['score']:.3f}" in shown


def test_the_endpoint_teach(address, rings):
    client = Client(address, verbose=False)
    report, archive, *_ = client.predict(
        [handle_file(str(path)) for path in rings], "my ring!", ["copy-of-03.png", "ring-12.png"], api_name="/teach"
    )
    assert report["name"] == "my-ring" and report["photos"] == {"fitted": 8, "held_out": 4}
    kinds = {finding["file"]: finding["kind"] for finding in report["findings"]}
    assert (
        kinds["text.png"] == "unreadable" and kinds["ring-03.png"] == "duplicate" and kinds["ring-12.png"] == "defect"
    )
    rate = report["false_alarms"]
    assert 0 == rate["low"] < rate["expected"] < rate["high"] < 1 and rate["held_out"] == 4
    assert report["losses"][-1]["step"] == 30 and tempfile.gettempdir() not in json.dumps(report)
    assert zipfile.is_zipfile(archive)
    checked, *_ = client.predict([handle_file(str(path)) for path in rings[-4:-1]], report["name"], api_name="/batch")
    assert checked["rows"][0]["file"] == "ring-12.png" and checked["checkpoint"] == "my-ring"


def test_teaching_can_be_cancelled(address, rings, monkeypatch):
    before, stopped, plain = job_folders(), threading.Event(), teach_tab.teach_part

    def slow(photos, folder, progress):
        def slowly(stage, done, total, losses=None):
            time.sleep(0.3)
            progress(stage, done, total, losses)

        try:
            return plain(photos, folder, slowly)
        except Cancelled:
            stopped.set()
            raise

    monkeypatch.setattr(teach_tab, "teach_part", slow)
    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings)
        says(page, "teach-status", "can be used")
        page.locator("#teach-name input, #teach-name textarea").fill("never")
        page.locator("#teach-start").click()
        says(page, "teach-status", "Learning to restore normal parts")
        screenshot(page, "teach-running")
        page.locator("#teach-cancel").click()
        says(page, "teach-status", "Cancelled")
        assert stopped.wait(60) and gone(before)
        page.reload()
        page.locator("#checkpoint input").click()
        expect(page.get_by_role("option", name="disc")).to_be_visible()
        expect(page.get_by_role("option", name="never")).to_have_count(0)


def test_the_download_outlives_a_teach_that_fails_or_is_cancelled(address, rings, tmp_path, monkeypatch):
    """And both pickers of a page that is opened later offer what was taught."""

    def slow(photos, folder, progress):
        while True:
            time.sleep(0.3)
            progress("training", 0, 30)

    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings[:12])
        says(page, "teach-status", "12 photos, all readable")
        page.locator("#teach-name input, #teach-name textarea").fill("kept")
        page.locator("#teach-start").click()
        says(page, "teach-status", "kept is ready")
        expect(page.locator("#teach-download")).to_have_text("Download kept (ZIP)", timeout=WAIT)
        page.locator("#teach-name input, #teach-name textarea").fill("!")
        page.locator("#teach-start").click()
        expect(page.get_by_text("needs a name of letters and digits")).to_be_visible(timeout=WAIT)
        says(page, "teach-status", "12 photos, all readable")
        expect(page.locator("#teach-download")).to_be_visible()
        monkeypatch.setattr(teach_tab, "teach_part", slow)
        page.locator("#teach-name input, #teach-name textarea").fill("never")
        page.locator("#teach-start").click()
        says(page, "teach-status", "Learning to restore normal parts")
        page.locator("#teach-cancel").click()
        says(page, "teach-status", "Cancelled")
        with page.expect_download() as waiting:
            page.locator("#teach-download").click()
        waiting.value.save_as(tmp_path / "kept.zip")
        with zipfile.ZipFile(tmp_path / "kept.zip") as archive:
            assert "kept/model.safetensors" in archive.namelist()
        page.reload()
        page.locator("#checkpoint input").click()
        expect(page.get_by_role("option", name="kept")).to_be_visible()
        page.keyboard.press("Escape")
        open_tab(page, "Compare")
        page.locator("#compare-second input").click()
        expect(page.locator("#compare-second").get_by_role("option", name="kept")).to_be_visible()


def test_too_few_photos_are_one_sentence(address, rings):
    with browse(address) as page:
        open_tab(page, "Teach")
        page.locator("#teach-start").click()
        expect(page.get_by_text("There are no photos yet")).to_be_visible(timeout=WAIT)
        upload(page, "teach-files", *rings[:4])
        says(page, "teach-status", "At least 10 are needed")
        fits(page)


def test_a_failed_teach_says_what_was_found_and_what_is_ticked(address, rings):
    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings[:10])  # of which one is a copy
        says(page, "teach-status", "10 photos, all readable")
        page.locator("#teach-start").click()
        words = "10 photos came, 1 is ticked to be left out and 9 remain, but at least 10 are needed: untick it or add"
        expect(page.get_by_text(words)).to_be_visible(timeout=WAIT)
        says(page, "teach-status", "10 photos, all readable")
        expect(page.locator("#teach-flagged")).to_be_visible()
        fits(page)


def test_ticks_go_with_the_photos_they_were_for(address, rings, monkeypatch):
    """Also those of a look that was not over when its photos left."""
    asked, look = [], teach_tab.check_photos

    def slow(*arguments):
        time.sleep(3)
        return look(*arguments)

    def stop(gathered, found, leave_out):
        asked.append(leave_out)
        raise UserError("enough of this test")

    monkeypatch.setattr(teach_tab, "chosen", stop)
    with browse(address) as page:
        clear = page.locator("#teach-files").get_by_label("Clear")
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings[:10])
        says(page, "teach-flagged", "ring-03.png: shown twice")
        clear.click()
        says(page, "teach-status", "No photos yet")
        monkeypatch.setattr(teach_tab, "check_photos", slow)
        upload(page, "teach-files", *rings[:10])
        says(page, "teach-status", "Looking through the photos")
        clear.click()
        page.wait_for_timeout(6000)
        says(page, "teach-status", "No photos yet")
        expect(page.locator("#teach-flagged")).to_be_hidden()
        upload(page, "teach-files", *rings[1:11])
        says(page, "teach-status", "Looking through the photos")
        page.locator("#teach-start").click()
        expect(page.get_by_text("enough of this test")).to_be_visible(timeout=WAIT)
        says(page, "teach-status", "not looked through")
        assert asked == [[]]


def test_the_limit_of_photos_is_said_when_they_are_looked_through(address, tmp_path):
    archive, rng = tmp_path / "many.zip", np.random.default_rng(0)
    with zipfile.ZipFile(archive, "w") as many:
        for index in range(301):
            with many.open(f"{index}.png", "w") as photo:
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(photo, "PNG")
        many.writestr("notes.txt", "no photo")
    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", archive)
        says(page, "teach-status", "301 of 302 photos can be used")
        says(page, "teach-status", "At most 300 are taken: leave some out")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_two_checkpoints_are_measured_on_drawn_parts(address, width):
    with browse(address, width) as page:
        open_tab(page, "Compare")
        screenshot(page, f"compare-empty-{width}")
        page.locator("#compare-second input").fill("uranet-demo-ring")
        page.locator("#compare-second input").press("Enter")
        page.locator("#compare-start").click()
        says(page, "compare-status", "Measured on 11 images")
        table = page.locator("#compare-table table").first
        expect(table).to_contain_text("AUPRO")
        assert table.locator("thead th").all_inner_texts()[1:] == ["disc", "uranet-demo-ring"]
        for plot in ("image-roc", "pixel-roc", "pro", "scores-1", "scores-2"):
            expect(page.locator(f"#compare-{plot} canvas, #compare-{plot} svg.marks").first).to_be_visible(timeout=WAIT)
        screenshot(page, f"compare-{width}")
        fits(page)


def test_the_endpoint_evaluate(address, category, checkpoint, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "disc"), "zip", category.parent, category.name)
    found, table, *_ = Client(address, verbose=False).predict(
        "Your own, as a zip", handle_file(archive), "disc", None, api_name="/evaluate"
    )
    detector = load_detector(checkpoint)
    expected = evaluate(detector, category, curves=True)
    assert found == {"disc": json.loads(json.dumps(expected))}
    assert f"{expected['aupro']:.3f}" in table and np.diff(found["disc"]["curves"]["pro"]["x"]).min() >= 0


def test_a_set_without_masks_or_defects_is_one_sentence(address, parts):
    with browse(address) as page:
        open_tab(page, "Compare")
        page.get_by_label("Your own, as a zip").check()
        page.locator("#compare-start").click()
        expect(page.get_by_text("There are no test images yet")).to_be_visible(timeout=WAIT)
        fits(page)
