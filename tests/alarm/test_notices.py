"""Of which alarms a target is told, from what stands and from what it was told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dqm.alarm import (
    Acknowledgement,
    Alarm,
    AlarmState,
    Cause,
    Guidance,
    LastNotice,
    NoticeKind,
    Priority,
    find_notices,
    note_sent,
    notice_rules,
)
from dqm.alarm.notices import NoticeRule, NoticeRules
from dqm.config import NotifySection
from dqm.errors import ConfigError

UTC_ZONE = ZoneInfo("UTC")
ALL = NoticeRules((NoticeRule(),), UTC_ZONE)
RAISED_AT, ENDED_AT = 1000.0, 2000.0
RAISED = Alarm(
    "chamber-1", Cause.SILENT, Priority.P2, Guidance("it means", "do this", "call that"), AlarmState.ACTIVE,
    RAISED_AT, raised_at=RAISED_AT, text="no window", group="muon/station-1",
)  # fmt: skip
ENDED = replace(RAISED, state=AlarmState.NORMAL, since=ENDED_AT, text="")
KEY = ("chamber-1", Cause.SILENT)
OPEN = {KEY: LastNotice(RAISED_AT, is_open=True, time=1010.0)}
CLOSED = {KEY: LastNotice(RAISED_AT, is_open=False, time=2010.0)}


def kinds(alarm: Alarm, told: dict[Any, LastNotice], now: float = 3000.0, **changes: Any) -> list[str]:
    rules = changes.pop("rules", ALL)
    since = changes.pop("since", 0.0)
    return [notice.kind.value for notice in find_notices([alarm], told, since=since, rules=rules, now=now)]


def test_an_alarm_is_told_once_when_it_is_raised_and_once_when_it_ends() -> None:
    (raised,) = find_notices([RAISED], {}, since=0.0, rules=ALL, now=1010.0)
    assert raised.kind is NoticeKind.RAISED
    told = note_sent([raised], 1010.0)
    assert told == OPEN
    assert find_notices([RAISED], told, since=0.0, rules=ALL, now=5000.0) == []
    (ended,) = find_notices([ENDED], told, since=0.0, rules=ALL, now=2010.0)
    assert ended.kind is NoticeKind.ENDED
    told |= note_sent([ended], 2010.0)
    assert told == CLOSED
    assert kinds(ENDED, told) == []
    assert kinds(replace(RAISED, raised_at=2500.0), told) == ["raised"]
    assert kinds(RAISED, CLOSED) == ["raised"]  # shelved and unshelved: a new alarm of the same condition


@pytest.mark.parametrize("state", [AlarmState.OFF_DELAYED, AlarmState.LATCHED, AlarmState.ACTIVE])
def test_what_stays_raised_is_not_told_again(state: AlarmState) -> None:
    assert kinds(replace(RAISED, state=state), OPEN) == []


@pytest.mark.parametrize("state", [AlarmState.SHELVED, AlarmState.MASKED, AlarmState.DISABLED])
def test_what_is_suppressed_has_ended_for_whoever_was_told(state: AlarmState) -> None:
    assert kinds(replace(RAISED, state=state), OPEN) == ["ended"]
    assert kinds(replace(RAISED, state=AlarmState.ON_DELAYED, raised_at=None), {}) == []


def test_what_came_and_went_meanwhile_is_told_but_not_what_was_before_the_target() -> None:
    assert kinds(ENDED, {}) == ["missed"]
    assert kinds(ENDED, {KEY: LastNotice(500.0, is_open=False, time=600.0)}) == ["missed"]
    assert kinds(ENDED, {}, since=1500.0) == []
    assert kinds(RAISED, {}, since=1500.0) == ["raised"]  # it stands: whoever is new must know
    assert kinds(replace(ENDED, raised_at=None), {}) == []
    again = {KEY: LastNotice(500.0, is_open=True, time=600.0)}
    assert kinds(ENDED, again) == ["ended"]
    assert note_sent(find_notices([ENDED], {}, since=0.0, rules=ALL, now=3.0), 3.0)[KEY].is_open is False


def test_who_does_not_acknowledge_is_reminded() -> None:
    rules = NoticeRules((NoticeRule(),), UTC_ZONE, remind_seconds=600.0)
    assert kinds(RAISED, OPEN, now=1609.0, rules=rules) == []
    assert kinds(RAISED, OPEN, now=1610.0, rules=rules) == ["reminder"]
    again = note_sent(find_notices([RAISED], OPEN, since=0.0, rules=rules, now=1610.0), 1610.0)
    assert kinds(RAISED, again, now=2200.0, rules=rules) == []
    assert kinds(RAISED, again, now=2210.0, rules=rules) == ["reminder"]
    assert kinds(RAISED, OPEN, now=500.0, rules=rules) == ["reminder"]  # the clock went back
    seen = replace(RAISED, acknowledged=Acknowledgement("ann", "x", 1100.0))
    assert kinds(seen, OPEN, now=9000.0, rules=rules) == []


@pytest.mark.parametrize(
    ("rule", "is_told"),
    [
        (NoticeRule(groups=("muon",)), True),
        (NoticeRule(groups=("muon/station-1",)), True),
        (NoticeRule(groups=("muon/station",)), False),
        (NoticeRule(groups=("calo", "muon")), True),
        (NoticeRule(priorities=frozenset({Priority.P1})), False),
        (NoticeRule(priorities=frozenset({Priority.P1, Priority.P2})), True),
        (NoticeRule(causes=frozenset({Cause.DIFFERS})), False),
        (NoticeRule(causes=frozenset({Cause.SILENT}), groups=("calo",)), False),
    ],
)
def test_rules_go_by_group_priority_and_cause(rule: NoticeRule, is_told: bool) -> None:
    assert kinds(RAISED, {}, rules=NoticeRules((rule,), UTC_ZONE)) == (["raised"] if is_told else [])
    either = NoticeRules((rule, NoticeRule()), UTC_ZONE)
    assert kinds(RAISED, {}, rules=either) == ["raised"]


def test_who_was_told_hears_of_the_end_also_when_the_rules_have_changed() -> None:
    other = NoticeRules((NoticeRule(groups=("calo",)),), UTC_ZONE)
    assert kinds(RAISED, OPEN, rules=other) == []
    assert kinds(ENDED, OPEN, rules=other) == ["ended"]
    assert kinds(ENDED, {}, rules=other) == []


def rules_of(**keys: Any) -> NoticeRules:
    section = NotifySection.model_validate(
        {
            "targets": {"night": {}, "all": {}},
            "rules": [{"targets": ["night"], **keys.pop("rule", {})}],
            **keys,
        }
    )
    return notice_rules(section)["night"]


def at(hour: int, minute: int = 0, day: int = 28) -> float:
    """A moment of October 2026 in UTC; clocks in Zurich go from UTC+2 to UTC+1 on the 25th."""
    return datetime(2026, 10, day, hour, minute, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "is_told"),
    [
        (at(20, 59), False),  # 21:59 in Zurich
        (at(21), True),
        (at(23, 30), True),
        (at(4, 59), True),
        (at(5), False),
        (at(20, day=20), True),  # 22:00 in summer
        (at(4, day=20), False),
    ],
)
def test_shift_hours_are_those_of_the_named_time_zone_and_go_over_midnight(now: float, is_told: bool) -> None:
    night = rules_of(timezone="Europe/Zurich", rule={"hours": ["22:00-06:00"]})
    alarm = replace(RAISED, since=now, raised_at=now)
    assert kinds(alarm, {}, now=now, rules=night) == (["raised"] if is_told else [])


def test_what_stands_when_the_hours_begin_is_told_and_what_went_before_is_not() -> None:
    day = rules_of(rule={"hours": ["07:00-19:00"]})
    alarm = replace(RAISED, since=at(3), raised_at=at(3))
    assert kinds(alarm, {}, now=at(6, 59), rules=day) == []
    assert kinds(alarm, {}, now=at(7), rules=day) == ["raised"]
    gone = replace(alarm, state=AlarmState.NORMAL, since=at(5))
    assert kinds(gone, {}, now=at(7), rules=day) == []
    told = {KEY: LastNotice(at(3), is_open=True, time=at(3))}
    assert kinds(gone, told, now=at(6), rules=day) == []
    assert kinds(gone, told, now=at(7), rules=day) == ["ended"]


def test_rules_come_from_the_configuration() -> None:
    night = rules_of(remind_minutes=30.0, rule={"priorities": ["P1"], "causes": ["silent", "rate"]})
    assert night.remind_seconds == 1800.0
    (rule,) = night.rules
    assert rule.causes == {Cause.SILENT, Cause.RATE}
    assert rule.priorities == {Priority.P1}
    section = NotifySection.model_validate({"targets": {"a": {}}})
    assert notice_rules(section)["a"].rules == (NoticeRule(),)
    wrong = {"targets": {"a": {}}, "rules": [{"targets": ["a"], "causes": ["differ"]}]}
    with pytest.raises(ConfigError, match=r"notify.rules\[0\].causes: no cause 'differ'. There are differs"):
        notice_rules(NotifySection.model_validate(wrong))
