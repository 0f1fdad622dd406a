"""Borders of runs in the store: when each run of each stream began and ended, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from dqm.events import RunRecord
from dqm.store.database import Database
from dqm.store.schema import runs

__all__ = ["RunStore", "prune_runs"]

_OF_RUN = select(runs).where(runs.c.run == bindparam("run")).order_by(runs.c.stream)
_OF_RUN_OF_STREAM = _OF_RUN.where(runs.c.stream == bindparam("stream"))


class RunStore:
    """Table of runs; methods may be called from several threads.

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
        row = database.insert(runs)
        names = [column.name for column in runs.c if not column.primary_key]
        newer: dict[str, ColumnElement[object]] = {name: row.excluded[name] for name in names}
        newer["began_at"] = func.coalesce(row.excluded.began_at, runs.c.began_at)
        self._keep = row.on_conflict_do_update(index_elements=["stream", "run"], set_=newer)

    def keep(self, records: Iterable[RunRecord]) -> None:
        """Add records, or replace those of the same stream and run; a begin that is known is kept."""
        rows = [asdict(record) for record in records]
        if rows:
            with self._database.transaction() as connection:
                connection.execute(self._keep, rows)

    def recent(self, n_runs: int) -> list[RunRecord]:
        """Select the last runs of every stream.

        Parameters
        ----------
        n_runs : int
            Most runs of each stream.

        Returns
        -------
        list of RunRecord
            In the order in which they began.
        """
        c = runs.c
        rank = func.row_number().over(partition_by=c.stream, order_by=(c.position.desc(), c.noted_at.desc()))
        ranked = select(runs, rank.label("rank")).subquery()
        newest = select(*(ranked.c[column.name] for column in c)).where(ranked.c.rank <= n_runs)
        with self._database.reading() as connection:
            found = connection.execute(newest.order_by(ranked.c.position, ranked.c.noted_at))
            return [RunRecord(**row._mapping) for row in found]

    def of_run(self, run: int, stream: str | None = None) -> dict[str, RunRecord]:
        """Select what is known of one run, by stream; of one stream alone, or of all."""
        query = _OF_RUN if stream is None else _OF_RUN_OF_STREAM
        with self._database.reading() as connection:
            found = connection.execute(query, {"run": run, "stream": stream})
            return {row.stream: RunRecord(**row._mapping) for row in found}


def prune_runs(connection: Connection, before: float) -> None:
    """Remove the runs of which nothing was learned since `before`, Unix seconds; not the present ones."""
    other = runs.alias()
    last = select(func.max(other.c.position)).where(other.c.stream == runs.c.stream).scalar_subquery()
    connection.execute(runs.delete().where(runs.c.noted_at < before, runs.c.position < last))
