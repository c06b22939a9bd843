"""Many users at once against a started page: `python benchmarks/load.py`, or `--users 8 --seconds 20` for a short run.

Every user is a real gradio_client that sends drawn parts of its own, one after the other, and compares each answer with what
the pipeline gave for that image before. Figures go to docs/results/load.json; exit code 1 where an answer was wrong or lost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio
import numpy as np
import torch
from gradio_client import Client, handle_file
from PIL import Image, PngImagePlugin
from started_page import ROOT, mapped_mebibytes, mebibytes, started_page

from ura_hf.data.drawn.parts import KINDS, demo_image
from ura_hf.hub.load import load_detector

CHECKPOINT = "uranet-demo-ring"
FIRST_SEED = 80_000  # of the drawn parts, far from those of training and test
TOLERANCE = 1e-4  # of a score; parts differ by far more
SETTLE = 15  # seconds without users before memory is read again


@dataclass
class Part:
    """A drawn part and what the pipeline says of it."""

    path: Path
    score: float
    size: list[int]


@dataclass
class Tally:
    """What came back, over all users."""

    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    longest_queue: int = 0
    positions_told: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def draw_parts(folder: Path, count: int) -> list[Part]:
    """Parts of different sizes, so that no two have the same answer."""
    detect = load_detector(CHECKPOINT)
    parts = []
    for index in range(count):
        defects = (None, *KINDS["ring"][2])
        path = folder / f"part-{index:03d}.png"
        side = 256 + index
        pixels, _ = demo_image("ring", FIRST_SEED + index, defects[index % len(defects)])
        Image.fromarray(pixels).resize((side, 256), Image.Resampling.BILINEAR).save(path)
        parts.append(Part(path, detect(str(path))["score"], [256, side]))
    scores = np.sort([part.score for part in parts])
    assert len({tuple(part.size) for part in parts}) == count and np.diff(scores).min() > 0
    return parts


def use(address: str, parts: list[Part], user: int, until: float, tally: Tally, folder: Path) -> None:
    """One user: sends one part or more until the time is over; each file is new to the server, which so has kept no answer."""
    try:
        client = Client(address, verbose=False)
    except Exception as error:
        tally.lost.append(f"user {user} could not connect: {type(error).__name__}: {error}"[:200])
        return
    order = np.random.default_rng(user).permutation(len(parts))
    number = 0
    while not number or time.monotonic() < until:
        part = parts[order[number % len(order)]]
        name = f"{user}-{number}.png"
        mark = PngImagePlugin.PngInfo()
        mark.add_text("sent as", name)
        with Image.open(part.path) as image:
            image.save(folder / name, pnginfo=mark)
        number += 1
        started = time.monotonic()
        with tally.lock:
            tally.sent += 1
        try:
            job = client.submit(handle_file(str(folder / name)), api_name="/detect")
            while not job.done():
                status = job.status()
                if status.rank is not None:
                    with tally.lock:
                        tally.positions_told += 1
                        tally.longest_queue = max(tally.longest_queue, status.queue_size or 0)
                time.sleep(0.2)
            answer = job.result()
        except Exception as error:
            with tally.lock:
                tally.lost.append(f"{name}: {type(error).__name__}: {error}"[:200])
            continue
        (folder / name).unlink()
        right = (
            answer["file"] == name
            and answer["image_size"] == part.size
            and abs(answer["score"] - part.score) < TOLERANCE
        )
        with tally.lock:
            tally.seconds.append(time.monotonic() - started)
            if not right:
                tally.wrong.append(f"{name}: {answer['file']}, {answer['image_size']}, {answer['score']}")


def run(users: int, seconds: float, count: int = 64) -> dict[str, Any]:
    """Start the page, let the users at it, and say what came of it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parts = draw_parts(folder, count)
        with started_page("--checkpoint", CHECKPOINT) as (address, process, ready):
            in_browser = _first_verdict(address)
            warm_up, tally = Tally(), Tally()
            use(address, parts, 10_000, time.monotonic() + 3, warm_up, folder)
            before = mebibytes(process)
            peak, over = [before], threading.Event()

            def watch() -> None:
                while not over.wait(0.5):
                    peak.append(mebibytes(process))

            threading.Thread(target=watch, daemon=True).start()
            until = time.monotonic() + seconds
            crowd = [
                threading.Thread(target=use, args=(address, parts, user, until, tally, folder)) for user in range(users)
            ]
            for user in crowd:
                user.start()
            for user in crowd:
                user.join()
            time.sleep(min(SETTLE, seconds))
            over.set()
            after, mapped = mebibytes(process), mapped_mebibytes(process)
    waits = np.sort(tally.seconds) if tally.seconds else np.zeros(1)
    return {
        "users": users,
        "seconds": seconds,
        "sent": tally.sent,
        "answered": len(tally.seconds),
        "wrong": tally.wrong,
        "lost": tally.lost,
        "seconds_median": round(float(np.median(waits)), 2),
        "seconds_95_percent": round(float(np.quantile(waits, 0.95)), 2),
        "queue_positions_told": tally.positions_told,
        "longest_queue": tally.longest_queue,
        "first_page_seconds": round(ready, 1),
        "first_verdict_seconds": None if in_browser is None else round(ready + in_browser, 1),
        "memory_before_mib": before,
        "memory_peak_mib": max(peak),
        "memory_every_15_seconds_mib": peak[::30],
        "memory_after_mib": after,
        "memory_after_of_mapped_files_mib": mapped,
        "load_average_at_end": round(os.getloadavg()[0], 1),
    }


def _first_verdict(address: str) -> float | None:
    """Seconds from asking for the page to the verdict on an example in a real Chromium; None where there is none."""
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if chromium is None or find_spec("playwright") is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        started = time.monotonic()
        page.goto(address)
        page.locator("#examples button").nth(1).click(timeout=120_000)
        page.locator("#verdict .verdict:not(.is-empty)").wait_for(timeout=120_000)
        seconds = time.monotonic() - started
        browser.close()
    return seconds


def main() -> int:
    """Run, print and write the figures."""
    parser = argparse.ArgumentParser(description="Many users at once against a started page.")
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results/load.json")
    arguments = parser.parse_args()
    result = {
        "command": "python benchmarks/load.py " + " ".join(sys.argv[1:]),
        "date": f"{date.today():%Y-%m-%d}",
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()}), shared with the users",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "gradio": gradio.__version__},
        "checkpoint": CHECKPOINT,
        **run(arguments.users, arguments.seconds),
    }
    print(json.dumps(result, indent=2))
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if result["wrong"] or result["lost"] or not result["answered"] else 0


if __name__ == "__main__":
    sys.exit(main())
