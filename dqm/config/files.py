"""Files of a daemon or collector: complete or absent, and written only by their owner and root.

Whoever writes into a data directory can invent and suppress verdicts, and replace what the daemon writes to.
So directories and files are made for their owner alone, whatever the umask, and refused where others may
write. What was made readable for others stays readable: that is the administrator's decision.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from dqm.errors import ConfigError

__all__ = [
    "check_writers",
    "make_private_directory",
    "make_private_file",
    "refuse_input",
    "removing_if_empty",
    "replacing",
]

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_private_directory(path: Path) -> None:
    """Make a directory with mode 0700, and those above it that are missing; check one that is there.

    Parameters
    ----------
    path : Path
        The directory.

    Raises
    ------
    ConfigError
        As `check_writers`.
    OSError
        If it cannot be made.
    """
    for missing in reversed([each for each in (path, *path.parents) if not each.exists()]):
        missing.mkdir(_DIRECTORY_MODE, exist_ok=True)
        missing.chmod(_DIRECTORY_MODE)  # the umask may have taken more
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    check_writers(path)


@contextmanager
def removing_if_empty(path: Path) -> Iterator[None]:
    """Remove a directory again that was made within the block, if the block fails and nothing is in it.

    So a command may make its directory first, and fail later.

    Parameters
    ----------
    path : Path
        The directory; those above it that were made with it are removed as well.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):  # it has something in it, or was not made
                each.rmdir()
        raise


def make_private_file(path: Path) -> None:
    """Make an empty file with mode 0600, or check one that is there; never through a dangling link.

    Raises
    ------
    ConfigError
        As `check_writers`.
    OSError
        If it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    except FileExistsError:
        check_writers(path)
        return
    try:
        os.fchmod(descriptor, _FILE_MODE)
    finally:
        os.close(descriptor)


def check_writers(path: Path) -> None:
    """Refuse a file or directory that others can write or replace.

    Parameters
    ----------
    path : Path
        It must exist, unless it is a link that leads nowhere.

    Raises
    ------
    ConfigError
        If it belongs to somebody other than this user and root; if its group or others may write; or if
        everybody may write a directory above it that has no sticky bit, as ``/tmp`` has.
    OSError
        If it cannot be looked at.
    """
    facts = path.stat()
    user = os.geteuid()
    if user not in (0, facts.st_uid) and facts.st_uid != 0:
        raise ConfigError(
            f"belongs to another user (uid {facts.st_uid}, this is {user})",
            where=str(path),
            fix=f"Run 'chown -R {user} {path}' as root, or run the command as its owner",
        )
    if facts.st_mode & _WRITABLE_BY_OTHERS:
        _refuse(path, facts, "go-w")
    for above in path.resolve().parents:
        facts = above.stat()
        if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
            _refuse(above, facts, "o-w")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file to write; it takes the place of `path` when the block ends, or is removed.

    Parameters
    ----------
    path : Path
        File that exists afterwards, complete.

    Yields
    ------
    Path
        File beside it; nobody else can know its name beforehand, so nobody can put a link there.

    Raises
    ------
    OSError
        If `path` is there and is not a file, or if it cannot be replaced.
    """
    if path.exists() and not path.is_file():  # root would lose a device such as /dev/null
        raise OSError(errno.EINVAL, "it is there, and is not a file", str(path))
    scratch = path.with_name(f".{path.name}.{token_hex(8)}.tmp")
    try:
        yield scratch
        scratch.replace(path)
    finally:
        with suppress(OSError):
            scratch.unlink()


def refuse_input(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Parameters
    ----------
    output : Path
        File to write.
    inputs : iterable of Path
        What is read: files, patterns, and directories, in which everything counts as read.

    Raises
    ------
    ConfigError
        If the file is there and is one of them, whatever names, links and paths lead to it.
    """
    if not output.exists():
        return
    for path in inputs:
        found = [path] if path.exists() else map(Path, glob.glob(str(path)))  # noqa: PTH207 - may be absolute
        if any(output.samefile(one) or one.resolve() in output.resolve().parents for one in found):
            raise ConfigError(
                f"is read as well, by the name {path}, and would be overwritten",
                where=str(output),
                fix="Choose another file to write",
            )


def _refuse(path: Path, facts: os.stat_result, mode: str) -> None:
    raise ConfigError(
        f"others may write to it (mode {stat.S_IMODE(facts.st_mode):04o})",
        where=str(path),
        fix=f"Run 'chmod {mode} {path}', after a look at what is in it",
    )
