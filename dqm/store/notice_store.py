"""What targets were told of alarms: it outlives the daemon, so that nobody is told twice or not at all."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from dqm.alarm import Cause, LastNotice
from dqm.store.database import Database
from dqm.store.schema import notices

__all__ = ["NoticeStore"]

_TARGET_ITSELF = ""
"""Stands for stream and cause in the row that says since when there is a target."""

Key = tuple[str, Cause]


class NoticeStore:
    """What each target was told of each alarm last; methods may be called from several threads.

    Parameters
    ----------
    database : Database
        Database of the store.

    Raises
    ------
    StoreError
        In every method, if the store cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        row = database.insert(notices)
        newer = {name: row.excluded[name] for name in ("raised_at", "is_open", "time")}
        self._keep = row.on_conflict_do_update(index_elements=["target", "stream", "cause"], set_=newer)

    def begin(self, target: str, now: float) -> float:
        """Note a target that is new.

        Parameters
        ----------
        target : str
            Its name.
        now : float
            Unix seconds.

        Returns
        -------
        float
            Since when there is this target, Unix seconds.
        """
        itself = {"target": target, "stream": _TARGET_ITSELF, "cause": _TARGET_ITSELF}
        row = itself | {"raised_at": now, "is_open": 0, "time": now}
        c = notices.c
        query = select(c.raised_at).where(c.target == target, c.stream == _TARGET_ITSELF)
        with self._database.transaction() as connection:
            connection.execute(self._database.insert(notices).values(row).on_conflict_do_nothing())
            return float(connection.execute(query).scalar_one())

    def sent(self, target: str) -> dict[Key, LastNotice]:
        """Read what a target was told of each alarm last."""
        c = notices.c
        of_alarms = c.stream != _TARGET_ITSELF, c.cause.in_(list(Cause))
        query = select(notices).where(c.target == target, *of_alarms)
        with self._database.reading() as connection:
            return {
                (row.stream, Cause(row.cause)): LastNotice(row.raised_at, bool(row.is_open), row.time)
                for row in connection.execute(query)
            }

    def keep(self, target: str, told: Mapping[Key, LastNotice]) -> None:
        """Note what a target was told; what it was told of other alarms stays."""
        rows = [
            {
                "target": target,
                "stream": stream,
                "cause": cause.value,
                "raised_at": each.raised_at,
                "is_open": int(each.is_open),
                "time": each.time,
            }
            for (stream, cause), each in told.items()
        ]
        with self._database.transaction() as connection:
            if rows:
                connection.execute(self._keep, rows)
