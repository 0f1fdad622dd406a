from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

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
from dqm.store import AlarmStore, Database

ALARM = Alarm(
    stream="chamber-1",
    cause=Cause.DIFFERS,
    priority=Priority.P2,
    guidance=Guidance("differs", "look at the voltages", "the expert on call"),
    state=AlarmState.ACTIVE,
    since=1000.0,
    raised_at=990.0,
    text="2 of 3 windows",
    acknowledged=Acknowledgement("ada", "on it", 1005.0),
)
RAISED = AlarmChange(ALARM, AlarmState.NORMAL, 1000.0, "window")
SHELVED = AlarmChange(
    replace(
        ALARM, state=AlarmState.SHELVED, acknowledged=None, shelf=Shelf("ada", "cabling", 1010.0, None, True)
    ),
    AlarmState.ACTIVE,
    1010.0,
    "shelve",
    "ada",
    "cabling",
)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


def test_states_are_replaced_and_history_grows(database: Database) -> None:
    store = AlarmStore(database)
    store.keep({"chamber-1": {"sum": 1.5}, "masks": {"list": []}}, [RAISED])
    store.keep({"chamber-1": {"sum": 2.5}}, [SHELVED])
    again = AlarmStore(database)
    assert again.states() == {"chamber-1": {"sum": 2.5}, "masks": {"list": []}}
    assert list(again.changes()) == [RAISED, SHELVED]


def test_history_is_selected_by_stream_and_time(database: Database) -> None:
    store = AlarmStore(database)
    other = replace(RAISED, alarm=replace(ALARM, stream="chamber-2"), time=1005.0)
    store.keep({}, [RAISED, other, SHELVED])
    assert list(store.changes(stream="chamber-1")) == [RAISED, SHELVED]
    assert list(store.changes(since=1005.0)) == [other, SHELVED]
    assert list(store.changes(until=1005.0)) == [RAISED]
    assert list(store.changes(limit=1)) == [SHELVED]


def test_states_and_verdicts_share_a_transaction(database: Database) -> None:
    store = AlarmStore(database)

    def fail() -> None:
        with database.transaction():
            store.keep({"chamber-1": {"sum": 1.5}}, [RAISED])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.states() == {}
    assert list(store.changes()) == []


def test_the_audit_names_who_did_what(database: Database) -> None:
    store = AlarmStore(database)
    store.record(1.0, "ada", "mask", "chamber-*", "work on the gas")
    store.record(2.0, "bob", "unmask", "chamber-*", "done")
    assert store.actions(limit=1) == [
        {"time": 2.0, "user": "bob", "action": "unmask", "target": "chamber-*", "comment": "done"}
    ]
    assert [row["user"] for row in store.actions()] == ["ada", "bob"]
