"""A page started for a measurement or a test."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
WAIT = 300  # seconds for the first answer


@contextmanager
def started_page(
    *arguments: object, env: dict[str, str] | None = None, folder: Path = ROOT
) -> Iterator[tuple[str, psutil.Process, float]]:
    """Address and process of a folder's app.py that runs inside the block, and the seconds until it answered."""
    with answering(
        lambda port: [sys.executable, "app.py", "--port", str(port), *map(str, arguments)], folder, env
    ) as found:
        yield found


@contextmanager
def answering(
    command: Callable[[int], list[str]], folder: Path, env: dict[str, str] | None
) -> Iterator[tuple[str, psutil.Process, float]]:
    """As `started_page`, of any command that serves at a port of this machine; it is called in the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    page = subprocess.Popen(command(port), cwd=folder, env=env, stdout=subprocess.DEVNULL)
    try:
        started = time.monotonic()
        while not _answers(address):
            if page.poll() is not None or time.monotonic() - started > WAIT:
                raise RuntimeError(f"app.py stopped, or did not answer within {WAIT} seconds")
            time.sleep(0.2)
        yield address, psutil.Process(page.pid), time.monotonic() - started
    finally:
        page.terminate()
        page.wait(30)


def mebibytes(process: psutil.Process) -> int:
    """Resident memory of a process."""
    return round(process.memory_info().rss / 2**20)


def mapped_mebibytes(process: psutil.Process) -> int:
    """The part of it that is mapped files, nearly all libraries, which the system can drop; 0 where it isn't told."""
    return round(getattr(process.memory_info(), "shared", 0) / 2**20)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
        return True
    except OSError:
        return False
