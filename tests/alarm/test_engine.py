"""Windows, time and people move alarms, as a shift crew would have it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dqm.alarm import (
    AcceptChange,
    AcknowledgeAlarm,
    AddMask,
    Alarm,
    AlarmChange,
    AlarmEngine,
    AlarmState,
    Cause,
    Command,
    RemoveMask,
    RollingAlarmState,
    ShelveAlarm,
    Timing,
    UnshelveAlarm,
)
from dqm.errors import InputError
from dqm.events import NanResult, Quality, Verdict

from .engines import engine, rate_of, stream, verdict

BAD = 1e-6


def alarm(b: AlarmEngine, cause: Cause = Cause.DIFFERS, name: str = "s") -> Alarm:
    return next(a for a in b.alarms if (a.stream, a.cause) == (name, cause))


def feed(b: AlarmEngine, *p: float | None, begin: float = 0.0, run: int = 1) -> list[AlarmChange]:
    """Observe windows, one a second."""
    changes = [b.observe(verdict(p_i, i, run=run), begin + i) for i, p_i in enumerate(p)]
    return [change for found in changes for change in found]


def test_every_stream_has_an_alarm_for_every_cause_in_the_order_of_the_configuration() -> None:
    names = [(a.stream, a.cause) for a in engine(stream("b"), stream("a")).alarms]
    assert names == [("b", c) for c in Cause] + [("a", c) for c in Cause]


def test_one_window_that_differs_is_no_alarm_and_two_of_three_are() -> None:
    b = engine()
    assert feed(b, BAD, 0.5, 0.5, 0.5, BAD) == []
    (change,) = feed(b, BAD, begin=10)
    assert (change.alarm.state, change.before, change.action) == ("Active", "Normal", "window")
    assert change.alarm.raised_at == change.alarm.since == change.time == 10
    assert change.alarm.text == (
        "2 of the last 3 windows differ from the reference (p < 0.01), the last of them with p = 1e-06"
    )


def test_an_alarm_ends_when_too_few_of_the_last_windows_differ() -> None:
    b = engine()
    changes = feed(b, BAD, BAD, 0.5, 0.5)
    assert [(c.before, c.alarm.state, c.time) for c in changes] == [
        ("Normal", "Active", 1),
        ("Active", "Normal", 3),
    ]
    assert alarm(b).text == ""
    assert alarm(b).raised_at == 1


def test_windows_of_which_nothing_is_known_count_neither_for_nor_against() -> None:
    b = engine()
    feed(b, BAD, None, None, None, None)
    assert alarm(b).state == "Normal"
    feed(b, BAD)
    assert alarm(b).state == "Active"
    feed(b, None, None, None, None)
    assert alarm(b).state == "Active"


def test_a_healthy_window_after_losses_does_not_count_as_good_and_one_that_differs_counts() -> None:
    b = engine()
    feed(b, BAD, BAD)
    for seq in range(5):
        b.observe(verdict(0.5, seq, quality=Quality.NULL, n_lost=3), 10.0)
    assert alarm(b).state == "Active"
    b = engine()
    for seq in range(2):
        b.observe(verdict(BAD, seq, n_lost=3), 10.0)
    assert alarm(b).state == "Active"


def test_a_new_run_does_not_end_an_alarm() -> None:
    b = engine()
    feed(b, BAD, BAD)
    feed(b, 0.5, begin=10, run=2)
    assert alarm(b).state == "Active"
    feed(b, 0.5, begin=11, run=2)
    assert alarm(b).state == "Normal"


def test_the_first_windows_of_a_run_count_for_nothing() -> None:
    b = engine(grace_windows=2)
    feed(b, BAD, BAD)
    assert alarm(b).state == "Filtered"
    assert alarm(b, Cause.SILENT).state == "Normal"
    feed(b, BAD, BAD, BAD)
    assert alarm(b).state == "Normal"
    b.observe(verdict(BAD, 3), 9.0)
    assert alarm(b).state == "Active"
    feed(b, 0.5, 0.5, begin=10, run=2)
    assert alarm(b).state == "Active"


def test_runs_of_other_types_are_filtered_and_leave_what_was_raised() -> None:
    b = engine(stream(run_types=("physics",)))
    for seq in range(3):
        b.observe(verdict(BAD, seq, run_type="pulser"), float(seq))
    assert alarm(b).state == "Filtered"
    feed(b, BAD, BAD, begin=10)
    b.apply(AcknowledgeAlarm("s", Cause.DIFFERS, "seen"), "ann", 12.0)
    for seq in range(3):
        b.observe(verdict(0.5, seq, run_type="pulser"), 20.0 + seq)
    assert alarm(b).state == "Active"
    assert alarm(b).acknowledged is not None


def test_silence_alarms_after_its_time_and_ends_with_a_window() -> None:
    b = engine()
    assert b.tick(600.0) == []
    (change,) = b.tick(600.1)
    assert (change.alarm.cause, change.alarm.state, change.action) == ("silent", "Active", "time")
    assert change.alarm.text == "no window yet, for more than 600 s"
    assert b.tick(601.0) == []
    b.observe(verdict(0.5, 17, run=5), 700.0)
    assert alarm(b, Cause.SILENT).state == "Normal"
    b.tick(1300.1)
    assert alarm(b, Cause.SILENT).text == "no window since number 17 of run 5, for more than 600 s"


def test_two_of_three_windows_with_another_number_of_events_are_an_alarm_of_their_own() -> None:
    b = engine()
    b.observe(verdict(0.5, 0, rate=rate_of(1e-9)), 0.0)
    assert b.observe(verdict(0.5, 1, rate=rate_of(0.4)), 1.0) == []
    (change,) = b.observe(verdict(None, 2, quality=Quality.BAD, rate=rate_of(1e-15)), 2.0)
    assert (change.alarm.cause, change.alarm.state) == ("rate", "Active")
    assert change.alarm.text == (
        "2 of the last 3 windows have another number of events: "
        "500 events where 1000 are expected (p < 1e-15)"
    )
    assert alarm(b).state == "Normal"
    (change,) = b.observe(verdict(0.5, 3, rate=rate_of(0.5)), 3.0)
    assert (change.alarm.cause, change.alarm.state) == ("rate", "Normal")


def test_windows_that_say_no_expected_number_do_not_end_an_alarm_of_the_number() -> None:
    b = engine()
    for seq in range(2):
        b.observe(verdict(0.5, seq, rate=rate_of(1e-9)), float(seq))
    for seq in range(2, 9):
        b.observe(verdict(0.5, seq), float(seq))
    assert alarm(b, Cause.RATE).state == "Active"


def unjudged(seq: int, reason: str = "no null table for windows of 390 events cut by time") -> Verdict:
    return verdict(None, seq, reason=reason)


def test_not_knowing_for_long_is_an_alarm_that_names_the_commonest_reason() -> None:
    b = engine()
    b.observe(verdict(0.5, 0), 0.0)
    for seq in range(1, 120):
        reason = f"no null table for windows of {380 + seq % 7} events cut by time"
        b.observe(unjudged(seq, "the test failed" if seq % 10 == 0 else reason), 6.0 * seq)
        raised = [(c.alarm.cause, c.alarm.state) for c in b.tick(6.0 * seq)]
        assert raised == ([("unjudged", "Active")] if seq == 102 else [])
    text = alarm(b, Cause.UNJUDGED).text
    assert alarm(b, Cause.UNJUDGED).state == "Active"
    assert text == (
        "no window could be judged for more than 600 s; "
        "108 windows: no null table for windows of 380 events cut by time"
    )
    (change,) = b.observe(verdict(0.5, 120), 720.0)
    assert (change.alarm.cause, change.alarm.state) == ("unjudged", "Normal")


def test_a_stream_that_is_silent_or_filtered_is_not_unjudged() -> None:
    b = engine(stream(run_types=("physics",)))
    b.observe(unjudged(0), 0.0)
    changes = b.tick(700.0)
    assert [c.alarm.cause for c in changes] == ["silent"]
    pulser = engine(stream(run_types=("physics",)))
    for seq in range(200):
        pulser.observe(verdict(None, seq, run_type="pulser", reason="no reference"), 6.0 * seq)
        assert not pulser.tick(6.0 * seq)
    pulser.observe(unjudged(0), 1300.0)
    assert pulser.tick(1301.0) == []


def test_after_a_restart_not_knowing_is_still_known() -> None:
    b = engine()
    for seq in range(110):
        b.observe(unjudged(seq), 6.0 * seq)
        b.tick(6.0 * seq)
    assert alarm(b, Cause.UNJUDGED).state == "Active"
    new = engine(now=700.0, dumps={"s": b.dump("s")})
    assert alarm(new, Cause.UNJUDGED).state == "Active"
    new.observe(verdict(0.5, 111), 701.0)
    assert alarm(new, Cause.UNJUDGED).state == "Normal"


def test_reasons_are_counted_in_bounded_memory() -> None:
    b = engine()
    for seq in range(200):
        b.observe(unjudged(seq, f"reason {chr(97 + seq // 10)}{chr(97 + seq % 10)}"), float(seq))
    assert len(b.dump("s")["evidence"]["unjudged"]["reasons"]) == 16


def test_refused_windows_are_an_alarm_with_reason_count_and_begin() -> None:
    b = engine()
    b.observe(verdict(0.5, 0), 100.0)
    b.note_refusal("s", "NaN or infinity in 2 % of t_2 (sent by daq-7)", 120.0)
    assert b.tick(120.0) == []
    b.note_refusal("s", "NaN or infinity in 2.1 % of t_2 (sent by daq-7)", 180.0)
    (change,) = b.tick(180.0)
    assert (change.alarm.cause, change.alarm.state) == ("refused", "Active")
    assert change.alarm.text == (
        "2 windows refused since 00:02 UTC: NaN or infinity in 2.1 % of t_2 (sent by daq-7)"
    )
    b.tick(701.0)
    assert alarm(b, Cause.SILENT).text.endswith("for more than 600 s; the last that arrived were refused")
    b.observe(verdict(0.5, 4), 710.0)
    assert alarm(b, Cause.REFUSED).state == "Active", "two of the last three"
    b.observe(verdict(0.5, 5), 711.0)
    assert alarm(b, Cause.REFUSED).state == "Normal"
    b.note_refusal("unknown", "what a stranger says", 712.0)
    assert b.tick(713.0) == []


def test_acknowledging_silence_does_not_hide_windows_that_differ() -> None:
    b = engine()
    b.tick(601.0)
    b.apply(AcknowledgeAlarm("s", Cause.SILENT, "collector restarted"), "ann", 602.0)
    feed(b, BAD, BAD, begin=603)
    differs = alarm(b)
    assert (differs.state, differs.acknowledged) == ("Active", None)


def test_slow_deterioration_alarms_though_no_single_window_does() -> None:
    b = engine()
    changes = feed(b, *[0.05] * 20)
    assert [(c.alarm.cause, c.alarm.state, c.time) for c in changes] == [("drift", "Active", 4)]
    assert alarm(b, Cause.DRIFT).text == (
        "windows have deteriorated over the last 20, since run 1, between windows 0 and 3, "
        "none of them alone beyond p = 0.01: "
        "summed significance 5.0, limit 5.0"
    )
    feed(b, 0.5, begin=50)
    assert alarm(b, Cause.DRIFT).text.endswith(
        "summed significance 4.5, less than the limit 5.0 that it has reached; the alarm ends at 0"
    )
    feed(b, 0.05, begin=60)
    changes = feed(b, *[0.5] * 10, begin=100)
    assert [(c.alarm.cause, c.alarm.state, c.time) for c in changes] == [("drift", "Normal", 109)]


def test_one_wild_window_is_no_drift_and_neither_is_what_is_alarmed_already() -> None:
    b = engine()
    feed(b, 1e-15)
    assert b.drift_sums == {"s": 2.5}
    feed(b, *[1e-15] * 50)
    assert b.drift_sums == {"s": 2.5}
    assert alarm(b, Cause.DRIFT).state == "Normal"


def test_windows_without_a_p_or_with_a_p_of_one_do_not_upset_the_sum() -> None:
    b = engine()
    feed(b, 0.05, None, None)
    assert b.drift_sums["s"] == pytest.approx(1.1448536)
    feed(b, 1.0)
    assert b.drift_sums["s"] == 0.0
    json.dumps(b.dump("s"), allow_nan=False)


def test_a_nuisance_parameter_far_from_its_measurement_alarms_by_itself() -> None:
    b = engine()
    for seq in range(2):
        changes = b.observe(verdict(0.5, seq, warning="gas is 5.0 sigma above"), float(seq))
    assert [(c.alarm.cause, c.alarm.state) for c in changes] == [("nuisance", "Active")]
    assert changes[0].alarm.text == (
        "2 of the last 3 windows disagree with slow control: gas is 5.0 sigma above"
    )
    assert alarm(b).state == "Normal"


def test_a_condition_above_its_limit_in_two_of_three_windows_is_an_alarm_of_its_own() -> None:
    b = engine(stream(limits={"left_out_share": 0.01, "trigger": 1.0, "missing": 0.0}))
    for seq, share in enumerate([0.02, 0.01, 0.05, 0.0, 0.0]):
        conditions = {"left_out_share": share, "trigger": "cosmics", "other": 9.0}
        b.observe(verdict(None, seq, reason="no events", conditions=conditions), float(seq))
        found = next(alarm for alarm in b.alarms if alarm.cause is Cause.LIMIT)
        assert (found.state == "Active") == (seq == 2)
        if seq == 2:
            assert (
                found.text == "2 of the last 3 windows are above a limit: left_out_share = 0.05, limit 0.01"
            )


def test_an_acknowledgement_stays_until_the_alarm_is_raised_anew() -> None:
    b = engine(timing=Timing(off_delay_seconds=5.0))
    feed(b, BAD, BAD)
    (change,) = b.apply(AcknowledgeAlarm("s", Cause.DIFFERS, "called Bob"), "ann", 2.0)
    assert (change.before, change.alarm.state, change.action) == ("Active", "Active", "acknowledge")
    assert (change.user, change.comment) == ("ann", "called Bob")
    feed(b, 0.5, 0.5, BAD, BAD, begin=3)  # flickers within the off delay
    assert alarm(b).acknowledged is not None
    assert alarm(b).raised_at == 1
    feed(b, 0.5, 0.5, begin=10)
    b.tick(16.0)
    assert (alarm(b).state, alarm(b).acknowledged) == ("Normal", None)
    feed(b, BAD, BAD, begin=20)
    assert (alarm(b).state, alarm(b).acknowledged) == ("Active", None)


def test_what_is_not_raised_cannot_be_acknowledged() -> None:
    b = engine()
    with pytest.raises(InputError, match="nothing to acknowledge: the alarm is Normal"):
        b.apply(AcknowledgeAlarm("s", Cause.DIFFERS, "seen"), "ann", 1.0)
    feed(b, BAD, BAD)
    with pytest.raises(InputError, match="a user must be named"):
        b.apply(AcknowledgeAlarm("s", Cause.DIFFERS, "seen"), " ", 1.0)
    with pytest.raises(InputError, match=r"unknown stream .x.\. Configured: s"):
        b.apply(AcknowledgeAlarm("x", Cause.DIFFERS, "seen"), "ann", 1.0)


def test_a_latched_alarm_waits_to_be_acknowledged() -> None:
    b = engine(timing=Timing(latching=True))
    feed(b, BAD, BAD, 0.5, 0.5, 0.5)
    latched = alarm(b)
    assert (latched.state, latched.since, latched.raised_at) == ("Latched", 3, 1)
    assert latched.text.startswith("gone: 2 of the last 3 windows differ")
    (change,) = b.apply(AcknowledgeAlarm("s", Cause.DIFFERS, "seen"), "ann", 9.0)
    assert (change.before, change.alarm.state) == ("Latched", "Normal")
    feed(b, BAD, BAD, begin=10)
    b.apply(AcknowledgeAlarm("s", Cause.DIFFERS, "seen"), "ann", 12.0)
    feed(b, 0.5, 0.5, begin=13)
    assert alarm(b).state == "Normal"


def test_a_timed_shelf_ends_and_what_is_still_there_is_a_new_alarm() -> None:
    b = engine()
    feed(b, BAD, BAD)
    b.apply(AcknowledgeAlarm("s", Cause.DIFFERS, "seen"), "ann", 2.0)
    (change,) = b.apply(ShelveAlarm("s", Cause.DIFFERS, "gas bottle changed", hours=0.5), "ann", 3.0)
    assert (change.alarm.state, change.alarm.acknowledged, change.user) == ("Shelved", None, "ann")
    assert change.alarm.shelf is not None
    assert [change.alarm.cause for change in b.tick(1802.9)] == ["silent"]
    (change,) = b.tick(1803.0)
    assert (change.before, change.alarm.state, change.action) == ("Shelved", "Active", "time")
    assert (change.alarm.shelf, change.alarm.acknowledged) == (None, None)


def test_a_one_shot_shelf_ends_with_the_condition() -> None:
    b = engine(timing=Timing(off_delay_seconds=5.0))
    feed(b, BAD, BAD)
    b.apply(ShelveAlarm("s", Cause.DIFFERS, "known", one_shot=True), "ann", 2.0)
    feed(b, 0.5, 0.5, BAD, BAD, begin=3)  # flickers within the off delay
    assert alarm(b).state == "Shelved"
    feed(b, 0.5, 0.5, begin=10)
    b.tick(16.0)
    assert (alarm(b).state, alarm(b).shelf) == ("Normal", None)


def test_a_shelf_is_ended_early() -> None:
    b = engine()
    feed(b, BAD, BAD)
    b.apply(ShelveAlarm("s", Cause.DIFFERS, "known", one_shot=True), "ann", 2.0)
    (change,) = b.apply(UnshelveAlarm("s", Cause.DIFFERS, "look again"), "bob", 3.0)
    assert (change.alarm.state, change.action, change.user) == ("Active", "unshelve", "bob")
    with pytest.raises(InputError, match="not shelved, it is Active"):
        b.apply(UnshelveAlarm("s", Cause.DIFFERS, "again"), "bob", 4.0)


def test_a_one_shot_shelf_needs_the_condition() -> None:
    with pytest.raises(InputError, match="nothing to shelve one-shot"):
        engine().apply(ShelveAlarm("s", Cause.DIFFERS, "x", one_shot=True), "ann", 10.0)


def mask(streams: str = "s", **changes: Any) -> AddMask:
    return AddMask("m", streams, "broken wire", **changes)


def test_a_mask_suppresses_all_alarms_of_its_streams_until_it_ends() -> None:
    b = engine(stream("s", "muon/one"), stream("other"))
    feed(b, BAD, BAD)
    changes = b.apply(mask("muon", until=50.0), "ann", 2.0)
    assert {c.alarm.state for c in changes} == {AlarmState.MASKED}
    assert len(changes) == len(Cause)
    assert (changes[0].user, changes[0].comment, changes[0].action) == ("ann", "broken wire", "mask")
    assert alarm(b).mask == "m"
    changes = b.tick(50.0)
    assert {c.action for c in changes} == {"time"}
    assert b.masks == ()
    assert alarm(b).state == "Active"


def test_a_mask_may_begin_later_and_hold_only_in_some_runs() -> None:
    b = engine()
    assert b.apply(mask(start=10.0, run_types=("pulser",)), "ann", 2.0) == []
    b.tick(20.0)
    assert alarm(b).state == "Normal"
    b.observe(verdict(0.5, run_type="pulser"), 21.0)
    assert alarm(b).state == "Masked"
    b.observe(verdict(0.5, 1, run_type="physics"), 22.0)
    assert alarm(b).state == "Normal"


def test_a_mask_is_removed_by_a_person() -> None:
    b = engine()
    b.apply(mask(), "ann", 1.0)
    changes = b.apply(RemoveMask("m", "repaired"), "bob", 2.0)
    assert {(c.alarm.state, c.action, c.user) for c in changes} == {("Normal", "unmask", "bob")}
    with pytest.raises(InputError, match=r"no mask .m.\. Masks in force or to come: none"):
        b.apply(RemoveMask("m", "done"), "bob", 3.0)


@pytest.mark.parametrize(
    ("changes", "user", "message"),
    [
        ({"streams": "x*"}, "ann", r"no stream matches 'x\*'"),
        ({"until": 5.0}, "ann", "the mask would have ended already"),
        ({}, "", "a user must be named"),
    ],
)
def test_masks_without_effect_or_user_are_refused(changes: dict[str, Any], user: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine().apply(mask(**changes), user, 10.0)


def test_a_mask_needs_a_name_of_its_own() -> None:
    b = engine()
    b.apply(mask(), "ann", 1.0)
    with pytest.raises(InputError, match="there is a mask 'm' already"):
        b.apply(mask(), "ann", 2.0)


def test_a_disabled_stream_does_not_alarm_nor_take_a_shelf() -> None:
    b = engine(stream(enabled=False))
    feed(b, BAD, BAD, BAD)
    b.tick(5000.0)
    assert {a.state for a in b.alarms} == {AlarmState.DISABLED}
    with pytest.raises(InputError, match="a disabled alarm cannot be shelved"):
        b.apply(ShelveAlarm("s", Cause.DIFFERS, "x", hours=1.0), "ann", 5000.0)


def test_delays_are_waited_for_by_time() -> None:
    b = engine(timing=Timing(on_delay_seconds=10.0, off_delay_seconds=20.0))
    feed(b, BAD, BAD)
    assert alarm(b).state == "OnDelayed"
    b.tick(10.9)
    assert alarm(b).state == "OnDelayed"
    (change,) = b.tick(11.0)
    assert (change.alarm.state, change.alarm.raised_at, change.alarm.since) == ("Active", 1, 11)
    feed(b, 0.5, 0.5, begin=12)
    assert alarm(b).state == "OffDelayed"
    b.tick(33.0)
    assert alarm(b).state == "Normal"


def test_a_clock_that_goes_back_starts_delays_anew_and_one_that_jumps_ahead_ends_them() -> None:
    b = engine(timing=Timing(on_delay_seconds=10.0))
    feed(b, BAD, BAD, begin=1000)
    b.tick(500.0)
    b.tick(509.0)
    assert alarm(b).state == "OnDelayed"
    b.tick(510.0)
    assert alarm(b).state == "Active"
    assert alarm(b, Cause.SILENT).state == "Normal"
    b.tick(1101.0)  # silent by the clock as it is now
    assert alarm(b, Cause.SILENT).state == "OnDelayed"
    b.tick(1e9)
    assert alarm(b, Cause.SILENT).state == "Active"


def test_a_window_of_a_stream_that_is_not_configured_is_refused() -> None:
    with pytest.raises(InputError, match="unknown stream 'x'"):
        engine().observe(verdict(name="x"), 0.0)


def test_late_windows_of_an_older_run_neither_raise_an_alarm_nor_end_one() -> None:
    healthy = engine()
    healthy.observe(verdict(0.5, run=2), 0.0)
    for seq in range(5):
        healthy.observe(verdict(1e-9, run=1, seq=seq, rate=rate_of(1e-9), warning="far", is_late=True), 1.0)
    assert {alarm.state for alarm in healthy.alarms} == {AlarmState.NORMAL}
    faulty = engine()
    for seq in range(3):
        faulty.observe(verdict(1e-9, run=2, seq=seq), 0.0)
    for seq in range(5):
        assert faulty.observe(verdict(0.5, run=1, seq=seq, is_late=True), 1.0) == []
    assert [alarm.cause for alarm in faulty.alarms if alarm.state is not AlarmState.NORMAL] == [Cause.DIFFERS]


def test_if_only_late_windows_come_nothing_is_known_and_that_is_told() -> None:
    alarms = engine(stream(unjudged_seconds=60.0))
    alarms.observe(verdict(0.5, run=999), 0.0)
    for minute in range(3):
        alarms.observe(verdict(0.5, run=7, seq=minute, is_late=True), 60.0 * minute)
    (change,) = alarms.tick(121.0)
    assert change.alarm.cause is Cause.UNJUDGED
    assert "3 windows: run 7 is over, and windows of it still arrive: run 999 has begun" in change.alarm.text
    alarms.observe(verdict(0.5, run=999, seq=1), 130.0)
    assert not [alarm for alarm in alarms.alarms if alarm.state is AlarmState.ACTIVE]


def test_late_windows_of_runs_that_do_not_count_are_no_matter_of_alarms() -> None:
    alarms = engine(stream(unjudged_seconds=60.0, run_types=("physics",)))
    alarms.observe(verdict(0.5, run=2), 0.0)
    alarms.observe(verdict(0.5, run=1, run_type="calib", is_late=True), 1.0)
    assert alarms.tick(100.0) == []


def test_windows_that_differ_by_their_share_of_nan_alarm_and_name_the_feature() -> None:
    alarms = engine()
    nan = NanResult("t_2", share=0.024, expected_share=0.0001, n_dropped=12, p=1e-9)
    for seq in range(2):
        one = verdict(0.5, seq=seq, quality=Quality.BAD)
        alarms.observe(replace(one, result=replace(one.result, nan=nan)), 0.0)
    (alarm,) = [alarm for alarm in alarms.alarms if alarm.state is not AlarmState.NORMAL]
    assert alarm.cause is Cause.DIFFERS
    assert alarm.text.endswith("p = 2e-09: NaN in 2.4 % of t_2, 0.01 % in the reference")
    alarms.observe(verdict(1e-6, seq=2), 1.0)
    assert "NaN" not in alarms.alarms[0].text


def test_windows_unlike_the_last_good_ones_are_an_alarm_of_their_own() -> None:
    watched = engine(stream(n_rolling=10))
    for seq, p in enumerate((0.5, 1e-4, None, 1e-5)):
        watched.observe(verdict(0.5, seq, rolling_p=p), float(seq))
    alarm = next(one for one in watched.alarms if one.cause is Cause.CHANGED)
    assert alarm.state is AlarmState.ACTIVE
    assert alarm.text == (
        "2 of the last 3 windows differ from the last 10 good ones (p < 0.01), "
        "the last of them with p = 1e-05"
    )
    others = {one.cause: one.state for one in watched.alarms if one.cause is not Cause.CHANGED}
    assert set(others.values()) == {AlarmState.NORMAL}
    plain = engine(dumps={"s": watched.dump("s")}, now=9.0)
    plain.observe(verdict(0.5, 9), 9.0)
    assert next(one for one in plain.alarms if one.cause is Cause.CHANGED).state is not AlarmState.ACTIVE


def test_the_alarms_of_a_stream_freeze_its_rolling_reference() -> None:
    watched = engine(stream(n_rolling=10), stream("plain"))
    assert watched.for_rolling_references == {"s": RollingAlarmState()}
    for seq in range(2):
        watched.observe(verdict(0.5, seq, rolling_p=1e-4), float(seq))
    assert watched.for_rolling_references == {"s": RollingAlarmState(freezes=True)}
    watched.apply(AcknowledgeAlarm("s", Cause.CHANGED, "HV moved"), "ann", 3.0)
    assert watched.for_rolling_references == {"s": RollingAlarmState(accepted_at=3.0)}
    for seq in (2, 3):
        watched.observe(verdict(BAD, seq), 4.0 + seq)
    assert watched.for_rolling_references == {"s": RollingAlarmState(freezes=True, accepted_at=3.0)}


def changed_engine(hide: Command | None = None) -> AlarmEngine:
    """Make an engine whose stream has changed, with its alarm hidden before or not at all."""
    watched = engine(stream(n_rolling=10), timing=Timing(latching=True))
    if hide is not None:
        watched.apply(hide, "bob", 0.0)
    for seq in range(2):
        watched.observe(verdict(0.5, seq, rolling_p=1e-4), float(seq))
    return watched


MASK = AddMask("m", "s", "work on the gas")
SHELF = ShelveAlarm("s", Cause.CHANGED, "work on the gas", hours=1.0)
ACCEPT = AcceptChange("s", "gas bottle changed")


@pytest.mark.parametrize(
    ("hide", "before", "after"),
    [(None, "Active", "Normal"), (MASK, "Masked", "Masked"), (SHELF, "Shelved", "Shelved")],
)
def test_a_change_is_accepted_whatever_hides_its_alarm(hide: Command | None, before: str, after: str) -> None:
    watched = changed_engine(hide)
    (change,) = watched.apply(ACCEPT, "ann", 3.0)
    assert (change.before, change.alarm.state, change.alarm.cause) == (before, after, Cause.CHANGED)
    assert (change.action, change.user, change.comment) == ("accept", "ann", "gas bottle changed")
    assert watched.for_rolling_references == {"s": RollingAlarmState(accepted_at=3.0)}
    if hide is MASK:  # nothing is left of the change when the mask ends
        watched.apply(RemoveMask("m", "done"), "bob", 4.0)
        assert alarm(watched, Cause.CHANGED).state is AlarmState.NORMAL


def test_windows_count_again_when_the_rolling_reference_has_begun_anew() -> None:
    watched = changed_engine(MASK)
    watched.apply(ACCEPT, "ann", 3.0)
    watched.apply(RemoveMask("m", "done"), "bob", 3.0)
    for seq, rolling_p in enumerate((1e-4, 1e-4, None, 1e-4), 2):  # the first two are of the old reference
        watched.observe(verdict(0.5, seq, rolling_p=rolling_p), float(seq))
        assert watched.for_rolling_references == {"s": RollingAlarmState(accepted_at=3.0)}
    watched = engine(stream(n_rolling=10), dumps={"s": watched.dump("s")}, now=9.0)
    watched.observe(verdict(0.5, 6, rolling_p=1e-4), 9.0)
    assert watched.for_rolling_references == {"s": RollingAlarmState(freezes=True, accepted_at=3.0)}


def test_windows_that_do_not_count_end_the_wait_for_the_new_reference() -> None:
    watched = engine(stream(n_rolling=10, run_types=("physics",)))
    watched.apply(ACCEPT, "ann", 0.0)
    watched.observe(verdict(0.5, 0, run_type="cosmics"), 1.0)
    for seq in range(1, 3):
        watched.observe(verdict(0.5, seq, rolling_p=1e-4), float(seq))
    assert watched.for_rolling_references["s"].freezes


def test_refuses_to_accept_a_change_where_nothing_is_compared() -> None:
    watched = engine()
    with pytest.raises(InputError, match=r"stream 's' has no rolling reference\. .*\[streams.rolling\]"):
        watched.apply(ACCEPT, "ann", 3.0)
    with pytest.raises(InputError, match="unknown stream 'x'"):
        watched.apply(AcceptChange("x", "gas"), "ann", 3.0)
