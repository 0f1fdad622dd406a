"""Accounting of numbers: what is missing is seen, what comes later is told from what comes twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.events import Origin, Quality, TestResult, Verdict
from dqm.stream import ArrivalOrder, Reason, SequenceTracker, find_conflict
from tests.verdicts import make_verdict

from .windows import window_of

STREAM = "chamber-1"


def verdict_of(seq: int, **fields: object) -> Verdict:
    plain: dict[str, object] = {
        "stream": STREAM,
        "run": 591,
        "seq": seq,
        "quality": Quality.GOOD,
        "reason": "",
        "result": TestResult(n_data=3, n_expected=3.0),
        "bundle": "b",
        "seconds": 0.0,
        "judged_at": 0.0,
        "run_type": "cosmics",
    }
    return make_verdict(**(plain | fields))  # type: ignore[arg-type]


def observe(tracker: SequenceTracker, *numbers: int, **fields: object) -> list[tuple[ArrivalOrder, int]]:
    arrivals = [tracker.observe(window_of(seq=seq, **fields)) for seq in numbers]
    return [(arrival.order, arrival.n_lost) for arrival in arrivals]


def test_windows_in_order_say_nothing() -> None:
    tracker = SequenceTracker()
    assert observe(tracker, 0, 1, 2) == [(ArrivalOrder.NEXT, 0)] * 3
    counts = tracker.counts(STREAM)
    assert (counts.n_gaps, counts.n_missing, counts.n_reordered, counts.n_duplicates) == (0, 0, 0, 0)


def test_numbers_left_out_are_lost_windows_of_the_next_verdict() -> None:
    tracker = SequenceTracker()
    assert observe(tracker, 0, 3, 4) == [
        (ArrivalOrder.NEXT, 0),
        (ArrivalOrder.AFTER_GAP, 2),
        (ArrivalOrder.NEXT, 0),
    ]
    counts = tracker.counts(STREAM)
    assert (counts.n_gaps, counts.n_missing, counts.n_lost) == (1, 2, 0)


def test_a_run_that_begins_late_has_lost_its_beginning() -> None:
    assert observe(SequenceTracker(), 12) == [(ArrivalOrder.AFTER_GAP, 12)]


def test_what_the_sender_dropped_is_lost_and_not_missing() -> None:
    tracker = SequenceTracker()
    observe(tracker, 0)
    assert tracker.observe(window_of(seq=4, n_lost=2)).n_lost == 3
    counts = tracker.counts(STREAM)
    assert (counts.n_lost, counts.n_missing) == (2, 1)
    assert tracker.observe(window_of(seq=5, n_lost=7)).n_lost == 7


def test_what_fills_a_gap_is_told_from_what_comes_twice() -> None:
    tracker = SequenceTracker()
    observe(tracker, 0, 4)
    assert observe(tracker, 2, 2, 4, 1, 3) == [
        (ArrivalOrder.REORDERED, 0),
        (ArrivalOrder.DUPLICATE, 0),
        (ArrivalOrder.DUPLICATE, 0),
        (ArrivalOrder.REORDERED, 0),
        (ArrivalOrder.REORDERED, 0),
    ]
    counts = tracker.counts(STREAM)
    assert (counts.n_missing, counts.n_reordered, counts.n_duplicates) == (0, 3, 2)


def test_streams_and_runs_have_numbers_of_their_own() -> None:
    tracker = SequenceTracker()
    observe(tracker, 0, 1)
    assert observe(tracker, 0, run=592) == [(ArrivalOrder.NEXT, 0)]
    assert observe(tracker, 0, stream="chamber-2") == [(ArrivalOrder.NEXT, 0)]


def test_late_windows_are_counted_once() -> None:
    tracker = SequenceTracker()
    for seq in (0, 2, 1, 1):
        tracker.observe(replace(window_of(seq=seq), is_late=True))
    tracker.observe(window_of(run=592))
    assert tracker.counts(STREAM).n_late == 3


def test_a_run_has_one_type_also_after_a_restart() -> None:
    tracker, restarted = SequenceTracker(), SequenceTracker()
    tracker.observe(window_of())
    restarted.restore([verdict_of(0)])
    for each in (tracker, restarted):
        assert each.find_refusal(window_of(seq=1)) is None
        refusal = each.find_refusal(window_of(seq=1, run_type="beam"))
        assert refusal is not None
        assert refusal.reason == Reason.IDENTITY
        assert (
            "run 591 of stream chamber-1 is of type cosmics; windows of type beam need a run" in refusal.what
        )
    assert tracker.find_refusal(window_of(run=592, run_type="beam")) is None


def test_a_tracker_goes_on_where_the_store_ends() -> None:
    tracker = SequenceTracker()
    tracker.restore([verdict_of(seq) for seq in (8, 5, 6)])
    assert observe(tracker, 7, 5, 4, 9, 11) == [
        (ArrivalOrder.REORDERED, 0),
        (ArrivalOrder.DUPLICATE, 0),
        (ArrivalOrder.DUPLICATE, 0),
        (ArrivalOrder.NEXT, 0),
        (ArrivalOrder.AFTER_GAP, 1),
    ]


@pytest.mark.parametrize("ours", list(Origin))
@pytest.mark.parametrize("theirs", list(Origin))
def test_a_run_has_one_origin(ours: Origin, theirs: Origin) -> None:
    tracker = SequenceTracker()
    assert tracker.find_refusal(window_of(origin=theirs)) is None
    tracker.observe(window_of(origin=ours))
    refusal = tracker.find_refusal(window_of(seq=1, origin=theirs))
    if ours is theirs:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.reason == Reason.ORIGIN
        assert f"run 591 of stream chamber-1 is {ours}; {theirs} windows need" in refusal.what
    assert tracker.find_refusal(window_of(run=592, origin=theirs)) is None


def test_the_origin_of_a_run_survives_a_restart() -> None:
    tracker = SequenceTracker()
    tracker.restore([verdict_of(0)])
    assert tracker.find_refusal(window_of(seq=1)) is None
    assert tracker.find_refusal(window_of(seq=1, origin=Origin.REPLAYED)) is not None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, None),
        ({"origin": Origin.SIMULATED}, Reason.ORIGIN),
        ({"start": 1.0, "end": 2.0}, Reason.IDENTITY),
        ({"result": TestResult(n_data=4, n_expected=4.0)}, Reason.IDENTITY),
    ],
)
def test_another_window_of_the_same_name_is_no_duplicate(
    fields: dict[str, object], reason: str | None
) -> None:
    refusal = find_conflict(window_of(), verdict_of(0, **fields))
    assert (refusal.reason if refusal else None) == reason


def test_a_duplicate_has_the_same_events() -> None:
    first, again = window_of(digest="3f9a"), window_of(digest="3f9a")
    other = window_of(digest="77c0")
    assert find_conflict(again, first) is None
    assert find_conflict(again, verdict_of(0, digest="3f9a")) is None
    assert find_conflict(again, verdict_of(0)) is None, "the verdict of an earlier version"
    for known in (first, verdict_of(0, digest="3f9a")):
        refusal = find_conflict(other, known)
        assert refusal is not None
        assert refusal.reason == Reason.IDENTITY


def test_a_refused_window_is_not_lost() -> None:
    tracker = SequenceTracker()
    tracker.note_refused(STREAM, 591, 0)
    tracker.note_refused(STREAM, 591, 1)
    assert tracker.observe(window_of(seq=2)).n_lost == 0
    tracker.note_refused(STREAM, 591, 3)
    assert tracker.observe(window_of(seq=4)).n_lost == 0
    tracker.note_refused(STREAM, 591, 9)
    assert tracker.observe(window_of(seq=6)).n_lost == 1, (
        "5 is missing, and a claim beyond it is not believed"
    )


def test_memory_is_bounded() -> None:
    tracker = SequenceTracker()
    for run in range(1000):
        observe(tracker, *range(1, 100, 2), run=run)
    observe(tracker, *range(1, 10_000, 2), run=1000)
    runs = tracker._runs[STREAM]
    assert len(runs) == 16
    assert max(len(sequence.gaps) for sequence in runs.values()) == 256


@given(st.permutations(range(12)), st.integers(0, 12))
def test_any_order_is_accounted_for_in_full(order: list[int], n_before_restart: int) -> None:
    tracker = SequenceTracker()
    told = observe(tracker, *order[:n_before_restart])
    restarted = SequenceTracker()
    restarted.restore([verdict_of(seq) for seq in order[:n_before_restart]])
    rest = order[n_before_restart:]
    assert [arrival for arrival, _ in observe(tracker, *rest)] == [
        arrival if seq > min(order[:n_before_restart], default=-1) else ArrivalOrder.REORDERED
        for seq, (arrival, _) in zip(rest, observe(restarted, *rest), strict=True)
    ]
    assert ArrivalOrder.DUPLICATE not in [arrival for arrival, _ in told]
    assert tracker.counts(STREAM).n_missing == 0
    assert {arrival for arrival, _ in observe(tracker, *order)} == {ArrivalOrder.DUPLICATE}
