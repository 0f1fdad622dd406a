"""Where an installation is made: a directory beside its later place, which is moved there in a single step.

An interrupted attempt leaves it, and the next one continues in it, because toys take minutes. A failed
attempt removes it, unless toys are in it. It has a file with the hash of the good run: what was made from
another run is not used. The same file is locked, so two attempts cannot run at the same time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dqm.errors import ConfigError

__all__ = ["REFERENCES", "Workplace", "find_place", "refuse_taken"]

REFERENCES = "references"
MARK = ".dqm-init"


class Workplace:
    """Directory in which an installation is made.

    Parameters
    ----------
    directory : Path
        Its later place: not there yet, or an empty directory.
    key : str
        Hash of the run that everything in it is made of.

    Raises
    ------
    ConfigError
        If there is something at the later place, if another attempt is at work, or if nothing can be written
        there.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self.directory = find_place(directory)
        self.folder = self.directory.with_name(f".{self.directory.name}.dqm-init")
        self.goes_on = False
        """Whether it has files of an earlier attempt."""
        refuse_taken(self.directory)
        try:
            self._lock = self._open(key)
        except OSError as error:
            raise ConfigError(
                f"cannot be made: {error.strerror}",
                where=str(self.directory),
                fix="Choose a directory that you may write to",
            ) from error

    def finish(self) -> None:
        """Put everything in its place in a single step; raises `ConfigError` if the place is taken by now."""
        refuse_taken(self.directory)
        try:
            self.folder.rename(self.directory)
            (self.directory / MARK).unlink()
        except OSError as error:
            raise ConfigError(
                f"cannot be made: {error.strerror}",
                where=str(self.directory),
                fix="Choose another directory, or change its rights",
            ) from error

    @property
    def is_worth_keeping(self) -> bool:
        """Whether it has something that took long to make."""
        return any((self.folder / REFERENCES).glob("*.dqmref"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self.is_worth_keeping:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _open(self, key: str) -> IO[str]:
        """Make or take over the directory; return its locked file."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        if self.folder.exists() and not (self.folder / MARK).is_file() and any(self.folder.iterdir()):
            raise ConfigError(
                "is in the way, and was not made by 'dqm init'", where=str(self.folder), fix="Move it away"
            )
        self.folder.mkdir(mode=0o755, exist_ok=True)
        mark = (self.folder / MARK).open("a+", encoding="ascii")
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mark.close()
            raise ConfigError(
                "another 'dqm init' is making it", where=str(self.directory), fix="Wait until it has ended"
            ) from None
        mark.seek(0)
        known = mark.read()
        self.goes_on = known == key
        if not self.goes_on:
            self._empty()
            mark.seek(0)
            mark.truncate()
            mark.write(key)
            mark.flush()
            os.fsync(mark.fileno())
        return mark

    def _empty(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != MARK:
                path.unlink()


def find_place(directory: Path) -> Path:
    """Give the absolute path of a directory that a user names, ``..`` and links above it resolved."""
    is_odd = directory.name in ("", "..")
    return directory.resolve() if is_odd else directory.absolute().parent.resolve() / directory.name


def refuse_taken(directory: Path) -> None:
    """Refuse a place that is taken, or in which this process works; raises `ConfigError`."""
    if directory == Path.cwd():
        raise ConfigError(
            "is the working directory",
            where=str(directory),
            fix="Name a new directory, as in 'dqm init west'",
        )
    if directory.is_symlink() or (
        directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
    ):
        raise ConfigError(
            "is there already, and nothing is overwritten",
            where=str(directory),
            fix="Choose another directory, or move this one away",
        )
