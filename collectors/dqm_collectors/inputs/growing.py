"""Files that grow: their complete part, and whether they were written again from the start."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from dqm.errors import FileError, format_count
from dqm.events import FileColumn
from dqm_collectors.inputs.faults import WrittenAnewError
from dqm_collectors.inputs.options import FileOptions
from dqm_collectors.inputs.tables import InputTable, open_table
from dqm_collectors.inputs.text_table import TextTable, open_text_table, skip_header
from dqm_collectors.text_blocks import LONGEST_LINE, translate_errors

__all__ = ["GrowingTable"]


class GrowingTable:
    """Opens one file again and again, and reads its complete rows.

    The entries of a tree are complete when the writer has written the tree (``TTree::AutoSave``), and lines
    of text when they have their ends. Parquet and packed files are complete or cannot be read.

    Parameters
    ----------
    path : Path
        The file.
    options : FileOptions
        How it is read.
    """

    def __init__(self, path: Path, options: FileOptions) -> None:
        self._path = path
        self._options = options
        self._text: _GrowingText | None = None
        self._tree: InputTable | None = None

    @property
    def is_text(self) -> bool:
        """Whether its last row may become complete without a change."""
        return self._text is not None

    def open(self, n_read: int, *, is_complete: bool) -> InputTable:
        """Open the file as it is now.

        Parameters
        ----------
        n_read : int
            Rows that were read before.
        is_complete : bool
            Whether nobody writes it any more: then a last line needs no end.

        Raises
        ------
        FileError
            If it cannot be read yet, or has fewer rows than were read.
        """
        if self._path.suffix in (".root", ".parquet", ".gz"):
            if self._tree is not None:
                return self._tree  # reading it tells how many entries there are now
            table = open_table(self._path, self._options)
            if table.n_rows is not None and table.n_rows < n_read:
                raise WrittenAnewError(format_count(table.n_rows, "row"), str(n_read), where=str(self._path))
            self._tree = table if self._path.suffix == ".root" else None
            return table
        if self._text is None:
            table = open_text_table(self._path, self._options)
            self._text = _GrowingText(table, _end_of_header(table, is_complete=is_complete))
        self._text.is_complete = is_complete
        return self._text


class _GrowingText:
    """A text table that is read from where the last reading ended; at first, that is its header."""

    def __init__(self, table: TextTable, offset: int) -> None:
        self._table = table
        self._offset = offset
        self._n_rows = 0
        self.is_complete = False

    name = ""
    n_rows = None

    @property
    def path(self) -> Path:
        return self._table.path

    @property
    def columns(self) -> tuple[FileColumn, ...]:
        return self._table.columns

    def row_number(self, index: int) -> int:
        return self._table.row_number(index)

    def read(self, types: dict[str, pa.DataType], first: int = 0) -> Iterator[pa.RecordBatch]:
        with translate_errors(self.path), self.path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            if size < self._offset:
                raise WrittenAnewError(f"{size} bytes", str(self._offset), where=str(self.path))
            end = size if self.is_complete else _find_end(file, self._offset, size)
            file.seek(self._offset)
            n_rows = self._n_rows
            if end > self._offset:
                for batch in self._table.read_rows(_Part(file, end), types, n_before=n_rows):
                    yield batch.slice(min(len(batch), max(0, first - n_rows)))
                    n_rows += len(batch)
            self._offset = end
            self._n_rows = n_rows


class _Part:
    """A file up to a place."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file = file
        self._end = end

    def read(self, n_bytes: int) -> bytes:
        return self._file.read(max(0, min(n_bytes, self._end - self._file.tell())))


def _end_of_header(table: TextTable, *, is_complete: bool) -> int:
    """Find where the rows begin; raises `FileError` if the header is not written to its end."""
    with translate_errors(table.path), table.path.open("rb") as file:
        skip_header(file, table.path, table.options)
        end = file.tell()
        file.seek(max(0, end - 1))
        if not is_complete and file.read(1) not in (b"\n", b"\r"):
            raise FileError(
                "the header is not complete",
                where=str(table.path),
                fix="The first line must name the columns",
            )
    return end


def _find_end(file: BinaryIO, offset: int, size: int) -> int:
    """Find the end of the last complete line after `offset`; that is `offset` if there is none."""
    begin = max(offset, size - LONGEST_LINE - 1)
    file.seek(begin)
    end = file.read(size - begin).rfind(b"\n") + 1
    return begin + end if end else offset
