"""From raw words to batches of segments; no hit is lost or used twice where two blocks of words meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from dqm.events import EventBatch, FloatArray
from dqm_collectors.chamber.geometry import (
    MAX_DRIFT_TIME_NS,
    N_LAYERS,
    NS_PER_COUNT,
    WIRES_PER_CHAMBER,
    IntArray,
    WireMap,
    places,
    wire_x_mm,
)
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.segments import FEATURES, Hits, Segments, Selection, find_segments, group_hits

__all__ = ["DISORDER_NS", "Reconstruction", "free_segments"]

GAP_NS = MAX_DRIFT_TIME_NS + 10
"""Time without hits in a chamber after which a hit cannot belong to an earlier muon."""

DISORDER_NS = 2000.0
"""Largest delay of a word in the order of time; the largest delay in run 591 is 495 ns."""

MAX_HELD = 1_000_000
"""Most hits kept until a time without hits; with more hits the stream is cut anyway."""

_SECONDS_PER_COUNT = NS_PER_COUNT * 1e-9


class Reconstruction:
    """Finds the segments of up to four chambers, in batches of equal length in time.

    Parameters
    ----------
    wires : WireMap
        Numbering of the channels.
    selection : Selection
        What counts as a segment.
    chambers : sequence of int
        Chambers to return; each has a batch for every stretch of time, with or without segments.
    start : float
        Unix time of the start, s.
    batch_seconds : float
        Length of a batch, s.
    first_count : int, optional
        TDC count of the start; that of the first hit by default.
    stretch : int
        Number of the first batch, to go on after a restart: segments before it are dropped.
    """

    def __init__(
        self,
        wires: WireMap,
        selection: Selection,
        *,
        chambers: Sequence[int],
        start: float,
        batch_seconds: float,
        first_count: int | None = None,
        stretch: int = 0,
    ) -> None:
        self._wires = wires
        self._selection = selection
        self._chambers = tuple(chambers)
        self._start = start
        self._batch_seconds = batch_seconds
        self._first_count = first_count
        self._stretch = stretch
        self._begin = self._edge(0) if stretch else -np.inf
        self._last = start
        self._held: IntArray = np.empty((2, 0), dtype=np.int64)  # rows: counts, wire
        self._found: FloatArray = np.empty((0, 2 + len(FEATURES)))  # columns: time, chamber, features

    @property
    def start(self) -> float:
        """Unix time of the first hit of this clock, s."""
        return self._start

    @property
    def first_count(self) -> int | None:
        """TDC count of the first hit of this clock; None before it."""
        return self._first_count

    @property
    def boundary(self) -> int | None:
        """TDC count of the first hit that is not searched, after a time without hits; None: no such hit."""
        return int(self._held[0, 0]) if self._held.size else None

    def feed(self, raw: RawHits) -> Iterator[EventBatch]:
        """Add the next words; yield the batches that they complete.

        Parameters
        ----------
        raw : RawHits
            Words of any chamber; none is late by more than `DISORDER_NS`.

        Yields
        ------
        EventBatch
            Segments with the columns `FEATURES`; the time of a segment is that of its earliest hit.
        """
        on_wire = self._wires.is_wire(raw.head, raw.channel)
        wire = self._wires.numbers(raw.fpga[on_wire], raw.channel[on_wire])
        return self.add(raw.counts[on_wire], wire)

    def add(self, counts: IntArray, wire: IntArray) -> Iterator[EventBatch]:
        """Add the next hits on wires; yield the batches that they complete.

        Parameters
        ----------
        counts, wire : ndarray of int64, shape (n_hits,)
            Time in TDC counts and number of the wire of each hit; none is late by more than `DISORDER_NS`.

        Yields
        ------
        EventBatch
            As from `feed`.
        """
        held = np.concatenate([self._held, [counts, wire]], axis=1)
        if not held.size:
            return
        self._held = held[:, np.argsort(held[0], kind="stable")]
        if self._first_count is None:
            self._first_count = int(self._held[0, 0])
        self._last = max(self._last, float(self._unix(self._held[0, -1:])[0]))
        ready = _complete(self._held[0])
        if ready:
            self._search(self._held[:, :ready])
            self._held = self._held[:, ready:]
            yield from self._completed(float(self._unix(self._held[0, :1])[0]))

    def finish(self, end: float | None = None) -> Iterator[EventBatch]:
        """Yield the remaining batches; the last one may be shorter.

        Parameters
        ----------
        end : float, optional
            Unix time at which the source stopped; just after the last hit by default.
        """
        if self._first_count is None:
            return
        self._search(self._held)
        self._held = self._held[:, :0]
        end = float(np.nextafter(self._last, np.inf)) if end is None else end
        yield from self._completed(end)
        if self._edge(0) < end:
            yield from self._stretch_of([self._edge(0), end])

    def restart(self) -> Iterator[EventBatch]:
        """Yield the remaining batches; the next hits belong to another clock.

        The time continues with the next batch, because the length of the gap is not known.

        Yields
        ------
        EventBatch
        """
        if self._first_count is None:
            return
        yield from self.finish()
        self._start = self._last = self._edge(1)
        self._stretch = 0
        self._first_count = None

    def _unix(self, counts: IntArray) -> FloatArray:
        return np.asarray(self._start + (counts - (self._first_count or 0)) * _SECONDS_PER_COUNT)

    def _edge(self, ahead: int) -> float:
        return self._start + (self._stretch + ahead) * self._batch_seconds

    def _search(self, held: IntArray) -> None:
        """Find the segments of complete groups; they are kept until their batch is complete."""
        counts, wire = held
        segments = free_segments(counts, wire, self._selection)
        time = self._unix(counts[segments.hits].min(axis=1))
        chamber = wire[segments.hits[:, 0]] // WIRES_PER_CHAMBER
        rows = np.column_stack([time, chamber, segments.features])
        rows = rows[time >= self._begin]
        self._found = np.concatenate([self._found, rows[np.argsort(rows[:, 0], kind="stable")]])

    def _completed(self, until: float) -> Iterator[EventBatch]:
        """Yield the batches that end at `until` or before."""
        edges = [self._edge(0)]
        while self._edge(len(edges)) <= until:
            edges.append(self._edge(len(edges)))
        if len(edges) > 1:
            self._stretch += len(edges) - 1
            yield from self._stretch_of(edges)

    def _stretch_of(self, edges: list[float]) -> Iterator[EventBatch]:
        """Yield the batches between consecutive edges."""
        cuts = np.searchsorted(self._found[:, 0], edges[1:])
        parts = np.split(self._found, cuts)[:-1]
        self._found = self._found[cuts[-1] :]
        for start, end, part in zip(edges, edges[1:], parts, strict=False):
            for chamber in self._chambers:
                mine = part[part[:, 1] == chamber]
                times = np.maximum(mine[:, 0], start)
                yield EventBatch(str(chamber), FEATURES, mine[:, 2:].copy(), times, start, end)


def free_segments(counts: IntArray, wire: IntArray, selection: Selection) -> Segments:
    """Find segments in hits when the time of the muon's passage is not known.

    Parameters
    ----------
    counts, wire : ndarray of int64, shape (n_hits,)
        Time in TDC counts and number of the wire of each hit.
    selection : Selection
        What counts as a segment.

    Returns
    -------
    Segments
        `t0_ns` is relative to the first hit of the group.

    Examples
    --------
    A vertical muon, with drift times of 97 ns in layers 1 and 3, and of 292 ns in layers 2 and 4:

    >>> import numpy as np
    >>> from dqm_collectors.chamber.geometry import NS_PER_COUNT, Convention, WireMap
    >>> from dqm_collectors.chamber.reconstruction import free_segments
    >>> from dqm_collectors.chamber.segments import FEATURES, Selection
    >>> counts = np.rint(np.array([1097, 1292, 1097, 1292]) / NS_PER_COUNT).astype(int)
    >>> wires = WireMap.of(Convention.Y2021)
    >>> fpga, channel = wires.channels(0, np.array([1, 2, 3, 4]), np.array([7, 8, 7, 8]))
    >>> found = free_segments(counts, wires.numbers(fpga, channel), Selection())
    >>> FEATURES
    ('t_1', 't_2', 't_3', 't_4', 'theta', 'n_hits')
    >>> found.features.round() + 0.0  # ns, degrees, hits
    array([[ 97., 292.,  97., 292.,   0.,   4.]])
    """
    group, since = group_hits(wire // WIRES_PER_CHAMBER, counts, GAP_NS / NS_PER_COUNT)
    enough = np.flatnonzero(np.bincount(group)[group] >= N_LAYERS)  # most groups are single hits
    time = np.asarray(since[enough] * NS_PER_COUNT, dtype=np.float64)
    layer, cell = places(wire[enough])
    found = find_segments(Hits(group[enough], layer, wire_x_mm(layer, cell), time), selection)
    return replace(found, hits=enough[found.hits])


def _complete(counts: IntArray) -> int:
    """Count the first hits, in order of time, that cannot belong to a group with hits still to come."""
    late = counts[-1] - DISORDER_NS / NS_PER_COUNT
    silences = np.flatnonzero(np.diff(counts) > GAP_NS / NS_PER_COUNT) + 1
    silences = silences[counts[silences] <= late]
    if silences.size:
        return int(silences[-1])
    return int(np.searchsorted(counts, late)) if len(counts) > MAX_HELD else 0
