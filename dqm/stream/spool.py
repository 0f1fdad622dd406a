"""Windows on disk until they are answered: a SQLite file that survives the end of its collector.

Every window is written before it is first sent. ``synchronous=NORMAL`` with a write-ahead log: nothing is
lost when the process is killed; a power cut may take the windows of the last moments, never the file. A torn
end of the log is cut off by SQLite itself, and each row has a checksum of its own.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from dqm.errors import FileError
from dqm.stream.acknowledgement import Identity
from dqm.stream.backlog import Message
from dqm.stream.wire import Header

__all__ = ["Spool"]

_FILE = "windows.sqlite"
_PAGE_BYTES = 4096
_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE windows (
    id INTEGER PRIMARY KEY, stream TEXT NOT NULL, run INTEGER NOT NULL, seq INTEGER NOT NULL,
    header BLOB NOT NULL, payload BLOB NOT NULL, checksum INTEGER NOT NULL, UNIQUE (stream, run, seq));
CREATE TABLE lanes (stream TEXT PRIMARY KEY, run INTEGER NOT NULL, next_seq INTEGER NOT NULL);
PRAGMA user_version = {_SCHEMA_VERSION};
"""
_ADD_WINDOW = (
    "INSERT OR IGNORE INTO windows (stream, run, seq, header, payload, checksum) VALUES (?, ?, ?, ?, ?, ?)"
)
_ADD_LANE = """
INSERT INTO lanes VALUES (:stream, :run, :seq + 1) ON CONFLICT (stream) DO UPDATE SET
    next_seq = CASE run WHEN :run THEN max(next_seq, :seq + 1) ELSE :seq + 1 END, run = :run"""


class Spool:
    """Windows of one collector on disk; nobody else may open it meanwhile.

    Its size is bounded by that of the sender's buffer, whose windows it holds, and by `most_bytes`: beyond
    these SQLite refuses to grow, and the windows are kept in memory alone.

    Parameters
    ----------
    directory : Path
        Of this collector alone; made if it does not exist.
    most_bytes : int
        Largest size of the file.

    Raises
    ------
    FileError
        Here if the directory cannot be used or another collector uses it; in every method if the disk fails.
    """

    def __init__(self, directory: Path, most_bytes: int = 2**30) -> None:
        self._where = directory / _FILE
        self._most_bytes = most_bytes
        self.set_aside: Path | None = None
        """Where a damaged file was moved, if there was one."""
        self.n_damaged = 0
        """Windows that `load` could not read."""
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise FileError(f"cannot make the spool: {error.strerror}", where=str(directory)) from error
        with self._translate():
            try:
                self._connection = self._open()
            except sqlite3.OperationalError:  # locked, full, not writable: the file itself may be sound
                raise
            except sqlite3.DatabaseError:
                self.set_aside = self._where.with_name(f"{_FILE}.damaged-{time.time_ns()}")
                self._where.rename(self.set_aside)
                for ending in ("-wal", "-shm"):
                    self._where.with_name(_FILE + ending).unlink(missing_ok=True)
                self._connection = self._open()

    def load(self) -> list[Message]:
        """Windows not answered yet, the oldest first; damaged ones are removed and counted."""
        with self._translate(), self._connection:
            rows = self._connection.execute("SELECT id, header, payload, checksum FROM windows ORDER BY id")
            found = {number: _read(*row) for number, *row in rows}
            damaged = [(number,) for number, message in found.items() if message is None]
            self._connection.executemany("DELETE FROM windows WHERE id = ?", damaged)
        self.n_damaged += len(damaged)
        return [message for message in found.values() if message is not None]

    def add(self, message: Message) -> None:
        """Write a window; on return it survives the end of the process."""
        header = message.header.model_dump_json().encode()
        row = (*message.identity, header, message.payload, _checksum(header, message.payload))
        stream, run, seq = message.identity
        with self._translate(), self._connection:
            self._connection.execute(_ADD_WINDOW, row)
            self._connection.execute(_ADD_LANE, {"stream": stream, "run": run, "seq": seq})

    def remove(self, identities: Sequence[Identity]) -> None:
        """Forget windows that were answered or dropped."""
        with self._translate(), self._connection:
            self._connection.executemany(
                "DELETE FROM windows WHERE stream = ? AND run = ? AND seq = ?", identities
            )

    def next_numbers(self, run: int) -> dict[str, int]:
        """Give the number after the last window of each stream that `add` has seen in this run."""
        with self._translate():
            return dict(self._connection.execute("SELECT stream, next_seq FROM lanes WHERE run = ?", (run,)))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._where, timeout=0.0, check_same_thread=False)
        try:
            for pragma in (
                "locking_mode = EXCLUSIVE",
                "journal_mode = WAL",
                "synchronous = NORMAL",
                f"journal_size_limit = {2**22}",
                f"max_page_count = {max(16, self._most_bytes // _PAGE_BYTES)}",
            ):
                connection.execute(f"PRAGMA {pragma}")
            self._make_tables(connection)
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
            (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except BaseException:
            connection.close()
            raise
        if health != "ok":
            connection.close()
            raise sqlite3.DatabaseError(health)
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} COMMIT;")
        elif version != _SCHEMA_VERSION:
            raise FileError(
                f"spool of version {version}, this program knows {_SCHEMA_VERSION}",
                where=str(self._where),
                fix="Empty it with the version of dqm that wrote it, or name another directory",
            )

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            locked = "locked" in str(error)
            raise FileError(
                "another collector uses this spool" if locked else f"the spool fails: {error}",
                where=str(self._where),
                fix="Give each collector a directory of its own"
                if locked
                else "Check the disk and its space",
            ) from error


def _read(header: bytes, payload: bytes, checksum: int) -> Message | None:
    """Window of a row; None if the row is damaged."""
    if (
        not isinstance(header, bytes)
        or not isinstance(payload, bytes)
        or _checksum(header, payload) != checksum
    ):
        return None
    try:
        return Message(Header.model_validate_json(header, strict=True), payload)
    except ValidationError:
        return None


def _checksum(header: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(header))
