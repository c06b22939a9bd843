"""A folder of Parquet files with one row an image, written by many machines, so that a second run does only what is missing."""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.addresses import asking, open_address
from ..data.extras import needs_extra
from ..data.files import as_text
from ..data.parquet_images import ENDING
from ..model.errors import UserError
from .results_file import HEADER, refuse_changes

SETTINGS = "_run.json"
VERDICTS, UNREAD = "part", "unread"
"""What the names of files begin with: rows with a verdict, and rows of images without one, which a second run tries again."""
PARTIAL = "_partial-"
OURS = r"-[0-9a-f]{20}" + re.escape(ENDING)
HALF_WRITTEN = re.compile(f"{PARTIAL}[0-9a-f]{{32}}")
"""Names of the files that a run removes at its end; others that begin alike are somebody's own."""
TEXTS = ("image", "label", "problem")


class ResultsFolder:
    """A folder on a disk or at an address of fsspec; its columns are those of `ResultsFile`.

    A part of the images is always in files of the same names, which are written in one step: whoever is ended leaves none of
    them, and whoever does the part again replaces them. Readers of Parquet overlook names that begin with an underscore.
    One run at a time writes there.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def begin(self, settings: Mapping[str, Any], images: Iterable[str]) -> set[str]:
        """Remove what an earlier run left unfinished, and return the names of the images that have a verdict.

        Args:
            settings: JSON of everything that the rows depend on.
            images: Names of the images of the run: rows of these without a verdict are removed, to be done again.

        Raises:
            UserError: The folder can't be used, or holds rows that were made with other settings, or other files.
        """
        files, folder = open_address(self.address)
        with asking(self.address):
            files.invalidate_cache()
            files.makedirs(folder, exist_ok=True)
            names = self._names()
            if SETTINGS in names:
                before = json.loads(files.cat_file(f"{folder}/{SETTINGS}"))
                refuse_changes(self.address, before, settings, "--output")
                self._remove(HALF_WRITTEN)
                self._forget_unread({as_text(name) for name in images})
            elif any(name.endswith(ENDING) for name in names):
                raise UserError(
                    f"{self.address} holds Parquet files that are not of an earlier run: give another --output."
                )
            self._put(SETTINGS, json.dumps(settings, indent=2).encode())
        return {name for column in self._read("image", VERDICTS) for name in column}

    def end(self) -> None:
        """Remove what workers left half written that were ended while they wrote; none may be at work any more."""
        with asking(self.address):
            self._remove(HALF_WRITTEN)

    def write(self, images: Sequence[str], results: Sequence[Mapping[str, Any]]) -> None:
        """Write the results of `answer_all` for a part of the images.

        Raises:
            UserError: They can't be written.
        """
        part = hashlib.sha256(as_text("\n".join(images)).encode()).hexdigest()[:20]
        rows = [{name: _cell(result.get(name)) for name in HEADER} for result in results]
        with asking(self.address):
            self._write(f"{UNREAD}-{part}{ENDING}", [row for row in rows if row["problem"] is not None])
            self._write(f"{VERDICTS}-{part}{ENDING}", [row for row in rows if row["problem"] is None])

    def counts(self) -> Counter[str]:
        """How many rows there are of each label, and without a verdict (`not checked`)."""
        return Counter(
            label or "not checked"
            for kind in (VERDICTS, UNREAD)
            for column in self._read("label", kind)
            for label in column
        )

    def unread(self, images: Iterable[str]) -> list[Path]:
        """Those of the images that have no verdict."""
        own = {as_text(name) for name in images}
        return [Path(name) for column in self._read("image", UNREAD) for name in column if name in own]

    def _forget_unread(self, images: set[str]) -> None:
        """Remove the rows of images without a verdict; those of other images stay."""
        with needs_extra("ray", "reading Parquet"):
            import pyarrow.parquet
        files, folder = open_address(self.address)
        for name in self._names():
            if re.fullmatch(f"{UNREAD}{OURS}", name):
                rows = pyarrow.parquet.read_table(io.BytesIO(files.cat_file(f"{folder}/{name}"))).to_pylist()
                left = [row for row in rows if row["image"] not in images]
                if len(left) < len(rows):
                    self._write(name, left)

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        import pyarrow.parquet

        if rows:
            content = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, _schema()), content)
            self._put(name, content.getvalue())
            return
        files, folder = open_address(self.address)
        if files.exists(f"{folder}/{name}"):
            files.rm_file(f"{folder}/{name}")

    def _put(self, name: str, content: bytes) -> None:
        """Write a file in one step."""
        files, folder = open_address(self.address)
        partial = f"{folder}/{PARTIAL}{uuid.uuid4().hex}"
        files.pipe_file(partial, content)
        files.mv(partial, f"{folder}/{name}")

    def _remove(self, kind: re.Pattern[str]) -> None:
        files, folder = open_address(self.address)
        for name in self._names():
            if kind.fullmatch(name):
                files.rm_file(f"{folder}/{name}")

    def _names(self) -> list[str]:
        """Of the files in the folder itself; a subfolder may be that of another run."""
        files, folder = open_address(self.address)
        files.invalidate_cache()
        return [path.rpartition("/")[2] for path in files.find(folder, maxdepth=1)]

    def _read(self, column: str, kind: str) -> Iterator[list[Any]]:
        """A column of all files of a kind, in pieces."""
        with needs_extra("ray", "reading Parquet"):
            import pyarrow.dataset
        files, folder = open_address(self.address)
        with asking(self.address):
            paths = [f"{folder}/{name}" for name in sorted(self._names()) if re.fullmatch(f"{kind}{OURS}", name)]
            if not paths:
                return
            table = pyarrow.dataset.dataset(paths, _schema(), "parquet", files)
            for batch in table.to_batches(columns=[column]):
                yield batch.column(0).to_pylist()


def _cell(value: Any) -> Any:
    return as_text(value) if isinstance(value, str) else value


def _schema() -> Any:
    import pyarrow

    return pyarrow.schema([(name, pyarrow.string() if name in TEXTS else pyarrow.float64()) for name in HEADER])
