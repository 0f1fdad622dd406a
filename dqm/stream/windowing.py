"""Cutting batches of events into windows, by count or by time; pure logic without clock or socket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dqm.errors import InputError
from dqm.events import Condition, EventBatch, FloatArray, Measurement, Origin, Window, WindowCut

__all__ = ["CountCutter", "Cutter", "RunLabel", "TimeCutter"]

_SHORTEST_SECONDS = 1e-3  # a float64 of today's Unix time resolves 2.4e-7 s


@dataclass(frozen=True, slots=True)
class RunLabel:
    """What all windows of one run have in common.

    Parameters
    ----------
    run : int
        Run number.
    run_type : str
        What the run is for: ``physics``, ``cosmics``, ...
    origin : Origin
        Live, replayed or simulated.
    """

    run: int
    run_type: str = "physics"
    origin: Origin = Origin.LIVE


class Cutter(Protocol):
    """Takes batches in the order of the source and gives windows, numbered within each stream."""

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that no window holds; lost once the cutter is closed."""

    def push(self, batch: EventBatch) -> list[Window]:
        """Windows that this batch completes."""

    def close(self) -> list[Window]:
        """Windows that the end of the source completes; nothing may be pushed after it."""


@dataclass(slots=True)
class _Filling:
    """A window being filled: pieces are kept as they come and joined once."""

    parts: list[FloatArray] = field(default_factory=list)
    n_events: int = 0
    start: float | None = None
    end: float | None = None
    live_seconds: float = 0.0
    auxiliary: dict[str, Measurement] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)

    def add(self, batch: EventBatch, first: int, last: int, span: tuple[float, float] | None) -> None:
        """Take events ``first`` to ``last`` of a batch, seen during `span`."""
        if last == first and span is None:
            return
        if last > first:
            self.parts.append(batch.x[first:last])
            self.n_events += last - first
        if span is not None:
            self.start = span[0] if self.start is None else min(self.start, span[0])
            self.end = span[1] if self.end is None else max(self.end, span[1])
            self.live_seconds += span[1] - span[0]
        self.conditions.update(batch.conditions)
        for reading in batch.auxiliary:
            known = self.auxiliary.get(reading.name)
            if known is None or known.time <= reading.time:
                self.auxiliary[reading.name] = reading

    def join(self, n_features: int) -> FloatArray:
        """All events, in the order they came."""
        if not self.parts:
            return np.empty((0, n_features))
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)


@dataclass(slots=True)
class _RunSequence:
    """State of one stream."""

    stream: str
    chamber: str
    names: tuple[str, ...]
    seq: int = 0
    filling: _Filling = field(default_factory=_Filling)
    first_edge: float | None = None  # this and what follows: time cutter only
    step: int = 0  # windows between the first edge and the one being filled
    covered: float | None = None  # end of the last batch

    def cut(self, label: RunLabel, kind: WindowCut, rate_hz: float | None) -> Window:
        """Window from what has been filled, and an empty one in its place."""
        filled, self.filling = self.filling, _Filling()
        has_clock = filled.start is not None
        live_seconds = round(filled.live_seconds, 6)  # sums of float64 Unix times are no better
        window = Window(
            stream=self.stream,
            run=label.run,
            seq=self.seq,
            run_type=label.run_type,
            origin=label.origin,
            cut=kind,
            names=self.names,
            x=filled.join(len(self.names)),
            start=filled.start,
            end=filled.end,
            live_seconds=live_seconds if has_clock else None,
            n_expected=None if rate_hz is None else rate_hz * live_seconds,
            auxiliary=tuple(filled.auxiliary.values()),
            conditions=filled.conditions,
        )
        self.seq += 1
        return window


class _Lanes:
    """Streams of a source, told apart by chamber; checks that batches agree with each other."""

    def __init__(self, streams: Mapping[str, str] | None, first_numbers: Mapping[str, int] | None) -> None:
        self._streams = dict(streams or {})
        self._first_numbers = dict(first_numbers or {})
        self._lanes: dict[str, _RunSequence] = {}

    def values(self) -> Iterable[_RunSequence]:
        """Lanes in the order in which their chambers first appeared."""
        return self._lanes.values()

    def count_left(self) -> dict[str, int]:
        """Events of each stream that no window holds."""
        return {lane.stream: lane.filling.n_events for lane in self._lanes.values()}

    def find(self, batch: EventBatch) -> _RunSequence:
        """Lane of a batch, after checking that the batch can follow what the lane has seen."""
        _check_batch(batch)
        stream = self._streams.get(batch.chamber, batch.chamber)
        fresh = _RunSequence(stream, batch.chamber, batch.names, self._first_numbers.get(stream, 0))
        lane = self._lanes.setdefault(stream, fresh)
        if lane.chamber != batch.chamber:
            raise InputError(
                f"chambers {lane.chamber!r} and {batch.chamber!r} both feed stream {stream!r}",
                fix="give each chamber a stream of its own",
            )
        if lane.names != batch.names:
            raise InputError(
                f"features changed from {', '.join(lane.names)} to {', '.join(batch.names)}",
                where=f"chamber {batch.chamber}",
                fix="features stay the same within a run",
            )
        return lane


def _check_batch(batch: EventBatch) -> None:
    where = f"chamber {batch.chamber}"
    if batch.x.ndim != 2 or batch.x.shape[1] != len(batch.names):
        raise InputError(f"x has shape {batch.x.shape} for {len(batch.names)} features", where=where)
    if batch.times is None or batch.start is None or batch.end is None:
        if not (batch.times is None and batch.start is None and batch.end is None):
            raise InputError("times, start and end must all be given or all be None", where=where)
        return
    if not batch.start <= batch.end:
        raise InputError(f"the batch starts at {batch.start} and ends at {batch.end}", where=where)
    if batch.times.shape != (len(batch.x),):
        raise InputError(f"{len(batch.x)} events have times of shape {batch.times.shape}", where=where)
    inside = len(batch.times) == 0 or (batch.start <= batch.times[0] and batch.times[-1] < batch.end)
    if not inside or (np.diff(batch.times) < 0).any():
        raise InputError(
            f"event times must ascend within [{batch.start}, {batch.end}), got "
            f"{batch.times.min()} to {batch.times.max()}",
            where=where,
        )


class CountCutter:
    """Windows of a fixed number of events.

    A window covers the time from the cut before it to its own last event; `live_seconds` leaves out the gaps
    between batches. What is left when the source ends is too small to be a window and is dropped: `n_left`.

    Parameters
    ----------
    n_events : int
        Events in each window, at least 1.
    label : RunLabel
        Run the windows belong to.
    streams : mapping of str to str, optional
        Stream of each chamber; a chamber that is not named becomes a stream of its own name.
    first_numbers : mapping of str to int, optional
        Number of the first window of each stream; 0 unless the run is continued.

    Raises
    ------
    InputError
        If `n_events` is less than 1; from `push`, if a batch does not fit itself or those before it.
    """

    def __init__(
        self,
        n_events: int,
        label: RunLabel,
        streams: Mapping[str, str] | None = None,
        first_numbers: Mapping[str, int] | None = None,
    ) -> None:
        if n_events < 1:
            raise InputError(f"a window needs at least 1 event, got n_events = {n_events}")
        self._n_events = n_events
        self._label = label
        self._lanes = _Lanes(streams, first_numbers)

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that no window holds; lost once the cutter is closed."""
        return self._lanes.count_left()

    def push(self, batch: EventBatch) -> list[Window]:
        """Windows that this batch completes."""
        lane = self._lanes.find(batch)
        windows: list[Window] = []
        taken, moment = 0, batch.start
        while (cut := taken + self._n_events - lane.filling.n_events) <= len(batch.x):
            until = None if batch.times is None else float(batch.times[cut - 1])
            lane.filling.add(batch, taken, cut, _span(moment, until))
            windows.append(lane.cut(self._label, WindowCut.COUNT, None))
            taken, moment = cut, until
        lane.filling.add(batch, taken, len(batch.x), _span(moment, batch.end))
        return windows

    def close(self) -> list[Window]:
        """Nothing: an unfinished window is dropped."""
        return []


class TimeCutter:
    """Windows of a fixed stretch of time.

    Edges lie at multiples of `seconds` after the start of the first batch of each stream. A window's
    `live_seconds` is the time its batches cover and `n_expected` the rate times that. A window that no batch
    covers is left out: nothing was live, so there is nothing to test. A window without events is a window.
    When the source ends, the unfinished window is given if at least half of `seconds` was live, and dropped
    otherwise: see `n_left`.

    Parameters
    ----------
    seconds : float
        Length of a window, at least 0.001 s.
    expected_rate_hz : float
        Events per second of live time when all is well, above 0.
    label : RunLabel
        Run the windows belong to.
    streams : mapping of str to str, optional
        Stream of each chamber; a chamber that is not named becomes a stream of its own name.
    first_numbers : mapping of str to int, optional
        As in `CountCutter`.

    Raises
    ------
    InputError
        If a number is out of range; from `push`, if the source has no clock, or if its time goes back.
    """

    def __init__(
        self,
        seconds: float,
        expected_rate_hz: float,
        label: RunLabel,
        streams: Mapping[str, str] | None = None,
        first_numbers: Mapping[str, int] | None = None,
    ) -> None:
        if not _SHORTEST_SECONDS <= seconds < float("inf"):
            raise InputError(f"a window lasts at least {_SHORTEST_SECONDS} s, got seconds = {seconds}")
        if not 0.0 < expected_rate_hz < float("inf"):
            raise InputError(f"expected_rate_hz must be above 0, got {expected_rate_hz}")
        self._seconds = seconds
        self._rate_hz = expected_rate_hz
        self._label = label
        self._lanes = _Lanes(streams, first_numbers)

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that no window holds; lost once the cutter is closed."""
        return self._lanes.count_left()

    def push(self, batch: EventBatch) -> list[Window]:
        """Windows that this batch completes."""
        lane = self._lanes.find(batch)
        if batch.times is None or batch.start is None or batch.end is None:
            raise InputError(
                "windows cut by time need a source with a clock",
                where=f"chamber {batch.chamber}",
                fix="cut this source by count: [window] events = N",
            )
        if lane.covered is not None and batch.start < lane.covered:
            raise InputError(
                f"time went back: a batch starts at {batch.start}, the one before ended at {lane.covered}",
                where=f"chamber {batch.chamber}",
            )
        lane.covered = batch.end
        windows: list[Window] = []
        taken, moment = 0, batch.start
        while moment < batch.end:
            windows += self._move_to(lane, moment)
            edge = self._edge_after(lane)
            until = min(edge, batch.end)
            cut = int(np.searchsorted(batch.times, until, side="left"))
            lane.filling.add(batch, taken, cut, (moment, until))
            if until == edge:
                windows.append(self._cut(lane))
            taken, moment = cut, until
        return windows

    def close(self) -> list[Window]:
        """Unfinished window of each stream, if it was live for at least half its length."""
        enough = self._seconds / 2
        return [self._cut(lane) for lane in self._lanes.values() if lane.filling.live_seconds >= enough]

    def _move_to(self, lane: _RunSequence, moment: float) -> list[Window]:
        """Make the window that `moment` belongs to the one being filled; give the one a gap has ended."""
        lane.first_edge = moment if lane.first_edge is None else lane.first_edge
        step = int((moment - lane.first_edge) // self._seconds)
        while lane.first_edge + (step + 1) * self._seconds <= moment:  # what rounding did
            step += 1
        while lane.first_edge + step * self._seconds > moment:
            step -= 1
        ended = [self._cut(lane)] if step != lane.step and lane.filling.start is not None else []
        lane.step = step
        return ended

    def _edge_after(self, lane: _RunSequence) -> float:
        return (lane.first_edge or 0.0) + (lane.step + 1) * self._seconds

    def _cut(self, lane: _RunSequence) -> Window:
        return lane.cut(self._label, WindowCut.TIME, self._rate_hz)


def _span(start: float | None, end: float | None) -> tuple[float, float] | None:
    return None if start is None or end is None else (start, end)
