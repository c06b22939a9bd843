"""A real Chromium and pages to open in it; a plugin, so that all tests of a session share its fixtures."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pytest

if TYPE_CHECKING:
    import gradio as gr
    from playwright.sync_api import BrowserContext, Page, Request

    from ura_hf.demo.store import Detectors

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium") or "/usr/bin/chromium"
"""The same browser without windows draws in half of the time."""
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
SCREENSHOTS = Path(__file__).resolve().parents[2] / "screenshots"
DESKTOP, PHONE, HEIGHT = 1280, 390, 900  # widths and height of a tab [pixels]
WAIT = 120_000  # ms
RERUNS = 2
STREAMS: WeakKeyDictionary[Page, set[Request]] = WeakKeyDictionary()  # those open between a tab and its server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in the browser may be run again: Gradio's client forgets an event that begins just when its stream is closed.

    The server says `close_stream` once no event is pending; the client then aborts the stream, and with it an event that was
    accepted meanwhile ("Connection errored out"). On a busy machine this meets one test in some hundreds.
    """
    for item in items:
        if "browse" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.flaky(reruns=RERUNS))


@pytest.fixture(scope="session")
def browse() -> Iterator[Callable[..., AbstractContextManager[Page]]]:
    """`with browse(address, width, dark) as page` is a tab on a page, as `open_page`.

    The tabs share their cache, so that only the first one fetches the page's scripts.
    """
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists():
        pytest.skip("no Chromium: apt-get install chromium-headless-shell")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(permissions=["camera", "clipboard-read", "clipboard-write"])
        yield partial(open_page, context)
        browser.close()


@contextmanager
def open_page(context: BrowserContext, address: str, width: int = DESKTOP, dark: bool = False) -> Iterator[Page]:
    """A new tab on the page; fails if it asks another host or a script of it fails."""
    tab = context.new_page()
    tab.set_viewport_size({"width": width, "height": HEIGHT})
    tab.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
    hosts: set[str] = set()
    tab.on("request", lambda request: hosts.add(re.sub(r"^\w+://([^/:]*).*", r"\1", request.url)))
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    streams = STREAMS[tab] = set()
    tab.on("request", lambda request: streams.add(request) if "/queue/data" in request.url else None)
    for ended in ("requestfinished", "requestfailed"):
        tab.on(ended, lambda request: streams.discard(request))
    try:
        tab.goto(f"{address}?__theme={'dark' if dark else 'light'}")
        yield tab
        outside = {host for host in hosts if host not in ("127.0.0.1", "localhost") and not host.startswith("data")}
        assert not {host for host in outside if "." in host}, f"the page asked other hosts: {outside}"
        assert not errors
    finally:
        tab.close()


def calm(page: Page) -> None:
    """Wait until no event of the page is at work: one that begins just when Gradio closes the stream of others fails."""
    quiet = 0
    while quiet < 5:
        page.wait_for_timeout(100)
        quiet = 0 if STREAMS[page] else quiet + 1


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the temporary files of `demo_address`."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def demo_address(server_folder: Path) -> Iterator[str]:
    """The page of `make demo` with a drawn part: a process of its own, no network; it leaves no file when it stops."""
    from started_page import started_page

    environment = {**os.environ, "TMPDIR": str(server_folder), "OMP_NUM_THREADS": "1"}
    environment.pop("GRADIO_TEMP_DIR", None)
    with started_page("--checkpoint", "uranet-demo-ring", env=environment) as (address, _, _):
        yield address
    assert [path for path in server_folder.rglob("*") if path.is_file()] == []


@contextmanager
def launched(store: Detectors, start: str) -> Iterator[gr.Blocks]:
    """A page in this process, which runs inside the block; `local_url` is its address."""
    from ura_hf.demo.page import build_demo, launch_options

    demo = build_demo(store, start)
    demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        yield demo
    finally:
        demo.close()


def settles(page: Page, condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true in a minute."""
    for _ in range(600):
        if condition():
            return True
        page.wait_for_timeout(100)
    return False


def screenshot(page: Page, name: str) -> None:
    """A picture of the whole page in the git-ignored folder `screenshots`, where URA_HF_SCREENSHOTS=1 asks for them."""
    if os.environ.get("URA_HF_SCREENSHOTS") == "1":
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
