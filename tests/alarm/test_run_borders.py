"""Runs begin and end: what that does to alarms, to silence and to what is shown as present."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dqm.alarm import Activity, AlarmEngine, AlarmState, Cause, PresentState, describe_run
from dqm.alarm.run_borders import RETURN_SECONDS, resume_wait
from dqm.events import Quality, RunRecord

from .engines import THRESHOLDS, engine, stream, verdict
from .test_engine import BAD, alarm, feed

STALE = 600.0


def record(
    run: int = 1,
    position: int = 1,
    *,
    name: str = "s",
    run_type: str = "physics",
    began_at: float | None = 0.0,
    ended_at: float | None = None,
    why: str = "",
) -> RunRecord:
    return RunRecord(name, run, run_type, position, began_at, ended_at, why)


def test_a_stream_whose_run_has_ended_is_idle_and_not_silent() -> None:
    b = engine()
    b.note_run(record(), 0.0)
    feed(b, 0.5)
    b.note_run(record(ended_at=10.0, why="operator"), 10.0)
    assert b.tick(10.0 + 9 * STALE) == []
    assert b.silent_streams(9 * STALE) == {}
    assert b.activities(9 * STALE) == {"s": Activity.IDLE}


def test_silence_ends_with_the_run() -> None:
    b = engine()
    b.note_run(record(), 0.0)
    b.tick(STALE + 1.0)
    assert alarm(b, Cause.SILENT).text == (
        "run 1 (physics) began at 00:00 UTC; no window of it came, for more than 600 s"
    )
    assert b.activities(STALE + 1.0) == {"s": Activity.SILENT}
    (change,) = b.note_run(record(ended_at=STALE), STALE + 5.0)
    assert (change.alarm.cause, change.alarm.state, change.action) == ("silent", "Normal", "run")


def test_a_run_that_begins_and_sends_no_window_is_silence() -> None:
    b = engine()
    b.note_run(record(ended_at=10.0), 10.0)
    b.note_run(record(2, 2, began_at=5000.0), 5000.0)
    assert b.tick(5000.0 + STALE) == []
    (change,) = b.tick(5001.0 + STALE)
    assert (change.alarm.cause, change.alarm.state) == ("silent", "Active")


def test_a_run_that_begins_does_not_end_the_silence_of_the_one_before() -> None:
    b = engine()
    feed(b, 0.5)
    b.tick(STALE + 1.0)
    assert b.note_run(record(2, 2), STALE + 2.0) == []
    assert alarm(b, Cause.SILENT).state is AlarmState.ACTIVE
    (change,) = b.observe(verdict(0.5, run=2), STALE + 3.0)
    assert (change.alarm.cause, change.alarm.state) == ("silent", "Normal")


def test_a_run_that_begins_forgets_the_type_of_the_one_before() -> None:
    b = engine(stream(run_types=("physics",)))
    feed(b, 0.5)
    b.note_run(record(2, 2, run_type="pedestal"), 5.0)
    assert alarm(b).state is AlarmState.FILTERED
    b.note_run(record(3, 3), 6.0)
    assert alarm(b).state is AlarmState.NORMAL


def test_evidence_goes_on_over_runs_and_says_of_which_run_it_is() -> None:
    b = engine()
    b.note_run(record(), 0.0)
    feed(b, BAD, BAD)
    b.note_run(record(ended_at=5.0), 5.0)
    b.note_run(record(2, 2, began_at=10.0), 10.0)
    assert alarm(b).state is AlarmState.ACTIVE
    assert alarm(b).text.endswith("the last of them with p = 1e-06 (run 1)")
    feed(b, 0.5, run=2, begin=11.0)
    assert alarm(b).state is AlarmState.ACTIVE
    assert not alarm(b).text.endswith("(run 1)")
    feed(b, 0.5, run=2, begin=12.0)
    assert alarm(b).state is AlarmState.NORMAL


def test_windows_that_arrived_before_the_next_run_began_count_but_are_not_the_present() -> None:
    b = engine()
    b.note_run(record(7, 1), 0.0)
    b.note_run(record(8, 2), 10.0)
    feed(b, BAD, BAD, run=7, begin=11.0)
    assert alarm(b).state is AlarmState.ACTIVE
    assert alarm(b).text.endswith("(run 7)")
    feed(b, 0.5, run=8, begin=13.0)
    assert not alarm(b).text.endswith("(run 7)")


def test_late_windows_of_the_run_that_has_ended_count() -> None:
    b = engine()
    b.note_run(record(7, 1, ended_at=5.0), 5.0)
    feed(b, BAD, BAD, run=7, begin=6.0)
    assert alarm(b).state is AlarmState.ACTIVE
    assert b.activities(7.0) == {"s": Activity.IDLE}


def test_the_time_without_a_judged_window_rests_while_the_stream_is_idle() -> None:
    b = engine()
    b.note_run(record(), 0.0)
    feed(b, None)
    b.note_run(record(ended_at=400.0), 400.0)
    assert b.tick(5000.0) == []
    b.note_run(record(2, 2, began_at=5000.0), 5000.0)
    feed(b, None, run=2, begin=5001.0)
    assert b.tick(5199.0) == []
    (change,) = b.tick(5201.0)
    assert change.alarm.cause is Cause.UNJUDGED


def test_a_group_is_as_good_as_its_streams_that_are_not_idle() -> None:
    b = engine(stream("a", "muon"), stream("b", "muon"))
    present = {"a": PresentState(1.0, Quality.GOOD), "b": PresentState(1.0)}
    b.note_run(record(name="b", ended_at=1.0), 1.0)
    (muon,) = b.tree(present).children
    assert (muon.quality, muon.idle) == (Quality.GOOD, False)
    b.note_run(record(name="a", ended_at=2.0), 2.0)
    (muon,) = b.tree(present).children
    assert (muon.quality, muon.idle, b.tree(present).idle) == (Quality.NULL, True, True)


def test_an_engine_that_starts_anew_knows_which_streams_are_idle() -> None:
    b = engine()
    b.note_run(record(ended_at=5.0), 5.0)
    dumped = json.loads(json.dumps(b.dump("s")))
    again = AlarmEngine(b._rules, THRESHOLDS, 100.0, {"s": dumped}, runs={"s": record(ended_at=5.0)})
    assert again.tick(100.0 + 2 * STALE) == []
    assert again.activities(100.0 + 2 * STALE) == {"s": Activity.IDLE}


@pytest.mark.parametrize(
    ("waited", "away", "left"),
    [
        (10.0, 5.0, STALE - 10.0),
        (10.0, 7200.0, STALE - 10.0),
        (599.0, 7200.0, RETURN_SECONDS),
        (1e6, 5.0, RETURN_SECONDS),
        (-5.0, 60.0, STALE),
    ],
)
def test_time_in_which_nobody_listened_is_no_silence(waited: float, away: float, left: float) -> None:
    now = 1e9
    counts_from = resume_wait(now - away - waited, now - away, now, STALE)
    assert counts_from + STALE == now + left
    assert resume_wait(now, now, now, RETURN_SECONDS / 2) == now


def test_a_daemon_that_is_restarted_again_and_again_still_notices_silence() -> None:
    now, dump, changes = 0.0, engine().dump("s"), []
    for _ in range(8):
        b = engine(now=now, dumps={"s": dump})
        b.resume_waits(now - 5.0, now, {"s": 0.0})
        changes += b.tick(now + 0.25 * STALE)
        now, dump = now + 0.25 * STALE + 5.0, b.dump("s")
    assert [(change.alarm.cause, change.alarm.state) for change in changes] == [("silent", "Active")]


def test_a_daemon_that_was_away_waits_for_the_run_that_began_meanwhile_and_for_streams_never_seen() -> None:
    runs = {"s": record(2, 2, began_at=5000.0)}
    runs["s"] = replace(runs["s"], noted_at=5000.0)
    b = AlarmEngine(engine()._rules, THRESHOLDS, 9000.0, runs=runs)
    b.resume_waits(5010.0, 9000.0, {"s": 100.0})
    assert b.tick(9000.0 + STALE - 11.0) == []
    assert len(b.tick(9000.0 + STALE - 9.0)) == 1
    never = engine(now=9000.0)
    never.resume_waits(5010.0, 9000.0)
    assert never.tick(9000.0 + STALE) == []


def test_250_streams_that_end_together_raise_nothing() -> None:
    names = [f"chamber-{n}" for n in range(250)]
    b = engine(*(stream(name) for name in names))
    for name in names:
        b.note_run(record(name=name, ended_at=1.0), 1.0)
    assert b.tick(10 * STALE) == []


def test_the_last_border_of_a_run_is_told() -> None:
    first = record(run=591, run_type="cosmics")
    again = replace(first, resumed_at=120.0)
    assert [describe_run(one) for one in (first, again, replace(again, ended_at=180.0, why="operator"))] == [
        "run 591 (cosmics) began at 00:00 UTC",
        "run 591 (cosmics) went on at 00:02 UTC",
        "run 591 ended at 00:03 UTC: operator",
    ]


@pytest.mark.parametrize(
    ("present", "changed", "last_run", "expected"),
    [
        (None, record(7), None, (True, True, "no window of it yet")),
        (None, record(7), 7, (False, False, "")),
        (record(6), record(7, position=2), 6, (True, True, "no window of it yet")),
        (record(7), record(7, ended_at=90.0), 7, (False, True, "ended at")),
        (record(7, ended_at=90.0), record(7), 7, (False, True, "no window since")),
        (record(7, ended_at=90.0), record(7, ended_at=99.0), 7, (False, False, "ended at")),
        (record(8, position=2), record(7), 8, None),
    ],
)
def test_a_border_says_what_is_still_known_of_the_present(
    present: RunRecord | None,
    changed: RunRecord,
    last_run: int | None,
    expected: tuple[bool, bool, str] | None,
) -> None:
    newest = None if last_run is None else verdict(0.5, run=last_run)
    before = PresentState(-1.0, Quality.GOOD, "", newest is not None, newest, "like smoke", present)
    after = before.enter(changed)
    if expected is None:
        assert after is before
        return
    is_other, turns, reason = expected
    assert (after.explained == "", after.since == changed.noted_at) == (is_other, turns)
    assert (after.quality is Quality.NULL, not after.is_known) == (bool(reason), bool(reason))
    assert reason in after.reason
    assert bool(after.reason) is bool(reason)
