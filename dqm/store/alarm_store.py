"""Alarms in the store: their states, their history, and the audit of actions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, select

from dqm.alarm import (
    Acknowledgement,
    Alarm,
    AlarmChange,
    AlarmState,
    Cause,
    Guidance,
    Priority,
    Shelf,
)
from dqm.store.database import Database
from dqm.store.schema import alarm_changes, alarm_states, audit

__all__ = ["AlarmStore", "decode_alarm"]


class AlarmStore:
    """States, history and audit of alarms; methods may be called from several threads.

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
        row = database.insert(alarm_states)
        newer = {"content": row.excluded.content}
        self._keep = database.prepare(row.on_conflict_do_update(index_elements=["name"], set_=newer))

    def states(self) -> dict[str, Mapping[str, Any]]:
        """Return all states by name."""
        with self._database.reading() as connection:
            return {row.name: row.content for row in connection.execute(select(alarm_states))}

    def keep(self, states: Mapping[str, Mapping[str, Any]], changes: Iterable[AlarmChange] = ()) -> None:
        """Replace states and add to the history, in one transaction.

        Parameters
        ----------
        states : mapping
            JSON values by name, up to 128 characters; other states are not changed.
        changes : iterable of AlarmChange
            Changes in the order of time.
        """
        kept = [{"name": name, "content": content} for name, content in states.items()]
        history = [_to_row(change) for change in changes]
        with self._database.transaction() as connection:
            if kept:
                self._keep(connection, *kept)
            if history:
                connection.execute(alarm_changes.insert(), history)

    def changes(
        self,
        stream: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int | None = None,
    ) -> Iterator[AlarmChange]:
        """Select changes from the history.

        Parameters
        ----------
        stream : str, optional
            Only this stream.
        since, until : float, optional
            Only changes at or after `since` and before `until`, Unix seconds.
        limit : int, optional
            Only the last changes, at most this number.

        Yields
        ------
        AlarmChange
            Changes in the order of time.
        """
        c = alarm_changes.c
        query = select(alarm_changes)
        if stream is not None:
            query = query.where(c.stream == stream)
        if since is not None:
            query = query.where(c.time >= since)
        if until is not None:
            query = query.where(c.time < until)
        if limit is not None:
            newest = query.with_only_columns(c.id).order_by(c.id.desc()).limit(limit)
            query = select(alarm_changes).where(c.id.in_(newest.subquery().select()))
        with self._database.reading() as connection:
            for row in connection.execute(query.order_by(c.id)):
                yield _to_change(row)

    def record(self, time: float, user: str, action: str, target: str, comment: str) -> None:
        """Add a row to the audit.

        Parameters
        ----------
        time : float
            Unix seconds.
        user, action, target, comment : str
            Who did what to what, and why.
        """
        row = {"time": time, "user": user, "action": action, "target": target, "comment": comment}
        with self._database.transaction() as connection:
            connection.execute(self._database.insert(audit).values(row))

    def actions(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Select rows of the audit.

        Parameters
        ----------
        limit : int, optional
            Only the last rows, at most this number.

        Returns
        -------
        list of dict
            Time, user, action, target and comment, in the order of time.
        """
        c = audit.c
        query = select(c.time, c.user, c.action, c.target, c.comment).order_by(c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [dict(row._mapping) for row in connection.execute(query)][::-1]


def decode_alarm(content: Mapping[str, Any]) -> Alarm:
    """Decode an alarm from the JSON values of its fields.

    Parameters
    ----------
    content : mapping
        Result of `dataclasses.asdict`.

    Returns
    -------
    Alarm
        An equal alarm.
    """
    values = dict(content)
    acknowledged = values["acknowledged"]
    shelf = values["shelf"]
    values["cause"] = Cause(values["cause"])
    values["priority"] = Priority(values["priority"])
    values["state"] = AlarmState(values["state"])
    values["guidance"] = Guidance(**values["guidance"])
    values["acknowledged"] = acknowledged and Acknowledgement(**acknowledged)
    values["shelf"] = shelf and Shelf(**shelf)
    return Alarm(**values)


def _to_row(change: AlarmChange) -> dict[str, object]:
    return {
        "time": change.time,
        "stream": change.alarm.stream,
        "cause": change.alarm.cause.value,
        "before": change.before.value,
        "action": change.action,
        "user": change.user,
        "comment": change.comment,
        "alarm": asdict(change.alarm),
    }


def _to_change(row: Row[Any]) -> AlarmChange:
    values = row._mapping
    c = alarm_changes.c
    return AlarmChange(
        alarm=decode_alarm(values[c.alarm]),
        before=AlarmState(values[c.before]),
        time=values[c.time],
        action=values[c.action],
        user=values[c.user],
        comment=values[c.comment],
    )
