"""Windows on disk until they are answered: a SQLite file that survives the end of its collector.

Messages about runs are kept in a table of their own, which earlier versions of this program do not touch.

Every window is written before it is sent for the first time. The file uses ``synchronous=NORMAL`` and a
write-ahead log: when the process is killed nothing is lost; a power cut may lose the last windows, but does
not damage the file. SQLite removes an incomplete end of the log, and each row has its own checksum.
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

from dqm.config import make_private_directory, make_private_file
from dqm.errors import FileError, PeerError
from dqm.events import RunNotice
from dqm.stream.acknowledgement import Identity, RunIdentity
from dqm.stream.backlog import Message
from dqm.stream.run_message import decode_run
from dqm.stream.wire import Header

__all__ = ["Spool"]

_FILE = "windows.sqlite"  # the table lanes, on disk since version 1, has the last number of each stream
_PAGE_BYTES = 4096
_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE windows (
    id INTEGER PRIMARY KEY, stream TEXT NOT NULL, run INTEGER NOT NULL, seq INTEGER NOT NULL,
    header BLOB NOT NULL, payload BLOB NOT NULL, checksum INTEGER NOT NULL, UNIQUE (stream, run, seq));
CREATE TABLE lanes (stream TEXT PRIMARY KEY, run INTEGER NOT NULL, next_seq INTEGER NOT NULL);
PRAGMA user_version = {_SCHEMA_VERSION};
"""
_RUNS = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY, streams TEXT NOT NULL, run INTEGER NOT NULL, event TEXT NOT NULL,
    time REAL NOT NULL, frame BLOB NOT NULL, UNIQUE (streams, run, event, time))"""
_ADD_WINDOW = (
    "INSERT OR IGNORE INTO windows (stream, run, seq, header, payload, checksum) VALUES (?, ?, ?, ?, ?, ?)"
)
_ADD_NUMBER = """
INSERT INTO lanes VALUES (:stream, :run, :seq + 1) ON CONFLICT (stream) DO UPDATE SET
    next_seq = CASE run WHEN :run THEN max(next_seq, :seq + 1) ELSE :seq + 1 END, run = :run"""


class Spool:
    """Windows of one collector on disk; only one process can open it at a time.

    It holds the windows of the sender's buffer. When the file reaches `max_bytes`, further windows are kept
    in memory only.

    Parameters
    ----------
    directory : Path
        Directory for this collector alone; created if it does not exist.
    max_bytes : int
        Largest size of the file.

    Raises
    ------
    ConfigError
        If others may write to directory or file.
    FileError
        Here if the directory cannot be used or another collector uses it; in every method if the disk fails.
    """

    def __init__(self, directory: Path, max_bytes: int = 2**30) -> None:
        self._where = directory / _FILE
        self._max_bytes = max_bytes
        self.set_aside: Path | None = None
        """New path of a damaged file, if there was one."""
        self.n_damaged = 0
        """Number of windows that `load` could not read."""
        try:
            make_private_directory(directory)
            make_private_file(self._where)
        except OSError as error:
            raise FileError(
                f"cannot make the spool: {error.strerror}",
                where=str(directory),
                fix="Correct [collector] spool, or the rights of the directory above it",
            ) from error
        with self._translate():
            try:
                self._connection = self._open()
            except sqlite3.OperationalError:  # locked, full or not writable: the file is not damaged
                raise
            except sqlite3.DatabaseError:
                self.set_aside = self._where.with_name(f"{_FILE}.damaged-{time.time_ns()}")
                self._where.rename(self.set_aside)
                for ending in ("-wal", "-shm"):
                    self._where.with_name(_FILE + ending).unlink(missing_ok=True)
                make_private_file(self._where)
                self._connection = self._open()

    def load(self) -> list[Message]:
        """Read the windows that are not answered, oldest first; damaged ones are removed and counted."""
        with self._translate(), self._connection:
            rows = self._connection.execute("SELECT id, header, payload, checksum FROM windows ORDER BY id")
            found = {number: _read(*row) for number, *row in rows}
            damaged = [(number,) for number, message in found.items() if message is None]
            self._connection.executemany("DELETE FROM windows WHERE id = ?", damaged)
        self.n_damaged += len(damaged)
        return [message for message in found.values() if message is not None]

    def add(self, message: Message) -> None:
        """Write a window; after the return it survives the end of the process."""
        header = message.header.to_json()
        row = (*message.identity, header, message.payload, _checksum(header, message.payload))
        stream, run, seq = message.identity
        with self._translate(), self._connection:
            self._connection.execute(_ADD_WINDOW, row)
            self._connection.execute(_ADD_NUMBER, {"stream": stream, "run": run, "seq": seq})

    def remove(self, identities: Sequence[Identity]) -> None:
        """Remove windows that were answered or dropped."""
        with self._translate(), self._connection:
            self._connection.executemany(
                "DELETE FROM windows WHERE stream = ? AND run = ? AND seq = ?", identities
            )

    def load_runs(self) -> list[RunNotice]:
        """Read the messages about runs that are not answered, oldest first; damaged ones are removed."""
        with self._translate(), self._connection:
            rows = self._connection.execute("SELECT id, frame FROM runs ORDER BY id").fetchall()
            found = {number: _read_run(frame) for number, frame in rows}
            damaged = [(number,) for number, notice in found.items() if notice is None]
            self._connection.executemany("DELETE FROM runs WHERE id = ?", damaged)
        return [notice for notice in found.values() if notice is not None]

    def add_run(self, key: RunIdentity, frame: bytes) -> None:
        """Write a message about a run; after the return it survives the end of the process."""
        with self._translate(), self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO runs (streams, run, event, time, frame) VALUES (?, ?, ?, ?, ?)",
                (*key, frame),
            )

    def remove_runs(self, keys: Sequence[RunIdentity]) -> None:
        """Remove messages about runs that were answered."""
        with self._translate(), self._connection:
            self._connection.executemany(
                "DELETE FROM runs WHERE streams = ? AND run = ? AND event = ? AND time = ?", keys
            )

    def next_numbers(self, run: int) -> dict[str, int]:
        """Return, for each stream, the number after its last window in this run."""
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
                f"max_page_count = {max(16, self._max_bytes // _PAGE_BYTES)}",
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
                f"spool of version {version}, but this program supports version {_SCHEMA_VERSION}",
                where=str(self._where),
                fix="Empty it with the version of dqm that wrote it, or use another directory",
            )

        connection.execute(_RUNS)

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            locked = "locked" in str(error)
            raise FileError(
                "another collector uses this spool" if locked else f"the spool fails: {error}",
                where=str(self._where),
                fix="Give each collector its own directory"
                if locked
                else "Check the disk and its free space",
            ) from error


def _read(header: bytes, payload: bytes, checksum: int) -> Message | None:
    """Decode the window of a row; None if the row is damaged."""
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


def _read_run(frame: object) -> RunNotice | None:
    """Decode the message of a row; None if the row is damaged."""
    try:
        return decode_run([frame]) if isinstance(frame, bytes) else None
    except PeerError:
        return None


def _checksum(header: bytes, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(header))
