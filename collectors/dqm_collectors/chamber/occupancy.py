"""Hits of every channel in stretches of time, beside the segments of the same words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dqm.events import EventBatch
from dqm_collectors.chamber.geometry import NS_PER_COUNT, WIRES_PER_CHAMBER, IntArray, WireMap
from dqm_collectors.chamber.reconstruction import DISORDER_NS, Reconstruction
from dqm_collectors.chamber.segments import Selection

__all__ = ["CHANNEL_NAMES", "HITS", "ChannelCounter", "CountingReconstruction"]

HITS = "hits"
CHANNEL_NAMES = ("channel", HITS)
"""Columns of a batch: number of the channel in its chamber, 0 to 63, and its hits."""

_SECONDS_PER_COUNT = NS_PER_COUNT * 1e-9
_DISORDER = int(DISORDER_NS / NS_PER_COUNT)


class ChannelCounter:
    """Counts the hits of every channel of up to four chambers.

    Hits on wires are counted as they come, whether or not they belong to a segment. One that is late by more
    than `DISORDER_NS` counts that long before the latest hit. So the counts of a stretch depend on the hits
    alone, not on how many of them are given together.

    Parameters
    ----------
    wires : WireMap
        Numbering of the channels.
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
        wires: WireMap,
        *,
        chambers: Sequence[int],
        start: float,
        batch_seconds: float,
        first_count: int | None = None,
        stretch: int = 0,
    ) -> None:
        self._wires = wires
        self._chambers = tuple(chambers)
        self._start = start
        self._batch_seconds = batch_seconds
        self._first_count = first_count
        self._stretch = stretch
        self._last = first_count or 0
        self._hits = np.zeros((1, (max(chambers) // 2 + 1) * 2 * WIRES_PER_CHAMBER), dtype=np.int64)

    def add(self, counts: IntArray, fpga: IntArray, channel: IntArray) -> Iterator[EventBatch]:
        """Add the next hits on wires; yield the stretches that they complete.

        Parameters
        ----------
        counts, fpga, channel : ndarray of int64, shape (n_hits,)
            Time in TDC counts and wire of each hit.

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
        moments = counts.copy()  # in place from here: this is done for every hit
        moments[0] = max(moments[0], self._last)
        np.maximum.accumulate(moments, out=moments)
        self._last = int(moments[-1])
        moments -= _DISORDER
        np.maximum(moments, counts, out=moments)
        n_channels = self._hits.shape[1]
        place = 2 * WIRES_PER_CHAMBER * fpga + channel - self._wires.first_channel
        stretch = self._stretches(moments) - self._stretch
        chosen = (place < n_channels) & (stretch >= 0)
        if not chosen.all():
            stretch, place = stretch[chosen], place[chosen]
        self._reserve(int(stretch.max(initial=0)) + 1)
        stretch *= n_channels
        stretch += place
        self._hits += np.bincount(stretch, minlength=self._hits.size).reshape(self._hits.shape)
        complete = int(self._stretches(self._last - _DISORDER)) - self._stretch
        yield from self._take(max(0, min(complete, len(self._hits))))

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

    def _stretches(self, counts: IntArray | int) -> IntArray:
        """Give the numbers of the stretches in which times in TDC counts are; those before the start: 0."""
        since = np.maximum(counts - (self._first_count or 0), 0)
        return np.asarray(since * (_SECONDS_PER_COUNT / self._batch_seconds), dtype=np.int64)

    def _edge(self, ahead: int) -> float:
        return self._start + (self._stretch + ahead) * self._batch_seconds

    def _reserve(self, n: int) -> None:
        if n > len(self._hits):
            more = np.zeros((n - len(self._hits), self._hits.shape[1]), dtype=np.int64)
            self._hits = np.concatenate([self._hits, more])

    def _take(self, n: int, end: float = float("inf")) -> Iterator[EventBatch]:
        """Yield the first n stretches, and forget them."""
        self._reserve(n)
        channels = np.arange(WIRES_PER_CHAMBER, dtype=np.float64)
        for hits in self._hits[:n]:
            begin, until = self._edge(0), min(self._edge(1), end)
            self._stretch += 1
            for chamber in self._chambers:
                mine = hits[chamber * WIRES_PER_CHAMBER : (chamber + 1) * WIRES_PER_CHAMBER]
                yield EventBatch(
                    f"{chamber}.channels",
                    CHANNEL_NAMES,
                    np.column_stack([channels, mine.astype(np.float64)]),
                    np.full(WIRES_PER_CHAMBER, begin),
                    begin,
                    until,
                    counts=HITS,
                )
        self._hits = self._hits[n:]
        self._reserve(1)


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
            wires,
            chambers=chambers,
            start=start,
            batch_seconds=batch_seconds,
            first_count=first_count,
            stretch=stretch,
        )

    def add(self, counts: IntArray, fpga: IntArray, channel: IntArray) -> Iterator[EventBatch]:
        """Add the next hits on wires; yield the batches of segments and of counts that they complete."""
        yield from super().add(counts, fpga, channel)
        yield from self._counter.add(counts, fpga, channel)

    def finish(self, end: float | None = None) -> Iterator[EventBatch]:
        """Yield the remaining batches; `end` as in `Reconstruction.finish`."""
        yield from super().finish(end)
        yield from self._counter.finish(end)

    def restart(self) -> Iterator[EventBatch]:
        """Yield the remaining batches, as `Reconstruction.restart`; the next hits belong to another clock."""
        yield from super().restart()  # it finishes the counts too
        self._counter.restart(self.start)
