"""Trends read from a store: summaries of runs, and the windows of the few runs that need a closer look."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dqm.alarm import MOST_BEFORE, StreamTrend, follow_runs, runs_to_read
from dqm.store import BadShares, VerdictStore, ranges_of

__all__ = ["MOST_COLUMNS", "RunRange", "ShareTable", "read_shares", "read_trends"]

MOST_COLUMNS = 50
"""Most columns of a table of shares; with more runs, neighbours are put together. Runs between which some are
left out are not neighbours: such a table may have more columns."""


@dataclass(frozen=True, slots=True)
class RunRange:
    """Runs that are shown together.

    Parameters
    ----------
    first, last : int
        Their lowest and highest number.
    """

    first: int
    last: int

    @property
    def name(self) -> str:
        """One number, or two."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class ShareTable:
    """Bad windows of all streams, run after run.

    Parameters
    ----------
    n_runs : int
        Runs that are shown.
    columns : tuple of RunRange
        Runs that are counted together, ascending.
    cells : dict of str to dict of int to BadShares
        By stream and number of the column, where there are windows.
    """

    n_runs: int
    columns: tuple[RunRange, ...]
    cells: dict[str, dict[int, BadShares]]

    def totals(self, streams: Sequence[str]) -> list[BadShares]:
        """Count over all columns, for those of some streams that have windows; the largest share first."""
        found = [
            BadShares(
                name, 0, sum(one.n_judged for one in cells.values()), sum(one.n_bad for one in cells.values())
            )
            for name in streams
            if (cells := self.cells.get(name))
        ]
        return sorted(found, key=lambda one: (-one.n_bad / max(1, one.n_judged), one.stream))


def read_trends(
    store: VerdictStore,
    streams: Sequence[str] | None = None,
    runs: Collection[int] | None = None,
    last: int | None = None,
) -> Iterator[StreamTrend]:
    """Put the runs of each stream side by side.

    Parameters
    ----------
    store : VerdictStore
        Where they are.
    streams : sequence of str, optional
        Only these streams.
    runs : collection of int, optional
        Only these runs.
    last : int, optional
        Number of runs of each stream, the newest.

    Yields
    ------
    StreamTrend
        Of each stream that has such runs.
    """
    for stream in store.summaries.streams() if streams is None else streams:
        summaries = store.summaries.select(stream, runs, last)
        if summaries:
            earlier = store.summaries.select(stream, last=MOST_BEFORE, before=summaries[0].first_at)
            yield follow_runs(summaries, store.z_of_runs(stream, runs_to_read(summaries)), earlier)


def read_shares(store: VerdictStore, runs: Collection[int] | None = None, last: int = 1000) -> ShareTable:
    """Count the Bad windows of all streams in runs.

    Parameters
    ----------
    store : VerdictStore
        Where they are.
    runs : collection of int, optional
        Only these runs.
    last : int
        How many runs, those with the largest numbers.
    """
    found = store.summaries.last_runs(last, runs)
    starts = [] if runs is None else [first for first, _ in ranges_of(runs)]
    width = -(-len(found) // MOST_COLUMNS) or 1
    parts = [
        part
        for _, neighbours in groupby(found, lambda run: bisect(starts, run))
        for part in _split(list(neighbours), width)
    ]
    cells: dict[str, dict[int, BadShares]] = {}
    for share in store.summaries.bad_shares([(part[0], part[-1]) for part in parts]):
        cells.setdefault(share.stream, {})[share.column] = share
    return ShareTable(len(found), tuple(RunRange(part[0], part[-1]) for part in parts), cells)


def _split(runs: Sequence[int], width: int) -> list[Sequence[int]]:
    """Split into parts; the newest is complete, the oldest may be smaller."""
    return [runs[max(0, end - width) : end] for end in range(len(runs), 0, -width)][::-1]
