"""Verdicts as they were told, each once, on disk before anyone else hears of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Engine, Row, Select, Table, create_engine, event, func, inspect, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from dqm.errors import StoreError
from dqm.events import NuisanceResult, Origin, PMethod, Profiled, Quality, TestResult, Verdict
from dqm.store.schema import SCHEMA_VERSION, metadata, schema_version, verdicts

__all__ = ["STORE_FILE", "VerdictStore", "sqlite_url"]

STORE_FILE = "verdicts.sqlite"
"""Name of the daemon's store within its data directory."""

_BUSY_MS = 10_000
_ROWS_AT_ONCE = 500
_INSERTS: dict[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}")
_REMEDIES = {
    "not a database": "Move the file away; the daemon then starts a new one",
    "malformed": "The file is damaged: move it away, or restore it from a backup",
    "readonly": "Make the file and its directory writable for the daemon's user",
    "read-only": "Make the file and its directory writable for the daemon's user",
    "unable to open": "Check that the directory exists and is writable for the daemon's user",
    "is full": "Free space on the disk",
    "locked": "Another program holds the file; close it",
}


def sqlite_url(path: Path) -> str:
    """URL of a SQLite file.

    Parameters
    ----------
    path : Path
        File; it need not exist.

    Returns
    -------
    str
        For `VerdictStore`.
    """
    return URL.create("sqlite", database=str(path)).render_as_string()


class VerdictStore:
    """Table of verdicts, one row for each ``(stream, run, seq)``.

    Methods may be called from several threads.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, see `sqlite_url`.
    create : bool
        Whether to make the tables if there are none; if not, a store without them is an error.

    Raises
    ------
    StoreError
        Here and in every method, if the store cannot be read or written; it names the store and the remedy.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        try:
            address = make_url(url)
            self._engine: Engine = create_engine(address, connect_args=_connect_args(address, create=create))
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise StoreError(
                f"not the address of a store: {error}", fix="Use sqlite:///PATH or postgresql+psycopg://..."
            ) from error
        self._where = address.database or address.render_as_string(hide_password=True)
        self._insert = _INSERTS.get(self._engine.dialect.name, sqlite.insert)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _set_pragmas)
        try:
            self._open(create=create)
        except StoreError:
            self.close()
            raise

    def append(self, verdict: Verdict) -> bool:
        """Store a verdict; on return it survives a crash of the machine.

        Parameters
        ----------
        verdict : Verdict
            Any verdict.

        Returns
        -------
        bool
            False if this stream, run and seq had one already, which is then left as it was.
        """
        statement = self._insert(verdicts).values(_to_row(verdict)).on_conflict_do_nothing()
        with self._translate(), self._engine.begin() as connection:
            return connection.execute(statement).rowcount == 1

    def contains(self, stream: str, run: int, seq: int) -> bool:
        """Whether a window has been judged.

        Parameters
        ----------
        stream, run, seq : str, int, int
            Identity of the window.

        Returns
        -------
        bool
            True if its verdict is stored.
        """
        c = verdicts.c
        found = select(c.id).where(c.stream == stream, c.run == run, c.seq == seq)
        with self._translate(), self._engine.connect() as connection:
            return connection.execute(found).first() is not None

    def latest(self, stream: str | None = None, limit: int = 1) -> list[Verdict]:
        """Verdicts stored last.

        Parameters
        ----------
        stream : str, optional
            Only this stream.
        limit : int
            How many at most.

        Returns
        -------
        list of Verdict
            The newest first.
        """
        return list(self.select(stream=stream, limit=limit))[::-1]

    def select(
        self,
        stream: str | None = None,
        run: int | None = None,
        since: float | None = None,
        quality: Quality | None = None,
        limit: int | None = None,
    ) -> Iterator[Verdict]:
        """Verdicts that meet every condition given.

        Parameters
        ----------
        stream : str, optional
            Of this stream.
        run : int, optional
            Of this run.
        since : float, optional
            Judged at this time or later, Unix seconds.
        quality : Quality, optional
            Of this quality.
        limit : int, optional
            Only the last so many.

        Yields
        ------
        Verdict
            In the order they were stored.
        """
        c = verdicts.c
        query = select(verdicts)
        if stream is not None:
            query = query.where(c.stream == stream)
        if run is not None:
            query = query.where(c.run == run)
        if since is not None:
            query = query.where(c.judged_at >= since)
        if quality is not None:
            query = query.where(c.quality == quality.value)
        if limit is not None:
            newest = query.with_only_columns(c.id).order_by(c.id.desc()).limit(limit)
            query = select(verdicts).where(c.id.in_(newest.subquery().select()))
        yield from self._read(query.order_by(c.id))

    def counts(self) -> dict[tuple[str, Quality], int]:
        """Count the verdicts of each stream and quality.

        Returns
        -------
        dict
            Keys are ``(stream, quality)``; what never occurred is absent.
        """
        c = verdicts.c
        query = select(c.stream, c.quality, func.count()).group_by(c.stream, c.quality)
        with self._translate(), self._engine.connect() as connection:
            return {(stream, Quality(quality)): int(n) for stream, quality, n in connection.execute(query)}

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, query: Select[Any]) -> Iterator[Verdict]:
        with self._translate(), self._engine.connect() as connection:
            rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
            for row in rows:
                yield _to_verdict(row)

    def _open(self, *, create: bool) -> None:
        """Make the tables if there are none, then check whose they are."""
        with self._translate(), self._engine.begin() as connection:
            tables = set(inspect(connection).get_table_names())
            if not tables & set(metadata.tables) and not create:
                raise StoreError(
                    "holds no verdicts", where=self._where, fix="Check the path, or start the daemon first"
                )
            if not tables & set(metadata.tables):
                metadata.create_all(connection)
                row = {"id": 1, "version": SCHEMA_VERSION}
                connection.execute(self._insert(schema_version).values(row).on_conflict_do_nothing())
        with self._translate(), self._engine.connect() as connection:
            version = connection.execute(select(schema_version.c.version)).scalar()
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"schema version {version}, this program knows version {SCHEMA_VERSION}",
                where=self._where,
                fix="Use the version of dqm that wrote it, or a new file",
            )

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            text = str(getattr(error, "orig", None) or error)
            remedy = next((fix for words, fix in _REMEDIES.items() if words in text.lower()), None)
            raise StoreError(text, where=self._where, fix=remedy) from error


def _connect_args(address: URL, *, create: bool) -> dict[str, object]:
    """Keep SQLite from making an empty file where only reading is meant."""
    if create or address.get_backend_name() != "sqlite" or not address.database:
        return {}
    if Path(address.database).exists():
        return {}
    raise StoreError("no such file", where=address.database, fix="Check the path, or start the daemon first")


def _set_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _to_row(verdict: Verdict) -> dict[str, object]:
    result = verdict.result
    return {
        "stream": verdict.stream,
        "run": verdict.run,
        "seq": verdict.seq,
        "run_type": verdict.run_type,
        "origin": verdict.origin.value,
        "start": verdict.start,
        "end": verdict.end,
        "n_lost": verdict.n_lost,
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
        stream=values[c.stream],
        run=values[c.run],
        seq=values[c.seq],
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
        ),
        bundle=values[c.bundle],
        seconds=values[c.seconds],
        judged_at=values[c.judged_at],
        run_type=values[c.run_type],
        origin=Origin(values[c.origin]),
        start=values[c.start],
        end=values[c.end],
        n_lost=values[c.n_lost],
        warnings=values[c.warnings],
    )


def _to_nuisance(stored: dict[str, Any]) -> NuisanceResult:
    fits = {key: Profiled(**stored[key]) for key in ("reference", "alternative")}
    return NuisanceResult(stored["measured"], **fits)
