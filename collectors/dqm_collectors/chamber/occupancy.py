"""Hits of every channel in stretches of time, beside the segments of the same words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dqm.events import EventBatch
from dqm_collectors.chamber.geometry import N_CHAMBERS, NS_PER_COUNT, WIRES_PER_CHAMBER, IntArray, WireMap
from dqm_collectors.chamber.reconstruction import DISORDER_NS, Reconstruction
from dqm_collectors.chamber.segments import Selection

__all__ = ["CHANNEL_NAMES", "HITS", "ChannelCounter", "CountingReconstruction"]

HITS = "hits"
CHANNEL_NAMES = ("channel", HITS)
"""Columns of a batch: number of the channel in its chamber, 0 to 63, and its hits."""

_SECONDS_PER_COUNT = NS_PER_COUNT * 1e-9
_DISORDER = int(DISORDER_NS / NS_PER_COUNT)
_PART = 64
"""Hits whose latest time is found in one step."""

_BEFORE_ALL = -(2**62)
"""A time in TDC counts before all others."""


class ChannelCounter:
    """Counts the hits of every channel of up to four chambers.

    Hits on wires are counted as they come, whether or not they belong to a segment. A hit that is late by
    more than `DISORDER_NS` counts as `DISORDER_NS` before the latest hit. So the counts of a stretch depend
    on the hits alone, not on how many of them are given together.

    Parameters
    ----------
    chambers : sequence of int
        Chambers to return; each has a batch for every stretch of time, with or without hits.
    start : float
        Unix time of the start, s.
    batch_seconds : float
        Length of a stretch, s.
    first_count : int, optional
        TDC count of the start; that of the first hit on a wire by default.
    stretch : int
        Number of the first stretch, to go on after a restart: hits before it are dropped.
    """

    def __init__(
        self,
        *,
        chambers: Sequence[int],
        start: float,
        batch_seconds: float,
        first_count: int | None = None,
        stretch: int = 0,
    ) -> None:
        self._names = {chamber: f"{chamber}.channels" for chamber in chambers}
        self._start = start
        self._batch_seconds = batch_seconds
        self._batch_counts = batch_seconds / _SECONDS_PER_COUNT
        self._first_count = first_count
        self._stretch = stretch
        self._last = first_count or 0
        self._hits = np.zeros((1, N_CHAMBERS * WIRES_PER_CHAMBER), dtype=np.int64)

    def add(self, counts: IntArray, wire: IntArray) -> Iterator[EventBatch]:
        """Add the next hits on wires; yield the stretches that they complete.

        Parameters
        ----------
        counts, wire : ndarray of int64, shape (n_hits,)
            Time in TDC counts and number of the wire of each hit.

        Yields
        ------
        EventBatch
            Chamber ``N.channels``, columns `CHANNEL_NAMES`, counted by `HITS`; the time of each row is the
            start of the stretch.
        """
        if not len(counts):
            return
        if self._first_count is None:
            self._first_count = self._last = int(counts.min())
        before, self._last = self._last, max(self._last, int(counts.max()))
        edges = self._begins(self._last)
        self._reserve(len(edges))
        cuts, near = np.split(_first_beyond(counts, np.concatenate([edges, edges + _DISORDER]), before), 2)
        for hits, begin, end in zip(self._hits, cuts, [*cuts[1:], len(wire)], strict=False):
            hits += np.bincount(wire[begin:end], minlength=len(hits))
        if (cuts < near).any():
            spans = [np.arange(*span) for span in zip(cuts, near, strict=True)]
            self._correct(counts, wire, np.unique(np.concatenate(spans)), edges, before)
        complete = int(np.searchsorted(edges, self._last - _DISORDER, side="right")) - 1
        yield from self._take(max(0, complete))

    def finish(self, end: float | None = None) -> Iterator[EventBatch]:
        """Yield the remaining stretches; the last one may be shorter.

        Parameters
        ----------
        end : float, optional
            Unix time at which the source stopped; just after the last hit by default.
        """
        if self._first_count is None:
            return
        last = self._start + (self._last - self._first_count) * _SECONDS_PER_COUNT
        end = float(np.nextafter(last, np.inf)) if end is None else end
        while self._edge(0) < end:
            yield from self._take(1, end)

    def restart(self, start: float) -> None:
        """Begin again with another clock; call `finish` before.

        Parameters
        ----------
        start : float
            Unix time of the first hit of that clock, s.
        """
        self._start = start
        self._first_count = None
        self._stretch = self._last = 0
        self._hits = np.zeros_like(self._hits[:1])

    def _begins(self, last: int) -> IntArray:
        """Give the times in TDC counts at which the stretches from the next one on begin, up to `last`.

        The first stretch of all has no beginning: hits before the start count in it.
        """
        first = self._first_count or 0
        number = np.arange(self._stretch, max(self._stretch, int((last - first) / self._batch_counts)) + 2)
        begins: IntArray = first + np.rint(number * self._batch_counts).astype(np.int64)
        if self._stretch == 0:
            begins[0] = _BEFORE_ALL
        return begins[: max(1, int(np.searchsorted(begins, last, side="right")))]

    def _correct(
        self, counts: IntArray, wire: IntArray, near: IntArray, edges: IntArray, before: int
    ) -> None:
        """Count late hits just after an edge in the stretch of their own time.

        So far each hit counts in the stretch of the latest time up to it, which is right for all others.
        `near` are the hits from which each edge is reached on, up to `_DISORDER` after it.
        """
        reached = np.maximum(np.maximum.accumulate(counts[near]), before)  # none before an edge is later
        is_late = counts[near] < reached
        near, reached = near[is_late], reached[is_late]
        moment = np.maximum(reached - _DISORDER, counts[near])
        counted, right = (np.searchsorted(edges, t, side="right") - 1 for t in (reached, moment))
        np.subtract.at(self._hits, (counted, wire[near]), 1)
        is_there = right >= 0  # after a restart, hits before the first stretch are dropped
        np.add.at(self._hits, (right[is_there], wire[near][is_there]), 1)

    def _edge(self, ahead: int) -> float:
        return self._start + (self._stretch + ahead) * self._batch_seconds

    def _reserve(self, n: int) -> None:
        if n > len(self._hits):
            more = np.zeros((n - len(self._hits), self._hits.shape[1]), dtype=np.int64)
            self._hits = np.concatenate([self._hits, more])

    def _take(self, n: int, end: float = float("inf")) -> Iterator[EventBatch]:
        """Yield the first n stretches, and forget them."""
        self._reserve(n)
        x = np.empty((n, N_CHAMBERS, WIRES_PER_CHAMBER, len(CHANNEL_NAMES)))
        x[..., 0] = np.arange(WIRES_PER_CHAMBER)
        x[..., 1] = self._hits[:n].reshape(n, N_CHAMBERS, WIRES_PER_CHAMBER)
        self._hits = self._hits[n:]
        for stretch in x:
            begin, until = self._edge(0), min(self._edge(1), end)
            self._stretch += 1
            times = np.full(WIRES_PER_CHAMBER, begin)
            for chamber, name in self._names.items():
                yield EventBatch(name, CHANNEL_NAMES, stretch[chamber], times, begin, until, counts=HITS)
        self._reserve(1)


def _first_beyond(counts: IntArray, times: IntArray, before: int) -> IntArray:
    """Find the first hit at or after each of some times; 0 for those up to `before`, n_hits for none.

    The largest times of short parts say in which part it is: hits are out of order.
    """
    part = np.arange(0, len(counts), _PART)
    largest = np.maximum.accumulate(np.maximum.reduceat(counts, part))
    found = np.full(len(times), len(counts))
    is_there = times <= largest[-1]
    begin = part[np.searchsorted(largest, times[is_there])]
    places = np.minimum(begin[:, None] + np.arange(_PART), len(counts) - 1)
    found[is_there] = begin + (counts[places] >= times[is_there, None]).argmax(axis=1)
    found[times <= before] = 0
    return found


class CountingReconstruction(Reconstruction):
    """Finds segments, and counts the hits of every channel in the same stretches of time.

    Its parameters are those of `Reconstruction`.
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
        super().__init__(
            wires,
            selection,
            chambers=chambers,
            start=start,
            batch_seconds=batch_seconds,
            first_count=first_count,
            stretch=stretch,
        )
        self._counter = ChannelCounter(
            chambers=chambers,
            start=start,
            batch_seconds=batch_seconds,
            first_count=first_count,
            stretch=stretch,
        )

    def add(self, counts: IntArray, wire: IntArray) -> Iterator[EventBatch]:
        """Add the next hits on wires; yield the batches of segments and of counts that they complete."""
        yield from super().add(counts, wire)
        yield from self._counter.add(counts, wire)

    def finish(self, end: float | None = None) -> Iterator[EventBatch]:
        """Yield the remaining batches; `end` as in `Reconstruction.finish`."""
        yield from super().finish(end)
        yield from self._counter.finish(end)

    def restart(self) -> Iterator[EventBatch]:
        """Yield the remaining batches, as `Reconstruction.restart`; the next hits belong to another clock."""
        yield from super().restart()  # it finishes the counts too
        self._counter.restart(self.start)
