from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.alarm import Amendment, Overlay, Scope
from dqm.errors import InputError
from dqm.events import Origin, Quality, RunRecord
from dqm.export.flags import UNKNOWN, Flag, Span, flag_run, flag_stream, take_spans
from tests.verdicts import alter
from tests.world import START, verdict_of

P = {Quality.GOOD: 0.5, Quality.MEDIUM: 0.005, Quality.BAD: 1e-5, Quality.NULL: None}


def span(start: float, end: float, quality: Quality = Quality.GOOD, stream: str = "a") -> Span:
    return Span(start, end, verdict_of(stream, int(start), p=P[quality]))


def outline(flags: Iterable[Flag]) -> list[tuple[float, float, str]]:
    return [(flag.start, flag.end, flag.flag) for flag in flags]


spans = st.lists(
    st.builds(
        lambda start, length, quality: span(start, start + length, quality),
        st.integers(0, 60), st.integers(0, 20), st.sampled_from(list(Quality)),
    ),
    max_size=12,
)  # fmt: skip


@given(spans)
def test_flags_cover_the_run_exactly_and_once_and_the_worst_window_decides(found: list[Span]) -> None:
    flags = flag_stream("a", found, 0.0, 80.0)
    assert (flags[0].start, flags[-1].end) == (0.0, 80.0)
    assert all(flag.start < flag.end for flag in flags)
    assert all(one.end == other.start for one, other in pairwise(flags))
    order = ["Bad", "Medium", UNKNOWN, "Good"]
    for moment in (second + 0.5 for second in range(80)):
        (flag,) = [flag for flag in flags if flag.start <= moment < flag.end]
        there = [s.verdict.quality for s in found if s.start <= moment < s.end]
        names = [UNKNOWN if quality is Quality.NULL else str(quality) for quality in there]
        assert flag.flag == min(names, key=order.index, default=UNKNOWN)
        assert (flag.comment == "no window") == (not there)


@given(spans)
def test_neighbours_are_merged(found: list[Span]) -> None:
    for one, other in pairwise(flag_stream("a", found, 0.0, 80.0)):
        assert (one.flag, one.comment == "no window") != (other.flag, other.comment == "no window")


def test_windows_that_follow_each_other_make_one_flag() -> None:
    windows = [span(0, 10), span(10, 20), span(20, 30, Quality.BAD), span(30, 40)]
    assert outline(flag_run({"a": windows})) == [(0, 20, "Good"), (20, 30, "Bad"), (30, 40, "Good")]
    bad = flag_run({"a": windows})[1]
    assert bad.comment == "1 window, smallest p = 1e-05: differs from the reference: p = 1e-05 (below 0.001)"
    assert bad.origin == "simulated"


def test_what_no_window_covers_is_unknown() -> None:
    flags = flag_run({"a": [span(0, 10)], "b": [span(5, 8, stream="b"), span(20, 30, stream="b")], "c": []})
    assert outline(f for f in flags if f.stream == "a") == [(0, 10, "Good"), (10, 30, UNKNOWN)]
    assert outline(f for f in flags if f.stream == "b") == [
        (0, 5, UNKNOWN), (5, 8, "Good"), (8, 20, UNKNOWN), (20, 30, "Good"),
    ]  # fmt: skip
    assert outline(f for f in flags if f.stream == "c") == [(0, 30, UNKNOWN)]


def test_windows_that_are_not_known_say_why() -> None:
    (flag,) = flag_run({"a": [span(0, 10, Quality.NULL), span(10, 20, Quality.NULL)]})
    assert (flag.flag, flag.comment) == (UNKNOWN, "2 windows: 12 events, fewer than 50 (expected 500)")


def test_a_run_without_windows_has_no_flags() -> None:
    assert flag_run({"a": []}) == []


def test_windows_without_times_are_refused_unless_the_verdicts_times_shall_do() -> None:
    windows = [
        alter(verdict_of(seq=seq, judged_at=START + 10 * seq), start=None, end=None) for seq in (0, 1, 2)
    ]
    with pytest.raises(InputError, match=r"chamber-1: window 0 of run 7 has no times.*--by-judgement"):
        take_spans(windows)
    found = take_spans(windows, by_judgement=True)
    assert [(s.start, s.end) for s in found] == [
        (START - windows[0].seconds, START), (START, START + 10), (START + 10, START + 20),
    ]  # fmt: skip


def test_times_of_windows_count_more_than_those_of_verdicts() -> None:
    window = verdict_of(start=1.0, end=2.0, origin=Origin.REPLAYED)
    assert take_spans([window], by_judgement=True) == [Span(1.0, 2.0, window)]


def test_a_row_has_the_names_that_bookkeeping_uses() -> None:
    (flag,) = flag_run({"a": [span(0, 10)]})
    assert flag.as_row("dqm 0.1.0") == {
        "stream": "a", "from": 0, "to": 10, "flag": "Good", "comment": "1 window, smallest p = 0.5",
        "origin": "simulated", "bundle": "3f9a21c7d0b4e865", "created_by": "dqm 0.1.0",
        "run_state": "unknown", "run_began": None, "run_ended": None,
        "amended_by": None, "amended_at": None, "original_flag": None, "original_comment": None,
        "fault": None,
    }  # fmt: skip


def live(start: float, end: float) -> Span:
    return Span(start, end, alter(verdict_of("a", int(start)), origin=Origin.LIVE))


def test_a_live_run_is_flagged_from_its_begin_to_its_end() -> None:
    run = RunRecord("a", 7, "physics", 1, began_at=5.0, ended_at=45.0, why="operator")
    flags = flag_run({"a": [live(10, 20)], "b": []}, {"a": run})
    assert outline(flags) == [(5, 10, UNKNOWN), (10, 20, "Good"), (20, 45, UNKNOWN), (5, 45, UNKNOWN)]
    row = flags[0].as_row("dqm")
    assert (row["run_state"], row["run_began"], row["run_ended"]) == ("complete", 5.0, 45.0)
    assert flags[3].as_row("dqm")["run_state"] == "unknown"


def test_a_run_that_did_not_end_is_open() -> None:
    (first, *_) = flag_run({"a": [live(10, 20)]}, {"a": RunRecord("a", 7, "physics", 1, began_at=5.0)})
    row = first.as_row("dqm")
    assert (row["run_state"], row["run_began"], row["run_ended"]) == ("open", 5.0, None)


def test_windows_with_times_of_their_own_are_not_flagged_by_the_clock_of_the_run() -> None:
    run = RunRecord("a", 7, "physics", 1, began_at=1.7e9, ended_at=1.8e9)
    (flag,) = flag_run({"a": [span(0, 10)]}, {"a": run})
    assert (flag.start, flag.end, flag.run) == (0, 10, run)


amendments = st.lists(
    st.builds(
        lambda start, length, quality, fault: (start, start + length, quality, fault),
        st.integers(0, 70), st.integers(1, 30), st.sampled_from(list(Quality)),
        st.sampled_from(["", "HV trip"]),
    ),
    max_size=5,
)  # fmt: skip


def amendment(
    number: int, start: float, end: float, quality: Quality = Quality.GOOD, fault: str = ""
) -> Amendment:
    scope = Scope(7, "a", start=float(start), end=float(end))
    return Amendment(number, 5.0, "jo", "I looked", scope, None if fault else quality, fault)


@given(spans, amendments)
def test_flags_are_what_people_said_of_windows_and_cover_the_run_all_the_same(
    found: list[Span], said: list[tuple[int, int, Quality, str]]
) -> None:
    made = [amendment(number, *values) for number, values in enumerate(said, start=1)]
    flags = flag_stream("a", found, 0.0, 80.0, Overlay(made))
    assert (flags[0].start, flags[-1].end) == (0.0, 80.0)
    assert all(one.end == other.start for one, other in pairwise(flags))
    order = ["Bad", "Medium", UNKNOWN, "Good"]
    names = {quality: UNKNOWN if quality is Quality.NULL else str(quality) for quality in Quality}
    for moment in (second + 0.5 for second in range(80)):
        (flag,) = [flag for flag in flags if flag.start <= moment < flag.end]
        judged = [names[s.verdict.quality] for s in found if s.start <= moment < s.end]
        words = [(q, fault) for start, end, q, fault in said if start <= moment < end]
        last = next((names[quality] for quality, fault in reversed(words) if not fault), None)
        original = min(judged, key=order.index, default=UNKNOWN)
        if not judged:
            assert (flag.flag, flag.amended, flag.fault, flag.comment) == (UNKNOWN, None, "", "no window")
            continue
        assert flag.flag == (last or original)
        assert (flag.amended is not None) == (last is not None)
        assert flag.original_flag == (original if last else "")
        assert flag.comment == ("I looked" if last else flag.comment)
        assert flag.fault == ("HV trip" if any(fault for _, fault in words) else "")


def test_of_windows_that_overlap_one_may_be_amended() -> None:
    bad = Span(0.0, 20.0, alter(verdict_of("a", 0, p=1e-5), run=7))
    medium = Span(10.0, 30.0, alter(verdict_of("a", 1, p=0.005), run=7))
    good = Amendment(1, 5.0, "jo", "a trip of the trigger", Scope(7, "a", 0, 0), Quality.GOOD)
    flags = flag_run({"a": [bad, medium]}, amendments=[good])
    assert outline(flags) == [(0, 10, "Good"), (10, 20, "Medium"), (20, 30, "Medium")]
    assert [flag.original_flag for flag in flags] == ["Bad", "Bad", ""]
    assert flags[1].original_comment.startswith("1 window, smallest p = 1e-05")
    still = Amendment(1, 5.0, "jo", "x", Scope(7, "a", 1, 1), Quality.GOOD)
    first, *_ = flag_run({"a": [bad, medium]}, amendments=[still])
    assert (first.end, first.flag, first.amended) == (20, "Bad", None), "it changes nothing: not named"


def test_an_amended_row_says_who_when_why_and_what_it_was() -> None:
    said = [amendment(1, 0, 5, Quality.BAD), amendment(2, 2, 5, fault="HV trip")]
    rows = [flag.as_row("dqm") for flag in flag_run({"a": [span(0, 10)]}, amendments=said)]
    assert [(row["from"], row["to"], row["flag"], row["fault"]) for row in rows] == [
        (0, 2, "Bad", None), (2, 5, "Bad", "HV trip"), (5, 10, "Good", None),
    ]  # fmt: skip
    keys = ("amended_by", "amended_at", "comment", "original_flag", "original_comment", "created_by")
    assert [rows[0][key] for key in keys] == [
        "jo", 5.0, "I looked", "Good", "1 window, smallest p = 0.5", "dqm",
    ]  # fmt: skip
