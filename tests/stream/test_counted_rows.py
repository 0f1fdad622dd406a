"""Rows that stand for several events: on the wire, and when windows are cut."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.errors import InputError, PeerError
from dqm.events import EventBatch, Origin, Window, WindowCut
from dqm.stream import CountCutter, CountedCutter, Reason, RunLabel, TimeCutter, WholeCutter, decode, encode

START = 1_700_000_000.0
LABEL = RunLabel(run=591, origin=Origin.REPLAYED)
NAMES = ("channel", "hits")


def counted(x: object, **fields: object) -> Window:
    plain: dict[str, object] = {
        "stream": "chamber-1.channels",
        "run": 7,
        "seq": 0,
        "run_type": "cosmics",
        "origin": Origin.LIVE,
        "cut": WindowCut.TIME,
        "names": NAMES,
        "x": np.asarray(x, dtype=float),
        "start": START,
        "end": START + 10.0,
        "live_seconds": 10.0,
        "n_expected": 100.0,
        "counts": "hits",
    }
    return Window(**(plain | fields))  # type: ignore[arg-type]


def counts_batch(step: int, hits: list[float], chamber: str = "1.channels") -> EventBatch:
    """Hits of channels 0, 1, ... in one second."""
    x = np.column_stack([np.arange(float(len(hits))), hits])
    begin = START + step
    return EventBatch(chamber, NAMES, x, np.full(len(hits), begin), begin, begin + 1.0, counts="hits")


@given(st.lists(st.floats(0.0, 1e9), max_size=20))
def test_counted_rows_arrive_as_they_were_sent(hits: list[float]) -> None:
    window = counted(np.column_stack([np.arange(float(len(hits))), hits]).reshape(-1, 2))
    received = decode(encode(window))
    assert received.counts == "hits"
    assert received.x.tobytes() == window.x.tobytes()
    assert received.n_events == round(sum(hits))


def test_only_counted_rows_need_version_2() -> None:
    header = json.loads(encode(counted([[1, 2]]))[0])
    assert (header["version"], header["counts"]) == (2, "hits")
    plain = json.loads(encode(counted([[1, 2]], counts=""))[0])
    assert plain["version"] == 1
    assert "counts" not in plain, "daemons that know only version 1 refuse other fields"


def test_what_counts_is_part_of_the_window() -> None:
    events = decode(encode(counted([[1, 2]], counts="")))
    assert decode(encode(counted([[1, 2]]))).digest != events.digest
    assert events.n_events == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 1}, "counts needs version 2"),
        ({"counts": "other"}, "counts names other, which is not a feature"),
        ({"features": ["hits"]}, "counts needs another feature"),
    ],
)
def test_a_header_with_counts_that_make_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    header, payload = encode(counted([[1, 2]]))
    with pytest.raises(PeerError, match=message) as caught:
        decode([json.dumps(json.loads(header) | changes).encode(), payload])
    assert caught.value.reason == Reason.HEADER_FIELD


def test_counted_rows_may_be_cut_by_count() -> None:
    window = replace(counted([[1, 2]]), cut=WindowCut.COUNT, n_expected=None)
    assert decode(encode(window)).n_events == window.n_events


def test_negative_counts_are_refused_on_both_sides() -> None:
    header = encode(counted([[1, 2]]))[0]
    payload = encode(counted([[1, -2]], counts=""))[1]
    with pytest.raises(PeerError, match="hits has -2; counts are 0 or more") as caught:
        decode([header, payload])
    assert caught.value.reason == Reason.COUNTS
    with pytest.raises(InputError, match="hits has -2"):
        encode(counted([[1, -2]]))
    assert decode(encode(counted([[-1, 2]]))).n_events == 2, "only counts must not be negative"


def test_rows_of_a_window_are_added_up() -> None:
    cutter = TimeCutter(3.0, 50.0, LABEL, {"1.channels": "chamber-1.channels"})
    hits = [[1.0, 0.0, 5.0], [2.0, 0.0, 5.0], [3.0, 1.0, 5.0], [7.0, 7.0, 7.0]]
    (window,) = [w for step, row in enumerate(hits) for w in cutter.push(counts_batch(step, row))]
    assert window.x.tolist() == [[0.0, 6.0], [1.0, 1.0], [2.0, 15.0]]
    assert (window.stream, window.counts, window.live_seconds) == ("chamber-1.channels", "hits", 3.0)
    assert (window.n_events, window.n_expected) == (22, 150.0)


def test_rows_are_added_up_if_all_other_columns_are_equal() -> None:
    cutter = TimeCutter(2.0, 50.0, LABEL)
    names = ("hits", "x", "y")
    for step in range(2):
        x = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 2.0], [4.0, 1.0, 1.0]])
        begin = START + step
        batch = EventBatch("1", names, x, np.full(3, begin), begin, begin + 1.0, counts="hits")
        windows = cutter.push(batch)
    assert windows[0].x.tolist() == [[10.0, 1.0, 1.0], [4.0, 1.0, 2.0]]


def test_events_and_counted_rows_are_cut_side_by_side() -> None:
    cutter = CountedCutter(CountCutter(4, LABEL), TimeCutter(2.0, 50.0, LABEL))
    windows = []
    for step in range(4):
        begin = START + step
        times = begin + np.array([0.1, 0.2, 0.3])
        windows += cutter.push(EventBatch("1", ("t",), np.ones((3, 1)), times, begin, begin + 1.0))
        assert len(cutter.cuts) == (step > 0)
        windows += cutter.push(counts_batch(step, [1.0, 2.0]))
        assert [end.n_events for end in cutter.cuts] == [2] * (step % 2)
    assert cutter.first_edges == {"1.channels": START}
    windows += cutter.close()
    assert [(w.stream, w.seq, w.n_events) for w in windows if not w.counts] == [
        ("1", 0, 4), ("1", 1, 4), ("1", 2, 4)
    ]  # fmt: skip
    assert [(w.stream, w.seq, w.n_events) for w in windows if w.counts] == [
        ("1.channels", 0, 6), ("1.channels", 1, 6)
    ]  # fmt: skip
    assert cutter.n_left == {"1": 0}


def test_counted_rows_without_a_length_of_their_windows_are_refused() -> None:
    with pytest.raises(InputError, match=r"nothing says how to cut them.*\[channels\]"):
        CountedCutter(CountCutter(4, LABEL), None).push(counts_batch(0, [1.0]))
    with pytest.raises(InputError, match="rows are counted by 'n', which is not a column"):
        TimeCutter(2.0, 50.0, LABEL).push(replace(counts_batch(0, [1.0]), counts="n"))


def state(begin: float, end: float, contents: list[float], chamber: str = "h") -> EventBatch:
    """What a histogram has got in a time."""
    x = np.column_stack([np.arange(len(contents)), contents])
    return EventBatch(chamber, ("x", "events"), x, None, START + begin, START + end, counts="events")


def test_states_of_a_histogram_make_whole_windows_by_live_time() -> None:
    cutter = WholeCutter(LABEL, {"h": "drift"}, seconds=3.0, rate_hz=5.0)
    windows = [
        w
        for begin, end in [(0, 2), (2, 5), (5, 6), (8, 10), (10, 11)]
        for w in cutter.push(state(begin, end, [1, 2]))
    ]
    assert [w.n_events for w in windows] == [6, 6]
    assert [(w.stream, w.seq, w.cut, w.live_seconds, w.n_expected) for w in windows] == [
        ("drift", 0, "time", 5.0, 25.0), ("drift", 1, "time", 3.0, 15.0)
    ]  # fmt: skip
    assert (windows[1].start, windows[1].end) == (START + 5, START + 10), "the time between was not live"
    assert windows[0].x.tolist() == [[0.0, 2.0], [1.0, 4.0]]
    assert cutter.n_left == {"drift": 3}
    assert cutter.close() == []
    cutter.push(state(11, 12, [1, 0]))
    assert [w.n_events for w in cutter.close()] == [4]


def test_states_of_a_histogram_make_windows_by_their_events() -> None:
    cutter = WholeCutter(LABEL, n_events=10)
    sizes = [[w.n_events for w in cutter.push(state(k, k + 1, [4, k]))] for k in range(6)]
    assert sizes == [[], [], [15], [], [15], []]
    (window,) = cutter.push(state(6, 8, [9, 9]))
    assert (window.cut, window.n_expected, window.live_seconds) == ("count", None, 3.0)
    assert cutter.push(EventBatch("h", ("x", "events"), np.empty((0, 2)), counts="events")) == []
    assert cutter.close() == []


def test_chambers_have_rates_of_their_own() -> None:
    rates = {"a": 7.0}
    whole = WholeCutter(LABEL, seconds=1.0, rate_hz=5.0, rates_hz=rates)
    assert [whole.push(state(0, 1, [1], name))[0].n_expected for name in ("a", "b")] == [7.0, 5.0]
    single = TimeCutter(1.0, 5.0, LABEL, rates_hz=rates)
    batches = [EventBatch(n, ("t",), np.empty((0, 1)), np.empty(0), START, START + 1.0) for n in ("a", "b")]
    assert [single.push(batch)[0].n_expected for batch in batches] == [7.0, 5.0]


def test_states_go_to_their_cutter_and_time_does_not_go_back() -> None:
    whole = WholeCutter(LABEL, seconds=1.0, rate_hz=5.0)
    cutter = CountedCutter(CountCutter(4, LABEL), None, whole)
    assert [w.n_events for w in cutter.push(state(0, 1, [3, 4]))] == [7]
    assert [end.n_events for end in cutter.cuts] == [2]
    with pytest.raises(InputError, match="time went back"):
        cutter.push(state(0, 1, [3, 4]))
    events = EventBatch("e", ("t",), np.ones((2, 1)), None, START, START + 1)
    with pytest.raises(InputError, match="only a batch of counted rows may have no times"):
        cutter.push(events)


@pytest.mark.parametrize("step", [0.1, 1.0 / 3.0, 0.7, 1.0])
@pytest.mark.parametrize("start", [0.0, 0.1, 1_700_000_000.123, 1_790_000_000.0])
def test_rounding_moves_no_step_into_the_window_before(step: float, start: float) -> None:
    """The start of a step and the edge of a window are sums of floats that differ in the last bit."""
    cutter, windows = TimeCutter(5 * step, 1.0, LABEL), []
    for k in range(3, 1003):
        begin, end = start + k * step, start + (k + 1) * step
        x = np.array([[float(channel), 1.0] for channel in range(3)])
        windows += cutter.push(EventBatch("1", NAMES, x, np.full(3, begin), begin, end, counts="hits"))
    assert len(windows) >= 199
    assert {window.n_events for window in windows} == {15}
