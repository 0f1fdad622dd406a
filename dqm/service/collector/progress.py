"""How far a source that keeps its data has been acknowledged, and how a run continues from there.

Each window begins somewhere in a batch. The first window of each stream that the daemon has not answered says
from where this stream must be read again. The source commits the earliest of these places. The note of the
commit says for each chamber where its next window begins, so that the other chambers skip what is
acknowledged. The windows after a restart are therefore the same as without it, with the same numbers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dqm.errors import InputError
from dqm.events import EventBatch, Window
from dqm.service.collector.sources import ResumableSource
from dqm.stream import Sender, WindowEnd

__all__ = ["Note", "Progress", "WindowBegin"]

COMMIT_SECONDS = 1.0
"""Shortest time between commits, s."""


class WindowBegin(BaseModel):
    """Where a window begins.

    Parameters
    ----------
    stream : str
        Stream of the chamber.
    seq : int
        Number of the window.
    batch_start : float
        Number of the batch in which it begins, or its start, Unix seconds, if it has no number.
    n_events : int
        Events of this batch before the window.
    moment : float or None
        Start of the window, Unix seconds; None without a clock.
    first_edge : float or None
        Start of the first window of the stream, if windows are cut by time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stream: str
    seq: int = Field(ge=0)
    batch_start: float
    n_events: int = Field(ge=0)
    moment: float | None = None
    first_edge: float | None = None


class Note(BaseModel):
    """What a commit keeps: the run, where to read, and the next window of each chamber."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: int = Field(ge=0)
    position: str
    chambers: dict[str, WindowBegin]

    @classmethod
    def read(cls, text: str) -> Note:
        """Read the note of the last commit; raises `InputError` if `dqm` did not write it."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError(
                f"the last commit has another note: {text[:100]!r}",
                fix="Use a group that no other program commits for",
            ) from error


@dataclass(frozen=True, slots=True)
class _Place:
    begin: WindowBegin
    position: str


class Progress:
    """Follows the windows of one run and commits what is acknowledged.

    Parameters
    ----------
    source : ResumableSource
        The source.
    run : int
        Number of the run.
    note : Note, optional
        Note of the last commit.
    monotonic : callable
        Monotonic clock, s.
    """

    def __init__(
        self,
        source: ResumableSource,
        run: int,
        note: Note | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._run = run
        self._monotonic = monotonic
        self._skip: dict[str, WindowBegin] = dict(note.chambers) if note else {}
        self._open: dict[str, deque[_Place]] = {}  # windows by chamber that are not answered, and the next
        self._batch: EventBatch | None = None
        self._n_skipped = 0
        self._committed = ""
        self._is_known = note is not None  # to the next start: the run and where it began
        self._commit_at = -float("inf")
        if note:
            is_same_run = note.run == run
            for chamber, begin in note.chambers.items():
                first = begin if is_same_run else begin.model_copy(update={"seq": 0})
                self._open[chamber] = deque([_Place(first, note.position)])

    @staticmethod
    def first_numbers(note: Note | None, run: int) -> dict[str, int]:
        """Return the number of the next window of each stream; a new run begins with 0."""
        return {b.stream: b.seq for b in note.chambers.values()} if note and note.run == run else {}

    @staticmethod
    def first_edges(note: Note | None) -> dict[str, float]:
        """Return the edges from which windows in time are counted."""
        begins = note.chambers.values() if note else ()
        return {b.stream: b.first_edge for b in begins if b.first_edge is not None}

    def trim(self, batch: EventBatch, stream: str) -> EventBatch | None:
        """Take the next batch; return the part that is not acknowledged, or None.

        Raises
        ------
        InputError
            If the batches are not those of the last commit.
        """
        self._batch = batch
        self._n_skipped = 0
        place = _place_of(batch)
        begin = self._skip.get(batch.chamber)
        if begin is not None and place < begin.batch_start:
            return None
        if begin is not None:
            if place != begin.batch_start or len(batch.x) < begin.n_events:
                raise InputError(
                    f"no batch begins at {begin.batch_start}, where the last commit ends",
                    where=f"chamber {batch.chamber}",
                    fix="Use the former options, or another group and another run to begin anew",
                )
            del self._skip[batch.chamber]
            self._n_skipped = n = begin.n_events
            rest = replace(batch, x=batch.x[n:])
            if batch.times is None or begin.moment is None:
                return rest
            times = np.maximum(batch.times[n:], begin.moment)  # for a step that begins early by rounding
            return replace(rest, times=times, start=begin.moment)
        if batch.chamber not in self._open:
            first = WindowBegin(stream=stream, seq=0, batch_start=place, n_events=0, moment=batch.start)
            self._open[batch.chamber] = deque([_Place(first, batch.position)])
        return batch

    def add(self, window: Window, end: WindowEnd, first_edges: Mapping[str, float]) -> None:
        """Add a window of the last batch that was sent, and where it ends in what `trim` returned."""
        batch = self._batch
        if batch is None:
            return
        begin = WindowBegin(
            stream=window.stream,
            seq=window.seq + 1,
            batch_start=_place_of(batch),
            n_events=self._n_skipped + end.n_events,
            moment=end.moment,
            first_edge=first_edges.get(window.stream),
        )
        self._open[batch.chamber].append(_Place(begin, batch.position))

    def commit(self, sender: Sender, *, is_last: bool = False) -> None:
        """Commit what is acknowledged, at most every `COMMIT_SECONDS`, and at the end."""
        now = self._monotonic()
        if not self._open or (now < self._commit_at and not is_last):
            return
        for places in self._open.values():
            while len(places) > 1 and not sender.keeps(self._identity(places[0].begin)):
                places.popleft()
        firsts = {chamber: places[0] for chamber, places in self._open.items()}
        position = min(firsts.values(), key=lambda place: place.begin.batch_start).position
        chambers = {chamber: place.begin for chamber, place in firsts.items()}
        text = Note(run=self._run, position=position, chambers=chambers).model_dump_json(exclude_none=True)
        if text != self._committed:
            self._source.commit(position, text, wait=is_last or not self._is_known)
            self._committed = text
            self._is_known = True
            self._commit_at = now + COMMIT_SECONDS

    def _identity(self, begin: WindowBegin) -> tuple[str, int, int]:
        return begin.stream, self._run, begin.seq


def _place_of(batch: EventBatch) -> float:
    """Give what orders the batches of a chamber: their number, or their start."""
    if batch.number is not None:
        return float(batch.number)
    if batch.start is None or batch.times is None:
        raise InputError(
            "a source that continues after a restart needs a clock, or batches with numbers",
            fix="Give the batches times or numbers in the plugin",
        )
    return batch.start
