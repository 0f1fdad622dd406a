"""How good a stream may be called beside its alarms."""

from __future__ import annotations

import pytest

from dqm.alarm import AlarmEngine, AlarmState, PresentState, ShelveAlarm
from dqm.alarm.values import Cause
from dqm.events import Quality

from .engines import best_of, engine, rate_of, stream, verdict

REFUSAL = "NaN or infinity in 2 % of t_2"


def state_of(b: AlarmEngine, cause: Cause) -> AlarmState:
    (alarm,) = [alarm for alarm in b.alarms if alarm.cause is cause]
    return alarm.state


def test_a_stream_whose_windows_are_refused_is_not_good_until_they_are_taken_again() -> None:
    b = engine()
    b.observe(verdict(), 1.0)
    assert best_of(b) is Quality.GOOD
    for now in (2.0, 3.0):
        b.note_refusal("s", REFUSAL, now)
        b.tick(now)
    ceiling = b.ceilings["s"]
    assert (ceiling.best, ceiling.since) == (Quality.NULL, 3.0)
    assert ceiling.reason == f"2 windows refused since 00:00 UTC: {REFUSAL}"
    assert best_of(b) is Quality.NULL
    b.observe(verdict(seq=3), 4.0)
    assert best_of(b) is Quality.NULL, "2 of the last 3 windows were refused"
    b.observe(verdict(seq=4), 5.0)
    assert best_of(b) is Quality.GOOD
    ceiling = b.ceilings["s"]
    assert (ceiling.best, ceiling.reason, ceiling.since) == (Quality.GOOD, "", 5.0)


@pytest.mark.parametrize(
    ("cause", "seen"),
    [
        (Cause.DIFFERS, {"p": 1e-5}),
        (Cause.RATE, {"rate": rate_of(1e-9)}),
        (Cause.NUISANCE, {"warning": "gas is 4.1 sigma above"}),
        (Cause.LIMIT, {"conditions": {"left_out_share": 0.5}}),
    ],
)
def test_a_good_window_does_not_make_a_stream_good_while_an_alarm_holds(
    cause: Cause, seen: dict[str, object]
) -> None:
    b = engine(stream(limits={"left_out_share": 0.1}))
    for seq in range(2):
        b.observe(verdict(seq=seq, **seen), float(seq))  # type: ignore[arg-type]
    b.observe(verdict(seq=2, rate=rate_of(0.5)), 2.0)
    assert state_of(b, cause) is AlarmState.ACTIVE
    assert best_of(b) is Quality.MEDIUM
    assert b.ceilings["s"].reason == next(alarm.text for alarm in b.alarms if alarm.cause is cause)
    b.observe(verdict(seq=3, rate=rate_of(0.5)), 3.0)
    assert best_of(b) is Quality.GOOD


def test_nor_while_its_windows_deteriorate() -> None:
    b = engine()
    for seq in range(20):
        b.observe(verdict(0.05, seq), float(seq))
    assert state_of(b, Cause.DRIFT) is AlarmState.ACTIVE
    assert best_of(b) is Quality.MEDIUM


def test_nor_while_nothing_but_late_windows_comes() -> None:
    b = engine(stream(unjudged_seconds=10.0))
    b.observe(verdict(run=5), 0.0)
    for now in (1.0, 8.0, 12.0):
        b.observe(verdict(run=4, seq=int(now), is_late=True), now)
        b.tick(now)
    assert state_of(b, Cause.UNJUDGED) is AlarmState.ACTIVE
    assert best_of(b) is Quality.NULL


def test_a_shelved_alarm_is_put_aside_and_still_says_what_is_wrong() -> None:
    b = engine()
    for seq, p in enumerate([1e-5, 1e-5, 0.5]):
        b.observe(verdict(p, seq), float(seq))
    b.apply(ShelveAlarm("s", Cause.DIFFERS, "test pulses", hours=1.0), "maria", 3.0)
    assert state_of(b, Cause.DIFFERS) is AlarmState.SHELVED
    assert best_of(b) is Quality.MEDIUM


def test_signs_of_a_fault_go_before_what_is_not_known_and_windows_keep_their_own_quality() -> None:
    b = engine()
    for seq in range(2):
        b.observe(verdict(1e-5, seq), float(seq))
        b.note_refusal("s", REFUSAL, float(seq))
    b.tick(2.0)
    ceiling = b.ceilings["s"]
    assert ceiling.best is Quality.MEDIUM
    assert "differ from the reference" in ceiling.reason
    limited = {quality: PresentState(0.0, quality).beside(ceiling).quality for quality in Quality}
    assert limited == {quality: quality for quality in Quality} | {Quality.GOOD: Quality.MEDIUM}
