"""Single frames of a video, decoded as they are asked for (PyAV)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import UserError
from .image_checks import DECODE_ERRORS, check_pixels, damaged, optional_package

MOST_SKIPPED = 32  # frames that are decoded and left out on the way to the next one; farther ahead the file is searched


class Video:
    """A video file of which frames are read, fastest in their order; for one thread."""

    def __init__(self, path: Path) -> None:
        av = optional_package("av", "av", f"{path} is a video, which")
        self.name = str(path)
        try:
            self.container = av.open(str(path))
            if not self.container.streams.video:
                raise UserError(f"video without pictures: {path}; remove it")
            self.stream = self.container.streams.video[0]
            check_pixels(self.stream.width, self.stream.height, self.name)
            packets = self.container.demux(self.stream)
            self.times: list[int] = sorted({packet.pts for packet in packets if packet.pts is not None})
        except UserError:
            raise
        except DECODE_ERRORS as error:
            raise damaged(self.name, error) from error
        self._next: int | None = None
        self._frames: Any = None

    def numbers(self) -> list[int]:
        """The numbers of its frames, from 1."""
        return list(range(1, len(self.times) + 1))

    def read(self, number: int, name: str, given: Any = None) -> np.ndarray:
        """Frame `number` from 1, upright, uint8 RGB (H, W, 3), which has its own scale."""
        try:
            wanted = self.times[number - 1]
            if self._next is None or not 0 <= number - self._next <= MOST_SKIPPED:
                self.container.seek(wanted, stream=self.stream)
                self._frames = self.container.decode(self.stream)
            self._next = number + 1
            return upright(next(frame for frame in self._frames if frame.pts is not None and frame.pts >= wanted))
        except (*DECODE_ERRORS, StopIteration) as error:
            self._next = None
            raise damaged(name, error) from error


def upright(frame: Any) -> np.ndarray:
    """A decoded frame as uint8 RGB (H, W, 3), turned as a phone's video says."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
