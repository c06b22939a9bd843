"""The tab Detect and the checkpoint picker in a real Chromium, and the endpoints through the real client, on a real defect."""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import shutil
import socket
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from browser import PHONE, WAIT, launched, screenshot, settles
from conftest import HUB, ROOT, made_once, tiny_config
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Page, expect

from ura_hf import TrainingOptions, UserError, train
from ura_hf.data.drawn.parts import demo_image
from ura_hf.demo import page as page_module
from ura_hf.demo.analysis import analyse
from ura_hf.demo.examples import example_images
from ura_hf.demo.store import Detectors
from ura_hf.demo.tabs import detect
from ura_hf.hub.load import load_detector
from ura_hf.model import image_checks
from ura_hf.model.images import load_mask

DEFECT = "contamination/003"
SOLAR_CELLS = "uranet-elpv-mono"


@pytest.fixture(scope="module")
def pill(shared_dir):
    return shared_dir / "data/mvtec/pill"


@pytest.fixture(scope="module")
def pill_checkpoint(pill, resnet18_weights, tmp_path_factory):
    """A detector trained on 60 real pills for a few seconds."""

    def make(output: Path) -> None:
        size = {"image_size": 128, "grid_size": 16, "memory_cells": 512, "smoothing_sigma": 3.0}
        train(TrainingOptions(pill, output, resnet18_weights, steps=10, limit=60), tiny_config(**size))

    return made_once(tmp_path_factory, "pill/pill", make)


@pytest.fixture(scope="module")
def demo(pill_checkpoint):
    """The page of `app.py --checkpoint pill`, in this process."""
    store = Detectors()
    with launched(store, store.add(pill_checkpoint, "pill")) as blocks:
        yield blocks


@pytest.fixture(scope="module")
def address(demo):
    return demo.local_url


@pytest.fixture
def page(browse, address):
    with browse(address) as tab:
        yield tab


def upload(page: Page, path: Path) -> None:
    page.locator("#image input[type=file]").set_input_files(path)


def verdict(page: Page, kind: str) -> None:
    """Wait for a card of a kind: anomalous, normal, unknown, error or empty."""
    expect(page.locator(f"#verdict .verdict.is-{kind}")).to_be_visible(timeout=WAIT)


def pixels(page: Page, selector: str) -> np.ndarray:
    """The picture in an img element."""
    data = page.locator(selector).evaluate(
        """async image => {
          const reader = new FileReader();
          reader.readAsDataURL(await (await fetch(image.src)).blob());
          await new Promise(done => reader.onload = done);
          return reader.result.split(',')[1];
        }""",
        timeout=WAIT,
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(float)


def plain_and_glowing(page: Page) -> tuple[np.ndarray, np.ndarray]:
    """Both pictures of the image slider."""
    expect(page.locator("#heatmap img")).to_have_count(2, timeout=WAIT)
    return pixels(page, "#heatmap img[alt='The image as it came']"), pixels(page, "#heatmap img[alt*=glowing]")


def take_away(page: Page) -> None:
    page.locator("#image button[aria-label='Remove Image'], #image button[aria-label='Clear']").first.click()


def test_a_real_defect_is_shown(page, pill, pill_checkpoint):
    image, mask_file = pill / f"test/{DEFECT}.png", pill / f"ground_truth/{DEFECT}_mask.png"
    expected = load_detector(pill_checkpoint)(str(image))
    assert expected["label"] == "anomalous"
    upload(page, image)
    verdict(page, "anomalous")
    card = page.locator("#verdict")
    expect(card).to_contain_text("Anomalous")
    expect(card).to_contain_text(f"Score {expected['score']:.3f}, threshold 0.5")
    expect(card).to_contain_text("on CPU")
    plain, glowing = plain_and_glowing(page)
    original = Image.open(image).convert("RGB").resize((640, 640), Image.Resampling.BILINEAR)
    assert np.abs(plain - np.asarray(original)).max() <= 2
    glow = np.abs(glowing - plain).max(2)
    mask = np.asarray(Image.fromarray(load_mask(mask_file, None)).resize((640, 640)))
    assert glow[mask].mean() > 10 * glow[~mask].mean() and glow[mask].mean() > 20
    names = ("features", "restored", "anomaly_map", "anomaly_probability", "total_uncertainty", "epistemic_uncertainty")
    shown = {name: pixels(page, f"#{name} img") for name in names}
    assert all(picture.std() > 1 for picture in shown.values())
    assert all(page.locator(f"#{name} img").get_attribute("alt") for name in names)
    assert page.locator("#maps .legend-bar").count() == 5
    expect(page.locator("#total_uncertainty")).to_be_visible()
    expect(page.locator("#epistemic_uncertainty")).to_be_hidden()
    page.get_by_text("Why it is unsure").click()
    expect(page.locator("#epistemic_uncertainty")).to_be_visible()
    expect(page.locator("#restored-photo img")).to_have_count(2)
    expect(page.locator("#regions tbody tr").first).to_be_visible()
    screenshot(page, "detect-defect")


def test_opening_the_page_replaces_no_photo(demo):
    """What is there at first is part of the page; a load event would come late, over a photo that came meanwhile."""
    events = {name for function in demo.fns.values() for _, name in function.targets if _holds_image(function.outputs)}
    assert "select" in events and "load" not in events


@pytest.mark.parametrize("brought", [False, True])
def test_the_page_opens_with_a_verdict_until_the_live_one_is_there(browse, monkeypatch, brought):
    """And a visitor's own photo takes both away, whenever it comes."""
    pytest.importorskip("elpv_dataset")
    go_on, checked = threading.Event(), []

    def held(detector, path, checkpoint):
        checked.append(Path(path).name)
        assert go_on.wait(WAIT / 1000)
        return analyse(detector, path, checkpoint)

    monkeypatch.setattr(detect, "analyse", held)
    with launched(Detectors(), SOLAR_CELLS) as demo, browse(demo.local_url) as page:
        verdict(page, "anomalous")
        card = page.locator("#verdict")
        expect(card).to_contain_text("being checked again")
        expect(card.locator(".pending")).to_have_css("opacity", "1")
        known = card.locator(".verdict-score").inner_text()
        assert settles(page, lambda: len(checked) == 1)
        screenshot(page, "opening")
        if brought:
            upload(page, next(path for path in example_images(SOLAR_CELLS) if "good" in path.name))
            verdict(page, "empty")
        go_on.set()
        expect(card).to_contain_text("Took", timeout=WAIT)
        assert (card.locator(".verdict-score").inner_text() == known) == (not brought)
        assert len(checked) == 1 + brought


def test_what_is_being_drawn_is_cancelled_with_its_photo(demo):
    """Else the verdict of a photo that has left would come back with the answer to a slider."""
    drawing = {key for key, function in demo.fns.items() if function.name in ("redraw", "redraw_for_share")}
    cancelled = [set(function.cancels) for function in demo.fns.values() if function.cancels]
    assert len(drawing) == 4 and any(drawing <= one for one in cancelled)


def _holds_image(outputs: list) -> bool:
    return any(getattr(block, "elem_id", None) == "image" for block in outputs)


def test_threshold_and_overlay_move_without_a_new_inference(page, pill):
    upload(page, pill / f"test/{DEFECT}.png")
    verdict(page, "anomalous")
    milliseconds = page.locator(".verdict-detail").inner_text().split("Took")[1]
    plain, glowing = plain_and_glowing(page)
    threshold = page.locator("#threshold input[type=number]")
    threshold.fill("0.99")  # the slider ends before
    threshold.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("threshold 0.95", timeout=WAIT)
    threshold.blur()
    expect(threshold).to_have_value("0.95")
    threshold.fill("")
    expect(page.locator("#verdict")).to_contain_text("threshold 0.5", timeout=WAIT)
    threshold.fill("0.95")
    expect(page.locator("#verdict")).to_contain_text("threshold 0.95", timeout=WAIT)
    verdict(page, "review")
    expect(page.locator("#regions")).to_contain_text("nothing to list")
    assert settles(page, lambda: np.array_equal(*plain_and_glowing(page)))
    assert page.locator(".verdict-detail").inner_text().split("Took")[1] == milliseconds
    threshold.fill("0.5")
    threshold.press("Enter")
    verdict(page, "anomalous")
    assert settles(page, lambda: np.array_equal(plain_and_glowing(page)[1], glowing))
    slider = page.locator("#strength input[type=range]")
    slider.focus()
    slider.press("Home")  # the keyboard alone gets from the heatmap to the plain image, outlined
    expect(page.locator("#strength input[type=number]")).to_have_value("0")
    mask = np.asarray(Image.fromarray(load_mask(pill / f"ground_truth/{DEFECT}_mask.png", None)).resize((640, 640)))
    assert np.median(np.abs(glowing - plain)[mask]) > 5
    assert settles(page, lambda: np.median(np.abs(plain_and_glowing(page)[1] - plain)[mask]) == 0)


def test_the_next_image_replaces_the_first(page, pill, pill_checkpoint):
    upload(page, pill / f"test/{DEFECT}.png")
    verdict(page, "anomalous")
    first = pixels(page, "#anomaly_map img")
    take_away(page)
    verdict(page, "empty")
    expect(page.locator("#details")).to_be_hidden()
    good = pill / "test/good/002.png"
    upload(page, good)
    verdict(page, load_detector(pill_checkpoint)(str(good))["label"])
    assert not np.array_equal(pixels(page, "#anomaly_map img"), first)


def test_pasted_and_photographed(page):
    """An image from the clipboard and one from the camera are checked like an upload; the test pictures are no pills."""
    page.evaluate(
        """async () => {
          const canvas = Object.assign(document.createElement('canvas'), {width: 64, height: 48});
          const pen = canvas.getContext('2d');
          pen.fillStyle = 'orange'; pen.fillRect(0, 0, 64, 48); pen.fillStyle = 'blue'; pen.fillRect(9, 9, 30, 20);
          const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
          await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
        }"""
    )
    page.locator("#image").get_by_label("Paste from clipboard").click()
    verdict(page, "unknown")
    expect(page.locator("#verdict")).to_contain_text("Not a part this checkpoint knows")
    screenshot(page, "detect-unknown")
    take_away(page)
    verdict(page, "empty")
    page.locator("#image").get_by_label("Capture from camera").click()
    page.locator("#image").get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#image video')?.videoWidth > 0", timeout=WAIT)
    page.locator("#image").get_by_label("capture photo").click()
    verdict(page, "unknown")


def test_downloads(page, pill, tmp_path):
    upload(page, pill / f"test/{DEFECT}.png")
    verdict(page, "anomalous")

    def fetch(label: str) -> Path:
        with page.expect_download(timeout=WAIT) as started:
            page.get_by_role("button", name=label).click()
        started.value.save_as(tmp_path / started.value.suggested_filename)
        return tmp_path / started.value.suggested_filename

    with zipfile.ZipFile(fetch("Maps (.npy)")) as archive:
        score_map = np.load(io.BytesIO(archive.read("score_map.npy")))
        assert len(archive.namelist()) == 7
    assert score_map.shape == (320, 320) and score_map.dtype == np.float32
    with zipfile.ZipFile(fetch("Maps (16-bit PNG)")) as archive:
        levels = np.asarray(Image.open(io.BytesIO(archive.read("score_map.png"))))
        assert json.loads(archive.read("scale.json"))["score_map.png"] == {"0": 0.0, "65535": 1.0}
    expect(page.locator("#file")).to_be_hidden()
    assert levels.dtype == np.uint16 and np.abs(levels / 65535 - score_map).max() < 1e-4
    result = json.loads(fetch("Result (JSON)").read_text())
    assert result["label"] == "anomalous" and result["file"] == "003.png" and result["regions"]
    figure = fetch("Figure (PNG)")
    assert figure.name == "003_figure.png" and Image.open(figure).size[0] > 1000


def test_an_unreadable_file_is_one_sentence(page, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"no image at all")
    upload(page, tmp_path / "photo.png")
    verdict(page, "error")
    expect(page.locator("#verdict")).to_contain_text("not an image that can be read: photo.png")
    text = page.locator("body").inner_text()
    assert "photo.png" in text and "Traceback" not in text and "/tmp" not in text
    screenshot(page, "detect-error")


def test_the_checkpoint_can_be_changed(page, pill, tmp_path):
    """Another checkpoint checks the image again, shows its card and its examples; an unknown one is one sentence."""
    upload(page, pill / f"test/{DEFECT}.png")
    verdict(page, "anomalous")
    box = page.locator("#checkpoint input")
    box.fill("uranet-demo-ring")
    box.press("Enter")
    verdict(page, "unknown")
    expect(page.locator("#examples")).to_contain_text("blocked hole")
    page.get_by_text("About this checkpoint").click()
    expect(page.locator("#card")).to_contain_text("image AUROC")
    screenshot(page, "picker-card")
    box.fill("nobody/uranet-nothing")
    box.press("Enter")
    expect(page.get_by_text("no checkpoint nobody/uranet-nothing")).to_be_visible(timeout=WAIT)
    assert "/tmp" not in page.locator("body").inner_text() and str(ROOT) not in page.locator("body").inner_text()
    screenshot(page, "picker-error")


@pytest.mark.parametrize("then", ["removed", "replaced"])
def test_a_photo_that_has_left_gets_no_verdict(page, demo, pill, tmp_path, monkeypatch, then):
    """It left before its turn came, as another visitor's photo was checked first."""
    begun, go_on, analyse = threading.Event(), threading.Event(), detect.analyse

    def slow(*arguments):
        begun.set()
        assert go_on.wait(WAIT / 1000)
        return analyse(*arguments)

    monkeypatch.setattr(detect, "analyse", slow)
    good = tmp_path / f"{tmp_path.name}.png"  # no result of this name is kept, however often the test runs
    shutil.copy(pill / "test/good/000.png", good)
    others = Client(demo.local_url, verbose=False)
    first = others.submit(handle_file(str(good)), "pill", 0.5, api_name="/detect")
    assert begun.wait(WAIT / 1000)
    Image.open(pill / f"test/{DEFECT}.png").save(tmp_path / "defect.bmp")  # not one that was checked before
    upload(page, tmp_path / "defect.bmp")
    assert settles(page, lambda: len(demo._queue) == 1)
    verdict(page, "empty")
    page.evaluate(
        """() => { window.seen = [];
          const card = document.querySelector('#verdict');
          new MutationObserver(() => window.seen.push(card.innerText)).observe(card, {subtree: true, childList: true}); }"""
    )
    if then == "removed":
        take_away(page)
        assert settles(page, lambda: len(demo._queue) == 0)
    else:
        upload(page, good)
    go_on.set()
    assert first.result(timeout=WAIT / 1000)["label"] == "normal"
    if then == "removed":
        verdict(page, "empty")
        upload(page, good)  # what came late for the first photo would be here before
    verdict(page, "normal")
    assert not [text for text in page.evaluate("() => window.seen") if "Anomalous" in text]


def test_sixteen_bit_images_arrive_whole(page, pill, tmp_path):
    """A 16-bit file is not clipped on its way to the model: its verdict is that of the same picture in 8 bits."""
    grey = Image.open(pill / f"test/{DEFECT}.png").convert("L")
    grey.save(tmp_path / "8.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "16.png")
    scores = []
    for name in ("8.png", "16.png"):
        upload(page, tmp_path / name)
        score = page.locator("#verdict .verdict-score b").first
        expect(score).to_be_visible(timeout=WAIT)
        scores.append(float(score.inner_text()))
        take_away(page)
        verdict(page, "empty")
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)


def test_the_endpoints(address, pill, pill_checkpoint):
    client = Client(address, verbose=False)
    path = str(pill / f"test/{DEFECT}.png")
    result = client.predict(handle_file(path), api_name="/detect")
    expected = load_detector(pill_checkpoint)(path)
    assert result["label"] == expected["label"] == "anomalous"
    assert result["score"] == pytest.approx(expected["score"], rel=1e-5)
    assert result["image_size"] == [320, 320] and result["checkpoint"] == "pill" and result["strangeness"] < 1
    left, top, width, height = result["regions"][0]["box"]
    mask = load_mask(pill / f"ground_truth/{DEFECT}_mask.png", None)
    assert mask[top : top + height, left : left + width].any()
    lenient = client.predict(handle_file(path), threshold=0.95, api_name="/detect")
    assert lenient["label"] == "review" and lenient["regions"] == [] and lenient["score"] == result["score"]
    ring = client.predict(handle_file(path), "uranet-demo-ring", api_name="/detect")
    assert ring["label"] == "unknown" and ring["checkpoint"] == "uranet-demo-ring"
    known = {row["name"]: row for row in client.predict(api_name="/checkpoints")}
    assert known["pill"]["loaded"] and known["pill"]["image_size"] == 128
    assert known["uranet-demo-ring"]["image_auroc"] > 0.9
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {"/detect", "/checkpoints"} <= set(endpoints)
    required = [p["parameter_name"] for p in endpoints["/detect"]["parameters"] if not p["parameter_has_default"]]
    assert required == ["image"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_of_make_demo(browse, demo_address, dark):
    """A click on a drawn defect shows it, at any width; a good part stays calm. The picture in the README is made here."""
    look = "dark" if dark else "light"
    with browse(demo_address, dark=dark) as page:
        verdict(page, "empty")
        screenshot(page, f"detect-empty-{look}")
        scratch = page.locator("#examples").get_by_text("scratch", exact=True)
        expect(scratch).to_be_visible(timeout=WAIT)
        page.locator("#examples").get_by_text("crack", exact=True).scroll_into_view_if_needed()
        before = scratch.bounding_box()
        for example, kind in (("scratch", "anomalous"), ("good", "normal"), ("crack", "anomalous")):
            page.locator("#examples").get_by_text(example, exact=True).click()
            verdict(page, kind)
            calm = kind == "normal"
            assert settles(page, lambda calm=calm: np.array_equal(*plain_and_glowing(page)) == calm)
            screenshot(page, f"detect-{example}-{look}")
        assert scratch.bounding_box() == before, "what was clicked moves away from under the pointer"
        if picture := os.environ.get("URA_HF_SCREENSHOT"):
            page.screenshot(path=picture, full_page=True)
    with browse(demo_address, PHONE, dark) as page:
        page.locator("#examples").get_by_text("crack", exact=True).click()
        verdict(page, "anomalous")
        plain_and_glowing(page)
        screenshot(page, f"detect-phone-{look}")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
        tops = [page.locator(f"#{name}").bounding_box()["y"] for name in ("image", "verdict", "findings", "controls")]
        assert tops == sorted(tops)


def test_the_keyboard_is_enough(browse, demo_address):
    """Tab and Enter alone get from the picker over the examples to a verdict and its sliders."""
    with browse(demo_address) as page:
        expect(page.locator("#examples button").first).to_be_visible(timeout=WAIT)
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.closest('[id]:not([id^=component])')?.id"))
            if page.evaluate("document.activeElement.innerText") == "scratch":
                break
        page.keyboard.press("Enter")
        verdict(page, "anomalous")
        assert "checkpoint" in reached and "image" in reached
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.closest('[id]:not([id^=component])')?.id"))
        assert "threshold" in reached and "strength" in reached


def test_a_drawn_part_of_another_kind_is_said(browse, demo_address, tmp_path):
    Image.fromarray(demo_image("cloth", 1)[0]).save(tmp_path / "cloth.png")
    with browse(demo_address, PHONE) as page:
        upload(page, tmp_path / "cloth.png")
        verdict(page, "unknown")
        expect(page.locator("#verdict")).to_contain_text("like what uranet-demo-ring was trained on")


@pytest.fixture
def app(monkeypatch, tmp_path):
    """The module of app.py, which changes nothing of this process but its temporary folder."""
    monkeypatch.syspath_prepend(ROOT)
    module = importlib.import_module("app")
    monkeypatch.setattr(module, "signal", SimpleNamespace(signal=lambda *_: None, SIGTERM=0, default_int_handler=None))
    monkeypatch.setattr(module, "gc", SimpleNamespace(disable=int, freeze=int, enable=int))
    monkeypatch.setattr(image_checks, "MAX_PIXELS", image_checks.MAX_PIXELS)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for name in ("SPACE_ID", "GRADIO_SHARE", "GRADIO_SERVER_NAME"):
        monkeypatch.delenv(name, raising=False)
    return module


def test_a_wrong_checkpoint_is_one_sentence(app, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app.py", "--checkpoint", str(tmp_path)])
    assert app.main() == 2
    said = capsys.readouterr().err
    assert str(tmp_path) in said and said.startswith("app.py: ") and said.count("\n") == 1


@pytest.fixture
def started(app, pill_checkpoint, monkeypatch):
    """Starts app.py with arguments and gives the store of its page, which is not launched."""
    seen, links = [], []
    address = "http://127.0.0.1:7860/"
    launched = SimpleNamespace(
        launch=lambda **given: links.append(given["share"]), local_url=address, block_thread=lambda: None
    )
    monkeypatch.setattr(page_module, "build_demo", lambda *given: seen.append(given) or launched)

    def start(*arguments):
        monkeypatch.setattr(sys, "argv", ["app.py", "--checkpoint", str(pill_checkpoint), *arguments])
        assert app.main() == 0
        store, checkpoint = seen.pop()
        assert checkpoint == "pill" and store.describe()[0]["loaded"]
        assert links.pop() is (os.environ.get("GRADIO_SHARE") == "True"), (
            "Gradio chooses by the machine if nothing is said"
        )
        return store

    return start


@pytest.mark.parametrize(
    ("arguments", "environment", "public"),
    [
        ([], {}, False),
        ([], {"GRADIO_SHARE": "False"}, False),
        (["--shared"], {}, False),
        (["--public"], {}, True),
        (["--host", "0.0.0.0"], {}, True),
        (["--host", "0.0.0.0", "--shared"], {}, True),
        ([], {"SPACE_ID": "you/uranet"}, True),
        (["--shared"], {"SPACE_ID": "you/uranet"}, True),
        ([], {"GRADIO_SHARE": "True"}, True),
    ],
)
def test_the_page_knows_whether_its_visitors_are_strangers(started, monkeypatch, arguments, environment, public):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = started(*arguments)
    assert store.public is public and store.private is (public and "--shared" not in arguments)
    assert (store._hub.cache is not None) is public


def test_the_page_prints_its_address_and_offers_no_public_link(app, monkeypatch, capsys):
    monkeypatch.setattr(gr.Blocks, "block_thread", lambda demo: demo.close(verbose=False))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(sys, "argv", ["app.py", "--port", str(port)])
    assert app.main() == 0
    said = capsys.readouterr().out
    assert said.endswith(f"The page: http://127.0.0.1:{port}/ (Ctrl+C stops it)\n") and "share=True" not in said


def test_sharing_what_is_taught_shares_no_token(started, pill_checkpoint, monkeypatch):
    """`--shared` opens to all what was taught, and nothing else."""
    files = {file.name: file.read_bytes() for file in pill_checkpoint.iterdir() if file.is_file()}
    HUB.add_repo("you/uranet-secret-pill", files, private=True)
    monkeypatch.setenv("HF_TOKEN", HUB.token)
    store = started("--host", "0.0.0.0", "--shared")
    with pytest.raises(UserError, match="not there, or private"):
        store.folder("you/uranet-secret-pill", "you")
    assert store.add(pill_checkpoint, "part", "me") in store.names("you")


def test_without_gradio_the_command_that_installs_it_is_named(app, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in [name for name in sys.modules if name.startswith("ura_hf.demo.")]:
        if getattr(sys.modules[name], "gr", None) is not None:  # as if nothing had imported it yet
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["app.py"])
    assert app.main() == 2
    said = capsys.readouterr().err
    assert "app.py: the page needs the package gradio, which is not installed: " in said and "[demo]" in said
