"""Files that hold several images: pages of a TIFF, frames of an animation, a DICOM series or a video."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import UserError
from .image_sources import URL_STARTS
from .pillow_images import decode_page, decode_tiff, open_image, page_numbers, tiff_numbers
from .special_images import HEAD_BYTES, SPECIAL_FORMATS, count_special, read_dicom, read_heif, special_format
from .value_range import ValueRange
from .video import Video

ALL, FIRST, EVERY = "all", "first", re.compile(r"every-([1-9]\d*)")


@dataclass(frozen=True)
class Frame:
    """One image of a file with several, as a source for `load_image`; its text is ``file.tif#2``.

    Args:
        path: The file.
        number: Of the page or frame, from 1.
    """

    path: Path
    number: int

    def __str__(self) -> str:
        return f"{self.path}#{self.number}"

    def __fspath__(self) -> str:
        """The file, for whoever asks for its size or time."""
        return str(self.path)

    @property
    def name(self) -> str:
        """``file.tif#2``"""
        return f"{self.path.name}#{self.number}"

    @property
    def place(self) -> Path:
        """The path that the image would have as a file of its own: ``folder/file#2.tif``."""
        return self.path.with_name(f"{self.path.stem}#{self.number}{self.path.suffix}")


def frames(source: str | Path, which: str = ALL) -> list[Any]:
    """The images of a file as sources for `load_image`: a `Frame` each, or the file itself where it holds one image.

    Nothing is decoded before it is read. A file that can't be opened counts as one image, and reading it says what is wrong.

    Args:
        source: Path of a file. Anything else, such as a URL or an array, is one image.
        which: ``all``, ``first``, or ``every-N``: the first and every Nth after it.

    Raises:
        UserError: `which` is something else.
    """
    step = step_of(which)
    if not isinstance(source, (str, Path)) or str(source).startswith(URL_STARTS):
        return [source]
    path = Path(source)
    try:
        numbers = _open(path).numbers() if path.is_file() else [1]
    except (UserError, OSError):
        return [source]
    if len(numbers) < 2:  # none of a video that was stopped at once
        return [source]
    return [Frame(path, number) for number in (numbers[:1] if step is None else numbers[::step])]


def all_frames(sources: Iterable[Any], which: str = ALL) -> list[Any]:
    """`frames` of many sources, in their order."""
    return [frame for source in sources for frame in frames(source, which)]


def step_of(which: str) -> int | None:
    """From one frame to the next for `which` of `frames`; None for the first alone."""
    if which in (ALL, FIRST):
        return 1 if which == ALL else None
    if not (every := EVERY.fullmatch(str(which))):
        raise UserError(f"frames must be {ALL}, {FIRST} or every-N such as every-10, but got {which!r}; choose one.")
    return int(every[1])


def is_video(source: Any) -> bool:
    """Whether a source is the path of a video by its name, which is not to be read whole."""
    known = isinstance(source, (str, Path)) and not str(source).startswith(URL_STARTS)
    return known and Path(source).suffix.lower() in SPECIAL_FORMATS["video"] and Path(source).is_file()


def read_frame(frame: Frame, given: ValueRange | None) -> np.ndarray:
    """Samples of a frame, as `pillow_images.decode_pil`.

    Every thread keeps the file that it read last open, since most frames need those before them.
    """
    if not frame.path.is_file():
        raise UserError(f"image file not found: {frame.path}; check the path")
    changed = (frame.path, frame.path.stat().st_mtime_ns)
    if getattr(_last, "file", None) != changed:
        _last.reader, _last.file = _open(frame.path), changed
    samples: np.ndarray = _last.reader.read(frame.number, str(frame), given)
    return samples


_last = threading.local()


class _Reader(Protocol):
    def numbers(self) -> list[int]: ...

    def read(self, number: int, name: str, given: ValueRange | None) -> np.ndarray: ...


def _open(path: Path) -> _Reader:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    kind = special_format(head, str(path))
    if kind == "video":
        return Video(path)
    return _Special(path, kind) if kind else _Pages(path)


class _Special:
    """A HEIF or DICOM file, opened anew for every frame, which does not need the others."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind

    def numbers(self) -> list[int]:
        with self.path.open("rb") as file:
            count = count_special(file, self.kind, str(self.path))
        return list(range(1, count + 1))

    def read(self, number: int, name: str, given: ValueRange | None) -> np.ndarray:
        with self.path.open("rb") as file:
            if self.kind == "HEIF":
                return read_heif(file, number - 1, name)
            return read_dicom(file, number - 1, given, name)


class _Pages:
    """A file that Pillow or tifffile opens."""

    def __init__(self, path: Path) -> None:
        self.name, self.file = str(path), path.open("rb")
        self.image = open_image(self.file, self.name)

    def numbers(self) -> list[int]:
        return tiff_numbers(self.file, self.name) if self.image is None else page_numbers(self.image, self.name)

    def read(self, number: int, name: str, given: ValueRange | None) -> np.ndarray:
        if self.image is None:
            return decode_tiff(self.file, name, given, number - 1)
        return decode_page(self.image, name, given, number - 1)
