"""What is known of a stream at one moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dqm.alarm import PresentState, QualityCeiling
from dqm.alarm.present_state import NEVER_SEEN
from dqm.events import Quality, RunRecord, Verdict

from .engines import verdict

RUN = RunRecord("s", 1, "physics", 1, began_at=0.0, noted_at=0.0)
ENDED = replace(RUN, ended_at=90.0, why="operator", noted_at=91.0)
NEXT = RunRecord("s", 2, "physics", 2, began_at=100.0, noted_at=101.0)


def at(seconds: float, p: float | None = 0.5, run: int = 1) -> Verdict:
    judged = verdict(p, int(seconds), run=run, is_late=run < 1)
    return replace(judged, judged_at=seconds, reason="" if p == 0.5 else f"p is {p}")


FRESH = PresentState(0.0)
GOOD = FRESH.enter(RUN).observe(at(10.0))
SILENT = GOOD.expire("no window since number 10", 700.0)


def told(state: PresentState) -> tuple[Quality, bool, float]:
    return state.quality, state.is_known, state.since


def test_a_window_of_the_present_run_is_the_present() -> None:
    assert told(FRESH) == (Quality.NULL, False, 0.0)
    assert told(GOOD) == (Quality.GOOD, True, 10.0)
    assert told(GOOD.observe(at(20.0))) == (Quality.GOOD, True, 10.0)
    bad = GOOD.observe(at(20.0, 1e-5))
    assert (told(bad), bad.reason) == ((Quality.BAD, True, 20.0), "p is 1e-05")
    unknown = bad.observe(at(30.0, None))
    assert told(unknown) == (Quality.NULL, True, 30.0), "its number of events is known"


def test_silence_lasts_until_a_window_of_the_present_run() -> None:
    assert (told(SILENT), SILENT.last) == ((Quality.NULL, False, 700.0), GOOD.last)
    assert SILENT.expire(SILENT.reason, 800.0) is SILENT
    assert SILENT.observe(at(710.0, run=0)) is SILENT, "a late window says nothing of the present"
    assert told(SILENT.observe(at(720.0))) == (Quality.GOOD, True, 720.0)


@pytest.mark.parametrize(
    ("now", "silence", "expected", "reason"),
    [
        (30.0, "", (Quality.GOOD, True, 10.0), ""),
        (1000.0, "", (Quality.NULL, False, 620.0), NEVER_SEEN),
        (1000.0, "no window since number 20", (Quality.NULL, False, 620.0), "no window since number 20"),
        (30.0, "no window since number 20", (Quality.NULL, False, 30.0), "no window since number 20"),
    ],
)
def test_after_a_restart_neither_an_old_window_nor_a_silent_stream_says_anything_of_now(
    now: float, silence: str, expected: tuple[Quality, bool, float], reason: str
) -> None:
    state = FRESH.recall([at(10.0), at(20.0)], now, 600.0, silence)
    assert (told(state), state.reason) == (expected, reason)
    assert state.newest == at(20.0)
    assert FRESH.recall([], now, 600.0, silence) is FRESH


def test_another_run_begins_with_nothing_but_the_age_of_the_last_window() -> None:
    begun = GOOD.enter(NEXT)
    assert told(begun) == (Quality.NULL, False, 101.0)
    assert begun.reason == "run 2 (physics) began at 00:01 UTC; no window of it yet"
    assert (begun.last, begun.newest) == (None, GOOD.newest)
    assert begun.observe(at(110.0)) is begun, "its run is over"
    assert begun.enter(RUN) is begun
    assert told(begun.observe(at(120.0, run=2))) == (Quality.GOOD, True, 120.0)


def test_after_the_end_of_a_run_nothing_is_known_until_a_window_after_it_goes_on() -> None:
    ended = GOOD.enter(ENDED)
    assert (told(ended), ended.reason) == (
        (Quality.NULL, False, 91.0),
        "run 1 ended at 00:01 UTC: operator",
    )
    later = ended.observe(at(95.0, 1e-5))
    assert told(later) == told(ended)
    assert later.last is not None
    assert later.last.judged_at == 95.0
    again = later.enter(replace(RUN, resumed_at=200.0, noted_at=201.0))
    assert (told(again), again.reason) == (
        (Quality.NULL, False, 201.0),
        "run 1 (physics) went on at 00:03 UTC; no window since",
    )
    assert told(again.observe(at(210.0))) == (Quality.GOOD, True, 210.0)


@pytest.mark.parametrize(
    ("best", "shown"),
    [
        (Quality.GOOD, (Quality.GOOD, True, 50.0)),
        (Quality.MEDIUM, (Quality.MEDIUM, True, 50.0)),
        (Quality.NULL, (Quality.NULL, False, 50.0)),
    ],
)
def test_only_good_may_contradict_an_alarm(best: Quality, shown: tuple[Quality, bool, float]) -> None:
    ceiling = QualityCeiling(best, "" if best is Quality.GOOD else "why", 50.0)
    beside = GOOD.beside(ceiling)
    assert (told(beside), beside.reason) == (shown, ceiling.reason)
    bad = GOOD.observe(at(20.0, 1e-5))
    assert bad.beside(ceiling) is bad


def test_the_bundle_is_that_of_the_last_window_or_the_first() -> None:
    assert (FRESH.find_bundle(["a", "b"]), GOOD.find_bundle(["a", "b"])) == ("a", "b")
    assert (GOOD.find_bundle(["a"]), GOOD.find_bundle([])) == ("a", "")
