"""Order of arrival of the windows of each run: gaps, duplicates, lost windows. No I/O; memory is limited.

Windows are numbered within their run. A number that is missing is a lost window, no matter where it was lost,
unless it arrives later. Windows that the sender reports as dropped count as lost at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from dqm.errors import PeerError
from dqm.events import Origin, Verdict, Window, WindowHeader
from dqm.stream.acknowledgement import Reason

__all__ = ["RESTORED_WINDOWS", "Arrival", "ArrivalOrder", "SequenceTracker", "StreamCounts", "find_conflict"]

RESTORED_WINDOWS = 256
"""Last verdicts of a stream from which a restarted monitor knows what it has missed."""

_MAX_RUNS = 16
_MAX_GAPS = 256
_MAX_REFUSED_RUNS = 256


class ArrivalOrder(StrEnum):
    """Position of a window relative to the windows of its run that arrived before it."""

    NEXT = "next"
    AFTER_GAP = "after-gap"
    """Windows with smaller numbers have not arrived."""
    REORDERED = "reordered"
    """It arrived after a window of its run with a larger number, and fills a gap."""
    DUPLICATE = "duplicate"
    """A window with this number has arrived before; the store tells whether it has a verdict."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the number of a window shows.

    Parameters
    ----------
    order : ArrivalOrder
        Order within the run.
    n_lost : int
        Windows lost directly before this one, for its verdict; at least the number that the sender reports.
    """

    order: ArrivalOrder
    n_lost: int


@dataclass(slots=True)
class StreamCounts:
    """Counters of one stream; all except `n_missing` only grow.

    Parameters
    ----------
    n_gaps : int
        Gaps in the numbers.
    n_lost : int
        Windows that senders reported as dropped.
    n_missing : int
        Windows that no sender reported as dropped and that have not arrived.
    n_reordered, n_duplicates, n_late : int
        Windows by order of arrival.
    """

    n_gaps: int = 0
    n_lost: int = 0
    n_missing: int = 0
    n_reordered: int = 0
    n_duplicates: int = 0
    n_late: int = 0


@dataclass(slots=True)
class _Run:
    """State of one run of one stream; a gap is the first and the last of consecutive missing numbers.

    Windows from `first_new` on had no verdict when the store was asked; None: it was not asked.
    """

    origin: Origin
    run_type: str
    next_seq: int = 0
    first_new: int | None = None
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def add_gap(self, first: int, last: int) -> None:
        self.gaps.append((first, last))
        del self.gaps[:-_MAX_GAPS]

    def fill_gap(self, seq: int) -> bool:
        """Remove a number from the gaps; False if it is in none of them."""
        for index, (first, last) in enumerate(self.gaps):
            if first <= seq <= last:
                rest = [(first, seq - 1), (seq + 1, last)]
                self.gaps[index : index + 1] = [(a, b) for a, b in rest if a <= b]
                return True
        return False


class SequenceTracker:
    """Tracks the numbers of the windows of all streams; to be used from one thread.

    It remembers the last 16 runs of each stream, and the last 256 gaps of each run. A window that would fill
    an older gap counts as a duplicate; the store then decides.
    """

    def __init__(self) -> None:
        self._runs: dict[str, OrderedDict[int, _Run]] = {}
        self._refused_first: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._counts: dict[str, StreamCounts] = {}

    def counts(self, stream: str) -> StreamCounts:
        """Counters of a stream since the start of this tracker; the caller must not change them."""
        return self._counts.setdefault(stream, StreamCounts())

    def restore(self, verdicts: Iterable[Verdict]) -> None:
        """Continue after a restart from the verdicts in the store.

        Parameters
        ----------
        verdicts : iterable of Verdict
            The last verdicts of each stream. Numbers missing between those of one run become gaps; no counter
            changes.
        """
        seen: dict[tuple[str, int], tuple[WindowHeader, set[int]]] = {}
        for verdict in verdicts:
            window = verdict.window
            _, numbers = seen.setdefault((window.stream, window.run), (window, set()))
            numbers.add(window.seq)
        for _, (window, numbers) in sorted(seen.items(), key=lambda item: item[0]):
            run_state = self._find_run(window)
            ordered = sorted(numbers)
            run_state.next_seq = ordered[-1] + 1
            for before, after in pairwise(ordered):
                if after > before + 1:
                    run_state.add_gap(before + 1, after - 1)

    def find_refusal(self, window: Window) -> PeerError | None:
        """Refuse a window whose origin or type differs from that of its run.

        Parameters
        ----------
        window : Window
            Received window.

        Returns
        -------
        PeerError or None
            With the reason ``origin`` or ``identity``; None if the window is admitted.
        """
        runs = self._runs.get(window.stream)
        run_state = runs.get(window.run) if runs else None
        return _compare_runs(window, run_state) if run_state else None

    def is_new(self, window: Window) -> bool:
        """Tell whether a window can have no verdict, without asking the store.

        Parameters
        ----------
        window : Window
            Received window.

        Returns
        -------
        bool
            True if neither the store had a window of its run with this number or a larger one when it was
            asked, nor has one come since; False if the store must be asked.
        """
        run_state = self._runs.get(window.stream, OrderedDict()).get(window.run)
        if run_state is None or run_state.first_new is None:
            return False
        return window.seq >= max(run_state.next_seq, run_state.first_new)

    def note_stored(self, window: Window, first_new: int) -> None:
        """Remember what the store said about the run of an observed window.

        Parameters
        ----------
        window : Window
            A window of the run.
        first_new : int
            No window of the run with this number or a larger one has a verdict.
        """
        self._find_run(window).first_new = first_new

    def observe(self, window: Window) -> Arrival:
        """Count a window that is not refused.

        Parameters
        ----------
        window : Window
            Received window; it tells whether it is late.

        Returns
        -------
        Arrival
            Its order of arrival, and windows lost before it.
        """
        counts = self.counts(window.stream)
        run_state = self._find_run(window)
        if window.seq < run_state.next_seq:
            if not run_state.fill_gap(window.seq):
                counts.n_duplicates += 1
                return Arrival(ArrivalOrder.DUPLICATE, window.n_lost)
            counts.n_reordered += 1
            counts.n_late += window.is_late
            counts.n_missing = max(0, counts.n_missing - 1)
            return Arrival(ArrivalOrder.REORDERED, window.n_lost)
        n_gap = window.seq - run_state.next_seq
        counts.n_late += window.is_late
        counts.n_lost += window.n_lost
        counts.n_missing += max(0, n_gap - window.n_lost)
        if n_gap:
            counts.n_gaps += 1
            run_state.add_gap(run_state.next_seq, window.seq - 1)
        run_state.next_seq = window.seq + 1
        order = ArrivalOrder.AFTER_GAP if n_gap else ArrivalOrder.NEXT
        return Arrival(order, max(n_gap, window.n_lost))

    def note_refused(self, stream: str, run: int, seq: int) -> None:
        """Remember a window that was refused for its contents: it is not lost.

        Only the next one in the order counts. What a refused message claims beyond that is not believed.
        """
        run_state = self._runs.get(stream, OrderedDict()).get(run)
        if run_state is not None:
            run_state.next_seq += run_state.next_seq == seq
            return
        if self._refused_first.get((stream, run), 0) == seq:
            self._refused_first[stream, run] = seq + 1
        while len(self._refused_first) > _MAX_REFUSED_RUNS:
            self._refused_first.popitem(last=False)

    def _find_run(self, window: Window | WindowHeader) -> _Run:
        """Find a run or add it; of too many runs, the one that was not used for longest is removed."""
        stream, run = window.stream, window.run
        runs = self._runs.setdefault(stream, OrderedDict())
        if run not in runs:
            n_refused = self._refused_first.pop((stream, run), 0)
            runs[run] = _Run(window.origin, window.run_type, n_refused)
        run_state = runs[run]
        runs.move_to_end(run)
        while len(runs) > _MAX_RUNS:
            runs.popitem(last=False)
        return run_state


def find_conflict(window: Window, known: Verdict | Window) -> PeerError | None:
    """Compare a window with one of the same identity that was received before.

    Parameters
    ----------
    window : Window
        Received window.
    known : Verdict or Window
        The window of the same stream, run and seq, or its verdict. The verdict of an earlier version of this
        program has no hash of the events; times and number of events are compared instead.

    Returns
    -------
    PeerError or None
        With the reason ``origin`` or ``identity`` if they are different windows; None for a duplicate, which
        is acknowledged again.
    """
    before = known if isinstance(known, Window) else known.window
    n_before = len(known.x) if isinstance(known, Window) else known.result.n_data
    refusal = _compare_runs(window, before)
    if refusal is not None:
        return refusal
    is_same = (window.start, window.end, len(window.x)) == (before.start, before.end, n_before)
    if is_same and (window.digest == before.digest or not before.digest):
        return None
    return PeerError(
        Reason.IDENTITY,
        f"another window {window.seq} of run {window.run} of stream {window.stream} came before: the run "
        "number was used twice",
    )


def _compare_runs(window: Window, before: _Run | Window | WindowHeader) -> PeerError | None:
    """Compare origin and type of the run with those of an earlier window."""
    run = f"run {window.run} of stream {window.stream}"
    if window.origin is not before.origin:
        return PeerError(
            Reason.ORIGIN,
            f"{run} is {before.origin.value}; {window.origin.value} windows need a run number of their own",
        )
    if window.run_type != before.run_type:
        return PeerError(
            Reason.IDENTITY,
            f"{run} is of type {before.run_type}; windows of type {window.run_type} need a run number of "
            "their own",
        )
    return None
