from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.errors import InputError
from dqm.events import EventBatch, Measurement, Origin, Window, WindowCut
from dqm.stream import CountCutter, Cutter, RunLabel, TimeCutter

LABEL = RunLabel(run=591, run_type="cosmics", origin=Origin.REPLAYED)
START = 1_700_000_000.0


def batches_of(times: np.ndarray, edges: Iterable[float], chamber: str = "1") -> list[EventBatch]:
    """Split events, whose only feature is their number, at times `edges`."""
    numbers = np.arange(float(len(times)))[:, None]
    edges = list(edges)
    places = np.searchsorted(times, edges)
    return [
        EventBatch(chamber, ("number",), numbers[a:b], times[a:b], start, end)
        for a, b, start, end in zip(places, places[1:], edges, edges[1:], strict=False)
    ]


def clockless(sizes: list[int], chamber: str = "1") -> list[EventBatch]:
    numbers = np.arange(float(sum(sizes)))[:, None]
    return [EventBatch(chamber, ("number",), part) for part in np.split(numbers, np.cumsum(sizes)[:-1])]


def run(cutter: Cutter, batches: Iterable[EventBatch]) -> list[Window]:
    windows = [window for batch in batches for window in cutter.push(batch)]
    return windows + cutter.close()


def numbers_in(windows: list[Window]) -> list[float]:
    return [number for window in windows for number in window.x[:, 0].tolist()]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 50))
def test_count_loses_doubles_and_reorders_nothing(sizes: list[int], n_events: int) -> None:
    cutter = CountCutter(n_events, LABEL)
    windows = run(cutter, clockless(sizes))
    n_kept = sum(sizes) // n_events * n_events
    assert all(len(window.x) == n_events for window in windows)
    assert numbers_in(windows) == list(range(n_kept))
    assert [window.seq for window in windows] == list(range(len(windows)))
    assert cutter.n_left == {"1": sum(sizes) - n_kept}


@st.composite
def timelines(draw: st.DrawFn) -> tuple[np.ndarray, list[float]]:
    """Event times and edges of batches, on a grid fine enough to hit edges of windows exactly."""
    edges = sorted(draw(st.sets(st.integers(0, 400), min_size=2, max_size=20)))
    ticks = draw(st.lists(st.integers(edges[0], edges[-1] - 1), max_size=60))
    return START + np.sort(np.array(ticks, dtype=float)) / 8, [START + edge / 8 for edge in edges]


@given(timelines(), st.integers(1, 100))
def test_time_loses_doubles_and_reorders_nothing(
    timeline: tuple[np.ndarray, list[float]], ticks: int
) -> None:
    times, edges = timeline
    seconds = ticks / 8
    cutter = TimeCutter(seconds, 2.0, LABEL)
    windows = run(cutter, batches_of(times, edges))
    assert numbers_in(windows) == list(range(len(times) - cutter.n_left["1"]))
    assert [window.seq for window in windows] == list(range(len(windows)))
    left_seconds = edges[-1] - edges[0] - sum(window.live_seconds or 0.0 for window in windows)
    assert 0.0 <= left_seconds < seconds / 2
    for window in windows:
        assert window.start is not None
        assert window.end is not None
        assert window.n_expected == pytest.approx(2.0 * (window.end - window.start))
        inside = times[window.x[:, 0].astype(int)]
        assert ((window.start <= inside) & (inside < window.end)).all()
    assert all(window.live_seconds == seconds for window in windows[:-1])


@given(timelines(), st.integers(1, 100))
def test_the_splitting_into_batches_does_not_matter(
    timeline: tuple[np.ndarray, list[float]], ticks: int
) -> None:
    times, edges = timeline

    def by_time() -> Cutter:
        return TimeCutter(ticks / 8, 2.0, LABEL)

    def by_count() -> Cutter:
        return CountCutter(ticks, LABEL)

    for make in (by_time, by_count):
        split = run(make(), batches_of(times, edges))
        whole = run(make(), batches_of(times, [edges[0], edges[-1]]))
        assert [(w.x.tolist(), w.start, w.end, w.live_seconds) for w in split] == [
            (w.x.tolist(), w.start, w.end, w.live_seconds) for w in whole
        ]


def test_a_window_by_time_has_the_label_and_the_rate() -> None:
    times = START + np.array([1.0, 2.0, 12.0])
    first, second, rest = run(TimeCutter(10.0, 0.3, LABEL), batches_of(times, START + np.array([0, 5, 25])))
    assert (first.run, first.run_type, first.origin, first.cut) == (591, "cosmics", "replayed", "time")
    assert (first.start, first.end, first.live_seconds) == (START, START + 10.0, 10.0)
    assert first.n_expected == pytest.approx(3.0)
    assert [len(window.x) for window in (first, second, rest)] == [2, 1, 0]
    assert (rest.start, rest.end, rest.live_seconds) == (START + 20.0, START + 25.0, 5.0)
    assert rest.n_expected == pytest.approx(1.5)


def test_time_without_events_gives_windows_without_events() -> None:
    windows = run(TimeCutter(1.0, 5.0, LABEL), batches_of(np.empty(0), [START, START + 3.0]))
    assert [(window.x.shape, window.n_expected) for window in windows] == [((0, 1), 5.0)] * 3


def test_a_gap_shortens_live_time_and_leaves_out_windows_that_nothing_covers() -> None:
    times = START + np.array([0.5, 100_000.25])
    before, after = (batches_of(times, [START + a, START + b])[0] for a, b in [(0, 1), (100_000, 100_001)])
    cutter = TimeCutter(10.0, 2.0, LABEL)
    (window,) = run(cutter, [before, after])
    assert (window.seq, window.live_seconds, window.n_expected) == (0, 1.0, 2.0)
    assert cutter.n_left == {"1": 1}, "a tenth of a window, when the source ends, is no window"


def test_a_window_by_count_ends_with_its_last_event() -> None:
    times = START + np.array([1.0, 2.0, 3.0, 12.0])
    first, second = run(CountCutter(2, LABEL), batches_of(times, START + np.array([0, 5, 20])))
    assert (first.start, first.end, first.live_seconds) == (START, START + 2.0, 2.0)
    assert (second.start, second.end, second.live_seconds) == (START + 2.0, START + 12.0, 10.0)
    assert first.cut is WindowCut.COUNT
    assert first.n_expected is None


def test_chambers_are_streams_numbered_on_their_own() -> None:
    cutter = CountCutter(2, LABEL, {"1": "inner"})
    windows = run(cutter, [*clockless([5]), *clockless([3], "2"), *clockless([1])])
    assert [(window.stream, window.seq) for window in windows] == [
        ("inner", 0),
        ("inner", 1),
        ("2", 0),
        ("inner", 2),
    ]
    assert cutter.n_left == {"inner": 0, "2": 1}


def test_a_window_tells_the_latest_reading_and_all_conditions_of_its_own_batches() -> None:
    def batch(reading: float, time: float, **conditions: float) -> EventBatch:
        return EventBatch(
            "1",
            ("a",),
            np.zeros((2, 1)),
            auxiliary=(Measurement("pressure", reading, 1.0, time),),
            conditions=conditions,
        )

    batches = [batch(1.0, 10.0, hv=1.0, x=0.0), batch(2.0, 20.0, hv=2.0), batch(3.0, 15.0)]
    first, second = run(CountCutter(3, LABEL), batches)
    assert [m.value for m in first.auxiliary] == [2.0]
    assert first.conditions == {"hv": 2.0, "x": 0.0}
    assert [m.value for m in second.auxiliary] == [2.0], "the later reading, though it came first"
    assert second.conditions == {"hv": 2.0}


def bad_batch(**changes: object) -> EventBatch:
    plain: dict[str, object] = {
        "chamber": "1",
        "names": ("a",),
        "x": np.zeros((2, 1)),
        "times": np.array([1.0, 2.0]),
        "start": 0.0,
        "end": 3.0,
    }
    return EventBatch(**(plain | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((2, 2))}, "shape"),
        ({"x": np.zeros(2)}, "shape"),
        ({"start": None}, "all be given"),
        ({"start": 4.0}, "starts at"),
        ({"start": float("nan")}, "starts at"),
        ({"times": np.array([1.0])}, "times of shape"),
        ({"times": np.array([2.0, 1.0])}, "ascend"),
        ({"times": np.array([1.0, 3.0])}, "ascend"),
        ({"times": np.array([-1.0, 1.0])}, "ascend"),
        ({"times": np.array([np.nan, 1.0])}, "ascend"),
    ],
)
@pytest.mark.parametrize("cutter", [CountCutter(2, LABEL), TimeCutter(1.0, 1.0, LABEL)])
def test_a_batch_that_contradicts_itself_is_refused(
    cutter: Cutter, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        cutter.push(bad_batch(**changes))


def test_features_may_not_change() -> None:
    cutter = CountCutter(2, LABEL)
    cutter.push(clockless([1])[0])
    with pytest.raises(InputError, match="features changed from number to other"):
        cutter.push(EventBatch("1", ("other",), np.zeros((1, 1))))


def test_two_chambers_may_not_share_a_stream() -> None:
    cutter = CountCutter(2, LABEL, {"2": "1"})
    cutter.push(clockless([1])[0])
    with pytest.raises(InputError, match="both feed stream '1'"):
        cutter.push(clockless([1], "2")[0])


def test_time_needs_a_clock_that_goes_forward() -> None:
    cutter = TimeCutter(1.0, 1.0, LABEL)
    with pytest.raises(InputError, match="source with a clock"):
        cutter.push(clockless([1], "2")[0])
    cutter.push(bad_batch())
    with pytest.raises(InputError, match="time went back"):
        cutter.push(bad_batch())


@pytest.mark.parametrize(
    ("seconds", "rate"), [(0.0, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, float("inf"))]
)
def test_numbers_out_of_range_are_refused(seconds: float, rate: float) -> None:
    with pytest.raises(InputError):
        TimeCutter(seconds, rate, LABEL)


def test_a_window_needs_an_event() -> None:
    with pytest.raises(InputError):
        CountCutter(0, LABEL)
