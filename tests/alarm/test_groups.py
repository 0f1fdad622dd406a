"""Alarms of one kind in many streams of a group: one line to read, one to acknowledge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dqm.alarm import (
    AcknowledgeAlarm,
    AcknowledgeGroup,
    Alarm,
    AlarmGroup,
    AlarmState,
    Cause,
    Guidance,
    Priority,
    group_alarms,
    needs_response,
)
from dqm.alarm.groups import is_within
from dqm.errors import InputError

from .engines import engine, stream

GUIDANCE = Guidance("it means", "do this", "call that")


def alarm(name: str, group: str, state: AlarmState = AlarmState.NORMAL, cause: Cause = Cause.SILENT) -> Alarm:
    return Alarm(name, cause, Priority.P2, GUIDANCE, state, 0.0, group=group)


def lines(silent: dict[str, int], sizes: dict[str, int]) -> dict[str, int]:
    """How many streams each line has, when so many of each group are silent."""
    alarms = [
        alarm(f"{group}.{n}", group, AlarmState.ACTIVE if n < silent.get(group, 0) else AlarmState.NORMAL)
        for group, size in sizes.items()
        for n in range(size)
    ]
    return {line.name: len(line.alarms) for line in group_alarms(alarms)}


def test_250_chambers_that_fall_silent_together_are_one_line() -> None:
    sizes = {f"muon/station-{n}": 50 for n in range(5)} | {"calo": 20}
    assert lines(sizes | {"calo": 0}, sizes) == {"muon": 250}
    assert lines(sizes, sizes) == {"": 270}


def test_a_part_of_a_group_is_a_line_of_this_group() -> None:
    sizes = {"muon/a": 10, "muon/b": 10, "": 3}
    assert lines({"muon/a": 3}, sizes) == {"muon/a": 3}
    assert lines({"muon/a": 3, "muon/b": 3}, sizes) == {"muon/a": 3, "muon/b": 3}
    assert lines({"muon/a": 1}, sizes) == {"muon/a.0": 1}
    assert lines({"muon/a": 8, "muon/b": 3}, sizes) == {"muon": 11}
    assert lines({"": 2}, sizes) == {".0": 1, ".1": 1}  # streams without group have nothing in common


def test_what_stands_otherwise_or_has_another_cause_is_another_line() -> None:
    found = group_alarms(
        [
            alarm("a", "g", AlarmState.ACTIVE),
            alarm("b", "g", AlarmState.OFF_DELAYED),
            alarm("c", "g", AlarmState.SHELVED),
            alarm("d", "g", AlarmState.ACTIVE, Cause.DIFFERS),
        ]
    )
    assert [[a.stream for a in line.alarms] for line in found] == [["a", "b"], ["d"], ["c"]]


GROUPS = st.sampled_from(["", "a", "a/b", "a/c", "a/b/d", "e"])
STATES = st.sampled_from([AlarmState.NORMAL, AlarmState.ACTIVE, AlarmState.SHELVED])


@given(st.lists(st.tuples(GROUPS, STATES), min_size=1, max_size=30))
def test_each_alarm_is_in_one_line_that_has_all_of_its_kind_within_its_group(
    streams: list[tuple[str, AlarmState]],
) -> None:
    alarms = [alarm(str(n), group, state) for n, (group, state) in enumerate(streams)]
    found = group_alarms(alarms)
    told = [a.stream for line in found for a in line.alarms]
    assert sorted(told) == sorted(a.stream for a in alarms if a.state is not AlarmState.NORMAL)
    for line in found:
        if len(line.alarms) > 1:
            assert {a.stream for a in line.alarms} == _alike(alarms, line)


def _alike(alarms: list[Alarm], line: AlarmGroup) -> set[str]:
    return {a.stream for a in alarms if a.state is line.alarms[0].state and is_within(a.group, line.path)}


def test_one_command_acknowledges_all_of_a_group_in_the_name_of_who_does_it() -> None:
    b = engine(stream("a", "muon/one"), stream("b", "muon/two"), stream("c", "muon/two"), stream("d"))
    b.tick(601.0)
    changes = b.apply(AcknowledgeGroup("muon", Cause.SILENT, "beam stop"), "ann", 602.0)
    assert [(c.alarm.stream, c.action, c.user, c.comment) for c in changes] == [
        (name, "acknowledge", "ann", "beam stop") for name in "abc"
    ]
    waiting = [a.stream for a in b.alarms if needs_response(a)]
    assert waiting == ["d"]
    with pytest.raises(InputError, match=r"no alarm silent in the group 'muon' waits"):
        b.apply(AcknowledgeGroup("muon", Cause.SILENT, "again"), "ann", 603.0)
    with pytest.raises(InputError, match="no alarm differs in any stream waits"):
        b.apply(AcknowledgeGroup("", Cause.DIFFERS, "x"), "ann", 603.0)
    assert [a.stream for a in b.alarms if needs_response(a)] == ["d"]


def test_what_was_acknowledged_keeps_the_name_of_who_did_it() -> None:
    b = engine(stream("a", "muon"), stream("b", "muon"))
    b.tick(601.0)
    b.apply(AcknowledgeAlarm("a", Cause.SILENT, "mine"), "bob", 602.0)
    (change,) = b.apply(AcknowledgeGroup("muon", Cause.SILENT, "all"), "ann", 603.0)
    assert change.alarm.stream == "b"
    seen = {a.stream: a.acknowledged.user for a in b.alarms if a.acknowledged}
    assert seen == {"a": "bob", "b": "ann"}


def test_what_came_after_somebody_looked_is_not_acknowledged_unseen() -> None:
    b = engine(stream("a", "muon"), stream("b", "muon", stale_seconds=700.0))
    b.tick(601.0)
    b.tick(701.0)  # the second falls silent after the page was made
    (change,) = b.apply(AcknowledgeGroup("muon", Cause.SILENT, "seen", before=650.0), "ann", 702.0)
    assert change.alarm.stream == "a"
    with pytest.raises(InputError, match="nothing to acknowledge"):
        b.apply(AcknowledgeGroup("muon", Cause.SILENT, "seen", before=650.0), "ann", 703.0)


@pytest.mark.parametrize("group", ["a//b", "/a", "a/", "..", "a b", "a\n", "x" * 600])
def test_a_group_that_cannot_be_is_refused(group: str) -> None:
    with pytest.raises(ValidationError):
        AcknowledgeGroup(group, Cause.SILENT, "x")
