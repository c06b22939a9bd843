"""Single frames of a video, decoded as they are asked for (PyAV)."""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .image_checks import DECODE_ERRORS, check_pixels, damaged, optional_package

MOST_SKIPPED = 32  # frames that are decoded and left out on the way to the next one; farther ahead the file is searched


class Video:
    """A video file of which frames are read, fastest in their order; for one thread.

    A frame's number is its place among those that are decoded from the start on. An AVI holds no times of frames, and those
    that FFmpeg makes up are other ones after a search, so it is searched only where every frame stands alone.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._times: list[Any] = []  # of the frames that were decoded, from the first on
        try:
            self._open()
            check_pixels(self.stream.width, self.stream.height, self.name)
            self._searchable = self.container.format.name != "avi" or self.stream.codec_context.codec.intra_only
            packets = self.container.demux(self.stream)
            self._count = sum(1 for packet in packets if packet.size and not packet.is_discard)
        except UserError:
            raise
        except DECODE_ERRORS as error:
            raise damaged(self.name, error) from error

    def _open(self) -> None:
        av = optional_package("av", "av", f"{self.name} is a video, which")
        self._next = 1
        self._frames: Any = None
        self.container = av.open(self.name)
        if not self.container.streams.video:
            raise UserError(f"video without pictures: {self.name}; remove it")
        self.stream = self.container.streams.video[0]

    def numbers(self) -> list[int]:
        """The numbers of its frames, from 1."""
        return list(range(1, self._count + 1))

    def read(self, number: int, name: str, given: Any = None) -> np.ndarray:
        """Frame `number` from 1, upright, uint8 RGB (H, W, 3), which has its own scale."""
        try:
            self._go_before(number)
            while self._next < number:
                self._decode()
            frame = self._decode()
            if isinstance(frame, Exception):
                raise frame
            return upright(frame)
        except (*DECODE_ERRORS, StopIteration) as error:
            raise damaged(name, error) from error

    def _go_before(self, number: int) -> None:
        """Go to where the next frame is this one, or one that is not far ahead of it if that can be."""
        known = min(number, len(self._times))
        if self._frames is not None and known - MOST_SKIPPED <= self._next <= number:
            return
        if not self._search(known):
            self.container.close()
            self._open()
            self._frames = self.container.decode(self.stream)

    def _search(self, number: int) -> bool:
        """Go to a frame that was decoded before, or to one ahead of it, and say whether that is sure."""
        if not (self._searchable and number):
            return False
        try:
            self.container.seek(self._times[number - 1], stream=self.stream)
            frames = self.container.decode(self.stream)
            first = next(frames)
        except (*DECODE_ERRORS, StopIteration):
            return False
        before = bisect_left(self._times, first.pts, hi=number)
        if before == number or self._times[before] != first.pts:
            return False
        self._next, self._frames = before + 1, chain([first], frames)
        return True

    def _decode(self) -> Any:
        """The next frame, or the error of a packet that holds none."""
        try:
            frame: Any = next(self._frames)
            time = frame.pts
        except DECODE_ERRORS as error:
            frame, time = error, None
            self._frames = self.container.decode(self.stream)
        if self._next > len(self._times):
            if time is None or (self._times and self._searchable and self._times[-1] >= time):
                self._searchable = False
            self._times.append(time)
        self._next += 1
        return frame


def upright(frame: Any) -> np.ndarray:
    """A decoded frame as uint8 RGB (H, W, 3), turned as a phone's video says."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
