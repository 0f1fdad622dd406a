"""Windows of counted rows: whole states of histograms, and which cutter a batch goes to."""

from __future__ import annotations

from collections.abc import Mapping

from dqm.errors import InputError
from dqm.events import EventBatch, Window, WindowCut
from dqm.stream.windowing import Cutter, RunLabel, StreamState, StreamStates, WindowEnd

__all__ = ["CountedCutter", "WholeCutter"]

ROUNDING_SECONDS = 1e-6
"""A window may be shorter by this: differences of Unix times are rounded."""


class WholeCutter:
    """Cuts windows of whole batches, whose rows belong to all of the time that a batch covers.

    A window ends with the batch with which it is complete: by time, when it has been live for `seconds`, or
    by count, when it has `n_events` events. So windows differ in size.

    Parameters
    ----------
    label : RunLabel
        Run the windows belong to.
    streams, first_numbers
        As in `CountCutter`.
    n_events : int, optional
        Events of a window at least; without it windows are cut by time.
    seconds : float
        Live time of a window at least, s.
    rate_hz : float
        Events per second of live time in a healthy detector.
    rates_hz : mapping of str to float, optional
        Rates of single chambers that differ from `rate_hz`.
    """

    def __init__(
        self,
        label: RunLabel,
        streams: Mapping[str, str] | None = None,
        first_numbers: Mapping[str, int] | None = None,
        *,
        n_events: int | None = None,
        seconds: float = 0.0,
        rate_hz: float = 0.0,
        rates_hz: Mapping[str, float] | None = None,
    ) -> None:
        self._label = label
        self._states = StreamStates(streams, first_numbers)
        self._n_events = n_events
        self._seconds = seconds
        self._rate_hz = rate_hz
        self._rates_hz = dict(rates_hz or {})
        self._waiting: dict[str, int] = {}
        self.cuts: list[WindowEnd] = []
        self.first_edges: dict[str, float] = {}

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that no window holds."""
        return dict(self._waiting)

    def push(self, batch: EventBatch) -> list[Window]:
        """Window that this batch completes, if it does; raises `InputError` if time goes back."""
        state = self._states.find(batch)
        self.cuts = []
        state.filling.add(batch, 0, len(batch.x), self._span(batch, state))
        self._waiting[state.stream] = self._waiting.get(state.stream, 0) + batch.n_events
        if not (len(batch.x) and self._is_complete(state)):
            return []
        self.cuts = [WindowEnd(len(batch.x), batch.end)]
        return [self._cut(state)]

    def close(self) -> list[Window]:
        """Return the unfinished window of each stream that was live for at least half of `seconds`."""
        if self._n_events is not None:
            return []
        least = self._seconds / 2
        return [
            self._cut(s) for s in self._states.values() if s.filling.start and s.filling.live_seconds >= least
        ]

    def _span(self, batch: EventBatch, state: StreamState) -> tuple[float, float] | None:
        """Give the time of a batch, which may have no clock if windows are cut by count."""
        if batch.start is None or batch.end is None:
            if len(batch.x) and self._n_events is None:
                raise InputError(
                    "windows cut by time need a source with a clock",
                    where=f"chamber {batch.chamber}",
                    fix="Give the source the live time of each state, or cut by count: [window] events = N",
                )
            return None
        if state.covered is not None and batch.start < state.covered:
            raise InputError(
                f"time went back: a batch starts at {batch.start}, the one before ended at {state.covered}",
                where=f"chamber {batch.chamber}",
            )
        state.covered = batch.end
        return batch.start, batch.end

    def _is_complete(self, state: StreamState) -> bool:
        if self._n_events is not None:
            return self._waiting[state.stream] >= self._n_events
        return state.filling.live_seconds >= self._seconds - ROUNDING_SECONDS

    def _cut(self, state: StreamState) -> Window:
        self._waiting[state.stream] = 0
        if self._n_events is not None:
            return state.cut(self._label, WindowCut.COUNT, None)
        return state.cut(self._label, WindowCut.TIME, self._rates_hz.get(state.chamber, self._rate_hz))


class CountedCutter:
    """Cuts a source of events and of counted rows: each kind of batch goes to a cutter of its own.

    Parameters
    ----------
    events : Cutter
        For batches whose rows are events.
    counted : Cutter or None
        For batches whose rows stand for several events, and have times; None refuses them.
    whole : Cutter, optional
        For batches whose rows belong to all of the time of the batch: histograms.
    """

    def __init__(self, events: Cutter, counted: Cutter | None, whole: Cutter | None = None) -> None:
        self._events = events
        self._counted = counted
        self._whole = whole
        self.cuts: list[WindowEnd] = []

    @property
    def first_edges(self) -> dict[str, float]:
        """Start of the first window of each stream that is cut by time, Unix seconds."""
        return self._events.first_edges | (self._counted.first_edges if self._counted else {})

    @property
    def n_left(self) -> dict[str, int]:
        """Events of each stream that no window holds; hits of channels are not among them."""
        return self._events.n_left | (self._whole.n_left if self._whole else {})

    def push(self, batch: EventBatch) -> list[Window]:
        """Windows that this batch completes; raises `InputError` for counted rows without a cutter."""
        counted = self._whole if batch.is_whole and self._whole else self._counted
        cutter = counted if batch.counts else self._events
        if cutter is None:
            raise InputError(
                "the source counts hits by channel, but nothing says how to cut them",
                where=f"chamber {batch.chamber}",
                fix="Give [channels] seconds and expected_rate_hz, or switch the counting off in [options]",
            )
        windows = cutter.push(batch)
        self.cuts = cutter.cuts
        return windows

    def close(self) -> list[Window]:
        """Windows that the end of the source completes."""
        cutters = (self._events, self._counted, self._whole)
        return [window for cutter in cutters if cutter for window in cutter.close()]
