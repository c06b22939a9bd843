"""More images than one machine takes: what inputs name, in parts that are read wherever there is room."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from ..model.errors import UserError
from ..model.images import IMAGE_SUFFIXES
from .addresses import Fetched, asking, beside, fetch, full_address, is_disk, is_remote, open_address
from .companions import companions_by_name
from .folder import natural_key
from .layouts import manifest, plain
from .left_out import joined, left_out_of
from .parquet_images import ENDING, read_paths, read_rows, row_groups
from .prefetch import read_ahead
from .samples import LeftOut

FETCHED_AT_ONCE, FETCHED_AHEAD = 16, 32  # images that are not on a disk, beside the model


@dataclass(frozen=True)
class Images:
    """Images that are read together.

    Args:
        names: As results name them: absolute paths, addresses, or rows of a table, counted from 1: ``s3://a/b.parquet#7``.
        table: The Parquet file that holds all of them, if they are not files.
    """

    names: Sequence[str]
    table: str = ""

    def parts(self, size: int) -> Iterator[Images]:
        """The same, at most `size` at a time."""
        for start in range(0, len(self.names), size):
            yield Images(self.names[start : start + size], self.table)

    def read(self) -> Iterator[Path | Fetched]:
        """The images one by one, as sources for `load_image`; those that are not on a disk are fetched ahead."""
        if self.table:
            yield from read_rows(self.table, self.names)
        else:
            yield from read_ahead(_source, self.names, FETCHED_AT_ONCE, FETCHED_AHEAD)


def _source(name: str) -> Path | Fetched:
    return fetch(name) if is_remote(name) else Path(name)


def find_images(inputs: Iterable[str]) -> tuple[list[Images], LeftOut]:
    """The images that inputs name, each once: first files, then row groups of tables that hold images; and what is left out.

    Masks and heatmaps of other images are left out. Of folders that are not on a disk they are told by their names alone.

    Args:
        inputs: Folders with their subfolders, patterns such as ``s3://bucket/*.png``, CSV or JSON Lines files with a column
            image, Parquet files or folders of them, or single images. A table's paths are relative to its folder. A pattern names
            CSV and JSON Lines files where it names nothing else.

    Raises:
        UserError: An input does not exist, can't be read, or names no images.
    """
    files: dict[str, None] = {}
    tables: dict[str, None] = {}
    left_out: LeftOut = {}
    for given in inputs:
        with asking(given):
            named, beside_them = _expand(given)
            left_out = joined(left_out, beside_them)
            for one in named:
                if one.lower().endswith(manifest.ENDINGS):
                    files.update(dict.fromkeys(_read_manifest(one)))
                elif not one.lower().endswith(ENDING):
                    files[one] = None
                elif (paths := read_paths(one)) is not None:
                    files.update(dict.fromkeys(paths))
                else:
                    tables[one] = None
    groups = [Images(list(files))] if files else []
    for table in tables:
        with asking(table):
            groups += [Images(rows, table) for rows in row_groups(table)]
    return groups, left_out


def _expand(given: str) -> tuple[list[str], LeftOut]:
    """Full addresses of the images and tables that an input names, and what a folder holds beside."""
    files, path = open_address(given)
    left_out: LeftOut = {}
    if has_magic(path) and not files.exists(path):
        matched = files.glob(path)
        found = _with_endings(matched, (*IMAGE_SUFFIXES, ENDING)) or _with_endings(matched, manifest.ENDINGS)
    elif files.isdir(path):
        found, left_out = _below(files, path)
    elif files.exists(path):
        found = [path]
    else:
        raise UserError(f"{given} does not exist: check the address.")
    if not found:
        raise UserError(f"{given} names no images: give a folder, a pattern or a table of images, or one image.")
    return [full_address(files, one) for one in sorted(found, key=natural_key)], left_out


def _below(files: Any, folder: str) -> tuple[list[str], LeftOut]:
    """The images below a folder, or where there are none, the Parquet files; and what else is there."""
    shown = _shown(files, folder)
    if is_disk(files):
        found = plain.read(Path(folder), True)
        photos = [sample.image for sample in found.train]
        images, left_out = list(map(str, photos)), left_out_of(found.train_folders, photos, found.train_left_out)
    else:
        below = {PurePosixPath(one).relative_to(folder): one for one in _with_endings(shown, IMAGE_SUFFIXES)}
        masks = companions_by_name(below)
        images = [one for path, one in below.items() if path not in masks]
        others = [Path(one) for one in shown if PurePosixPath(one).relative_to(folder) not in below]
        left_out = joined({"companions": list(map(Path, masks)), "other_files": others})
    if images:
        return images, left_out
    start = len(PurePosixPath(folder).parts)  # readers of Parquet overlook names that begin with an underscore
    tables = [one for one in shown if not any(part.startswith("_") for part in PurePosixPath(one).parts[start:])]
    return _with_endings(tables, (ENDING,)), {}


def _shown(files: Any, folder: str) -> list[str]:
    """All files below a folder, nothing hidden."""
    start = len(PurePosixPath(folder).parts)
    return [one for one in files.find(folder) if not any(p.startswith(".") for p in PurePosixPath(one).parts[start:])]


def _with_endings(paths: Iterable[str], endings: Container[str]) -> list[str]:
    return [path for path in paths if PurePosixPath(path).suffix.lower() in endings]


def _read_manifest(address: str) -> list[str]:
    files, path = open_address(address)
    rows = manifest.rows_of(files.cat_file(path), address)
    return [beside(address, str(row["image"]).strip()) for _, row in rows]
