"""Read text tables in blocks; every failure is a `FileError` that names file, row and column."""

from __future__ import annotations

import csv as text_csv
import errno
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, TextIO, cast

import pyarrow as pa
from pyarrow import csv

from dqm.errors import FileError
from dqm_collectors.inputs.names import name_features, other_features

__all__ = [
    "BLOCK_BYTES",
    "LONGEST_LINE",
    "ReadableBytes",
    "open_bytes",
    "open_text",
    "parse_csv",
    "read_line",
    "read_lines",
    "translate_errors",
]

BLOCK_BYTES = 1 << 21
"""Bytes of text that are read at a time."""

LONGEST_LINE = 1 << 16
"""Most characters in a line of text, so that a file without line ends does not fill the memory."""

_COLUMN = re.compile(r"^In CSV column #(\d+): (?:Row #(\d+): )?")
_ROW = re.compile(r"(?<=\bRow #)\d+")
_TEXT = "conversion error to double"
_MORE_COLUMNS = re.compile(r"Expected (\d+) columns, got (?!0|1\b)\d+: [^;]*\d,\d")
_GROUPED = re.compile(rf"{_TEXT}: invalid value '[+-]?\d{{1,3}}(\.\d{{3}})*\.\d{{3}},\d*'")
_AS_IN = """as in --read 'decimal=","' (--set of extract and init)"""
_COMMA = re.compile(rf"{_TEXT}: invalid value '[+-]?[\d.,]*\d,\d[\d.,]*'")


@contextmanager
def translate_errors(
    path: Path,
    names: Sequence[str] = (),
    n_rows: int = 0,
    *,
    line_of: Callable[[int], int] = lambda row: row,
    decimal: str = ".",
    used: Sequence[str] = (),
) -> Iterator[None]:
    """Translate errors of pyarrow and the system about a file into a `FileError`.

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        Its columns in order, because pyarrow reports the number of a column.
    n_rows : int
        Rows before those that are read now, because pyarrow reports the number of a row among these.
    line_of : callable
        Gives the line of a row, which is counted with the header as the first.
    decimal : str
        Decimal mark of numbers.
    used : sequence of str
        Columns that are read; messages name those to use without one that holds text.
    """
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, UnicodeDecodeError, text_csv.Error, zlib.error) as error:
        message = _message(error)
        where = str(path)
        if (found := _COLUMN.match(message)) is not None:
            number = int(found[1])
            column = repr(names[number]) if number < len(names) else str(number + 1)
            where += (
                f", row {line_of(int(found[2]) + n_rows)}, column {column}"
                if found[2]
                else f", column {column}"
            )
            message = message[found.end() :]
            used = other_features(used, names[number]) if number < len(names) else ()
        message = _ROW.sub(lambda row: str(line_of(int(row[0]) + n_rows)), message, count=1)
        fix = None
        if _GROUPED.search(message):
            marks = 'thousands = "."' if decimal == "," else 'decimal = "," and thousands = "."'
            fix = f"Numbers with points between groups of digits: set {marks}, {_AS_IN}"
        elif _COMMA.search(message):
            fix = f'Numbers with commas: set decimal = ",", or thousands = ",", {_AS_IN}'
        elif _MORE_COLUMNS.search(message):
            fix = (
                "Correct the row. Numbers with decimal commas need another separator: save the file with ; "
                'between the values, and set decimal = ","'
            )
        elif isinstance(error, FileNotFoundError):
            fix = "Correct the path"
        elif _TEXT in message:
            fix = "Correct its values"
            if used:
                fix += f", or leave this column out. {name_features(used)}"
        raise FileError(message, where=where, fix=fix) from error


def _message(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):  # pyarrow writes its own words
        return os.strerror(errno.ENOENT)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error.args[0] if isinstance(error, KeyError) else error)


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file, plain or ``.gz``; errors while it is open become a `FileError`.

    Parameters
    ----------
    path : Path
        The file.
    """
    with translate_errors(path), gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as stream:
        yield cast("TextIO", stream)


def read_lines(stream: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of a text with their line ends.

    Raises
    ------
    FileError
        If a line is longer than `LONGEST_LINE`.
    """
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise FileError(
                f"a line of more than {LONGEST_LINE} characters",
                where=f"{path}:{number}",
                fix="Look whether this is a table of text",
            )
        yield line


class ReadableBytes(Protocol):
    """A source of bytes."""

    def read(self, n_bytes: int, /) -> bytes:
        """Read bytes, at most this number; nothing at the end."""


def parse_csv(
    file: ReadableBytes,
    path: Path,
    header: bytes,
    types: Mapping[str, pa.DataType],
    names: Sequence[str],
    block_bytes: int = BLOCK_BYTES,
    tidy: Callable[[bytes], bytes] | None = None,
    *,
    separator: str = ",",
    decimal: str = ".",
    n_before: int = 0,
    line_of: Callable[[int], int] = lambda row: row,
) -> Iterator[pa.RecordBatch]:
    """Read some columns of the rows after the header of a CSV file, block by block.

    Each block is parsed from memory of Arrow. Its streaming reader has a thread that reads ahead; given a
    file of Python, this thread ends the process by SIGABRT if it lets go of the file while Python ends.

    Parameters
    ----------
    file : binary file
        The file behind its header.
    path : Path
        Its name, for messages.
    header : bytes
        Line with the names of the columns.
    types : mapping of str to pyarrow.DataType
        Columns to read; an empty cell or a cell of another type is an error.
    names : sequence of str
        All columns of the file, for messages.
    block_bytes : int
        Bytes of text read at a time.
    tidy : callable, optional
        Applied to each block of whole lines before it is parsed.
    separator, decimal : str
        Character between the values, and decimal mark.
    n_before : int
        Rows of the file that were read before these, for messages.
    line_of : callable
        As of `translate_errors`.

    Yields
    ------
    pyarrow.RecordBatch

    Raises
    ------
    FileError
        If the file is damaged, lacks a column, or has a cell of another type.
    """
    convert = csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=[], decimal_point=decimal
    )
    parse = csv.ParseOptions(delimiter=separator)
    n_rows = n_before
    for lines in _blocks(file, block_bytes, path):
        text = header + (tidy(lines) if tidy else lines)
        read = csv.ReadOptions(use_threads=False, block_size=len(text) + 1)
        with translate_errors(path, names, n_rows, line_of=line_of, decimal=decimal, used=list(types)):
            table = csv.read_csv(
                pa.BufferReader(_copy(text)), read_options=read, parse_options=parse, convert_options=convert
            )
        n_rows += table.num_rows
        yield from table.combine_chunks().to_batches()


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, plain or ``.gz``, to read bytes."""
    return cast("BinaryIO", gzip.open(path) if path.suffix == ".gz" else path.open("rb"))


def read_line(file: BinaryIO, path: Path) -> bytes:
    """Read a line with its line end.

    Raises
    ------
    FileError
        If it is longer than `LONGEST_LINE`.
    """
    line = file.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise FileError(
            f"a line of more than {LONGEST_LINE} characters",
            where=f"{path}:1",
            fix="Look whether this is a table of text",
        )
    return line


def _blocks(file: ReadableBytes, block_bytes: int, path: Path) -> Iterator[bytes]:
    """Cut a table into blocks of whole lines."""
    text = b""
    is_first = True
    while (more := file.read(block_bytes)) or is_first:
        text += more
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        if len(text) - end > LONGEST_LINE:
            raise FileError(
                f"a line of more than {LONGEST_LINE} characters",
                where=str(path),
                fix="Look whether this is a table of text",
            )
        if end or is_first:
            yield text[:end]
        text = text[end:]
        is_first = False
    if text:
        yield text


def _copy(text: bytes) -> pa.Buffer:
    """Copy text into memory that does not belong to Python."""
    buffer = pa.allocate_buffer(len(text))
    memoryview(buffer).cast("B")[:] = text
    return buffer
