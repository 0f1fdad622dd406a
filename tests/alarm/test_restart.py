"""An engine that is killed after any step goes on as if nothing had happened."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dqm.alarm import (
    RAISED,
    AcknowledgeAlarm,
    AddMask,
    Alarm,
    AlarmEngine,
    AlarmState,
    Cause,
    Command,
    RemoveMask,
    Rules,
    ShelveAlarm,
    Timing,
    UnshelveAlarm,
)
from dqm.errors import InputError
from dqm.events import Quality, Verdict

from .engines import THRESHOLDS, engine, stream, verdict

STREAMS = (
    stream("a", "muon/one", stale_seconds=1e6, run_types=("physics",)),
    stream("b", "muon/two", stale_seconds=1e6),
)
RULES = Rules(STREAMS, timing=Timing(3.0, 4.0, latching=True), grace_windows=2)
NAMES = st.sampled_from(["a", "b"])
CAUSES = st.sampled_from(list(Cause))
VERDICTS = st.builds(
    verdict,
    p=st.sampled_from([None, 1e-15, 1e-4, 0.04, 0.5, 1.0]),
    seq=st.integers(0, 9),
    name=NAMES,
    run_type=st.sampled_from(["physics", "pulser"]),
    warning=st.sampled_from(["", "gas is off"]),
)


def fresh(now: float = 0.0, rules: Rules = RULES, dumps: Any = None, masks: Any = ()) -> AlarmEngine:
    return AlarmEngine(rules, THRESHOLDS, now, dumps, masks)


def reborn(old: AlarmEngine, now: float) -> AlarmEngine:
    """Kill and start again: all that is left is text."""
    text = json.dumps({name: old.dump(name) for name in ("a", "b")}, allow_nan=False)
    new = fresh(now, dumps=json.loads(text), masks=old.masks)
    assert new.initial_changes == ()
    return new


class TwoEngines(RuleBasedStateMachine):
    """One engine lives on, the other is killed after each step; both see windows, time and people."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.living, self.killed = fresh(self.now), fresh(self.now)
        self.before: dict[tuple[str, Cause], Alarm] = {}
        self.n_masks = 0

    def do(self, act: str, *arguments: Any) -> None:
        self.before = {(alarm.stream, alarm.cause): alarm for alarm in self.living.alarms}
        told = []
        for each in (self.living, self.killed):
            try:
                told.append(getattr(each, act)(*arguments))
            except InputError as error:
                told.append(str(error))
        assert told[0] == told[1]
        self.killed = reborn(self.killed, self.now)

    def command(self, command: Command) -> None:
        self.do("apply", command, "ann", self.now)

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.0, 30.0, -2.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.do("tick", self.now)

    @rule(window=VERDICTS)
    def observe(self, window: Verdict) -> None:
        self.do("observe", window, self.now)

    @rule(name=NAMES)
    def go_bad(self, name: str) -> None:
        for seq in (7, 8):
            self.do("observe", verdict(1e-6, seq, name), self.now)

    @rule(name=NAMES)
    def go_slowly(self, name: str) -> None:
        for p in (0.005, 0.04, 0.04, 0.04, 0.04):
            self.do("observe", verdict(p, 9, name), self.now)

    @rule(name=NAMES, cause=CAUSES)
    def acknowledge(self, name: str, cause: Cause) -> None:
        self.command(AcknowledgeAlarm(name, cause, "seen"))

    @rule(name=NAMES, cause=CAUSES, seconds=st.sampled_from([None, 2.0, 20.0]), one_shot=st.booleans())
    def shelve(self, name: str, cause: Cause, seconds: float | None, one_shot: bool) -> None:
        hours = None if seconds is None else seconds / 3600.0
        self.command(ShelveAlarm(name, cause, "known", hours=hours, one_shot=one_shot or hours is None))

    @rule(name=NAMES, cause=CAUSES)
    def unshelve(self, name: str, cause: Cause) -> None:
        self.command(UnshelveAlarm(name, cause, "done"))

    @precondition(lambda self: self.n_masks < 20)
    @rule(
        streams=st.sampled_from(["a", "muon", "muon/t*"]),
        start=st.sampled_from([None, 3.0]),
        seconds=st.sampled_from([None, 10.0]),
        run_types=st.sampled_from([(), ("physics",)]),
    )
    def mask(
        self, streams: str, start: float | None, seconds: float | None, run_types: tuple[str, ...]
    ) -> None:
        self.n_masks += 1
        begin = None if start is None else self.now + start
        until = None if seconds is None else self.now + seconds
        identifier = f"m{self.n_masks}"
        self.command(AddMask(identifier, streams, "work", run_types=run_types, start=begin, until=until))

    @precondition(lambda self: self.living.masks)
    @rule()
    def unmask(self) -> None:
        self.command(RemoveMask(self.living.masks[0].identifier, "done"))

    @invariant()
    def engines_agree(self) -> None:
        assert self.living.alarms == self.killed.alarms
        assert self.living.tree({}) == self.killed.tree({})

    @invariant()
    def a_mask_in_force_suppresses(self) -> None:
        always = [m for m in self.living.masks if not m.run_types and m.streams == "muon"]
        if any(m.start is None and m.until is None for m in always):
            assert {alarm.state for alarm in self.living.alarms} == {AlarmState.MASKED}

    @invariant()
    def an_acknowledgement_ends_with_its_alarm(self) -> None:
        for alarm in self.living.alarms:
            if alarm.acknowledged is not None:
                assert alarm.state in RAISED
                before = self.before.get((alarm.stream, alarm.cause), alarm)
                assert before.raised_at == alarm.raised_at
                assert before.state in RAISED

    @invariant()
    def a_shelf_ends_in_time(self) -> None:
        for alarm in self.living.alarms:
            if alarm.shelf is not None and alarm.shelf.until is not None:
                assert self.now < alarm.shelf.until or alarm.since > self.now - 30.0
            assert (alarm.state == "Shelved") <= (alarm.shelf is not None)

    @invariant()
    def what_is_raised_says_what_is_seen(self) -> None:
        for alarm in self.living.alarms:
            assert alarm.text or alarm.state not in RAISED
            assert alarm.raised_at is not None or alarm.state not in RAISED


TestTwoEngines = TwoEngines.TestCase
TestTwoEngines.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking takes minutes
)


@given(st.lists(VERDICTS, max_size=40))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_what_is_kept_does_not_grow(windows: list[Verdict]) -> None:
    b = fresh()
    for number, window in enumerate(windows):
        b.observe(window, float(number))
    assert len(json.dumps(b.dump("a"))) < 4000


def test_silence_is_stored_and_the_time_until_the_next_begins_anew() -> None:
    b = engine()
    b.tick(601.0)
    b.apply(AcknowledgeAlarm("s", Cause.SILENT, "beam stop"), "ann", 602.0)
    new = engine(now=5000.0, dumps={"s": b.dump("s")})
    silent = next(alarm for alarm in new.alarms if alarm.cause == "silent")
    assert silent.state == "Active"
    assert silent.acknowledged is not None
    new.observe(verdict(), 5001.0)
    newer = engine(now=9000.0, dumps={"s": new.dump("s")})
    assert newer.tick(9600.0) == []
    assert [change.alarm.cause for change in newer.tick(9600.1)] == ["silent"]


def test_what_the_configuration_changes_at_a_restart_is_told() -> None:
    b = engine()
    for seq in range(2):
        b.observe(verdict(1e-6, seq), float(seq))
    new = engine(stream(enabled=False), now=10.0, dumps={"s": b.dump("s")})
    assert {(c.alarm.state, c.action) for c in new.initial_changes} == {("Disabled", "configuration")}
    back = engine(now=20.0, dumps={"s": new.dump("s")})
    assert [c.alarm.state for c in back.initial_changes if c.alarm.cause == "differs"] == ["Active"]


def test_streams_that_are_gone_are_passed_over_and_new_ones_begin_afresh() -> None:
    b = engine(stream("new"), dumps={"old": engine(stream("old")).dump("old")})
    assert {alarm.stream for alarm in b.alarms} == {"new"}
    assert b.tree({}).streams[0].quality is Quality.NULL


def test_longer_and_shorter_memories_may_be_configured_between() -> None:
    b = engine()
    for seq, p in enumerate([1e-6, 0.5, 1e-6]):
        b.observe(verdict(p, seq), float(seq))
    shorter = engine(k=1, n=1, now=10.0, dumps={"s": b.dump("s")})
    shorter.observe(verdict(0.5, 3), 11.0)
    assert shorter.alarms[0].state == "Normal"
    assert len(shorter.dump("s")["evidence"]["p"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 5}, r"stream s: the stored alarm state cannot be used: version: Input should be 4"),
        ({"more": 1}, "more: Unexpected keyword argument"),
        ({"alarms": {}}, "has alarms for nothing"),
        ({"evidence": {"p": ["x"]}}, r"evidence.p.0: Input should be a valid number"),
        ({"evidence": {"drift": {"sum": float("nan")}}}, r"evidence.drift.sum: Input should be a finite"),
    ],
)
def test_a_dump_of_another_kind_is_refused_with_what_to_do(changes: dict[str, Any], message: str) -> None:
    dump = engine().dump("s") | changes
    with pytest.raises(InputError, match=message) as refused:
        engine(dumps={"s": dump})
    assert "delete it to let this stream begin anew" in str(refused.value)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_causes_that_an_earlier_version_did_not_know_begin_anew_and_the_others_go_on(version: int) -> None:
    b = engine()
    b.tick(601.0)
    b.apply(AcknowledgeAlarm("s", Cause.SILENT, "beam stop"), "ann", 602.0)
    dump = b.dump("s") | {"version": version}
    causes = {"changed": 3, "limit": 2, "rate": 1, "refused": 1, "unjudged": 1}
    fields = {
        "rolling_p": 3, "excesses": 2, "rate_p": 1, "rate_texts": 1, "refused": 1, "unjudged": 1
    }  # fmt: skip
    for part, news in (("alarms", causes), ("evidence", fields)):
        for new, last_without in news.items():
            if version <= last_without:
                del dump[part][new]
    restored = engine(now=700.0, dumps={"s": dump})
    assert [alarm.cause for alarm in restored.alarms] == list(Cause)
    states = {alarm.cause: alarm.state for alarm in restored.alarms}
    assert (states[Cause.SILENT], states[Cause.RATE], states[Cause.UNJUDGED]) == (
        "Active",
        "Normal",
        "Normal",
    )
    assert next(a for a in restored.alarms if a.cause is Cause.SILENT).acknowledged is not None
