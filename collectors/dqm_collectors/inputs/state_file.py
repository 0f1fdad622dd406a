"""How far files were read and what was acknowledged; written to disk before anything depends on it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dqm.errors import ConfigError, DqmError, FileError

__all__ = ["FilePosition", "StateFile"]

_MODEL = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FilePosition(BaseModel):
    """From where a batch and those after it are read again.

    Parameters
    ----------
    path : str
        The file.
    row : int
        Row with which the batch begins.
    rows_before : int
        Rows of earlier files of the run.
    last_time, end : float or None
        Time of the row before, and end of the batch before, Unix seconds; None without a clock or before the
        first row.
    chambers : tuple of str
        Chambers seen before.
    """

    model_config = _MODEL

    path: str
    row: int = Field(0, ge=0)
    rows_before: int = Field(0, ge=0)
    last_time: float | None = None
    end: float | None = None
    chambers: tuple[str, ...] = ()


class _State(BaseModel):
    """Contents of the file."""

    model_config = _MODEL

    version: int = Field(1, ge=1, le=1)
    options: dict[str, Any] = {}
    position: FilePosition | None = None
    note: str = ""
    finished: dict[str, int] = {}


class StateFile:
    """The state of one collector.

    Parameters
    ----------
    path : Path
        The file; beside it there are a lock and, while it is written, a new one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _State()
        self._lock: IO[bytes] | None = None

    @property
    def note(self) -> str:
        """Note of the last commit; empty if there is none."""
        return self._state.note

    @property
    def finished(self) -> Mapping[str, int]:
        """Rows of the finished files, from the file of the position on."""
        return self._state.finished

    def open(self, options: Mapping[str, Any]) -> None:
        """Take the state for this collector alone, and read it.

        Parameters
        ----------
        options : mapping of str to object
            Options on which the batches depend, as JSON has them.

        Raises
        ------
        FileError
            If another collector has it, or if it cannot be read.
        ConfigError
            If it was written with other options, which give other batches.
        """
        try:
            text = self._lock_and_read()
            if text:
                self._state = _read(text, self._path)
                self._refuse_others(options)
        except DqmError:
            self.close()
            raise
        self._state = self._state.model_copy(update={"options": dict(options)})

    def _lock_and_read(self) -> str:
        try:
            self._lock = self._path.with_name(self._path.name + ".lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        except BlockingIOError as error:
            raise FileError(
                "another collector has this state",
                where=str(self._path),
                fix="Give each collector a state of its own",
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no text"
            raise FileError(f"cannot be read or locked: {reason}", where=str(self._path)) from error

    def commit(self, position: str, note: str) -> None:
        """Write a position and a note.

        Raises
        ------
        FileError
            If it cannot be written.
        """
        place = FilePosition.model_validate_json(position)
        names = list(self._state.finished)
        first = names.index(place.path) if place.path in names else len(names)
        kept = {name: self._state.finished[name] for name in names[first:]}
        self._write({"position": place, "note": note, "finished": kept})

    def finish(self, path: Path, n_rows: int) -> None:
        """Write the final number of rows of a file; raises `FileError` if that is not possible."""
        self._write({"finished": {**self._state.finished, str(path): n_rows}})

    def close(self) -> None:
        """Release it for another collector."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _write(self, changes: dict[str, Any]) -> None:
        state = self._state.model_copy(update=changes)
        if self._lock is None:  # not opened: nobody continues from it
            return
        new = self._path.with_name(self._path.name + ".new")
        try:
            with new.open("w", encoding="utf-8") as file:
                file.write(state.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise FileError(
                f"cannot be written: {error.strerror}",
                where=str(self._path),
                fix="Free space on the disk, or change the rights of the directory",
            ) from error
        self._state = state

    def _refuse_others(self, options: Mapping[str, Any]) -> None:
        before = self._state.options
        for name, value in options.items():
            if before.get(name) != value:
                raise ConfigError(
                    f"{name} is {json.dumps(value)}, but was {json.dumps(before.get(name))} when the state "
                    f"was "
                    "written: rows would be lost or used twice where the two meet",
                    where=f"[options] {name}, state {self._path}",
                    fix="Use the former value, or begin anew with another state and another run",
                )


def _read(text: str, path: Path) -> _State:
    try:
        return _State.model_validate_json(text)
    except ValidationError as error:
        raise FileError(
            f"is not a state of a collector: {text[:60]!r}",
            where=str(path),
            fix="Give the collector a file of its own; without it, it begins anew",
        ) from error
