"""Parquet files of images: a column of their paths, or of the encoded images themselves, as `datasets` writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..model.errors import UserError
from .addresses import Fetched, asking, beside, fetch, open_address
from .extras import needs_extra

if TYPE_CHECKING:
    import pyarrow.parquet

ENDING = ".parquet"
COLUMNS = ("image", "img", "path", "file", "file_name", "bytes")
"""Names of the column of images; the first one that is there is taken."""
NAMED = ("string", "large_string", "string_view")
HELD = ("binary", "large_binary", "fixed_size_binary", "struct")
"""Types of a column of paths, and of one of images."""
ROWS_AT_ONCE = 16  # images in memory


def read_paths(address: str) -> list[str] | None:
    """The full addresses of the images that a table names; None for a table that holds the images.

    Raises:
        UserError: It has no column of images, or a row of it is empty.
    """
    with _opened(address) as (table, column):
        kind = str(table.schema_arrow.field(column).type)
        if kind.startswith(HELD):
            return None
        if kind not in NAMED:
            raise UserError(
                f"{address} must hold paths or encoded images in {column}, but it holds {kind}: correct it."
            )
        cells = table.read([column])[column].to_pylist()
    if None in cells:
        raise UserError(
            f"{address} must name an image in every row, but row {cells.index(None) + 1} is empty: fill it."
        )
    return [beside(address, name) for name in cells]


def row_groups(address: str) -> Iterator[list[str]]:
    """Names of the images that a table holds, ``table.parquet#1`` and so on, those together that are read in one go."""
    with _opened(address) as (table, _):
        first = 1
        for index in range(table.num_row_groups):
            end = first + table.metadata.row_group(index).num_rows
            yield [f"{address}#{row}" for row in range(first, end)]
            first = end


def read_rows(address: str, names: Sequence[str]) -> Iterator[Fetched]:
    """The images of a table that have these names, in its order; one that can't be had says why, at the end."""
    left = {int(name.rpartition("#")[2]): name for name in names}
    problem = f"{address} no longer has this row: give the table as it was."
    try:
        with asking(address), _opened(address) as (table, column):
            end = 1
            for index in range(table.num_row_groups):
                row, end = end, end + table.metadata.row_group(index).num_rows
                if not left or not any(row <= one < end for one in left):
                    continue
                for batch in table.iter_batches(ROWS_AT_ONCE, [index], [column]):
                    for cell in batch.column(0):
                        if name := left.pop(row, None):
                            yield _image(address, name, cell.as_py())
                        row += 1
    except UserError as error:
        problem = str(error)
    for name in left.values():
        yield Fetched(name, problem=problem)


def _image(address: str, name: str, cell: Any) -> Fetched:
    """The image in a cell: its bytes, or as `datasets` has it, a dict of `bytes` or else `path`."""
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if data is None and path is not None:
        found = fetch(beside(address, path))
        return Fetched(name, found.data, found.problem)
    return Fetched(name, data or b"", "" if data is not None else f"{name} holds no image: fill the row, or remove it.")


@contextmanager
def _opened(address: str) -> Iterator[tuple[pyarrow.parquet.ParquetFile, str]]:
    """A table, and the name of its column of images."""
    with needs_extra("ray", "reading Parquet"):
        import pyarrow.parquet
    files, path = open_address(address)
    with files.open(path, "rb") as file:
        table = pyarrow.parquet.ParquetFile(file)
        names = table.schema_arrow.names
        column = next((name for name in COLUMNS if name in names), None)
        if column is None:
            raise UserError(
                f"{address} must have a column of paths or of images that is named {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}, "
                f"but its columns are {', '.join(names)}: rename one."
            )
        yield table, column
