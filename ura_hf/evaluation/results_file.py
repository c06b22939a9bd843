"""The CSV of a run that grows image by image, so that a second run does only what is missing."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from ..data.files import read_json, write_json, write_whole
from ..model.errors import UserError
from .batch import COLUMNS, as_cell, as_cells

HEADER = ("image", *COLUMNS[1:])
"""As the table of a batch, whose images come under names of their senders."""


class ResultsFile:
    """A CSV with one row an image. Every row is on its way to the disk before the next image is answered.

    FILE.run.json beside it holds what the rows were made with, FILE.boxes.jsonl the boxes of each image if wanted,
    FILE.names.json what the files of each image are called, and FILE.lock is held while a run is at work.

    Args:
        path: The CSV. If it is there, the run goes on: of the run's images, the rows of those without a verdict, and of those
            whose files were written after it, are removed, to be done again. Rows of other images stay.
        settings: JSON of everything that the rows depend on.
        images: Those of the run, paths or frames.
        boxes: Whether to keep the boxes.

    Raises:
        UserError: The file is not of such a run, or of one with other settings, another run is at work on it, or it can't be
            written.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], images: Sequence[Any], boxes: bool = False) -> None:
        self.path = path
        self._images = images
        self._boxes_path = path.with_name(f"{path.name}.boxes.jsonl") if boxes else None
        self._names_path = path.with_name(f"{path.name}.names.json")
        self._done: set[str] = set()
        self._lock = _lock(path)
        try:
            _check_settings(path, settings)
            self._clean()
            write_json(_settings_path(path), settings)
            self._file = path.open("ab", buffering=0)  # a row is one call of the system: there as a whole, or not
            self._boxes = self._boxes_path.open("ab", buffering=0) if self._boxes_path else None
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError):
                raise _not_written(path, error) from error
            raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._boxes is not None:
            self._boxes.close()
        self._lock.release()

    def missing(self) -> list[Any]:
        """The images of the run that have no row yet."""
        return [image for image in self._images if as_cell(str(image)) not in self._done]

    def add(self, result: Mapping[str, Any]) -> None:
        """Add the row of a result of `answer_all`.

        Raises:
            UserError: It can't be written.
        """
        line = io.StringIO(newline="")
        csv.writer(line).writerow(as_cells(result.get(name) for name in HEADER))
        try:
            if self._boxes is not None and "boxes" in result:
                entry = {name: result[name] for name in ("image", "image_size", "boxes")}
                self._boxes.write(json.dumps(entry).encode() + b"\n")
            self._file.write(line.getvalue().encode())
        except OSError as error:
            raise _not_written(self.path, error) from error

    def names(self) -> dict[str, str]:
        """What `keep_names` was last given."""
        return read_json(self._names_path) or {}

    def keep_names(self, names: Mapping[str, str]) -> None:
        """Remember what the files of each image are called, before they are written.

        Raises:
            UserError: It can't be written.
        """
        try:
            write_json(self._names_path, names)
        except OSError as error:
            raise _not_written(self._names_path, error) from error

    def counts(self) -> dict[str, int]:
        """How many rows there are of each label, and without a verdict (`not checked`)."""
        counts: dict[str, int] = {}
        for row in _rows(self.path):
            label = row[HEADER.index("label")] or "not checked"
            counts[label] = counts.get(label, 0) + 1
        return counts

    def boxes(self) -> Iterator[dict[str, Any]]:
        """`image`, `image_size` [H, W] and `boxes` of every image with a verdict."""
        if self._boxes_path is not None and self._boxes_path.exists():
            with self._boxes_path.open("rb") as file:
                yield from (json.loads(line) for line in file if line.endswith(b"\n"))

    def _clean(self) -> None:
        """Leave only whole rows in the files, of the run's images those that stay, and remember their images."""
        if not self.path.exists():
            write_whole(self.path, lambda partial: _write_rows(partial, iter(())))
            self._names_path.unlink(missing_ok=True)
            if self._boxes_path is not None:
                self._boxes_path.unlink(missing_ok=True)
            return

        written, own = self.path.stat().st_mtime, {as_cell(str(image)): image for image in self._images}

        def remembered() -> Iterator[list[str]]:
            for row in _rows(self.path):
                image, problem = own.get(row[0]), row[HEADER.index("problem")]
                if problem and image is None:
                    yield row
                elif not (problem or row[0] in self._done or (image is not None and _changed_after(image, written))):
                    self._done.add(row[0])
                    yield row

        write_whole(self.path, lambda partial: _write_rows(partial, remembered()))
        if self._boxes_path is not None:
            write_whole(self._boxes_path, self._copy_boxes)

    def _copy_boxes(self, partial: Path) -> None:
        left = set(self._done)
        with partial.open("wb") as file:
            for entry in self.boxes():
                if (cell := as_cell(entry["image"])) in left:
                    left.remove(cell)
                    file.write(json.dumps(entry).encode() + b"\n")
        if left:
            raise UserError(f"{self._boxes_path} lacks images that {self.path} has: give another --csv.")


def _changed_after(image: Any, written: float) -> bool:
    """Whether the file of an image or a frame is there and was written later."""
    with suppress(OSError, ValueError):
        return os.stat(image).st_mtime > written
    return False


def _lock(path: Path) -> FileLock:
    """Hold the file; the system frees it when the process dies."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another run is at work on {path}: wait for it, or give another --csv.") from error
    except OSError as error:
        raise _not_written(path, error) from error
    return lock


def _settings_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.run.json")


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise UserError unless the file is new, or was begun with the same settings."""
    if not path.exists():
        return
    before = read_json(_settings_path(path)) if path.is_file() else None
    if before is None:
        raise UserError(f"{path} is there, but it is not the CSV of an earlier run: give another --csv.")
    refuse_changes(path, before, settings, "--csv")


def refuse_changes(place: Any, before: Mapping[str, Any], settings: Mapping[str, Any], option: str) -> None:
    """Raise UserError, which names `option`, if the results at a place were begun with other settings."""
    names = " and ".join(name for name in {**before, **settings} if before.get(name) != settings.get(name))
    if names:
        raise UserError(f"{place} was begun with another {names}: give another {option}, or the same {names}.")


def _rows(path: Path) -> Iterator[list[str]]:
    """The whole rows of the file, without its header; the last one may be torn."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != HEADER:
            raise UserError(f"{path} has not the columns {', '.join(HEADER)}: give another --csv.")
        yield from (row for row in reader if len(row) == len(HEADER))


def _write_rows(path: Path, rows: Iterator[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(rows)


def _not_written(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} can't be written ({error.strerror}): choose another place, or make room.")
