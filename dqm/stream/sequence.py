"""Which windows of a run came, in which order, and which did not. Pure accounting, bounded memory.

The number of a window within its run is the truth: a number that is left out is a window that was lost,
whoever lost it, unless it comes later. What the sender says it dropped counts as lost at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from dqm.errors import PeerError
from dqm.events import Origin, Verdict, Window
from dqm.stream.limits import Reason

__all__ = ["RESTORED_WINDOWS", "Arrival", "ArrivalOrder", "SequenceTracker", "StreamCounts", "find_conflict"]

RESTORED_WINDOWS = 256
"""Last verdicts of a stream from which a restarted monitor knows what it has missed."""

_MOST_RUNS = 16
_MOST_HOLES = 256


class ArrivalOrder(StrEnum):
    """How a window stands to those of its stream that came before it."""

    NEXT = "next"
    AFTER_GAP = "after-gap"
    """Windows with smaller numbers have not come."""
    REORDERED = "reordered"
    """It comes after a window of its run with a larger number, and fills a gap."""
    DUPLICATE = "duplicate"
    """Its number has been seen: the store knows whether it was judged."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a window's number says.

    Parameters
    ----------
    order : ArrivalOrder
        Within its run.
    n_lost : int
        Windows lost just before this one; what its verdict should say. Never less than the sender says.
    is_late : bool
        Whether a window of a run with a larger number came before it.
    """

    order: ArrivalOrder
    n_lost: int
    is_late: bool


@dataclass(slots=True)
class StreamCounts:
    """Counters of one stream; all but `n_missing` only grow.

    Parameters
    ----------
    n_gaps : int
        Times that numbers were left out.
    n_lost : int
        Windows that senders said they dropped.
    n_missing : int
        Windows left out without a word that have not come since.
    n_reordered, n_duplicates, n_late : int
        Windows by order.
    """

    n_gaps: int = 0
    n_lost: int = 0
    n_missing: int = 0
    n_reordered: int = 0
    n_duplicates: int = 0
    n_late: int = 0


@dataclass(slots=True)
class _RunSequence:
    """One run of one stream; holes are stretches of numbers that have not come, first and last."""

    origin: Origin
    next_seq: int = 0
    holes: list[tuple[int, int]] = field(default_factory=list)

    def open_hole(self, first: int, last: int) -> None:
        self.holes.append((first, last))
        del self.holes[:-_MOST_HOLES]

    def fill(self, seq: int) -> bool:
        """Take a number out of the holes; False if it is in none."""
        for place, (first, last) in enumerate(self.holes):
            if first <= seq <= last:
                self.holes[place : place + 1] = [
                    (a, b) for a, b in ((first, seq - 1), (seq + 1, last)) if a <= b
                ]
                return True
        return False


class SequenceTracker:
    """Accounts for the windows of all streams; to be used from one thread.

    Remembers the last `_MOST_RUNS` runs of each stream and `_MOST_HOLES` gaps of each; a window of anything
    older counts as a duplicate if its number was passed, and the store has the last word.
    """

    def __init__(self) -> None:
        self._sequences: dict[str, OrderedDict[int, _RunSequence]] = {}
        self._counts: dict[str, StreamCounts] = {}

    def counts(self, stream: str) -> StreamCounts:
        """Counters of a stream since the start of this tracker; not to be changed."""
        return self._counts.setdefault(stream, StreamCounts())

    def restore(self, verdicts: Iterable[Verdict]) -> None:
        """Go on where the store ends.

        Parameters
        ----------
        verdicts : iterable of Verdict
            The last ones of each stream, in any order. Numbers that are left out among those of one run are
            taken for windows that have not been judged; nothing is counted.
        """
        seen: dict[tuple[str, int], tuple[Origin, set[int]]] = {}
        for verdict in verdicts:
            window = verdict.window
            _, numbers = seen.setdefault((window.stream, window.run), (window.origin, set()))
            numbers.add(window.seq)
        for (stream, run), (origin, numbers) in sorted(seen.items(), key=lambda item: item[0]):
            sequence = self._sequence(stream, run, origin)
            ordered = sorted(numbers)
            sequence.next_seq = ordered[-1] + 1
            for before, after in pairwise(ordered):
                if after > before + 1:
                    sequence.open_hole(before + 1, after - 1)

    def find_refusal(self, window: Window) -> PeerError | None:
        """Say why a window may not enter its run: the run belongs to data of another origin.

        Parameters
        ----------
        window : Window
            As it arrived.

        Returns
        -------
        PeerError or None
            With the reason ``origin``; None if it may enter.
        """
        sequences = self._sequences.get(window.stream)
        sequence = sequences.get(window.run) if sequences else None
        return _compare_origins(window, sequence.origin) if sequence else None

    def observe(self, window: Window) -> Arrival:
        """Account for a window that is not refused.

        Parameters
        ----------
        window : Window
            As it arrived.

        Returns
        -------
        Arrival
            What to make of it.
        """
        counts = self.counts(window.stream)
        sequence = self._sequence(window.stream, window.run, window.origin)
        is_late = window.run < max(self._sequences[window.stream])
        if window.seq < sequence.next_seq:
            if not sequence.fill(window.seq):
                counts.n_duplicates += 1
                return Arrival(ArrivalOrder.DUPLICATE, window.n_lost, is_late)
            counts.n_reordered += 1
            counts.n_late += is_late
            counts.n_missing = max(0, counts.n_missing - 1)
            return Arrival(ArrivalOrder.REORDERED, window.n_lost, is_late)
        n_gap = window.seq - sequence.next_seq
        counts.n_late += is_late
        counts.n_lost += window.n_lost
        counts.n_missing += max(0, n_gap - window.n_lost)
        if n_gap:
            counts.n_gaps += 1
            sequence.open_hole(sequence.next_seq, window.seq - 1)
        sequence.next_seq = window.seq + 1
        order = ArrivalOrder.AFTER_GAP if n_gap else ArrivalOrder.NEXT
        return Arrival(order, max(n_gap, window.n_lost), is_late)

    def _sequence(self, stream: str, run: int, origin: Origin) -> _RunSequence:
        """Find a run, or begin it in the place of the one that was silent for longest."""
        sequences = self._sequences.setdefault(stream, OrderedDict())
        sequence = sequences.setdefault(run, _RunSequence(origin))
        sequences.move_to_end(run)
        while len(sequences) > _MOST_RUNS:
            sequences.popitem(last=False)
        return sequence


def find_conflict(window: Window, stored: Verdict) -> PeerError | None:
    """Compare a window with the verdict that has its identity already.

    Parameters
    ----------
    window : Window
        As it arrived.
    stored : Verdict
        Verdict on the window of the same stream, run and seq.

    Returns
    -------
    PeerError or None
        With the reason ``origin`` or ``identity`` if they are not the same window; None for a duplicate,
        which is acknowledged again.
    """
    refusal = _compare_origins(window, stored.window.origin)
    if refusal is not None:
        return refusal
    theirs = (stored.window.start, stored.window.end, stored.result.n_data)
    if (window.start, window.end, len(window.x)) == theirs:
        return None
    return PeerError(
        Reason.IDENTITY,
        f"another window {window.seq} of run {window.run} of stream {window.stream} was judged before: a run "
        "number was used twice",
    )


def _compare_origins(window: Window, origin: Origin) -> PeerError | None:
    if window.origin is origin:
        return None
    return PeerError(
        Reason.ORIGIN,
        f"run {window.run} of stream {window.stream} is {origin.value}; {window.origin.value} windows need "
        "a run number of their own",
    )
