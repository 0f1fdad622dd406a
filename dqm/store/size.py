"""How large a store is, and how it grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from dqm.store.database import Database
from dqm.store.schema import SCHEMA_VERSION, verdicts

__all__ = ["StoreSize", "measure_store"]


@dataclass(frozen=True, slots=True)
class StoreSize:
    """Size of a store.

    Parameters
    ----------
    version : int
        Version of its schema.
    n_verdicts, n_recent : int
        Verdicts, and those since the given time.
    oldest : float or None
        When the oldest verdict was made, Unix seconds; None without verdicts.
    n_bytes : int or None
        Size of its files, bytes; None of a database server.
    """

    version: int
    n_verdicts: int
    n_recent: int
    oldest: float | None
    n_bytes: int | None


def measure_store(database: Database, file: Path | None, since: float) -> StoreSize:
    """Measure a store.

    Parameters
    ----------
    database : Database
        The store, open.
    file : Path or None
        Its file; None of a database server.
    since : float
        From when on verdicts are recent, Unix seconds.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    judged_at = verdicts.c.judged_at
    with database.reading() as connection:
        n, oldest = connection.execute(select(func.count(), func.min(judged_at)).select_from(verdicts)).one()
        recent = connection.execute(select(func.count()).where(judged_at >= since)).scalar_one()
    n_bytes = None
    if file is not None:
        parts = (file, Path(f"{file}-wal"))
        n_bytes = sum(part.stat().st_size for part in parts if part.exists())
    return StoreSize(SCHEMA_VERSION, int(n), int(recent), oldest, n_bytes)
