"""Back up a SQLite store while it is in use, restore it, and compact it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dqm.errors import StoreError
from dqm.store.schema import MIGRATIONS, SCHEMA_VERSION

__all__ = ["back_up", "compact", "restore"]

_COMPANIONS = ("", "-wal", "-shm")
_LOCK_SECONDS = 60.0
_PROBE_SECONDS = 2.0
_CHECK_PATH = "Check the path, or start the daemon first"


def back_up(store: Path, target: Path, *, replace: bool = False) -> int:
    """Copy a store by SQLite's online backup; other programs can write to the store meanwhile.

    Parameters
    ----------
    store : Path
        SQLite file; it may be in use.
    target : Path
        File to write; it appears only when it is complete, checked and on disk.
    replace : bool
        Whether an existing file may be replaced.

    Returns
    -------
    int
        Number of verdicts in the copy; it has at least all that were stored before this call.

    Raises
    ------
    StoreError
        If the store cannot be read, or the file exists or cannot be written.
    """
    if target.exists() and not replace:
        raise StoreError("already exists", where=str(target), fix="Choose another name, or give --replace")
    scratch = target.with_name(f".{target.name}.tmp")
    try:
        os.close(os.open(scratch, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
        with _open(store) as source, _open(scratch) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # a single file, without a log
        n_verdicts = _check(scratch)
        _put(scratch, target)
    except OSError as error:
        raise StoreError(
            f"cannot write the copy: {error.strerror}",
            where=str(target),
            fix="Choose a writable directory with enough free space",
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    return n_verdicts


def restore(backup: Path, store: Path, *, replace: bool = False) -> Path | None:
    """Restore a store from a copy; no program may use the store.

    Parameters
    ----------
    backup : Path
        File written by `back_up`; it is checked first and not changed.
    store : Path
        Store to write.
    replace : bool
        Whether an existing store may be replaced; it gets a new name.

    Returns
    -------
    Path or None
        New path of the existing store; None if there was none.

    Raises
    ------
    StoreError
        If the copy is damaged or of a later version; if the store exists and `replace` is False, is in use,
        or cannot be written.
    """
    _check(backup)
    aside = None
    scratch = store.with_name(f".{store.name}.tmp")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        if store.exists():
            if not replace:
                raise StoreError(
                    "already exists", where=str(store), fix="To rename it and restore, give --replace"
                )
            _require_unused(store)
        with _open(backup) as source, _open(scratch, create=True) as copy:
            source.backup(copy)
        _check(scratch)
        if store.exists():
            aside = store.with_name(f"{store.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
            for suffix in _COMPANIONS:  # SQLite would apply an old log to the restored file
                if (companion := Path(f"{store}{suffix}")).exists():
                    companion.rename(f"{aside}{suffix}")
        if os.geteuid() == 0:
            owner = store.parent.stat()
            os.chown(scratch, owner.st_uid, owner.st_gid)
        _put(scratch, store)
    except OSError as error:
        raise StoreError(
            f"cannot be restored: {error.strerror}",
            where=str(store),
            fix="Make its directory writable, with enough free space for the copy",
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    return aside


def compact(store: Path) -> tuple[int, int]:
    """Rewrite a store without its free space; a daemon that writes to it waits meanwhile.

    Parameters
    ----------
    store : Path
        SQLite file; the disk needs free space of the size of the file.

    Returns
    -------
    tuple of int
        Size before and after, bytes.

    Raises
    ------
    StoreError
        If it cannot be read or written, or is locked for too long.
    """
    before = store.stat().st_size if store.exists() else 0
    with _open(store) as connection:
        connection.execute(
            "PRAGMA auto_vacuum=INCREMENTAL"
        )  # for files of old versions; takes effect with VACUUM
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, store.stat().st_size


@contextmanager
def _open(
    path: Path, *, create: bool = False, seconds: float = _LOCK_SECONDS
) -> Iterator[sqlite3.Connection]:
    """Open an existing SQLite file; its errors become `StoreError`."""
    if not create and not path.exists():
        raise StoreError("no such file", where=str(path), fix=_CHECK_PATH)
    mode = "rwc" if create else "rw"
    try:
        with closing(
            sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=seconds, isolation_level=None
            )
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreError(str(error), where=str(path)) from error


def _check(path: Path) -> int:
    """Check that a file is an undamaged store of a known version; return its number of verdicts."""
    with _open(path) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreError(f"damaged: {found}", where=str(path), fix="Use another copy")
        tables = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if not {"dqm_schema", "verdicts"} <= tables:
            raise StoreError("has no verdicts", where=str(path), fix=_CHECK_PATH)
        (version,) = connection.execute("SELECT version FROM dqm_schema").fetchone()
        if version not in {*MIGRATIONS, SCHEMA_VERSION}:
            raise StoreError(
                f"schema version {version}, but this program supports up to {SCHEMA_VERSION}",
                where=str(path),
                fix="Use the version of dqm that wrote it",
            )
        (n_verdicts,) = connection.execute("SELECT count(*) FROM verdicts").fetchone()
    return int(n_verdicts)


def _require_unused(store: Path) -> None:
    """Raise if a program has the store open; an unreadable store counts as unused."""
    try:
        with _open(store, seconds=_PROBE_SECONDS) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise StoreError("is in use", where=str(store), fix="Stop the daemon, then restore") from error


def _put(scratch: Path, target: Path) -> None:
    """Rename a complete file, so that it survives a crash of the machine."""
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(target)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
