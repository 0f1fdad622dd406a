"""Histograms that another program publishes in ROOT files: their bins become counted rows.

A file that is followed is read again whenever it changes; of a directory, every new file is read once, in the
order of their times. An accumulating histogram gives the difference of two successive states. The events of a
batch belong to the whole time between them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dqm.errors import FileError, format_count
from dqm.events import EventBatch, Origin
from dqm_collectors.pace import Clock, Sleep
from dqm_collectors.root_histograms import Histogram, HistogramFile, read_histograms

__all__ = ["COUNTS", "HistogramChoice", "HistogramsCollector"]

log = structlog.get_logger(__name__)

COUNTS = "events"
"""Column with the contents of the bins."""

AXES = ("x", "y")
"""Features, unless they are named."""

MOST_RESETS = 3
"""Consecutive resets after which the histogram counts as one that does not accumulate."""

BEAT_SECONDS = 1.0
"""Longest sleep: after it the collector learns that the source works, and may end."""

FilePlace = tuple[int, str]
"""Time of the last change, ns, and name: the order of the files of a directory."""


class HistogramChoice(BaseModel):
    """``[options.histograms.CHAMBER]``: a histogram that is a chamber, and so a stream."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="name in the file, with its directories: chamber/drift_time")
    features: tuple[str, ...] | None = Field(
        None, min_length=1, max_length=2, description="names of its axes; default: x, or x and y"
    )


class HistogramsCollector:
    """Bins of histograms in ROOT files.

    Parameters
    ----------
    options : HistogramsCollector.Options
        Files and histograms.
    clock, sleep : callable
        Used when files are followed.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        inputs: tuple[Path, ...] = Field(
            min_length=1, description="ROOT files or directories of them; one, if it is followed"
        )
        pattern: str = Field("*.root", min_length=1, description="files of a directory that are read")
        histograms: dict[str, HistogramChoice] = Field(
            min_length=1, description="histogram of each chamber; each is a stream of its own"
        )
        content: Literal["accumulated", "separate"] = Field(
            "accumulated",
            description="accumulated: a state has the events of all states before it; separate: only its own",
        )
        follow: bool = Field(
            True, description="whether to wait for changes and new files; false: what is there is read once"
        )
        state_seconds: float | None = Field(
            None,
            gt=0,
            le=1e9,
            description="live time of each state that is read once, s; default: it has no clock",
        )
        flow: bool = Field(True, description="whether under- and overflow are bins; false: they are left out")
        poll_seconds: float = Field(5.0, gt=0, le=3600, description="time between two looks at the files, s")
        patience_seconds: float = Field(
            60.0, ge=0, le=86400, description="how long a file that cannot be read is tried again, s"
        )

        @model_validator(mode="after")
        def _check(self) -> Self:
            if self.follow and self.state_seconds is not None:
                raise ValueError("state_seconds needs follow = false: followed files have times of their own")
            if self.follow and len(self.inputs) > 1:
                raise ValueError("one file or directory can be followed: give one, or follow = false")
            return self

    def __init__(self, options: Options, *, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> None:
        self.options = options
        self.origin = Origin.LIVE if options.follow else Origin.REPLAYED
        self._clock = clock
        self._sleep = sleep
        self._counts = Counter(dict.fromkeys(("states", "events_in_bins", "resets", "unreadable"), 0))
        self._streams = [
            _Stream(chamber, choice, options, self._counts) for chamber, choice in options.histograms.items()
        ]
        self._names = [choice.name for choice in options.histograms.values()]
        self._troubled_since: float | None = None
        self._seen: set[str] = set()

    def counts(self) -> dict[str, int]:
        """States and events read, resets, attempts that failed, and events left out, since the start."""
        return dict(self._counts)

    def packages(self) -> dict[str, str]:
        """Give the package that reads ROOT files, and the extra that has it."""
        return {"uproot": "root"}

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield a batch for each histogram and state; while nothing changes, empty ones.

        Raises
        ------
        FileError
            If a histogram is missing or does not have counts, if its binning changes, or if a file cannot be
            read for longer than `patience_seconds`.
        """
        if not self.options.follow:
            for number, path in enumerate(self._all_files()):
                yield from self._take(read_histograms(path, self._names), self._time_of(number))
            return
        yield from self._follow(self.options.inputs[0])

    def _follow(self, source: Path) -> Iterator[EventBatch]:
        done: FilePlace | None = None
        next_look = self._clock()
        while True:
            if self._clock() >= next_look:
                next_look = self._clock() + self.options.poll_seconds
                for place, path in self._new_files(source, done):
                    file = self._try(path)
                    if file is None:
                        break  # files are read in their order
                    done = place
                    self._seen.add(path.name)
                    yield from self._take(file, place[0] * 1e-9)
            for stream in self._streams:
                yield stream.beat()
            self._sleep(min(BEAT_SECONDS, self.options.poll_seconds))

    def _all_files(self) -> list[Path]:
        """Give all files that are there; raises `FileError` if there are none."""
        found = [path for source in self.options.inputs for _, path in self._list(source)]
        if not found:
            raise FileError(
                f"no file {self.options.pattern!r}",
                where=", ".join(map(str, self.options.inputs)),
                fix="Check the directory and the key 'pattern'",
            )
        return found

    def _new_files(self, source: Path, done: FilePlace | None) -> list[tuple[FilePlace, Path]]:
        """Give the files that were changed since the last one that was read; at the start the newest."""
        try:
            listed = self._list(source)
        except FileError as error:
            self._note_trouble(error)
            return []
        if done is None:
            if len(listed) > 1 and not self._seen:
                log.info("earlier files are left out", n=len(listed) - 1, where=str(source))
            self._seen = {path.name for _, path in listed}
            return listed[-1:]
        new = self._newer(listed, done) if source.is_dir() else [f for f in listed if f[0] != done]
        if not new:
            self._end_trouble(source)
        return new

    def _newer(self, listed: list[tuple[FilePlace, Path]], done: FilePlace) -> list[tuple[FilePlace, Path]]:
        """Give the files of a directory that came after the last one; log those that come too late."""
        for place, path in listed:
            if place < done and path.name not in self._seen:
                self._counts["late_files"] += 1
                self._seen.add(path.name)
                log.warning("a file is older than one that was read; it is left out", where=str(path))
        self._seen &= {path.name for _, path in listed}
        is_once = self.options.content == "separate"  # read again, its events would count twice
        return [f for f in listed if f[0] > done and not (is_once and f[1].name in self._seen)]

    def _list(self, source: Path) -> list[tuple[FilePlace, Path]]:
        try:
            paths = list(source.glob(self.options.pattern)) if source.is_dir() else [source]
            return sorted(((path.stat().st_mtime_ns, path.name), path) for path in paths)
        except OSError as error:
            raise FileError(
                f"cannot be read: {error.strerror}",
                where=str(source),
                fix="Correct the path, or the rights of the directory",
            ) from error

    def _time_of(self, number: int) -> float | None:
        seconds = self.options.state_seconds
        return None if seconds is None else (number + 1) * seconds

    def _try(self, path: Path) -> HistogramFile | None:
        """Read a file that may be half written; None if it has to be tried again."""
        try:
            file = read_histograms(path, self._names)
        except FileError as error:
            self._note_trouble(error)
            return None
        known = {stream.name for stream in self._streams if stream.is_known}
        late = [error for name, error in file.missing.items() if file.is_empty or name in known]
        if late:
            self._note_trouble(late[0])
            return None
        self._end_trouble(path)
        return file

    def _end_trouble(self, where: Path) -> None:
        if self._troubled_since is not None:
            log.info("the file can be read again", where=str(where))
            self._troubled_since = None

    def _note_trouble(self, error: FileError) -> None:
        """Count and log an error that may go away; raise it when it has lasted too long."""
        self._counts["unreadable"] += 1
        if self._troubled_since is None:
            self._troubled_since = self._clock()
            log.warning("the file cannot be read; trying again", reason=str(error))
        if self._clock() - self._troubled_since > self.options.patience_seconds:
            raise error

    def _take(self, file: HistogramFile, moment: float | None) -> Iterator[EventBatch]:
        """Yield what a state adds to each histogram."""
        for error in (*file.problems.values(), *file.missing.values()):
            raise error
        self._counts["states"] += 1
        for stream in self._streams:
            batch = stream.add(file.found[stream.name], moment)
            if batch is not None:
                yield batch


class _Stream:
    """One histogram: what each state adds to it.

    Parameters
    ----------
    chamber : str
        Name of its chamber.
    choice : HistogramChoice
        Which it is.
    options : HistogramsCollector.Options
        How states follow each other.
    counts : Counter
        Where it counts.
    """

    def __init__(
        self,
        chamber: str,
        choice: HistogramChoice,
        options: HistogramsCollector.Options,
        counts: Counter[str],
    ) -> None:
        self.name = choice.name
        self._chamber = chamber
        self._named = choice.features
        self._options = options
        self._counts = counts
        self._last: Histogram | None = None
        self._time: float | None = None
        self._n_resets = 0

    @property
    def is_known(self) -> bool:
        """Whether a state of it was read."""
        return self._last is not None

    def beat(self) -> EventBatch:
        """Give a batch of no time: nothing has changed."""
        names = self._names(len(self._last.edges) if self._last else len(self._named or AXES[:1]))
        return EventBatch(self._chamber, names, np.empty((0, len(names))), counts=COUNTS)

    def add(self, state: Histogram, moment: float | None) -> EventBatch | None:
        """Give what a state adds; None if it is the first one or starts from zero.

        Parameters
        ----------
        state : Histogram
            The state.
        moment : float or None
            When it was written, Unix seconds; None if it has no time.
        """
        before = self._last
        since = self._time
        self._check(state, before)
        self._last = state
        self._time = moment
        if before is None and not self._options.follow:
            since = None if moment is None else 0.0
        elif before is None:  # its events came at unknown times
            log.info("counting begins with the next state", histogram=state.where, events=state.n_events)
            return None
        added = state
        if self._options.content == "accumulated" and before is not None:
            difference = state.minus(before)
            if difference is None:
                self._note_reset(state, before)
                return None
            added = difference
        self._n_resets = 0
        if since is not None and moment is not None and moment <= since:
            log.warning("the file is older than the state before; starting anew", histogram=state.where)
            return None
        return self._batch(added, since, moment)

    def _batch(self, added: Histogram, start: float | None, end: float | None) -> EventBatch:
        rows = added.rows(flow=self._options.flow)
        self._counts["events_in_bins"] += int(rows[:, -1].sum())
        if not self._options.flow:
            self._counts["in_under_or_overflow"] += added.n_events - int(rows[:, -1].sum())
        return EventBatch(self._chamber, self._names(len(added.edges)), rows, None, start, end, counts=COUNTS)

    def _names(self, n_axes: int) -> tuple[str, ...]:
        return (*(self._named or AXES[:n_axes]), COUNTS)

    def _check(self, state: Histogram, before: Histogram | None) -> None:
        """Refuse another binning, and features that are not as many as axes."""
        n_axes = len(state.edges)
        if self._named is not None and len(self._named) != n_axes:
            raise FileError(
                f"{format_count(len(self._named), 'feature')} named for a TH{n_axes}: "
                f"{', '.join(self._named)}",
                where=state.where,
                fix=f"Name {format_count(n_axes, 'axis', 'axes')} under [options.histograms.{self._chamber}]",
            )
        if before is not None and not state.has_binning_of(before):
            raise FileError(
                f"its binning changed from {before.describe_binning()} to {state.describe_binning()}",
                where=state.where,
                fix="Build a reference with the new binning, and start the collector again",
            )

    def _note_reset(self, state: Histogram, before: Histogram) -> None:
        self._counts["resets"] += 1
        self._n_resets += 1
        loss = state.describe_loss(before)
        log.warning(
            "the histogram was reset; starting anew",
            histogram=state.where,
            events_before=before.n_events,
            events_now=state.n_events,
            reason=loss,
        )
        if self._n_resets >= MOST_RESETS:
            raise FileError(
                f"it has shrunk {self._n_resets} times one after the other: {loss}",
                where=state.where,
                fix='If each state has its own events only, give content = "separate"',
            )
