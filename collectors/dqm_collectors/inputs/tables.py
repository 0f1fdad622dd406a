"""Files as tables, with one interface for Parquet, ROOT and CSV: what they have, and their rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from dqm.errors import FileError
from dqm.events import FileColumn, FileTable
from dqm_collectors.inputs.lists import is_list
from dqm_collectors.inputs.names import feature_of, name_features, no_such, other_features
from dqm_collectors.inputs.options import FileOptions
from dqm_collectors.inputs.text_table import open_text_table
from dqm_collectors.root import describe_root, read_root
from dqm_collectors.text_blocks import translate_errors

__all__ = ["InputTable", "describe_file", "open_table"]

ROWS_PER_BLOCK = 65_536

_PARQUET = b"PAR1"

_RENAME = "Rename it: the name must end in {}"
_CONVERT = "Save it as Parquet or CSV"

_FORMATS = {
    _PARQUET + b"\x15": ("Parquet", _RENAME.format(".parquet")),
    b"root\x00": ("ROOT", _RENAME.format(".root")),
    b"\x1f\x8b": ("compressed by gzip", _RENAME.format(".csv.gz, and what it holds must be CSV")),
    b"ARROW1\x00": ("Arrow (Feather)", _CONVERT),
    b"FEA1\x00": ("Feather", _CONVERT),
    b"\x89HDF": ("HDF5", _CONVERT),
    b"\x93NUMPY": ("an array of numpy", _CONVERT),
    b"PK\x03\x04": ("a zip archive, such as .xlsx or .npz", _CONVERT),
}
"""First bytes of files that are no text, up to one that no header of CSV has; what these are; what to do."""


class InputTable(Protocol):
    """A table of a file."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def name(self) -> str:
        """Name of the tree; empty where a file is one table."""

    @property
    def columns(self) -> tuple[FileColumn, ...]:
        """What it has."""

    @property
    def n_rows(self) -> int | None:
        """Number of rows when it was opened; None if that is not known before it is read."""

    def row_number(self, index: int) -> int:
        """Give the number that messages have for a row, counted from 0: of text, that of its line."""

    def read(self, types: dict[str, pa.DataType], first: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield blocks of rows with some columns, from row `first` on."""


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A Parquet file whose schema was read."""

    path: Path
    columns: tuple[FileColumn, ...]
    n_rows: int

    name = ""

    def row_number(self, index: int) -> int:
        """Count rows from 1."""
        return index + 1

    def read(self, types: dict[str, pa.DataType], first: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield blocks of rows; columns with lists keep them."""
        with translate_errors(self.path):
            for batch in pq.ParquetFile(self.path).iter_batches(ROWS_PER_BLOCK, columns=list(types)):
                skipped = min(len(batch), first)
                first -= skipped
                rest = batch.slice(skipped)
                yield cast_columns(rest, types, self.path)


@dataclass(frozen=True, slots=True)
class RootTable:
    """A tree whose branches were listed."""

    path: Path
    name: str
    columns: tuple[FileColumn, ...]
    n_rows: int

    def row_number(self, index: int) -> int:
        """Count rows from 1."""
        return index + 1

    def read(self, types: dict[str, pa.DataType], first: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield blocks of entries; branches with lists keep them."""
        for batch in read_root(self.path, list(types), tree=self.name, first=first):
            yield cast_columns(batch, types, self.path)


def cast_columns(batch: pa.RecordBatch, types: dict[str, pa.DataType], path: Path) -> pa.RecordBatch:
    """Give all columns that have no lists the types that are asked for."""
    found = []
    for name, kind in types.items():
        column = batch.column(name)
        try:
            found.append(column if is_list(column.type) else column.cast(kind))
        except pa.ArrowException as error:
            raise FileError(
                f"the values are not plain numbers: {error}",
                where=f"{path}, column {name!r}",
                fix=name_features(other_features(types, name)),
            ) from error
    return pa.RecordBatch.from_arrays(found, names=list(types))


def open_table(path: Path, options: FileOptions) -> InputTable:
    """Open the table of a file that the options name.

    Raises
    ------
    FileError
        If the file cannot be read, or has no such tree, or several and none is named; the message lists them.
    """
    if path.suffix == ".root":
        return _choose_tree(path, options.tree)
    if path.suffix == ".parquet":
        return _open_parquet(path)
    if path.suffix != ".gz":
        _refuse_binary(path)
    return open_text_table(path, options)


def describe_file(path: Path, options: FileOptions | None = None) -> tuple[FileTable, ...]:
    """List the tables of a file with their columns: all trees of a ROOT file, one table of another.

    Raises
    ------
    FileError
        If the file cannot be read.
    """
    if path.suffix == ".root":
        return describe_root(path)
    table = open_table(path, options or FileOptions(inputs=(path,)))
    return (FileTable(table.name, table.n_rows, table.columns),)


def _choose_tree(path: Path, wanted: str | None) -> RootTable:
    trees = {tree.name: tree for tree in describe_root(path)}
    if not trees:
        raise FileError(
            "the file has no tree",
            where=str(path),
            fix="Give a file with a tree; for histograms use the collector histograms",
        )
    listed = ", ".join(f"{tree.name} ({tree.n_rows} entries)" for tree in trees.values())
    if wanted is None and len(trees) > 1:
        raise FileError(
            f"the file has {len(trees)} trees: {listed}", where=str(path), fix="Give one: tree = NAME"
        )
    if wanted is not None and wanted not in trees:
        raise no_such("tree", wanted, tuple(trees), where=str(path), listed=listed)
    tree = trees[next(iter(trees)) if wanted is None else wanted]
    return RootTable(path, tree.name, tree.columns, tree.n_rows or 0)


def _open_parquet(path: Path) -> ParquetTable:
    try:
        with translate_errors(path), pq.ParquetFile(path) as file:
            columns = tuple(_column(field) for field in file.schema_arrow)
            return ParquetTable(path, columns, file.metadata.num_rows)
    except FileError as error:
        if error.fix or not path.is_file():
            raise
        fix = "The file is cut off or damaged: write or copy it again"
        if _begin(path) != _PARQUET:
            fix = "Files of Parquet begin with PAR1: give such a file, or one of text whose name ends in .csv"
        raise FileError(error.what.rstrip("."), where=error.where, fix=fix) from error


def _refuse_binary(path: Path) -> None:
    """Refuse what would be read as text, and is another format by its first bytes."""
    if not path.is_file():  # of a pipe, nothing may be taken away
        return
    start = _begin(path, max(map(len, _FORMATS)))
    for mark, (what, fix) in _FORMATS.items():
        if start.startswith(mark):
            raise FileError(f"the file is no text, but {what}", where=str(path), fix=fix)


def _begin(path: Path, n_bytes: int = len(_PARQUET)) -> bytes:
    """Give the first bytes of a file."""
    with translate_errors(path), path.open("rb") as file:
        return file.read(n_bytes)


def _column(field: pa.Field) -> FileColumn:
    has_lists = is_list(field.type)
    kind = field.type.value_type if has_lists else field.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return FileColumn(field.name, feature_of(field.name), str(field.type), bool(is_number), has_lists)
