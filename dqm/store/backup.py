"""Back up a SQLite store while it is in use, restore it, and compact it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dqm.config import check_writers, make_private_directory
from dqm.errors import StoreError
from dqm.store.database import find_remedy
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
        File to write, mode 0600; it appears only when it is complete, checked and on disk.
    replace : bool
        Whether an existing file may be replaced.

    Returns
    -------
    int
        Number of verdicts in the copy; it has at least all that were stored before this call.

    Raises
    ------
    StoreError
        If the store cannot be read; if the file is the store, is in use, is a link, exists or cannot be
        written.
    ConfigError
        If others may write to the directory of the copy.
    """
    _check(store, "")  # the copy is checked
    with _replacing(target, "the copy", "Choose a writable directory with enough free space") as scratch:
        _check_target(store, target, replace=replace)
        with _open(store) as source, _open(scratch) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # a single file, without a log
        return _check(scratch)


def _check_target(store: Path, target: Path, *, replace: bool) -> None:
    """Refuse to write a copy over what must stay."""
    if target.is_symlink():
        raise StoreError("is a symbolic link", where=str(target), fix="Name the file itself")
    ours = [Path(f"{store}{suffix}") for suffix in _COMPANIONS]
    if target.exists() and any(each.exists() and target.samefile(each) for each in ours):
        raise StoreError("is the store itself", where=str(target), fix="Choose another file for the copy")
    if target.absolute() in [each.absolute() for each in ours]:
        raise StoreError("belongs to the store", where=str(target), fix="Choose another file for the copy")
    if not target.exists():
        return
    if not replace:
        raise StoreError("already exists", where=str(target), fix="Choose another name, or give --replace")
    if not target.is_file():
        raise StoreError("is not a file", where=str(target), fix="Choose another name")
    _require_unused(target, "Choose another file for the copy")


def restore(backup: Path, store: Path, *, replace: bool = False) -> Path | None:
    """Restore a store from a copy; no program may use the store.

    Parameters
    ----------
    backup : Path
        File written by `back_up`; it is checked first and not changed.
    store : Path
        Store to write, mode 0600.
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
        is the copy itself, or cannot be written.
    ConfigError
        If others may write to the copy or to the directory of the store.
    """
    _check(backup, "integrity_check")
    check_writers(backup)
    store = store.resolve()  # of a link the file that it leads to is replaced
    fix = "Make its directory writable, with enough free space for the copy"
    with _replacing(store, "the store", fix, make_directory=True) as scratch:
        if store.exists():
            if store.samefile(backup):
                raise StoreError("is the store itself", where=str(backup), fix="Give a copy of it")
            if not replace:
                raise StoreError(
                    "already exists", where=str(store), fix="To rename it and restore, give --replace"
                )
            _require_unused(store, "Stop the daemon, then restore")
        with _open(backup) as source, _open(scratch) as copy:
            source.backup(copy)
        _check(scratch)
        if os.geteuid() == 0:
            owner = store.parent.stat()
            os.chown(scratch, owner.st_uid, owner.st_gid)
        return _move_aside(store)


def _move_aside(store: Path) -> Path | None:
    """Give a store that is there another name, with its log: SQLite would apply it to the restored file."""
    if not store.exists():
        return None
    _require_unused(store, "Stop the daemon, then restore")  # again: it may have been started meanwhile
    aside = store.with_name(f"{store.name}.before-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for suffix in _COMPANIONS:
        if (companion := Path(f"{store}{suffix}")).exists():
            companion.rename(f"{aside}{suffix}")
    return aside


@contextmanager
def _replacing(target: Path, what: str, fix: str, *, make_directory: bool = False) -> Iterator[Path]:
    """Give an empty file of mode 0600 beside a file; what is in it at the end takes the place of that file.

    Nobody else can know its name beforehand, so nobody can put a link there.
    """
    scratch: Path | None = None
    try:
        if make_directory:
            make_private_directory(target.parent)
        check_writers(target.parent)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(descriptor)
        scratch = Path(name)
        yield scratch
        _put(scratch, target)
    except OSError as error:
        raise StoreError(f"cannot write {what}: {error.strerror}", where=str(target), fix=fix) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


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
    _check(store)
    before = store.stat().st_size
    with _open(store) as connection:
        connection.execute(
            "PRAGMA auto_vacuum=INCREMENTAL"
        )  # for files of old versions; takes effect with VACUUM
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, store.stat().st_size


@contextmanager
def _open(path: Path, *, seconds: float = _LOCK_SECONDS) -> Iterator[sqlite3.Connection]:
    """Open an existing SQLite file; its errors become `StoreError`."""
    if not path.exists():
        raise StoreError("no such file", where=str(path), fix=_CHECK_PATH)
    address = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=seconds, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StoreError(str(error), where=str(path), fix=find_remedy(str(error))) from error


def _check(path: Path, pragma: str = "quick_check") -> int:
    """Check that a file is an undamaged store of a known version; return its number of verdicts."""
    with _open(path) as connection:
        found = connection.execute(f"PRAGMA {pragma}(1)").fetchone() if pragma else ("ok",)
        if found != ("ok",):
            raise StoreError(f"damaged: {found[0]}", where=str(path), fix="Use another copy")
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


def _require_unused(store: Path, fix: str) -> None:
    """Raise if a program has the store open; an unreadable store counts as unused."""
    try:
        with _open(store, seconds=_PROBE_SECONDS) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, sqlite3.Error) and cause.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise StoreError("is in use", where=str(store), fix=fix) from error


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
