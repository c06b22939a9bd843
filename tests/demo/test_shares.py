"""The threshold of Detect as shares of good parts: both move together, and the verdict with them, without a new inference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import PHONE, WAIT, launched, screenshot
from conftest import draw_part
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import expect

from ura_hf.demo.analysis import Analysis, analyse
from ura_hf.demo.store import Detectors
from ura_hf.hub.load import load_detector


@pytest.fixture(scope="module")
def demo(checkpoint):
    store = Detectors()
    with launched(store, store.add(checkpoint, "disc")) as blocks:
        yield blocks


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "disc.png"
    Image.fromarray(draw_part(103)[0]).save(path)
    return path


@pytest.fixture(scope="module")
def seen(checkpoint, photo) -> Analysis:
    return analyse(load_detector(checkpoint), str(photo), "disc")


def test_a_share_is_that_of_the_curve(seen):
    """Within the ends of what the photos tell."""
    high, low = seen.rates
    assert seen.share_above(0.5) == pytest.approx(0.05) and seen.threshold_of(0.05) == pytest.approx(0.5)
    for share in (0.4, 0.02, low):
        assert seen.share_above(seen.threshold_of(share)) == pytest.approx(share, rel=1e-3)
    assert seen.threshold_of(1e-9) == seen.threshold_of(low) > 0.5 > seen.threshold_of(high) == seen.threshold_of(1)
    assert seen.share_above(0.01) == pytest.approx(high) and seen.share_above(0.99) == pytest.approx(low)
    assert seen.summary(0.5)["review"] < 0.5 == seen.summary(0.5, 0.0)["review"]


def test_shares_move_the_verdict(browse, demo, photo, seen):
    high, low = seen.rates
    score = seen.about["score"]
    assert seen.threshold_of(high) < score + 0.3 and score < 0.5
    with browse(demo.local_url) as page:
        page.locator("#image input[type=file]").set_input_files(photo)
        card = page.locator("#verdict")
        expect(card).to_contain_text("threshold 0.5", timeout=WAIT)
        took = page.locator(".verdict-detail").inner_text().split("Took")[1]
        share, review = (page.locator(f"#{name} input") for name in ("false-alarms", "review"))
        expect(share).to_have_value("5")
        expect(review).to_have_value("10")
        expect(page.locator("#false-alarms")).to_contain_text(f"tell of {100 * low:.3g} to 50 %")
        share.fill("2")
        expect(card).to_contain_text(f"threshold {round(seen.threshold_of(0.02), 3):g}", timeout=WAIT)
        number = page.locator("#threshold input[type=number]")
        expect(number).to_have_value(f"{round(seen.threshold_of(0.02), 3):g}")
        share.fill("0.00001")  # beyond what the photos tell of
        expect(card).to_contain_text(f"threshold {min(round(seen.threshold_of(low), 3), 0.95):g}", timeout=WAIT)
        share.blur()
        expect(share).not_to_have_value("0.00001")
        number.fill("0.5")
        expect(share).to_have_value("5", timeout=WAIT)
        bar = page.locator("#verdict .scale-bar")
        at_ten = bar.get_attribute("style")
        review.fill("40")
        expect(bar).not_to_have_attribute("style", at_ten, timeout=WAIT)
        assert f"--from:{seen.summary(0.5, 0.4)['review']:.1%}" in bar.get_attribute("style")
        review.fill("0")
        expect(bar).to_have_attribute("style", re.compile("--from:50.0%"), timeout=WAIT)
        assert page.locator(".verdict-detail").inner_text().split("Took")[1] == took
        screenshot(page, "detect-shares")
        page.set_viewport_size({"width": PHONE, "height": 900})
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
        screenshot(page, f"detect-shares-{PHONE}")


def test_the_endpoint_takes_shares(demo, photo, seen):
    client, file = Client(demo.local_url, verbose=False), handle_file(str(photo))
    chosen = client.predict(file, "disc", max_false_alarms=0.02, max_review=0, api_name="/detect")
    assert chosen["threshold"] == chosen["review"] == pytest.approx(seen.threshold_of(0.02))
    with pytest.raises(AppError, match="a share of good images must lie between"):
        client.predict(file, "disc", max_false_alarms=1e-9, api_name="/detect")
