"""Readings from a file: recorded together with replayed data, or written by another program."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from pydantic import BaseModel, ConfigDict, Field

from dqm.errors import FileError, InputError, format_count
from dqm.events import Reading
from dqm_collectors.slow_control.readings import MAX_LINE_BYTES, HistorySource, parse_json, parse_row
from dqm_collectors.text_blocks import translate_errors

__all__ = ["FileSource"]

COLUMNS = {"time", "name", "value"}
OPTIONAL_COLUMNS = {"sigma"}


class FileSource(HistorySource):
    """Readings of a file whose lines are in the order of time.

    The file is read as far as needed, and further when it grows; a line counts when it is complete. A file
    that was replaced or shortened is read from its start. A line that is not a reading is refused, counted
    and logged; the others are used.

    Parameters
    ----------
    options : FileSource.Options
        The file.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        path: Path = Field(
            description="JSON lines (.jsonl, .json), or CSV with the columns time (Unix s), name, value, "
            "sigma (.csv); a .gz file is unpacked and not followed"
        )

    def __init__(self, options: Options) -> None:
        super().__init__(str(options.path))
        self.path = options.path
        self._file: IO[bytes] | None = None
        self._columns: list[str] | None = None
        self._n_lines = 0
        self._ahead: Reading | None = None

    def __enter__(self) -> Self:
        """Open the file.

        Raises
        ------
        FileError
            If it cannot be read, or if a CSV file lacks a column.
        """
        try:
            self._open()
        except FileError:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def latest(self, until: float | None) -> dict[str, Reading]:
        """Return the newest reading of each name at or before `until` (Unix s; None: in the whole file).

        Raises
        ------
        FileError
            If the file cannot be read any more.
        """
        while until is None or self._ahead is None or self._ahead.time <= until:
            if self._ahead is not None:
                self._keep(self._ahead)
            self._ahead = self._next()
            if self._ahead is None:
                break
        return super().latest(until)

    def _keep(self, reading: Reading) -> None:
        try:
            self._history.add(reading)
        except InputError as error:
            self._refused.add(error, line=self._n_lines)

    @property
    def _is_packed(self) -> bool:
        return self.path.suffix == ".gz"

    @property
    def _is_csv(self) -> bool:
        return ".csv" in self.path.suffixes[-2:]

    def _open(self) -> None:
        self._close()
        with translate_errors(self.path):
            packed = self._is_packed
            file = gzip.open(self.path, "rb") if packed else self.path.open("rb")  # noqa: SIM115 - kept open
            self._file = cast("IO[bytes]", file)
        self._n_lines = 0
        self._columns = None
        if self._is_csv and (line := self._read_line()) is not None:
            self._columns = self._header(line)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _header(self, line: bytes) -> list[str]:
        with translate_errors(self.path):
            columns = next(csv.reader([line.decode("utf-8-sig", "replace")]), [])
        if not COLUMNS <= {*columns} <= COLUMNS | OPTIONAL_COLUMNS or len({*columns}) != len(columns):
            raise FileError(
                f"has the columns {', '.join(columns)}",
                where=str(self.path),
                fix="The first line must be: time,name,value,sigma (sigma is optional)",
            )
        return columns

    def _next(self) -> Reading | None:
        """Read the next reading; None if the file has no more at present."""
        while (line := self._read_line()) is not None:
            if self._is_csv and self._columns is None:  # the file was empty when it was opened
                self._columns = self._header(line)
            elif line.strip():
                try:
                    return self._parse(line)
                except (InputError, csv.Error) as error:
                    self._refused.add(error, line=self._n_lines)
        return None

    def _parse(self, line: bytes) -> Reading:
        if self._columns is None:
            return parse_json(line)
        cells = next(csv.reader([line.decode(errors="replace")]))
        if len(cells) != len(self._columns):
            n_columns = format_count(len(self._columns), "column")
            raise InputError(f"{format_count(len(cells), 'cell')} in a table of {n_columns}")
        return parse_row(dict(zip(self._columns, cells, strict=True)))

    def _read_line(self) -> bytes | None:
        """Return the next complete line, or None; the last line of a packed file need not be complete."""
        if self._file is None:
            raise FileError("is not open", where=str(self.path))
        with translate_errors(self.path):
            line = self._file.readline(MAX_LINE_BYTES + 1)
            while len(line) > MAX_LINE_BYTES:  # its rest is read as another line
                self._n_lines += 1
                self._refused.add(f"a line of more than {MAX_LINE_BYTES} bytes", line=self._n_lines)
                line = self._file.readline(MAX_LINE_BYTES + 1)
            if line.endswith(b"\n") or (line and self._is_packed):
                self._n_lines += 1
                return line
            if not self._is_packed:
                self._file.seek(-len(line), os.SEEK_CUR)
                if self._was_replaced(self._file):
                    self._open()
                    return self._read_line()
        return None

    def _was_replaced(self, file: IO[bytes]) -> bool:
        """Whether another file now has this name, or the file has become shorter."""
        try:
            now = self.path.stat()
        except FileNotFoundError:  # the old file is gone and the new one is not there yet
            return False
        return now.st_ino != os.fstat(file.fileno()).st_ino or now.st_size < file.tell()
