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

import gradio as gr
import numpy as np
import pytest
from browser import DESKTOP, HEIGHT, PHONE, WAIT, calm, launched, screenshot, settles
from conftest import draw_part
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Page, expect

from ura_hf.data.archives import gather
from ura_hf.data.drawn.parts import demo_image
from ura_hf.data.progress import Cancelled
from ura_hf.demo import jobs, looked
from ura_hf.demo.store import Detectors
from ura_hf.demo.tabs import batch as batch_tab
from ura_hf.demo.tabs import calibrate_layout, teach_layout
from ura_hf.demo.tabs import teach as teach_tab
from ura_hf.evaluation import compare as comparison
from ura_hf.evaluation.batch import BatchRow
from ura_hf.evaluation.evaluate import evaluate
from ura_hf.hub.load import load_detector
from ura_hf.model.errors import UserError
from ura_hf.training import teaching
from ura_hf.training.photo_checks import PhotoProblem, PhotoReport
from ura_hf.training.teaching import MAX_PHOTOS

QUICK = {"image_size": 64, "grid_size": 8, "hidden_size": 32, "num_attention_heads": 2, "memory_cells": 128}


@pytest.fixture(scope="module")
def address(checkpoint):
    """The page in this process, teaching at a size that trains in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teaching, "CONFIG", {**teaching.CONFIG, **QUICK})
        patch.setattr(teaching, "OPTIONS", {**teaching.OPTIONS, "steps": 30, "batch_size": 4})
        patch.setattr(teach_layout, "OPTIONS", teaching.OPTIONS)
        patch.setattr(comparison, "DRAWN_GOOD", 4)
        patch.setattr(comparison, "DRAWN_EACH", 1)
        store = Detectors()
        with launched(store, store.add(checkpoint, "disc")) as demo:
            yield demo.local_url


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


def clear(page: Page) -> None:
    page.locator("#teach-files").get_by_label("Clear").click()


def fits(page: Page) -> None:
    """Nothing sticks out to the right, and no server path is shown."""
    wide = """() => document.documentElement.scrollWidth <= window.innerWidth ? [] : [...document.querySelectorAll('body *')]
        .filter(one => one.getBoundingClientRect().right > window.innerWidth + 1).map(one => one.outerHTML.slice(0, 160))"""
    assert page.evaluate(wide) == []
    assert tempfile.gettempdir() not in page.locator("body").inner_text()


def turn(page: Page, width: int) -> None:
    """Give the tab another width, and the page the time for a frame of that width."""
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def job_folders() -> set[Path]:
    return set(jobs._parent().glob("*"))


def gone(page: Page, folders: set[Path]) -> bool:
    """Whether no other job folders are left after a while."""
    return settles(page, lambda: job_folders() <= folders)


def test_a_batch_comes_worst_first(browse, address, parts, checkpoint, tmp_path):
    before = job_folders()
    with browse(address) as page:
        open_tab(page, "Batch")
        screenshot(page, f"batch-empty-{DESKTOP}")
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
        with page.expect_download() as waiting:
            page.locator("#batch-csv").click()
        waiting.value.save_as(tmp_path / "table.csv")
        for width in (DESKTOP, PHONE):
            turn(page, width)
            screenshot(page, f"batch-{width}")
            fits(page)
        assert gone(page, before)
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 and rows[-1]["problem"] and not rows[-1]["score"]


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


def test_samples_are_not_called_drawn():
    """Of the checkpoint that the page opens on they are photos of solar cells."""
    with gr.Blocks():
        tabs = batch_tab._lay_out(True), calibrate_layout.lay_out(True)
    assert [tab.sample.value for tab in tabs] == ["Use sample photos"] * 2


def test_a_batch_says_where_parts_begin_to_look_different():
    """In the order of names, whatever the order of the rows; nothing of few photos."""
    scores = 0.2 + 0.02 * np.random.default_rng(0).standard_normal(200) + 0.3 * (np.arange(200) >= 120)
    rows = [BatchRow(f"part-{index}.png", "normal", float(score)) for index, score in enumerate(scores)]
    rows = [*np.random.default_rng(1).permutation(np.array(rows, dtype=object)), BatchRow("a.png", problem="no image")]
    assert batch_tab._changed(rows) in {f"part-{index}.png" for index in range(112, 129)}
    assert batch_tab._changed([row for row in rows if not row.score or row.score < 0.4]) is None
    assert batch_tab._changed(rows[:10]) is None


def test_a_batch_can_be_cancelled(browse, address, parts, monkeypatch):
    before, checked, left, plain, leave = (
        job_folders(),
        [],
        threading.Event(),
        batch_tab.predict_batch,
        jobs.Job.__exit__,
    )

    def slow(*arguments):
        for row in plain(*arguments):
            checked.append(row)
            yield row
            assert len(checked) < 3 or left.wait(60)

    def tell(*arguments):
        leave(*arguments)
        left.set()

    monkeypatch.setattr(jobs.Job, "__exit__", tell)
    monkeypatch.setattr(batch_tab, "predict_batch", slow)
    with browse(address) as page:
        open_tab(page, "Batch")
        upload(page, "batch-files", parts)
        page.locator("#batch-start").click()
        says(page, "batch-status", "left")
        screenshot(page, "batch-running")
        assert len(job_folders() - before) == 1
        page.locator("#batch-cancel").click()
        says(page, "batch-status", "Cancelled")
        expect(page.locator("#batch-start")).to_be_visible()
        assert gone(page, before) and len(checked) < 9
        expect(page.locator("#batch-results")).to_be_hidden()


@pytest.fixture
def bad_zips(tmp_path):
    """Zips that are refused, each with what is said."""
    entries = {"bomb.zip": ("zeros.png", bytes(100 << 20)), "outside.zip": ("../evil.png", b"x")}
    for name, entry in entries.items():
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(*entry)
    (tmp_path / "text.zip").write_bytes(b"text")
    words = {"bomb.zip": "times its size", "outside.zip": "leads outside of it", "text.zip": "text.zip is not a zip"}
    return {tmp_path / name: said for name, said in words.items()}


def test_a_bad_zip_is_one_sentence(browse, address, bad_zips):
    with browse(address) as page:
        open_tab(page, "Batch")
        for path, words in bad_zips.items():
            upload(page, "batch-files", path)
            expect(page.locator("#batch-files")).to_contain_text(path.stem, timeout=WAIT)
            page.locator("#batch-start").click()
            expect(page.get_by_text(words)).to_be_visible(timeout=WAIT)
            expect(page.locator("#batch-start")).to_be_visible()
            says(page, "batch-status", "Nothing checked yet")
            fits(page)
            page.locator("#batch-files").get_by_label("Clear").click()


def test_photos_are_looked_through_and_taught(browse, address, rings, tmp_path):
    with browse(address) as page:
        open_tab(page, "Teach")
        for width in (PHONE, DESKTOP):
            turn(page, width)
            screenshot(page, f"teach-empty-{width}")
        upload(page, "teach-files", *rings)
        says(page, "teach-status", "14 of 15 photos can be used")
        says(page, "teach-status", "not an image that can be read: text.png")
        says(page, "teach-flagged", "shown twice")
        says(page, "teach-flagged", "ring-12.png: perhaps not good")
        boxes = page.locator("#teach-leave-out input").count()
        expect(page.locator("#teach-leave-out input:checked")).to_have_count(boxes)
        for width in (PHONE, DESKTOP):
            turn(page, width)
            screenshot(page, f"teach-flagged-{width}")
            fits(page)
        page.locator("#teach-name input, #teach-name textarea").fill("my-ring")
        page.locator("#teach-start").click()
        says(page, "teach-status", "my-ring is ready")
        says(page, "teach-status", "of good parts to be called anomalous")
        expect(page.locator("#teach-status")).not_to_contain_text("Only you")
        expect(page.locator("#teach-losses canvas, #teach-losses svg").first).to_be_visible(timeout=WAIT)
        expect(page.locator("#teach-unusual img")).to_have_count(5, timeout=WAIT)
        says(page, "teach-status", "Halves of these photos would set the threshold for")
        expect(page.locator("#checkpoint input")).to_have_value("my-ring", timeout=WAIT)
        for width in (PHONE, DESKTOP):
            turn(page, width)
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
    assert f"Score {load_detector(tmp_path / 'my-ring')(str(rings[-2]))['score']:.3f}" in shown


def test_the_endpoint_teach(address, rings):
    client = Client(address, verbose=False)
    report, archive, *_ = client.predict(
        [handle_file(str(path)) for path in rings], "our ring!", ["copy-of-03.png", "ring-12.png"], api_name="/teach"
    )
    assert report["name"] == "our-ring" and report["photos"] == {"fitted": 12}
    kinds = {finding["file"]: finding["kind"] for finding in report["findings"]}
    assert (
        kinds["text.png"] == "unreadable" and kinds["ring-03.png"] == "duplicate" and kinds["ring-12.png"] == "defect"
    )
    rate = report["false_alarms"]
    assert 0 < rate["low"] < rate["asked"] < rate["high"] < 1 and rate["photos"] == 12
    assert report["losses"][-1]["step"] == 30 and tempfile.gettempdir() not in json.dumps(report)
    assert zipfile.is_zipfile(archive)
    named = {words.split(" (1 in ")[0] for words in report["most_unusual"]}
    assert report["report"][-1].endswith(", ".join(report["most_unusual"]))
    assert len(named) == 5 and named <= {path.name for path in rings} - {"copy-of-03.png", "ring-12.png", "text.png"}
    checked, *_ = client.predict([handle_file(str(path)) for path in rings[-4:-1]], report["name"], api_name="/batch")
    assert checked["rows"][0]["file"] == "ring-12.png" and checked["checkpoint"] == "our-ring"


def learns_on(photos, folder, progress, pictures=None):
    """A training that ends only when it is cancelled."""
    while True:
        time.sleep(0.02)
        progress("training", 0, 30)


def test_teaching_can_be_cancelled(browse, address, rings, monkeypatch):
    before, stopped, plain = job_folders(), threading.Event(), teach_tab.teach_part

    def slow(photos, folder, progress, pictures):
        def hear(stage, done, total, losses=None):
            progress(stage, done, total, losses)
            if stage == "training" and done:  # in the middle of it
                learns_on(photos, folder, progress)

        try:
            return plain(photos, folder, hear)
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
        assert len(job_folders() - before) == 1
        page.locator("#teach-cancel").click()
        says(page, "teach-status", "Cancelled")
        assert stopped.wait(60) and gone(page, before)
        page.reload()
        page.locator("#checkpoint input").click()
        expect(page.get_by_role("option", name="disc")).to_be_visible()
        expect(page.get_by_role("option", name="never")).to_have_count(0)


def test_what_is_ready_after_it_was_cancelled_goes_with_its_job(rings, tmp_path, monkeypatch):
    """Cancelled in the last seconds, when the training hears no more of it."""
    go, made = threading.Event(), []

    def teach(photos, folder, progress, pictures):
        assert go.wait(60)
        folder.mkdir(parents=True)
        made.append(folder)
        return teaching.Taught(folder, {}, teaching.FalseAlarms.of(4, 0.05))

    monkeypatch.setattr(teach_tab, "teach_part", teach)
    monkeypatch.setattr(teach_tab, "check_photos", lambda files, _: PhotoReport(len(files), [*range(len(files))], []))
    running = teach_tab._teach(Detectors(), tmp_path, [str(path) for path in rings], "part", [], "me")
    next(running)
    running.close()
    go.set()
    deadline = time.monotonic() + 60
    while (not made or made[0].parent.exists()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert made and not made[0].parent.exists() and not [*tmp_path.iterdir()]


def test_the_download_outlives_a_teach_that_fails_or_is_cancelled(
    browse, address, rings, checkpoint, tmp_path, monkeypatch
):
    """And both pickers of a page that is opened later offer what was taught."""

    def learn_at_once(photos, folder, progress, pictures):
        shutil.copytree(checkpoint, folder)
        record = json.loads((folder / "training.json").read_text()) | {"losses": [], "most_unusual": []}
        return teaching.Taught(folder, record, teaching.FalseAlarms.of(4, 0.05))

    monkeypatch.setattr(teach_tab, "teach_part", learn_at_once)

    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings[:12])
        says(page, "teach-status", "12 photos, all readable")
        page.locator("#teach-name input, #teach-name textarea").fill("kept")
        page.locator("#teach-start").click()
        says(page, "teach-status", "kept is ready")
        expect(page.locator("#teach-download")).to_have_text("Download kept (ZIP)", timeout=WAIT)
        page.locator("#teach-name input, #teach-name textarea").fill("!")
        calm(page)
        page.locator("#teach-start").click()
        expect(page.get_by_text("needs a name of letters and digits")).to_be_visible(timeout=WAIT)
        says(page, "teach-status", "12 photos, all readable")
        expect(page.locator("#teach-download")).to_be_visible()
        calm(page)
        monkeypatch.setattr(teach_tab, "teach_part", learns_on)
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


def test_what_keeps_from_teaching_is_one_sentence(browse, address, rings, monkeypatch):
    """Too few photos, too many, and so many ticked that too few are left; what was found stays on the page."""
    monkeypatch.setattr(looked, "MAX_PHOTOS", 11)
    with browse(address) as page:
        open_tab(page, "Teach")
        page.locator("#teach-start").click()
        expect(page.get_by_text("There are no photos yet")).to_be_visible(timeout=WAIT)
        upload(page, "teach-files", *rings[:4])
        says(page, "teach-status", "At least 10 are needed")
        fits(page)
        clear(page)
        upload(page, "teach-files", *rings[1:13], rings[-1])
        says(page, "teach-status", "12 of 13 photos can be used")
        says(page, "teach-status", "At most 11 are taken: leave some out")
        clear(page)
        upload(page, "teach-files", *rings[:10])  # of which one is a copy
        says(page, "teach-status", "10 photos, all readable")
        page.locator("#teach-start").click()
        words = "10 photos came, 1 is ticked to be left out and 9 remain, but at least 10 are needed: untick it or add"
        expect(page.get_by_text(words)).to_be_visible(timeout=WAIT)
        says(page, "teach-status", "10 photos, all readable")
        expect(page.locator("#teach-flagged")).to_be_visible()
        fits(page)


def test_a_zip_of_more_photos_than_are_taken_is_looked_through(tmp_path):
    """As many as are taken, and what else a zip holds: the sentence is said before anyone waits for a training."""
    rows = range(MAX_PHOTOS + 2)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for index in rows:
            archive.writestr(f"{index}.png", bytes([index % 256, index // 256]))
    gathered = gather([tmp_path / "many.zip"], tmp_path / "files", teach_tab.LIMITS)
    assert len(gathered.files) == len(rows)
    words = "text.png is not an image"
    found = PhotoReport(len(rows), list(rows[:-1]), [PhotoProblem(rows[-1], "unreadable", words)])
    said = looked.looked_html(gathered, found)
    assert "301 of 302 photos can be used" in said and "At most 300 are taken: leave some out" in said and words in said


def test_ticks_go_with_the_photos_they_were_for(browse, address, rings, monkeypatch):
    """Also those of a look that was not over when its photos left."""
    before, asked, go_on, look = job_folders(), [], threading.Event(), teach_tab.check_photos

    def slow(*arguments):
        assert go_on.wait(WAIT / 1000)
        return look(*arguments)

    def stop(gathered, found, leave_out):
        asked.append(leave_out)
        raise UserError("enough of this test")

    monkeypatch.setattr(teach_tab, "chosen", stop)
    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings[:10])
        says(page, "teach-flagged", "ring-03.png: shown twice")
        clear(page)
        says(page, "teach-status", "No photos yet")
        monkeypatch.setattr(teach_tab, "check_photos", slow)
        upload(page, "teach-files", *rings[:10])
        says(page, "teach-status", "Looking through the photos")
        assert len(job_folders() - before) == 1
        clear(page)
        says(page, "teach-status", "No photos yet")
        go_on.set()
        assert gone(page, before)
        go_on.clear()
        upload(page, "teach-files", *rings[1:11])
        says(page, "teach-status", "Looking through the photos")  # after what the first look might still have said
        expect(page.locator("#teach-flagged")).to_be_hidden()
        page.locator("#teach-start").click()
        expect(page.locator("#teach-cancel")).to_be_visible()  # which is said in the answer that ends the look
        go_on.set()
        expect(page.get_by_text("enough of this test")).to_be_visible(timeout=WAIT)
        says(page, "teach-status", "not looked through")
        assert asked == [[]]


def test_a_late_answer_to_an_earlier_change_of_the_photos_changes_nothing(browse, address, rings, monkeypatch):
    """Whatever the server says of photos that left comes when the next ones are there, and these are looked through."""
    go_on, note = threading.Event(), teach_tab.note_html

    def late(*words):
        assert words != teach_layout.EMPTY or go_on.wait(WAIT / 1000)
        return note(*words)

    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings[:4])
        says(page, "teach-status", "At least 10 are needed")
        monkeypatch.setattr(teach_tab, "note_html", late)
        clear(page)
        upload(page, "teach-files", *rings[:10])
        says(page, "teach-status", "10 photos, all readable")
        go_on.set()
        page.wait_for_timeout(500)
        says(page, "teach-status", "10 photos, all readable")
        says(page, "teach-flagged", "ring-03.png: shown twice")


def test_photos_that_change_during_a_look_are_looked_through(browse, address, rings, monkeypatch):
    """Again and again, and whether the look at the former ones ends at once or not."""
    before, looks, go_on, look = job_folders(), [], threading.Event(), teach_tab.check_photos

    def slow(files, progress):
        looks.append(len(files))
        while not go_on.wait(0.05):
            progress("checking", 0, len(files))
        return look(files, progress)

    monkeypatch.setattr(teach_tab, "check_photos", slow)
    with browse(address) as page:
        open_tab(page, "Teach")
        upload(page, "teach-files", *rings[:13])
        for left in (12, 11, 10):
            says(page, "teach-status", "Looking through the photos")
            page.locator("#teach-files").get_by_label("Remove this file").last.click()
            expect(page.locator("#teach-files").get_by_label("Remove this file")).to_have_count(left)
        assert settles(page, lambda: looks[-1] == 10)
        says(page, "teach-status", "Looking through the photos")
        go_on.set()
        says(page, "teach-status", "10 photos, all readable")
        clear(page)
        says(page, "teach-status", "No photos yet")
        assert gone(page, before)


def test_two_checkpoints_are_measured_on_drawn_parts(browse, address):
    with browse(address) as page:
        open_tab(page, "Compare")
        for width in (PHONE, DESKTOP):
            turn(page, width)
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
        for width in (PHONE, DESKTOP):
            turn(page, width)
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
    with pytest.raises(AppError, match="There is no checkpoint to measure: choose one"):
        Client(address, verbose=False).predict("ring", None, "", None, api_name="/evaluate")
    assert f"{expected['aupro']:.3f}" in table and np.diff(found["disc"]["curves"]["pro"]["x"]).min() >= 0


def test_a_set_without_masks_or_defects_is_one_sentence(browse, address):
    with browse(address) as page:
        open_tab(page, "Compare")
        page.get_by_label("Your own, as a zip").check()
        page.locator("#compare-start").click()
        expect(page.get_by_text("There are no test images yet")).to_be_visible(timeout=WAIT)
        fits(page)
