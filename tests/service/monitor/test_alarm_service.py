"""The alarm service with a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dqm import events
from dqm.alarm import (
    AcknowledgeAlarm,
    AddMask,
    Alarm,
    AlarmChange,
    AlarmState,
    Cause,
    Guidance,
    Priority,
    RemoveMask,
    Rules,
    ShelveAlarm,
    StreamRules,
    Thresholds,
)
from dqm.errors import InputError, StoreError
from dqm.events import Quality, Verdict
from dqm.service.monitor.alarm_service import AlarmService
from dqm.service.monitor.recorder import Recorder
from dqm.store import AlarmStore, VerdictStore, sqlite_url
from tests.verdicts import alter, make_verdict

RULES = Rules(
    tuple(
        StreamRules(
            stream=name,
            group="",
            stale_seconds=600.0,
            unjudged_seconds=600.0,
            enabled=True,
            run_types=(),
            priority=Priority.P2,
            guidance=dict.fromkeys(Cause, Guidance("c", "a", "b")),
        )
        for name in ("a", "b")
    )
)
BAD = make_verdict(
    stream="a",
    run=1,
    seq=0,
    quality=Quality.BAD,
    reason="differs",
    result=events.TestResult(500, 500.0, t=50.0, p=1e-5, z=4.3),
    bundle="3f9a",
    seconds=0.01,
    judged_at=1000.0,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    with VerdictStore(sqlite_url(tmp_path / "x.sqlite")) as opened:
        yield opened


def open_service(
    store: VerdictStore, told: Callable[..., None] | None = None, clock: Callable[[], float] = lambda: 1000.0
) -> AlarmService:
    return AlarmService(RULES, Thresholds(p_threshold=0.003, drift_limit=None), store.database, clock, told)


def record(store: VerdictStore, alarm_service: AlarmService, *verdicts: Verdict) -> None:
    Recorder(store, alarm_service, lambda: 0.0).record(verdicts)


def alarm(alarm_service: AlarmService, stream: str = "a") -> Alarm:
    return next(
        each for each in alarm_service.alarms() if (each.stream, each.cause) == (stream, Cause.DIFFERS)
    )


def raise_alarm(store: VerdictStore, alarm_service: AlarmService) -> None:
    record(store, alarm_service, BAD, alter(BAD, seq=1))
    assert alarm(alarm_service).state is AlarmState.ACTIVE


def test_verdicts_and_what_they_do_to_alarms_are_stored_together(store: VerdictStore) -> None:
    told: list[AlarmChange] = []
    alarm_service = open_service(store, told.extend)
    raise_alarm(store, alarm_service)
    assert [v.window.seq for v in store.select()] == [0, 1]
    raised = [change for change in told if change.alarm.state is AlarmState.ACTIVE]
    assert [(c.alarm.cause, c.before, c.action) for c in raised] == [
        (Cause.DIFFERS, AlarmState.NORMAL, "window")
    ]
    assert list(AlarmStore(store.database).changes()) == told


def test_a_daemon_that_was_killed_goes_on_with_its_alarms(store: VerdictStore) -> None:
    alarm_service = open_service(store)
    raise_alarm(store, alarm_service)
    alarm_service.apply(AcknowledgeAlarm("a", Cause.DIFFERS, "on it"), "ada")
    alarm_service.apply(ShelveAlarm("b", Cause.SILENT, "cabling", hours=2.0), "bob")
    alarm_service.apply(AddMask("m", "b", "cabling", run_types=("cosmics",), until=5000.0), "bob")
    record(store, alarm_service, alter(BAD, stream="b"))
    again = open_service(store)  # the first was never told to stop
    assert again.alarms() == alarm_service.alarms()
    assert again.masks() == alarm_service.masks()
    acknowledged = alarm(again).acknowledged
    assert acknowledged is not None
    assert (acknowledged.user, acknowledged.comment) == ("ada", "on it")
    record(store, alarm_service, alter(BAD, stream="b", seq=1))
    record(store, again, alter(BAD, stream="b", seq=1))
    assert alarm(again, "b") == alarm(alarm_service, "b")  # one window before the end, one after: both count


def test_masks_of_an_earlier_version_are_of_alarms(store: VerdictStore) -> None:
    old = {"identifier": "m", "streams": "a", "user": "ada", "reason": "cabling", "time": 1.0}
    old |= {"run_types": [], "start": None, "until": None}
    AlarmStore(store.database).keep({" masks": {"masks": [old]}}, [])
    (mask,) = open_service(store).masks()
    assert (mask.reason, mask.channels) == ("cabling", None)


def test_what_cannot_be_stored_has_not_happened(store: VerdictStore) -> None:
    told: list[AlarmChange] = []
    alarm_service = open_service(store, told.extend)
    record(store, alarm_service, BAD)
    before = alarm_service.alarms(), [v.window.seq for v in store.select()], list(told)
    with store.database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON alarm_changes "
            "BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    with pytest.raises(StoreError, match=r"disk is full\. Free space on the disk"):
        record(store, alarm_service, alter(BAD, seq=1))
    with pytest.raises(StoreError):
        alarm_service.apply(AddMask("m", "b", "cabling"), "bob")
    assert (alarm_service.alarms(), [v.window.seq for v in store.select()], told) == before
    assert alarm_service.masks() == ()
    with store.database.transaction() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    record(store, alarm_service, alter(BAD, seq=1))
    assert alarm(alarm_service).state is AlarmState.ACTIVE


def test_whoever_acts_is_named_in_the_audit(store: VerdictStore) -> None:
    alarm_service = open_service(store)
    raise_alarm(store, alarm_service)
    alarm_service.apply(AcknowledgeAlarm("a", Cause.DIFFERS, "on it"), "ada")
    alarm_service.apply(AddMask("m", "b", "cabling"), "bob")
    alarm_service.apply(RemoveMask("m", "done"), "ada")
    assert [(row["user"], row["action"], row["target"]) for row in alarm_service.history.actions()] == [
        ("ada", "acknowledge", "a differs"),
        ("bob", "mask", "b"),
        ("ada", "unmask", "m"),
    ]


def test_an_action_without_effect_is_refused_and_leaves_no_trace(store: VerdictStore) -> None:
    alarm_service = open_service(store)
    with pytest.raises(InputError):
        alarm_service.apply(AcknowledgeAlarm("a", Cause.DIFFERS, "on it"), "ada")
    with pytest.raises(InputError):
        alarm_service.apply(AddMask("m", "nothing", "why"), "ada")
    assert alarm_service.history.actions() == []


def test_time_ends_shelves(store: VerdictStore) -> None:
    now = 1000.0
    alarm_service = open_service(store, clock=lambda: now)
    raise_alarm(store, alarm_service)
    alarm_service.apply(ShelveAlarm("a", Cause.DIFFERS, "cabling", hours=0.25), "bob")
    alarm_service.tick()
    assert alarm(alarm_service).state is AlarmState.SHELVED
    now = 1900.0
    alarm_service.tick()
    assert alarm(alarm_service).state is AlarmState.ACTIVE
    assert alarm(open_service(store, clock=lambda: now)).state is AlarmState.ACTIVE


def test_other_rules_keep_alarms_and_do_not_begin_the_silence_anew(store: VerdictStore) -> None:
    now = 1000.0
    alarm_service = open_service(store, clock=lambda: now)
    raise_alarm(store, alarm_service)
    alarm_service.apply(AcknowledgeAlarm("a", Cause.DIFFERS, "on it"), "eva")
    now = 1500.0
    fewer = replace(RULES, streams=(replace(RULES.streams[0], priority=Priority.P1),))
    alarm_service.revise(fewer, Thresholds(p_threshold=0.001, drift_limit=None))
    assert alarm_service.thresholds().p_threshold == 0.001
    assert {each.stream for each in alarm_service.alarms()} == {"a"}
    assert (alarm(alarm_service).priority, alarm(alarm_service).state) == (Priority.P1, AlarmState.ACTIVE)
    assert alarm(alarm_service).acknowledged is not None
    now = 1601.0
    alarm_service.tick()
    silent = next(each for each in alarm_service.alarms() if each.cause is Cause.SILENT)
    assert silent.state is AlarmState.ACTIVE, "silent for 601 s, whatever was reloaded in between"


def test_rules_that_cannot_be_stored_are_not_taken_over(store: VerdictStore) -> None:
    alarm_service = open_service(store)
    raise_alarm(store, alarm_service)
    with store.database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER f BEFORE INSERT ON alarm_changes BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    disabled = replace(RULES, streams=tuple(replace(each, enabled=False) for each in RULES.streams))
    with pytest.raises(StoreError, match="disk is full"):
        alarm_service.revise(disabled, Thresholds(p_threshold=0.001, drift_limit=None))
    assert alarm_service.thresholds().p_threshold == 0.003
    assert alarm(alarm_service).state is AlarmState.ACTIVE
