"""Verdicts in the store: one for each window, on disk before the window is acknowledged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Select, bindparam, func, select

from dqm.alarm import Span, find_span
from dqm.config import DaemonSection
from dqm.events import Origin, Quality, TestResult, Verdict, WindowHeader
from dqm.store.database import Database, sqlite_url
from dqm.store.explanations import decode_explanation, encode_explanation
from dqm.store.number_ranges import within
from dqm.store.run_store import prune_runs
from dqm.store.run_summary_store import RunSummaryStore
from dqm.store.schema import alarm_changes, alarm_states, explanations, verdicts
from dqm.store.verdict_rows import identity_of, row_of, verdict_of

__all__ = ["STORE_FILE", "VerdictStore", "store_url"]

STORE_FILE = "verdicts.sqlite"
"""Name of the daemon's store within its data directory."""

_ROWS_AT_ONCE = 500
_PAGES_AT_ONCE = 250

_OUTLINE = (
    "stream", "seq", "run_type", "origin", "start", "end", "n_data", "n_expected", "p", "quality", "reason",
    "bundle", "seconds", "judged_at",
)  # fmt: skip

_FIND = select(verdicts).where(
    verdicts.c.stream == bindparam("stream"),
    verdicts.c.run == bindparam("run"),
    verdicts.c.seq == bindparam("seq"),
)
_FIND_EXPLANATION = select(explanations.c.content).where(
    explanations.c.stream == bindparam("stream"),
    explanations.c.run == bindparam("run"),
    explanations.c.seq == bindparam("seq"),
)
_LAST_NUMBER = select(func.max(verdicts.c.seq)).where(
    verdicts.c.stream == bindparam("stream"), verdicts.c.run == bindparam("run")
)


def store_url(section: DaemonSection) -> str:
    """Address of the daemon's store.

    Parameters
    ----------
    section : DaemonSection
        Configuration of the daemon.

    Returns
    -------
    str
        The configured database, or a SQLite file in the data directory.
    """
    return section.store or sqlite_url(section.data_dir / STORE_FILE)


class VerdictStore:
    """Table of verdicts, one row for each ``(stream, run, seq)``.

    Methods may be called from several threads.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, see `sqlite_url`.
    create : bool
        Whether to create missing tables and to migrate those of earlier versions; if False, both are errors.

    Attributes
    ----------
    database : Database
        For transactions, and for the other tables of the store.
    summaries : RunSummaryStore
        What the verdicts of each run add up to.

    Raises
    ------
    StoreError
        Here and in every method, if the store cannot be read or written; it names the store and the remedy.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.database = Database(url, create=create)
        insert = self.database.insert
        prepare = self.database.prepare
        without_number = [column.key for column in verdicts.c if column is not verdicts.c.id]
        self._insert = prepare(insert(verdicts).on_conflict_do_nothing().inline(), without_number)
        self._insert_explanation = prepare(insert(explanations))
        self.summaries = RunSummaryStore(self.database)

    def append(self, verdict: Verdict) -> bool:
        """Store a verdict; after the return it survives a crash of the machine.

        Parameters
        ----------
        verdict : Verdict
            Any verdict.

        Returns
        -------
        bool
            False if the window already has a verdict, which is then not changed.
        """
        with self.database.transaction() as connection:
            if not self._insert(connection, row_of(verdict)):
                return False
            if verdict.explanation is not None:
                content = encode_explanation(verdict.explanation)
                self._insert_explanation(connection, {**identity_of(verdict), "content": content})
            self.summaries.add(verdict)
        return True

    def first_new(self, stream: str, run: int) -> int:
        """Tell from which number on the windows of a run have no verdict.

        Parameters
        ----------
        stream, run : str, int
            The run.

        Returns
        -------
        int
            One more than the largest number with a verdict; 0 if there is none.
        """
        with self.database.reading() as connection:
            last = connection.execute(_LAST_NUMBER, {"stream": stream, "run": run}).scalar()
        return 0 if last is None else int(last) + 1

    def find(self, stream: str, run: int, seq: int) -> Verdict | None:
        """Find the verdict on a window.

        Parameters
        ----------
        stream, run, seq : str, int, int
            Identity of the window.

        Returns
        -------
        Verdict or None
            Verdict with its explanation, if it has one; None if there is no verdict.
        """
        identity = {"stream": stream, "run": run, "seq": seq}
        with self.database.reading() as connection:
            row = connection.execute(_FIND, identity).first()
            if row is None:
                return None
            content = connection.execute(_FIND_EXPLANATION, identity).scalar()
        verdict = verdict_of(row)
        return verdict if content is None else replace(verdict, explanation=decode_explanation(content))

    def find_span(self, verdict: Verdict) -> Span:
        """Find the time that a window covers, see `dqm.alarm.find_span`; its verdict is in the store."""
        window = verdict.window
        c = verdicts.c
        if window.start is not None and window.end is not None:
            return find_span(verdict, None)
        of_run = (c.stream == window.stream) & (c.run == window.run)
        own = select(c.id).where(of_run, c.seq == window.seq).scalar_subquery()
        before = select(c.judged_at).where(of_run, c.id < own).order_by(c.id.desc()).limit(1)
        with self.database.reading() as connection:
            return find_span(verdict, connection.execute(before).scalar())

    def latest(self, stream: str | None = None, limit: int = 1) -> list[Verdict]:
        """Return the last verdicts.

        Parameters
        ----------
        stream : str, optional
            Only this stream.
        limit : int
            Most verdicts to return.

        Returns
        -------
        list of Verdict
            Newest first.
        """
        return list(self.select(stream=stream, limit=limit))[::-1]

    def select(
        self,
        stream: str | None = None,
        run: int | None = None,
        runs: Collection[int] | None = None,
        since: float | None = None,
        quality: Quality | None = None,
        limit: int | None = None,
    ) -> Iterator[Verdict]:
        """Select the verdicts that meet all given conditions.

        Parameters
        ----------
        stream : str, optional
            Only this stream.
        run : int, optional
            Only this run.
        runs : collection of int, optional
            Only these runs.
        since : float, optional
            Only verdicts with `judged_at` at this time or later, Unix seconds.
        quality : Quality, optional
            Only this quality.
        limit : int, optional
            Only the last verdicts, at most this number.

        Yields
        ------
        Verdict
            In the order of storing, without explanation (see `find`).
        """
        c = verdicts.c
        query = select(verdicts)
        if stream is not None:
            query = query.where(c.stream == stream)
        if run is not None:
            query = query.where(c.run == run)
        if runs is not None:
            query = query.where(within(c.run, runs))
        if since is not None:
            query = query.where(c.judged_at >= since)
        if quality is not None:
            query = query.where(c.quality == quality.value)
        if limit is not None:
            newest = query.with_only_columns(c.id).order_by(c.id.desc()).limit(limit)
            query = select(verdicts).where(c.id.in_(newest.subquery().select()))
        yield from self._read(query.order_by(c.id))

    def outline(self, run: int, stream: str | None = None) -> Iterator[Verdict]:
        """Select what flags need of the verdicts of a run: times, quality, reason and p; it is quicker.

        Parameters
        ----------
        run : int
            The run.
        stream : str, optional
            Only this stream.

        Yields
        ------
        Verdict
            In the order of storing. Its result has `n_data`, `n_expected` and `p` alone, its window no
            conditions.
        """
        c = verdicts.c
        query = select(*(c[name] for name in _OUTLINE)).where(c.run == run).order_by(c.id)
        if stream is not None:
            query = query.where(c.stream == stream)
        with self.database.reading() as connection:
            for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query):
                name, seq, kind, origin, start, end, n_data, n_expected, p, quality, reason, *rest = row
                window = WindowHeader(name, run, seq, kind, Origin(origin), start, end)
                yield Verdict(window, Quality(quality), reason, TestResult(n_data, n_expected, p=p), *rest)

    def last_runs(self, limit: int, below: int | None = None) -> list[int]:
        """Give the largest run numbers that have verdicts.

        Parameters
        ----------
        limit : int
            Most numbers.
        below : int, optional
            Only smaller numbers.

        Returns
        -------
        list of int
            The largest first.
        """
        c = verdicts.c
        found: list[int] = []
        with self.database.reading() as connection:
            while len(found) < limit:  # each is one look into an index; all at once would read every verdict
                largest = select(func.max(c.run))
                run = connection.execute(largest if below is None else largest.where(c.run < below)).scalar()
                if run is None:
                    break
                found.append(below := int(run))
        return found

    def z_of_runs(self, stream: str, runs: Collection[int]) -> dict[int, list[tuple[int, float]]]:
        """Give number and Z of the windows of some runs that have one and are not ``Null``.

        Parameters
        ----------
        stream : str
            Their stream.
        runs : collection of int
            The runs.

        Returns
        -------
        dict
            By run, in the order of their numbers; Z may be infinite.
        """
        c = verdicts.c
        query = select(c.run, c.seq, c.z).where(c.stream == stream, within(c.run, runs), c.z.is_not(None))
        query = query.where(c.quality != Quality.NULL.value).order_by(c.run, c.seq)
        found: dict[int, list[tuple[int, float]]] = {}
        with self.database.reading() as connection:
            for run, seq, z in connection.execute(query):
                found.setdefault(run, []).append((seq, z))
        return found

    def last_qualities(self, since: float, limit: int) -> Iterator[tuple[str, float, Quality]]:
        """Give stream, time and quality of the last verdicts.

        Parameters
        ----------
        since : float
            Only verdicts with `judged_at` at this time or later, Unix seconds.
        limit : int
            Most verdicts.

        Yields
        ------
        tuple of (str, float, Quality)
            The newest first.
        """
        c = verdicts.c
        query = select(c.stream, c.judged_at, c.quality).order_by(c.id.desc()).limit(limit)
        with self.database.reading() as connection:
            for stream, judged_at, quality in connection.execute(query):
                if judged_at < since:
                    return
                yield stream, judged_at, Quality(quality)

    def prune(self, before: float, limit: int) -> int:
        """Remove the oldest verdicts, their explanations, and alarm history and borders of runs of that time.

        The summaries of their runs stay. Freed space is used again; if more than a quarter of a file is free,
        the file shrinks.

        Parameters
        ----------
        before : float
            Only verdicts with `judged_at` before this time, Unix seconds.
        limit : int
            Most verdicts to remove in one call, so that other programs do not wait long.

        Returns
        -------
        int
            Number of removed verdicts; fewer than `limit` if no more are left.
        """
        c, e = verdicts.c, explanations.c
        old = select(c.id, c.stream, c.run, c.seq).where(c.judged_at < before).order_by(c.judged_at)
        with self.database.transaction() as connection:
            rows = connection.execute(old.limit(limit)).all()
            for row in rows:
                same = (e.stream == row.stream, e.run == row.run, e.seq == row.seq)
                connection.execute(explanations.delete().where(*same))
            connection.execute(verdicts.delete().where(c.id.in_([row.id for row in rows])))
            self.summaries.note_pruned((row.stream, row.run, row.seq) for row in rows)
            if len(rows) < limit:
                connection.execute(alarm_changes.delete().where(alarm_changes.c.time < before))
                prune_runs(connection, before)
        self.database.shrink(_PAGES_AT_ONCE)
        return len(rows)

    def probe(self) -> None:
        """Read the last verdict and the states of the alarms from the disk, as at the start of the daemon.

        Raises
        ------
        StoreError
            If a SQLite file was damaged or removed while it was in use.
        """
        with self.database.rereading() as connection:
            if connection is not None:
                connection.execute(select(verdicts).order_by(verdicts.c.id.desc()).limit(1)).all()
                connection.execute(select(alarm_states)).all()

    def counts(self) -> dict[tuple[str, Quality], int]:
        """Count the verdicts of each stream and quality.

        Returns
        -------
        dict
            Counts by ``(stream, quality)``; there is no key for a count of 0.
        """
        c = verdicts.c
        query = select(c.stream, c.quality, func.count()).group_by(c.stream, c.quality)
        with self.database.reading() as connection:
            return {(stream, Quality(quality)): int(n) for stream, quality, n in connection.execute(query)}

    def count_qualities(self, stream: str, runs: Collection[int]) -> dict[Quality, int]:
        """Count the verdicts of some runs of a stream, by quality; there is no key for a count of 0."""
        c = verdicts.c
        chosen = c.stream == stream, within(c.run, runs)
        query = select(c.quality, func.count()).where(*chosen).group_by(c.quality)
        with self.database.reading() as connection:
            return {Quality(quality): int(n) for quality, n in connection.execute(query)}

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, query: Select[Any]) -> Iterator[Verdict]:
        with self.database.reading() as connection:
            rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
            for row in rows:
                yield verdict_of(row)
