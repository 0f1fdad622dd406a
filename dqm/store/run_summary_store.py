"""Summaries of runs in the store: one row for each run of each stream, which outlives the verdicts.

A verdict is added to the row of its run in the transaction that stores it, so that both are there or neither.
The last row of each stream is kept in memory: adding a verdict to it is a single statement, which finds the
row only if it is the one that was written last, by a random number in it. If it is not (a transaction failed,
another program wrote), the row is read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, case, func, literal, select, union_all

from dqm.alarm import RunStatistics, summarise_run
from dqm.errors import LARGEST_INTEGER
from dqm.events import Verdict
from dqm.store.database import Database
from dqm.store.number_ranges import ranges_of, within
from dqm.store.run_summary_rows import random_integer, row_of_summary, summary_of
from dqm.store.schema import run_summaries

__all__ = ["BadShares", "RunSummaryStore"]

_C = run_summaries.c

_FIND = (
    select(run_summaries)
    .where(_C.stream == bindparam("of_stream"), _C.run == bindparam("of_run"))
    .with_for_update()  # of PostgreSQL: who adds to this row next waits
)
_CHANGED = (_C.n_windows, _C.n_judged, _C.n_bad, _C.content, _C.written_as)
_CHANGE = (
    run_summaries.update()
    .where(
        _C.stream == bindparam("of_stream"),
        _C.run == bindparam("of_run"),
        _C.written_as == bindparam("known_as"),
    )
    .values({column: bindparam(f"new_{column.key}", type_=column.type) for column in _CHANGED})
)
_NOTE_PRUNED = (
    run_summaries.update()
    .where(_C.stream == bindparam("of_stream"), _C.run == bindparam("of_run"))
    .values(pruned_seq=case((_C.pruned_seq > bindparam("seq"), _C.pruned_seq), else_=bindparam("seq")))
)


class _Known(NamedTuple):
    """A row as it was written or read last."""

    summary: RunStatistics
    pruned_seq: int | None
    written_as: int


@dataclass(frozen=True, slots=True)
class BadShares:
    """How many windows of some runs of a stream were Bad.

    Parameters
    ----------
    stream : str
        Its name.
    column : int
        Which of the ranges of runs.
    n_judged, n_bad : int
        Windows that are not Null, and that are Bad.
    """

    stream: str
    column: int
    n_judged: int
    n_bad: int


class RunSummaryStore:
    """Table of summaries; methods may be called from several threads.

    Parameters
    ----------
    database : Database
        Database of the store; changes take part in its open transaction.

    Raises
    ------
    StoreError
        In every method, if the store cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert = database.insert(run_summaries).on_conflict_do_nothing().returning(_C.run)
        self._change = database.prepare(_CHANGE)
        self._last: dict[str, _Known] = {}

    def add(self, verdict: Verdict) -> None:
        """Add a verdict that is being stored to the summary of its run.

        Nothing is added if the verdict on this window was removed long ago, and it is judged again: it counts
        already.
        """
        stream, run = verdict.window.stream, verdict.window.run
        with self._database.transaction() as connection:
            known = self._last.pop(stream, None)  # kept again when it is written
            if known is None or known.summary.run != run or not self._extend(connection, known, verdict):
                self._add_anew(connection, verdict)

    def _add_anew(self, connection: Connection, verdict: Verdict) -> None:
        place = {"of_stream": verdict.window.stream, "of_run": verdict.window.run}
        row = connection.execute(_FIND, place).first()
        if row is None:
            known = _Known(summarise_run([verdict]), None, random_integer())
            first = row_of_summary(known.summary) | {"written_as": known.written_as}
            if connection.execute(self._insert, first).first() is not None:
                self._last[verdict.window.stream] = known
                return
            row = connection.execute(_FIND, place).one()  # another program has just made it
        self._extend(connection, _Known(summary_of(row), row.pruned_seq, row.written_as), verdict)

    def _extend(self, connection: Connection, known: _Known, verdict: Verdict) -> bool:
        """Add to a row, if it is still as it is known."""
        stream = verdict.window.stream
        summary = known.summary
        written_as = random_integer()
        if known.pruned_seq is not None and verdict.window.seq <= known.pruned_seq:
            return True
        summary.add(verdict)
        row = row_of_summary(summary) | {"written_as": written_as}
        values = {f"new_{column.key}": row[column.key] for column in _CHANGED}
        values |= {"of_stream": stream, "of_run": summary.run, "known_as": known.written_as}
        if not self._change(connection, values):
            return False
        self._last[stream] = known._replace(written_as=written_as)
        return True

    def note_pruned(self, windows: Iterable[tuple[str, int, int]]) -> None:
        """Note that the verdicts on some windows, stream, run and number, are being removed."""
        last: dict[tuple[str, int], int] = {}
        for stream, run, seq in windows:
            last[stream, run] = max(seq, last.get((stream, run), seq))
        rows = [{"of_stream": stream, "of_run": run, "seq": seq} for (stream, run), seq in last.items()]
        if rows:
            with self._database.transaction() as connection:
                connection.execute(_NOTE_PRUNED, rows)
            for stream, _ in last:
                self._last.pop(stream, None)

    def prune(self, before: float, limit: int) -> int:
        """Remove the oldest summaries.

        Parameters
        ----------
        before : float
            Only those whose first verdict was given before this time, Unix seconds.
        limit : int
            Most summaries to remove in one call.

        Returns
        -------
        int
            Number of removed summaries.
        """
        old = select(_C.stream, _C.run).where(_C.first_at < before).order_by(_C.first_at).limit(limit)
        remove = run_summaries.delete().where(
            _C.stream == bindparam("of_stream"), _C.run == bindparam("of_run")
        )
        with self._database.transaction() as connection:
            rows = [{"of_stream": stream, "of_run": run} for stream, run in connection.execute(old)]
            if rows:
                connection.execute(remove, rows)
        return len(rows)

    def streams(self) -> list[str]:
        """Give the streams that have summaries, by name."""
        with self._database.reading() as connection:
            return list(connection.execute(select(_C.stream).distinct().order_by(_C.stream)).scalars())

    def select(
        self,
        stream: str,
        runs: Collection[int] | None = None,
        last: int | None = None,
        before: float | None = None,
    ) -> list[RunStatistics]:
        """Select the summaries of a stream.

        Parameters
        ----------
        stream : str
            Its name.
        runs : collection of int, optional
            Only these runs.
        last : int, optional
            Number of runs, the newest.
        before : float, optional
            Only runs whose first verdict was given before this time, Unix seconds.

        Returns
        -------
        list of RunStatistics
            In the order of their first verdict.
        """
        query = select(run_summaries).where(_C.stream == stream).order_by(_C.first_at.desc()).limit(last)
        if runs is not None:
            query = query.where(within(_C.run, runs))
        if before is not None:
            query = query.where(_C.first_at < before)
        with self._database.reading() as connection:
            return [summary_of(row) for row in connection.execute(query)][::-1]

    def last_runs(self, n_runs: int, runs: Collection[int] | None = None) -> list[int]:
        """Give the largest numbers of runs that any stream has, ascending; of some runs, if they are given.

        Each number is found by its place in the index, so that the number of streams does not matter.
        """
        found: list[int] = []
        for low, high in reversed(ranges_of(runs)) if runs is not None else [(0, LARGEST_INTEGER)]:
            found += self._last_runs(n_runs - len(found), low, high)
        return sorted(found)

    def _last_runs(self, n_runs: int, low: int, high: int) -> list[int]:
        last = select(func.max(_C.run).label("run")).where(_C.run.between(low, high))
        largest = last.cte("numbers", recursive=True)
        lower = select(func.max(_C.run)).where(_C.run >= low, _C.run < largest.c.run)
        below = lower.correlate(largest).scalar_subquery()
        numbers = largest.union_all(select(below).where(largest.c.run.is_not(None)))
        query = select(numbers.c.run).where(numbers.c.run.is_not(None)).limit(n_runs)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def bad_shares(self, ranges: Sequence[tuple[int, int]]) -> Iterator[BadShares]:
        """Count the Bad windows of every stream in ranges of runs.

        Parameters
        ----------
        ranges : sequence of (int, int)
            First and last run of each.

        Yields
        ------
        BadShares
            For each stream and range that has windows.
        """
        if not ranges:
            return
        spans = union_all(
            *(
                select(
                    literal(number).label("number"), literal(low).label("low"), literal(high).label("high")
                )
                for number, (low, high) in enumerate(ranges)
            )
        ).cte("spans")
        query = (
            select(_C.stream, spans.c.number, func.sum(_C.n_judged), func.sum(_C.n_bad))
            .select_from(spans.join(run_summaries, _C.run.between(spans.c.low, spans.c.high)))
            .group_by(spans.c.number, _C.stream)
        )
        with self._database.reading() as connection:
            for stream, column, n_judged, n_bad in connection.execute(query):
                yield BadShares(stream, column, int(n_judged), int(n_bad))
