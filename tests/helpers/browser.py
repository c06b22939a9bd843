"""A started app.py and a real Chromium on it, for the tests of the page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from playwright.sync_api import Page, sync_playwright
from started_page import started_page

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a moving test picture
    "--use-fake-ui-for-media-stream",
]
SCREENSHOTS = ROOT / "screenshots"
DESKTOP, PHONE = 1280, 390  # widths, pixels


@contextmanager
def serve(*arguments: object, env: dict[str, str] | None = None) -> Iterator[str]:
    """The address of an app.py that runs inside the block."""
    with started_page(*arguments, env=env) as (address, _, _):
        yield address


@contextmanager
def browse(address: str, width: int = DESKTOP, dark: bool = False) -> Iterator[Page]:
    """A tab of a real Chromium on the page; fails if it asks another host or a script of it fails."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            permissions=["camera", "clipboard-read", "clipboard-write"],
        )
        tab = context.new_page()
        hosts: set[str] = set()
        tab.on("request", lambda request: hosts.add(re.sub(r"^\w+://([^/:]*).*", r"\1", request.url)))
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(f"{address}?__theme={'dark' if dark else 'light'}")
        yield tab
        outside = {host for host in hosts if host not in ("127.0.0.1", "localhost") and not host.startswith("data")}
        assert not {host for host in outside if "." in host}, f"the page asked other hosts: {outside}"
        assert not errors
        browser.close()


def screenshot(page: Page, name: str) -> None:
    """A picture of the whole page in the git-ignored folder `screenshots`."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
