"""Files that grow and directories in which new files appear; after a restart it continues where it was.

Files are read one after the other. The last one may still be written: its complete part is read, and the rest
later. A file is finished when there are two later ones, or when there is one and it has not changed between
two looks. Rows are taken in batches that begin at multiples of `batch_rows`, so that the batches after a
restart are those before it; the rest of a file follows when the file is finished.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
from pydantic import Field

from dqm.errors import FileError
from dqm.events import EventBatch, Origin
from dqm_collectors.inputs.batches import BatchMaker
from dqm_collectors.inputs.faults import LayoutError, WrittenAnewError
from dqm_collectors.inputs.features import Block, FeatureReader
from dqm_collectors.inputs.growing import GrowingTable
from dqm_collectors.inputs.layout import LayoutCheck
from dqm_collectors.inputs.options import FileOptions
from dqm_collectors.inputs.run_files import RunFile, list_new
from dqm_collectors.inputs.state_file import FilePosition, StateFile
from dqm_collectors.pace import Clock, Sleep

__all__ = ["FilesCollector"]

log = structlog.get_logger(__name__)

SLEEP_SECONDS = 0.2
"""Longest sleep: then what is acknowledged is committed, and the collector may end."""

NOT_OF_BATCHES = ("inputs", "state", "begin", "poll_seconds", "patience_seconds")
"""Options that do not change the batches; the others belong to a run."""


class FilesCollector:
    """Rows of files that grow, in order.

    Parameters
    ----------
    options : FilesCollector.Options
        Files, features and where the position is kept.
    clock, sleep : callable
        Used between two looks at the files.
    """

    class Options(FileOptions):
        """Keys of the configuration."""

        state: Path = Field(
            description="file that keeps how far was read, for this collector alone; its directory exists",
            json_schema_extra={"written": True},  # 'dqm init' lets the service write there
        )
        begin: Literal["earliest", "latest"] = Field(
            "earliest", description="where to begin without a state: with the earliest file or the latest"
        )
        batch_rows: int = Field(
            100,
            ge=1,
            le=65_536,
            description="rows of a file that are taken together: they wait for each other",
        )
        poll_seconds: float = Field(5.0, gt=0, le=3600, description="time between two looks at the files, s")
        patience_seconds: float = Field(
            60.0,
            ge=0,
            le=86_400,
            description="how long a file that cannot be read and does not change is tried again, s",
        )

    origin = Origin.LIVE

    def __init__(self, options: Options, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self.options = options
        self._clock = clock
        self._sleep = sleep
        self._is_stopped: Callable[[], bool] = lambda: False
        self._state = StateFile(options.state)
        self._position: FilePosition | None = None
        self._layout = LayoutCheck()
        self._counts = Counter(
            dict.fromkeys(("files", "rows", "late_files", "damaged_files", "unreadable"), 0)
        )
        self._trouble_since: float | None = None
        self._done: set[Path] = set()
        self._is_told = False

    @property
    def gives_runs(self) -> bool:
        """Whether the names of the files say which runs they belong to."""
        return self.options.name_pattern is not None

    def packages(self) -> dict[str, str]:
        """Give the packages that these files and expressions need, and the extra that has each."""
        return self.options.packages()

    def counts(self) -> dict[str, int]:
        """Files that were finished, rows, files that were left out or damaged, and attempts that failed."""
        return dict(self._counts)

    def open(self, is_stopped: Callable[[], bool]) -> str:
        """Read the note of the last commit; empty if there is none.

        Parameters
        ----------
        is_stopped : callable
            Called between two readings; it may commit, and says whether to end.

        Raises
        ------
        FileError
            If the state cannot be read, or another collector has it.
        ConfigError
            If it was written with other options, which give other batches.
        """
        self._is_stopped = is_stopped
        options = self.options.model_dump(mode="json", exclude=set(NOT_OF_BATCHES))
        self._state.open(options)
        return self._state.note

    def seek(self, position: str) -> None:
        """Go on at the position of a batch."""
        self._position = FilePosition.model_validate_json(position)

    def commit(self, position: str, note: str, *, wait: bool = False) -> None:  # noqa: ARG002
        """Keep a position and a note for the next start; each is on the disk before it returns."""
        self._state.commit(position, note)

    def close(self) -> None:
        """Let go of the state."""
        self._state.close()

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield batches with positions and numbers until `is_stopped` of `open` says so.

        Raises
        ------
        FileError
            If a file cannot be read for longer than `patience_seconds`, and no other follows or it was
            finished before; if a file has other columns than those before it, or was written again from the
            start.
        """
        current: _Current | None = None
        while not self._is_stopped():
            current = self._find_current(current)
            if current is not None:
                yield from self._read_on(current)
            if current is None or not (current.is_finished and current.n_later):
                self._wait()

    def _wait(self) -> None:
        until = self._clock() + self.options.poll_seconds
        while not self._is_stopped() and (left := until - self._clock()) > 0:
            self._sleep(min(left, SLEEP_SECONDS))

    def _find_current(self, current: _Current | None) -> _Current | None:
        """Look at the files that are there; give the one to read, or None if there is none yet."""
        try:
            listed = list_new(self.options.inputs, self.options.name_pattern)
        except FileError as error:
            if self._note_trouble(error, is_changing=False):
                raise
            return current
        paths = [file.path for file in listed]
        self._done &= set(paths)
        if current is None:
            current = self._begin(listed)
        elif current.is_finished:
            self._done.add(current.file.path)
            ahead = self._ahead(current, listed)
            current = self._next(current, ahead[0]) if ahead else current
        if current is not None:
            current.had_later = current.n_later > 0
            current.n_later = len(self._ahead(current, listed))
        return current

    def _begin(self, listed: list[RunFile]) -> _Current | None:
        """Give the file of the position, or the first one."""
        position = self._position
        if position is not None:
            found = [file for file in listed if str(file.path) == position.path]
            if not found:
                raise FileError(
                    "the file with the last acknowledged windows does not exist any more",
                    where=position.path,
                    fix="Bring it back, or begin anew with another state and another run",
                )
            file = found[0]
        elif listed:
            file = listed[0 if self.options.begin == "earliest" else -1]
        else:
            if not self._is_told:
                log.info("there is no file yet", where=", ".join(map(str, self.options.inputs)))
            self._is_told = True
            return None
        self._done |= {one.path for one in listed[: listed.index(file)]}
        return _Current.at(file, self.options, position or FilePosition(path=str(file.path)))

    def _next(self, current: _Current, file: RunFile) -> _Current:
        is_same_run = file.run == current.file.run
        rows_before = current.rows_before + current.n_read if is_same_run else 0
        seen = tuple(sorted(current.maker.seen)) if is_same_run else ()
        position = FilePosition(path=str(file.path), rows_before=rows_before, chambers=seen)
        return _Current.at(file, self.options, position)

    def _ahead(self, current: _Current, listed: list[RunFile]) -> list[RunFile]:
        """Give the files after the current one; those that came too late are logged and left out."""
        if current.file not in listed:  # finished and moved away
            return [file for file in listed if file.path not in self._done]
        place = listed.index(current.file)
        for file in listed[:place]:
            if file.path not in self._done:
                self._done.add(file.path)
                self._counts["late_files"] += 1
                log.warning(
                    "a file comes before one that was read; it is left out",
                    where=str(file.path),
                    read=str(current.file.path),
                )
        return listed[place + 1 :]

    def _read_on(self, current: _Current) -> Iterator[EventBatch]:
        """Yield what is new in a file; finish it if nobody writes it any more."""
        path = current.file.path
        is_finished = str(path) in self._state.finished
        is_changing = current.look()
        is_settled = current.n_later > 1 or (current.had_later and not is_changing)
        is_complete = is_finished or (current.n_later > 0 and is_settled)
        if current.is_finished or not (is_changing or is_complete or current.is_troubled):
            return
        try:
            if is_changing or current.is_troubled or current.growing.is_text:
                yield from self._read_rows(current, is_complete=is_complete)
        except (WrittenAnewError, LayoutError):
            raise
        except FileError as error:
            current.is_troubled = True
            may_become_whole = is_changing and not current.is_open
            if not self._note_trouble(error, is_changing=may_become_whole):
                return
            if is_finished or not current.n_later:  # it was readable, and windows are missing
                raise
            self._give_up(current, error)
            is_complete = True
        current.is_troubled = False
        self._end_trouble(path)
        if is_complete:
            yield from self._finish(current)

    def _read_rows(self, current: _Current, *, is_complete: bool) -> Iterator[EventBatch]:
        """Yield the rows of a file that were not read before, as far as they make whole batches."""
        path = current.file.path
        reader = FeatureReader(self.options, current.growing.open(current.n_read, is_complete=is_complete))
        self._layout.check(path, reader.layout)
        current.is_open = True
        for block in reader.read(current.n_read, current.last_time):
            current.add(block, self._state.finished.get(str(path)))
            yield from self._batches(current, is_complete=False)

    def _finish(self, current: _Current) -> Iterator[EventBatch]:
        path = current.file.path
        if str(path) not in self._state.finished:
            self._state.finish(path, current.n_read)
        yield from self._batches(current, is_complete=True)
        current.is_finished = True
        self._counts["files"] += 1
        log.info("a file is finished", where=str(path), rows=current.n_read, run=current.file.run)

    def _batches(self, current: _Current, *, is_complete: bool) -> Iterator[EventBatch]:
        """Yield the rows that make whole batches; of a complete file all rows."""
        size = self.options.batch_rows
        while current.n_taken < current.n_read:
            end = (current.n_taken // size + 1) * size
            if end > current.n_read:
                if not is_complete:
                    return
                end = current.n_read
            position = current.position()
            block = current.take(end)
            self._counts["rows"] += end - position.row
            if block is None:
                continue
            number = position.rows_before + position.row
            text = position.model_dump_json()
            for batch in current.maker.batches(block):
                yield replace(batch, position=text, number=number)

    def _give_up(self, current: _Current, error: FileError) -> None:
        self._counts["damaged_files"] += 1
        self._trouble_since = None
        log.error("a file is left with what could be read", reason=str(error), rows=current.n_read)

    def _note_trouble(self, error: FileError, *, is_changing: bool) -> bool:
        """Count and log an error that may go away; tell whether it lasted too long since the file changed."""
        self._counts["unreadable"] += 1
        if self._trouble_since is None:
            log.warning("a file cannot be read yet; trying again", reason=str(error))
        if self._trouble_since is None or is_changing:
            self._trouble_since = self._clock()
        return self._clock() - self._trouble_since > self.options.patience_seconds

    def _end_trouble(self, path: Path) -> None:
        if self._trouble_since is not None:
            log.info("the file can be read", where=str(path))
            self._trouble_since = None


@dataclass(slots=True)
class _Current:
    """The file that is read, and how far."""

    file: RunFile
    growing: GrowingTable
    maker: BatchMaker
    rows_before: int
    n_read: int
    n_taken: int
    last_time: float
    """Time of the last row that was read."""
    taken_time: float | None
    """Time of the last row that was taken."""
    pending: Block | None = None
    looked_at: tuple[int, int] | None = None
    """Size and time of the last change."""
    n_later: int = 0
    """Files after it."""
    had_later: bool = False
    """Whether there was one at the look before."""
    is_open: bool = False
    """Whether its columns were read: an error in its rows does not go away when it grows."""
    is_finished: bool = False
    is_troubled: bool = False

    @classmethod
    def at(cls, file: RunFile, options: FileOptions, position: FilePosition) -> _Current:
        """Go on at a position."""
        return cls(
            file,
            GrowingTable(file.path, options),
            BatchMaker(file, options.chamber, position.chambers, position.end),
            position.rows_before,
            n_read=position.row,
            n_taken=position.row,
            last_time=-np.inf if position.last_time is None else position.last_time,
            taken_time=position.last_time,
        )

    def look(self) -> bool:
        """Look at the file: whether it has changed since the last look."""
        before = self.looked_at
        try:
            found = self.file.path.stat()
            self.looked_at = found.st_size, found.st_mtime_ns
        except OSError:  # the attempt to read it says why
            self.looked_at = None
            self.is_troubled = True
        return before != self.looked_at

    def position(self) -> FilePosition:
        """Give the place of the next row to take."""
        return FilePosition(
            path=str(self.file.path),
            row=self.n_taken,
            rows_before=self.rows_before,
            last_time=self.taken_time,
            end=self.maker.end,
            chambers=tuple(sorted(self.maker.seen)),
        )

    def add(self, block: Block, n_finished: int | None) -> None:
        """Add rows that were read; rows after the end of a file that was finished before do not count."""
        end = block.end_row
        if n_finished is not None and end > n_finished:
            log.error(
                "a file has grown after it was finished; its later rows are left out",
                where=str(self.file.path),
                rows=end,
                finished_with=n_finished,
            )
            block = block.part(0, int(np.searchsorted(block.rows, n_finished)))
            end = max(self.n_read, n_finished)
        if block.times is not None and len(block.times):
            self.last_time = float(block.times[-1])
        self.pending = block if self.pending is None else Block.join([self.pending, block])
        self.n_read = end

    def take(self, end: int) -> Block | None:
        """Take the rows before row `end` of the file; None if none of them was selected."""
        self.n_taken = end
        pending = self.pending
        if pending is None:
            return None
        k = int(np.searchsorted(pending.rows, end))
        self.pending = pending.part(k, len(pending.rows))
        if k == 0:
            return None
        block = pending.part(0, k)
        if block.times is not None:
            self.taken_time = float(block.times[-1])
        return block
