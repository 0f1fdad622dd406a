"""Verdicts in the store: one for each window, on disk before the window is acknowledged."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Row, Select, bindparam, false, func, or_, select

from dqm.config import DaemonSection
from dqm.events import (
    ChannelDeparture,
    ChannelSummary,
    NanResult,
    NuisanceResult,
    Origin,
    PMethod,
    Profiled,
    Quality,
    RateResult,
    RollingResult,
    TestResult,
    Verdict,
    WindowCut,
    WindowHeader,
)
from dqm.store.database import Database, sqlite_url
from dqm.store.explanations import decode_explanation, encode_explanation
from dqm.store.run_store import prune_runs
from dqm.store.schema import alarm_changes, alarm_states, explanations, verdicts

__all__ = ["STORE_FILE", "VerdictStore", "store_url"]

STORE_FILE = "verdicts.sqlite"
"""Name of the daemon's store within its data directory."""

_ROWS_AT_ONCE = 500
_PAGES_AT_ONCE = 250

_OUTLINE = (
    "stream", "seq", "run_type", "origin", "start", "end", "n_data", "n_expected", "p", "quality", "reason",
    "bundle", "seconds", "judged_at",
)  # fmt: skip

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

    Raises
    ------
    StoreError
        Here and in every method, if the store cannot be read or written; it names the store and the remedy.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        self.database = Database(url, create=create)
        # made once: making a statement takes longer than executing it
        insert = self.database.insert
        self._insert = insert(verdicts).on_conflict_do_nothing().returning(verdicts.c.id)
        self._insert_explanation = insert(explanations)

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
            if connection.execute(self._insert, _to_row(verdict)).first() is None:
                return False
            if verdict.explanation is not None:
                content = encode_explanation(verdict.explanation)
                connection.execute(self._insert_explanation, {**_identity(verdict), "content": content})
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
        c, e = verdicts.c, explanations.c
        query = select(verdicts).where(c.stream == stream, c.run == run, c.seq == seq)
        detail = select(e.content).where(e.stream == stream, e.run == run, e.seq == seq)
        with self.database.reading() as connection:
            row = connection.execute(query).first()
            content = connection.execute(detail).scalar()
        if row is None:
            return None
        verdict = _to_verdict(row)
        return verdict if content is None else replace(verdict, explanation=decode_explanation(content))

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
            # ranges: a database takes only so many single values
            query = query.where(or_(false(), *(c.run.between(low, high) for low, high in _ranges(runs))))
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

    def runs_by_stream(self, stream: str | None = None) -> dict[str, list[int]]:
        """Give the runs of each stream that have verdicts, in the order of their first one.

        Parameters
        ----------
        stream : str, optional
            Only this stream.
        """
        c = verdicts.c
        first = func.min(c.id)
        query = select(c.stream, c.run).group_by(c.stream, c.run).order_by(c.stream, first)
        if stream is not None:
            query = query.where(c.stream == stream)
        found: dict[str, list[int]] = {}
        with self.database.reading() as connection:
            for name, run in connection.execute(query):
                found.setdefault(name, []).append(run)
        return found

    def prune(self, before: float, limit: int) -> int:
        """Remove the oldest verdicts, their explanations, and alarm history and borders of runs of that time.

        Freed space is used again; if more than a quarter of a file is free, the file shrinks.

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
                yield _to_verdict(row)


def _ranges(numbers: Collection[int]) -> list[tuple[int, int]]:
    """Give the ranges of neighbours that numbers consist of."""
    found: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


def _identity(verdict: Verdict) -> dict[str, object]:
    return {"stream": verdict.window.stream, "run": verdict.window.run, "seq": verdict.window.seq}


def _to_row(verdict: Verdict) -> dict[str, object]:
    result = verdict.result
    return {
        **_identity(verdict),
        "run_type": verdict.window.run_type,
        "origin": verdict.window.origin.value,
        "start": verdict.window.start,
        "end": verdict.window.end,
        "n_lost": verdict.window.n_lost,
        "n_data": result.n_data,
        "n_expected": result.n_expected,
        "t": result.t,
        "p": result.p,
        "p_low": result.p_low,
        "p_high": result.p_high,
        "p_method": result.p_method.value if result.p_method else None,
        "z": result.z,
        "result_reason": result.reason,
        "tau": result.tau,
        "delta": result.delta,
        "nuisances": {name: asdict(nuisance) for name, nuisance in result.nuisances.items()},
        "remarks": list(result.remarks),
        "warnings": dict(verdict.warnings),
        "rate": None if result.rate is None else asdict(result.rate),
        "channels": None if result.channels is None else asdict(result.channels),
        "nan": None if result.nan is None else asdict(result.nan),
        "rolling": None if result.rolling is None else asdict(result.rolling),
        "conditions": dict(verdict.window.conditions),
        "digest": verdict.window.digest,
        "is_late": verdict.window.is_late,
        "quality": verdict.quality.value,
        "reason": verdict.reason,
        "bundle": verdict.bundle,
        "seconds": verdict.seconds,
        "judged_at": verdict.judged_at,
    }


def _to_verdict(row: Row[Any]) -> Verdict:
    values = row._mapping
    c = verdicts.c
    method = values[c.p_method]
    return Verdict(
        window=WindowHeader(
            stream=values[c.stream],
            run=values[c.run],
            seq=values[c.seq],
            run_type=values[c.run_type],
            origin=Origin(values[c.origin]),
            start=values[c.start],
            end=values[c.end],
            n_lost=values[c.n_lost],
            conditions=values[c.conditions],
            digest=values[c.digest],
            is_late=values[c.is_late],
        ),
        quality=Quality(values[c.quality]),
        reason=values[c.reason],
        result=TestResult(
            n_data=values[c.n_data],
            n_expected=values[c.n_expected],
            t=values[c.t],
            p=values[c.p],
            p_low=values[c.p_low],
            p_high=values[c.p_high],
            p_method=PMethod(method) if method else None,
            z=values[c.z],
            reason=values[c.result_reason],
            tau=values[c.tau],
            delta=values[c.delta],
            nuisances={name: _to_nuisance(stored) for name, stored in values[c.nuisances].items()},
            remarks=tuple(values[c.remarks]),
            rate=_to_rate(values[c.rate]),
            channels=_to_channels(values[c.channels]),
            nan=None if values[c.nan] is None else NanResult(**values[c.nan]),
            rolling=_to_rolling(values[c.rolling]),
        ),
        bundle=values[c.bundle],
        seconds=values[c.seconds],
        judged_at=values[c.judged_at],
        warnings=values[c.warnings],
    )


def _to_rate(stored: dict[str, Any] | None) -> RateResult | None:
    return None if stored is None else RateResult(**{**stored, "cut": WindowCut(stored["cut"])})


def _to_rolling(stored: dict[str, Any] | None) -> RollingResult | None:
    if stored is None:
        return None
    method = stored["p_method"]
    ends = {name: stored[name] and tuple(stored[name]) for name in ("first", "last")}
    return RollingResult(**{**stored, **ends, "p_method": PMethod(method) if method else None})


def _to_channels(stored: dict[str, Any] | None) -> ChannelSummary | None:
    if stored is None:
        return None
    worst = tuple(ChannelDeparture(**each) for each in stored["worst"])
    masked = tuple(stored.get("masked", ()))  # not in verdicts of earlier versions
    return ChannelSummary(**{**stored, "worst": worst, "masked": masked})


def _to_nuisance(stored: dict[str, Any]) -> NuisanceResult:
    fits = {key: _to_profiled(stored[key]) for key in ("reference", "alternative")}
    return NuisanceResult(stored["measured"], **fits)


def _to_profiled(stored: dict[str, Any]) -> Profiled:
    """Decode a fit; what was not finite is stored as null."""
    value, error = (math.nan if stored[key] is None else stored[key] for key in ("value", "error"))
    return Profiled(value, error, stored["pull"])
