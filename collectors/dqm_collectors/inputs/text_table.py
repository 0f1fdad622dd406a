"""CSV as it comes from spreadsheets and instruments: separators, decimal commas, comments, units in names."""

from __future__ import annotations

import csv as text_csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from dqm.errors import FileError, escape_text
from dqm.events import FileColumn
from dqm_collectors.inputs.names import NAME_FEATURES, feature_of
from dqm_collectors.inputs.options import FileOptions
from dqm_collectors.text_blocks import ReadableBytes, open_bytes, parse_csv, read_line, translate_errors

__all__ = ["TextTable", "open_text_table", "skip_header"]

MOST_COMMENTS = 10_000
"""Most lines before the header."""

FIRST_ROW = 2
"""Number of the first row where the header is row 1, and comments and empty lines are not counted."""

_BLANKS = " \t\u00ef\u00bb\u00bf"  # with the byte order mark, as latin-1
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class TextTable:
    """A CSV file whose header was read.

    Parameters
    ----------
    path : Path
        The file.
    columns : tuple of FileColumn
        Its columns.
    separator : str
        Character between the values.
    options : FileOptions
        Marks within numbers, comments, encoding.
    """

    path: Path
    columns: tuple[FileColumn, ...]
    separator: str
    options: FileOptions

    name = ""
    n_rows = None

    def row_number(self, index: int) -> int:
        """Give the line of a row; of a pipe, which cannot be read again, without comments and empty lines."""
        if self.path.is_fifo():
            return index + FIRST_ROW
        mark = self.options.comment
        left = index + FIRST_ROW
        with translate_errors(self.path), io.TextIOWrapper(open_bytes(self.path), "latin-1") as lines:
            for number, line in enumerate(lines, 1):
                is_header = left == index + FIRST_ROW
                is_empty = not (line.strip() if is_header else line.strip("\n"))
                left -= not (is_empty or (mark and line.lstrip(_BLANKS).startswith(mark)))
                if not left:
                    return number
        return index + FIRST_ROW

    def read(self, types: dict[str, pa.DataType], first: int = 0) -> Iterator[pa.RecordBatch]:
        """Read some columns from row `first` on; yields blocks of rows."""
        with translate_errors(self.path), open_bytes(self.path) as file:
            skip_header(file, self.path, self.options)
            for batch in self.read_rows(file, types):
                skipped = min(len(batch), first)
                first -= skipped
                yield batch.slice(skipped)

    def read_rows(
        self, file: ReadableBytes, types: dict[str, pa.DataType], n_before: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Read rows of a file that is open behind its header, of which `n_before` rows were read."""
        options = self.options
        thousands = options.thousands
        grouped = [name for name, kind in types.items() if thousands and pa.types.is_floating(kind)]
        read_as = types | dict.fromkeys(grouped, pa.string())
        names = [column.name for column in self.columns]
        n_rows = n_before
        for batch in parse_csv(
            file,
            self.path,
            _header_line(names, self.separator),
            read_as,
            names,
            tidy=self._tidy,
            separator=self.separator,
            decimal=options.decimal,
            n_before=n_before,
            line_of=lambda row: self.row_number(row - FIRST_ROW),
        ):
            columns = [
                self._ungroup(batch.column(name), name, n_rows) if name in grouped else batch.column(name)
                for name in types
            ]
            n_rows += len(batch)
            yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(list(types.items())))

    def _tidy(self, text: bytes) -> bytes:
        """Take out comments, and write other encodings as UTF-8."""
        if self.options.encoding != "utf-8":
            text = _decode(text, self.options.encoding, self.path).encode()
        mark = self.options.comment.encode()
        if mark and mark in text:
            text = re.sub(rb"(?m)^[ \t]*" + re.escape(mark) + rb"[^\r\n]*(?:\r\n|\r|\n|\Z)", b"", text)
        return text

    def _ungroup(self, column: pa.Array, name: str, n_rows: int) -> pa.Array:
        """Read numbers with marks between groups of three digits; another grouping is an error."""
        mark = re.escape(self.options.thousands or "")
        decimal = re.escape(self.options.decimal)
        digits = rf"(?:\d{{1,3}}(?:{mark}\d{{3}})+|\d+)"
        number = rf"(?:{digits}(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?|(?i:nan|inf)"
        is_right = pc.match_substring_regex(column, rf"^\s*[+-]?(?:{number})\s*$")
        wrong = pc.index(is_right, value=False).as_py()
        if wrong >= 0:
            value = escape_text(str(column[wrong].as_py()))[:80]
            raise FileError(
                f"{value!r} is not a number with thousands = {self.options.thousands!r} and decimal = "
                f"{self.options.decimal!r}",
                where=f"{self.path}, row {self.row_number(n_rows + wrong)}, column {name!r}",
                fix=f"Give the marks that the file has, or leave this column out. {NAME_FEATURES}",
            )
        plain = pc.replace_substring(column, self.options.thousands, "")
        plain = pc.replace_substring(plain, self.options.decimal, ".")
        return pc.utf8_trim_whitespace(plain).cast(pa.float64())


def open_text_table(path: Path, options: FileOptions) -> TextTable:
    """Read the header of a CSV file.

    Parameters
    ----------
    path : Path
        A file, plain or ``.gz``, or a named pipe.
    options : FileOptions
        How it is written.

    Raises
    ------
    FileError
        If the file cannot be read or is empty, if two columns have the same name, or if the first line has
        numbers instead of names.
    """
    with translate_errors(path), open_bytes(path) as file:
        line = skip_header(file, path, options)
        separator = options.separator or _find_separator(line)
        names = [name.strip() for name in next(text_csv.reader([line], delimiter=separator), [])]
    if not names:
        raise FileError("the file is empty", where=str(path), fix="The first line must name the columns")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FileError(
            f"two columns have the same name: {', '.join(twice)}",
            where=str(path),
            fix="Rename one of them in the header",
        )
    if all(_is_number(name) for name in names):
        raise FileError(
            f"the first line has numbers, not names: {escape_text(line)[:80]}",
            where=str(path),
            fix='The first line must name the columns; if the names stand behind a #, give comment = ""'
            if options.comment
            else "The first line must name the columns",
        )
    return TextTable(path, tuple(FileColumn(name, feature_of(name)) for name in names), separator, options)


def skip_header(file: BinaryIO, path: Path, options: FileOptions) -> str:
    """Read up to the end of the first line that is not a comment, and give it without its end."""
    mark = options.comment
    for number in range(MOST_COMMENTS):
        line = read_line(file, path)
        if number == 0 and line.startswith(_UTF_16):
            raise FileError("the text is UTF-16", where=str(path), fix="Save it as UTF-8")
        text = _decode(line.removeprefix(_BYTE_ORDER_MARK), options.encoding, path).strip("\r\n")
        if not line or (text.strip() and not (mark and text.lstrip().startswith(mark))):
            return text
    raise FileError(
        f"{MOST_COMMENTS} lines of comments and no header",
        where=str(path),
        fix="Remove lines of comments before the header",
    )


def _decode(text: bytes, encoding: str, path: Path) -> str:
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        raise FileError(
            f"the text is not {encoding}: byte {text[error.start]:#04x}",
            where=str(path),
            fix='Give its encoding: encoding = "latin-1" or "cp1252", or save it as UTF-8',
        ) from error


def _find_separator(header: str) -> str:
    """Find what separates the names; within quotation marks nothing does."""
    bare = re.sub(r'"[^"]*"', "", header)
    return next((mark for mark in (";", "\t") if mark in bare), ",")


def _header_line(names: Sequence[str], separator: str) -> bytes:
    quoted = (f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)
    return (separator.join(quoted) + "\n").encode()


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
