"""Which windows the next one is compared with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.alarm import RollingAlarmState, RollingReference
from dqm.events import Quality, RollingResult, TestResult, Verdict, WindowHeader

K, LEAST_P = 3, 0.01

LETTERS = {
    "g": Quality.GOOD,
    "m": Quality.MEDIUM,
    "b": Quality.BAD,
    "n": Quality.NULL,
    "c": Quality.GOOD,  # and it has changed
    "w": Quality.GOOD,  # and a nuisance parameter disagrees
    "F": Quality.GOOD,  # while an alarm is raised
    "A": Quality.GOOD,  # after a change was accepted
}


def verdict(seq: int, letter: str = "g", *, run: int = 1, run_type: str = "", bundle: str = "b1") -> Verdict:
    rolling = RollingResult(K, (1, 0), (1, 2), p=0.001 if letter == "c" else 0.5)
    result = TestResult(100, 100.0, t=1.0, p=0.5, rolling=rolling)
    warnings = {"gas": "gas is 5 sigma above"} if letter == "w" else {}
    window = WindowHeader("s", run, seq, run_type=run_type)
    return Verdict(window, LETTERS[letter], "", result, bundle, 0.0, 0.0, warnings)


def add(reference: RollingReference, one: Verdict, letter: str = "g") -> RollingReference:
    accepted_at = float(one.window.seq) if letter == "A" else reference.accepted_at
    alarms = RollingAlarmState(letter == "F", accepted_at)
    return reference.add(one, n_windows=K, least_p=LEAST_P, alarms=alarms)


def judge(letters: str) -> RollingReference:
    reference = RollingReference()
    for seq, letter in enumerate(letters):
        reference = add(reference, verdict(seq, letter), letter)
    return reference


@pytest.mark.parametrize(
    ("letters", "entered"),
    [
        ("", ()),
        ("g", ()),
        ("gg", (0,)),
        ("ggg", (0, 1)),
        ("gggggg", (2, 3, 4)),
        ("ggbgg", (0,)),
        ("ggbggg", (0, 4)),
        ("ggmggg", (0, 4)),
        ("ggnggg", (0, 4)),
        ("ggcggg", (0, 4)),
        ("ggwggg", (0, 4)),
        ("ggbgbgbgbg", (0,)),
        ("ggggcccccc", (0, 1, 2)),
        ("gggFFFFFF", (0, 1)),
        ("gggFFFggg", (0, 1, 7)),
        ("ggggccAg", ()),
        ("ggggccAgg", (7,)),
        ("ggggccAgggg", (7, 8, 9)),
        ("ggggccAAgg", (7, 8)),
        ("ggggccAgggccAgg", (13,)),
        ("bggg", (2,)),
    ],
)
def test_windows_enter(letters: str, entered: tuple[int, ...]) -> None:
    assert judge(letters).windows == tuple((1, seq) for seq in entered)


@given(st.text(alphabet="".join(LETTERS), max_size=40))
def test_only_sound_windows_between_sound_ones_enter(letters: str) -> None:
    windows = judge(letters).windows
    assert len(windows) <= K
    assert list(windows) == sorted(set(windows))
    for _, seq in windows:
        around = letters[max(0, seq - 1) : seq + 2]
        assert set(around) <= {"g", "A"}
        assert seq < len(letters) - 1


@given(st.text(alphabet="gbc", max_size=20), st.text(alphabet="gbc", max_size=20))
def test_a_window_is_compared_with_windows_at_least_two_before_it(first: str, second: str) -> None:
    reference = judge(first + second)
    past, _ = reference.find_past(WindowHeader("s", 1, len(first + second)), "b1", K)
    assert all(seq <= len(first + second) - 2 for _, seq in past)


def test_takes_windows_of_the_run_before_but_not_of_another_kind() -> None:
    reference = judge("gggg")
    assert add(reference, verdict(0, run=2)).windows == ((1, 0), (1, 1), (1, 2), (1, 3))[-K:]
    for other in (verdict(0, run=2, run_type="cosmics"), verdict(0, run=2, bundle="b2")):
        past, reason = reference.find_past(other.window, other.bundle, K)
        assert (past, reason) == ((), "0 of 3 good windows before it")
        begun = add(reference, other)
        assert (begun.windows, begun.candidate) == ((), (2, 0))


def test_says_what_is_missing() -> None:
    window = WindowHeader("s", 1, 9)
    assert RollingReference().find_past(window, "b1", K) == ((), "0 of 3 good windows before it")
    assert judge("ggg").find_past(window, "b1", K) == (((1, 0), (1, 1)), "2 of 3 good windows before it")
    assert judge("gggg").find_past(window, "b1", K) == (((1, 0), (1, 1), (1, 2)), "")


def test_a_window_that_comes_after_a_later_one_changes_nothing() -> None:
    reference = judge("gggg")
    for window in (WindowHeader("s", 1, 2), WindowHeader("s", 0, 99, is_late=True)):
        past, reason = reference.find_past(window, "b1", K)
        assert past == ()
        assert reason == f"window {window.seq} of run {window.run} came after a later one"
        assert add(reference, replace(verdict(2), window=window)) == reference


def test_holds_the_events_of_what_may_enter() -> None:
    assert judge("gggg").held == ((1, 0), (1, 1), (1, 2), (1, 3))
    assert judge("ggggb").held == ((1, 0), (1, 1), (1, 2))
