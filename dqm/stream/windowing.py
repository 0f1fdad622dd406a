"""Cut batches of events into windows, by count or by time. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import Condition, EventBatch, FloatArray, Measurement, Origin, Window, WindowCut

__all__ = [
    "CountCutter",
    "Cutter",
    "RunLabel",
    "StreamState",
    "StreamStates",
    "TimeCutter",
    "WindowEnd",
]

_SHORTEST_SECONDS = 1e-3  # a float64 of today's Unix time resolves 2.4e-7 s
_ROUNDING_SECONDS = 1e-6
"""What a time plus many steps may be off by; counted rows have the time at which their step begins."""


@dataclass(frozen=True, slots=True)
class RunLabel:
    """Properties that all windows of one run share.

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


@dataclass(frozen=True, slots=True)
class WindowEnd:
    """Where a window ends in a batch, and the next one begins.

    Parameters
    ----------
    n_events : int
        Events of the batch that belong to this window or an earlier one.
    moment : float or None
        Time from which the batch belongs to the next window, Unix seconds; None without a clock.
    """

    n_events: int
    moment: float | None


class Cutter(Protocol):
    """Cuts batches, in the order of the source, into windows numbered within each stream."""

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that are in no window yet; they are lost when the cutter is closed."""

    def push(self, batch: EventBatch) -> list[Window]:
        """Add a batch; return the windows that it completes."""

    @property
    def cuts(self) -> list[WindowEnd]:
        """Where each window of the last `push` ends in its batch."""

    @property
    def first_edges(self) -> dict[str, float]:
        """Start of the first window of each stream, from which edges in time are counted; else empty."""

    def close(self) -> list[Window]:
        """Return the windows that the end of the source completes; no batch may follow."""


@dataclass(slots=True)
class _Filling:
    """A window that is being filled; the parts are joined once, at the end."""

    parts: list[FloatArray] = field(default_factory=list)
    n_events: int = 0
    start: float | None = None
    end: float | None = None
    live_seconds: float = 0.0
    auxiliary: dict[str, Measurement] = field(default_factory=dict)
    conditions: dict[str, Condition] = field(default_factory=dict)

    def add(self, batch: EventBatch, first: int, last: int, span: tuple[float, float] | None) -> None:
        """Add events `first` to `last` of a batch, which cover the time `span`."""
        if last == first and span is None:
            return
        if last > first:
            self.parts.append(batch.x[first:last])
            self.n_events += last - first
        if span is not None:
            # time that batches share counts once: nobody is live for longer than a window lasts
            known_until = span[0] if self.end is None else max(span[0], self.end)
            self.live_seconds += max(0.0, span[1] - known_until)
            self.start = span[0] if self.start is None else min(self.start, span[0])
            self.end = span[1] if self.end is None else max(self.end, span[1])
        self.conditions.update(batch.conditions)
        for reading in batch.auxiliary:
            known = self.auxiliary.get(reading.name)
            if known is None or known.time <= reading.time:
                self.auxiliary[reading.name] = reading

    def join(self, n_features: int, counts: int | None = None) -> FloatArray:
        """All events, in the order of arrival; rows that are counted by a column are added up."""
        if not self.parts:
            return np.empty((0, n_features))
        x = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)
        return x if counts is None else _add_up(x, counts)


@dataclass(slots=True)
class StreamState:
    """State of one stream."""

    stream: str
    chamber: str
    names: tuple[str, ...]
    counts: str = ""
    seq: int = 0
    filling: _Filling = field(default_factory=_Filling)
    first_edge: float | None = None  # this and what follows: time cutter only
    step: int = 0  # windows between the first edge and the one being filled
    covered: float | None = None  # end of the last batch

    def cut(self, label: RunLabel, kind: WindowCut, rate_hz: float | None) -> Window:
        """Make a window of the events so far, and start the next one."""
        filled = self.filling
        self.filling = _Filling()
        has_clock = filled.start is not None
        live_seconds = round(filled.live_seconds, 6)  # sums of float64 Unix times are not more precise
        window = Window(
            stream=self.stream,
            run=label.run,
            seq=self.seq,
            run_type=label.run_type,
            origin=label.origin,
            cut=kind,
            names=self.names,
            x=filled.join(len(self.names), self.names.index(self.counts) if self.counts else None),
            start=filled.start,
            end=filled.end,
            live_seconds=live_seconds if has_clock else None,
            n_expected=None if rate_hz is None else rate_hz * live_seconds,
            auxiliary=tuple(filled.auxiliary.values()),
            conditions=filled.conditions,
            counts=self.counts,
        )
        self.seq += 1
        return window


class StreamStates:
    """States of all streams of a source; checks that the batches of a stream agree."""

    def __init__(
        self,
        streams: Mapping[str, str] | None,
        first_numbers: Mapping[str, int] | None,
        first_edges: Mapping[str, float] | None = None,
    ) -> None:
        self._streams = dict(streams or {})
        self._first_numbers = dict(first_numbers or {})
        self._first_edges = dict(first_edges or {})
        self._states: dict[str, StreamState] = {}

    def values(self) -> Iterable[StreamState]:
        """States, in the order in which the chambers first appeared."""
        return self._states.values()

    def count_left(self) -> dict[str, int]:
        """Events of each stream that are in no window yet."""
        return {state.stream: state.filling.n_events for state in self._states.values()}

    def find(self, batch: EventBatch) -> StreamState:
        """Return the state of a batch's stream, after checking that the batch fits."""
        _check_batch(batch)
        stream = self._streams.get(batch.chamber, batch.chamber)
        fresh = StreamState(
            stream,
            batch.chamber,
            batch.names,
            batch.counts,
            self._first_numbers.get(stream, 0),
            first_edge=self._first_edges.get(stream),
        )
        state = self._states.setdefault(stream, fresh)
        if state.chamber != batch.chamber:
            raise InputError(
                f"chambers {state.chamber!r} and {batch.chamber!r} both feed stream {stream!r}",
                fix="Give each chamber its own stream",
            )
        if (state.names, state.counts) != (batch.names, batch.counts):
            raise InputError(
                f"features changed from {', '.join(state.names)} to {', '.join(batch.names)}",
                where=f"chamber {batch.chamber}",
                fix="Keep the same features within a run",
            )
        return state


def _check_batch(batch: EventBatch) -> None:
    where = f"chamber {batch.chamber}"
    if batch.x.ndim != 2 or batch.x.shape[1] != len(batch.names):
        n_features = format_count(len(batch.names), "feature")
        raise InputError(f"x has shape {batch.x.shape} for {n_features}", where=where)
    if batch.counts and batch.counts not in batch.names:
        raise InputError(f"rows are counted by {batch.counts!r}, which is not a column", where=where)
    if batch.start is None or batch.end is None:
        if not (batch.times is None and batch.start is None and batch.end is None):
            raise InputError("times, start and end must all be given or all be None", where=where)
        return
    if not batch.start <= batch.end:
        raise InputError(f"the batch starts at {batch.start} and ends at {batch.end}", where=where)
    if batch.times is None:
        if not batch.is_whole:
            raise InputError("only a batch of counted rows may have no times but start and end", where=where)
        return
    if batch.times.shape != (len(batch.x),):
        n_events = format_count(len(batch.x), "event")
        raise InputError(f"times of shape {batch.times.shape} for {n_events}", where=where)
    inside = len(batch.times) == 0 or (batch.start <= batch.times[0] and batch.times[-1] < batch.end)
    if not inside or (np.diff(batch.times) < 0).any():
        raise InputError(
            f"event times must ascend within [{batch.start}, {batch.end}), got "
            f"{batch.times.min()} to {batch.times.max()}",
            where=where,
        )


class CountCutter:
    """Cuts windows of a fixed number of events.

    A window covers the time from the end of the window before to its own last event; gaps between batches do
    not count in `live_seconds`. Events after the last full window are dropped; `n_left` counts them.

    Parameters
    ----------
    n_events : int
        Events in each window, at least 1.
    label : RunLabel
        Run the windows belong to.
    streams : mapping of str to str, optional
        Stream of each chamber; by default the name of the chamber.
    first_numbers : mapping of str to int, optional
        Number of the first window of each stream, to continue a run; 0 by default.

    Raises
    ------
    InputError
        If `n_events` is less than 1. From `push`: if a batch contradicts itself or earlier batches.
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
        self._states = StreamStates(streams, first_numbers)
        self.cuts: list[WindowEnd] = []
        self.first_edges: dict[str, float] = {}

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that no window holds; lost once the cutter is closed."""
        return self._states.count_left()

    def push(self, batch: EventBatch) -> list[Window]:
        """Windows that this batch completes."""
        state = self._states.find(batch)
        windows: list[Window] = []
        self.cuts = []
        taken = 0
        moment = batch.start
        while (cut := taken + self._n_events - state.filling.n_events) <= len(batch.x):
            until = None if batch.times is None else float(batch.times[cut - 1])
            state.filling.add(batch, taken, cut, _span(moment, until))
            windows.append(state.cut(self._label, WindowCut.COUNT, None))
            self.cuts.append(WindowEnd(cut, until))
            taken = cut
            moment = until
        state.filling.add(batch, taken, len(batch.x), _span(moment, batch.end))
        return windows

    def close(self) -> list[Window]:
        """Return no window: an unfinished one is dropped."""
        return []


class TimeCutter:
    """Cuts windows of a fixed length in time.

    Edges are at multiples of `seconds` after the start of the first batch of each stream. `live_seconds` of a
    window is the time that its batches cover, and `n_expected` is the rate times that. A time that no batch
    covers gives no window: the detector was not live. A window without events is a window. When the source
    ends, the unfinished window is returned if at least half of `seconds` was live. Otherwise it is dropped;
    `n_left` counts its events.

    Parameters
    ----------
    seconds : float
        Length of a window, at least 0.001 s.
    expected_rate_hz : float
        Events per second of live time in a healthy detector, above 0.
    label : RunLabel
        Run the windows belong to.
    streams : mapping of str to str, optional
        Stream of each chamber; by default the name of the chamber.
    first_numbers : mapping of str to int, optional
        As in `CountCutter`.
    first_edges : mapping of str to float, optional
        `first_edges` of the cutter whose windows go on.
    rates_hz : mapping of str to float, optional
        Rates of single chambers that differ from `expected_rate_hz`.

    Raises
    ------
    InputError
        If a number is out of range. From `push`: if the source has no clock, or if its time goes back.
    """

    def __init__(
        self,
        seconds: float,
        expected_rate_hz: float,
        label: RunLabel,
        streams: Mapping[str, str] | None = None,
        first_numbers: Mapping[str, int] | None = None,
        first_edges: Mapping[str, float] | None = None,
        *,
        rates_hz: Mapping[str, float] | None = None,
    ) -> None:
        if not _SHORTEST_SECONDS <= seconds < float("inf"):
            raise InputError(f"a window lasts at least {_SHORTEST_SECONDS} s, got seconds = {seconds}")
        if not 0.0 < expected_rate_hz < float("inf"):
            raise InputError(f"expected_rate_hz must be above 0, got {expected_rate_hz}")
        self._seconds = seconds
        self._rate_hz = expected_rate_hz
        self._rates_hz = dict(rates_hz or {})
        self._label = label
        self._states = StreamStates(streams, first_numbers, first_edges)
        self.cuts: list[WindowEnd] = []

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that no window holds; lost once the cutter is closed."""
        return self._states.count_left()

    def push(self, batch: EventBatch) -> list[Window]:
        """Windows that this batch completes."""
        state = self._states.find(batch)
        if batch.times is None or batch.start is None or batch.end is None:
            raise InputError(
                "windows cut by time need a source with a clock",
                where=f"chamber {batch.chamber}",
                fix="Cut this source by count: [window] events = N",
            )
        if state.covered is not None and batch.start < state.covered:
            raise InputError(
                f"time went back: a batch starts at {batch.start}, the one before ended at {state.covered}",
                where=f"chamber {batch.chamber}",
            )
        state.covered = batch.end
        windows: list[Window] = []
        self.cuts = []
        taken = 0
        moment = batch.start
        while moment < batch.end:
            windows += (ended := self._move_to(state, moment))
            self.cuts += [WindowEnd(taken, moment)] * len(ended)
            edge = self._edge_after(state)
            until = min(edge, batch.end)
            slack = _ROUNDING_SECONDS if batch.counts else 0.0  # a step at the edge is in the next window
            cut = int(np.searchsorted(batch.times, until - slack, side="left"))
            state.filling.add(batch, taken, cut, (moment, until))
            if until == edge:
                windows.append(self._cut(state))
                self.cuts.append(WindowEnd(cut, until))
            taken = cut
            moment = until
        return windows

    def close(self) -> list[Window]:
        """Return the unfinished window of each stream that was live for at least half its length."""
        min_seconds = self._seconds / 2
        return [
            self._cut(state) for state in self._states.values() if state.filling.live_seconds >= min_seconds
        ]

    @property
    def first_edges(self) -> dict[str, float]:
        """Start of the first window of each stream, Unix seconds."""
        return {s.stream: s.first_edge for s in self._states.values() if s.first_edge is not None}

    def _move_to(self, state: StreamState, moment: float) -> list[Window]:
        """Go to the window that `moment` belongs to; return the window before if a gap has ended it."""
        state.first_edge = moment if state.first_edge is None else state.first_edge
        step = int((moment - state.first_edge) // self._seconds)
        while state.first_edge + (step + 1) * self._seconds <= moment:  # correct the rounding of the division
            step += 1
        while state.first_edge + step * self._seconds > moment:
            step -= 1
        ended = [self._cut(state)] if step != state.step and state.filling.start is not None else []
        state.step = step
        return ended

    def _edge_after(self, state: StreamState) -> float:
        return (state.first_edge or 0.0) + (state.step + 1) * self._seconds

    def _cut(self, state: StreamState) -> Window:
        rate_hz = self._rates_hz.get(state.chamber, self._rate_hz)
        return state.cut(self._label, WindowCut.TIME, rate_hz)


def _add_up(x: FloatArray, counts: int) -> FloatArray:
    """Add up the counts of rows that are equal otherwise; the rows are then in the order of their values."""
    others = np.delete(x, counts, axis=1)
    if others.shape[1] == 1:
        values, row = np.unique(others[:, 0], return_inverse=True)
        values = values[:, None]
    else:
        values, row = np.unique(others, axis=0, return_inverse=True)
    return np.insert(values, counts, np.bincount(row, x[:, counts], len(values)), axis=1)


def _span(start: float | None, end: float | None) -> tuple[float, float] | None:
    return None if start is None or end is None else (start, end)
