from __future__ import annotations

from dqm.events import Window
from dqm.service.backlog import Backlog

from .small import window_of


def filled(backlog: Backlog, **counts: int) -> Backlog:
    """Put windows of streams named by the keys, all of one stream before the next."""
    for stream, n in counts.items():
        for seq in range(n):
            backlog.put(window_of(stream=stream, seq=seq))
    return backlog


def names(windows: list[Window]) -> list[tuple[str, int]]:
    return [(window.stream, window.seq) for window in windows]


def taken(backlog: Backlog) -> list[tuple[str, int]]:
    windows = []
    while (window := backlog.take()) is not None:
        windows.append(window)
    return names(windows)


def test_streams_take_turns_and_keep_their_order() -> None:
    backlog = filled(Backlog(10, 60.0), a=4, b=1, c=2)
    assert taken(backlog) == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2), ("a", 3)]
    assert (len(backlog), backlog.room) == (0, 10)


def test_a_stream_that_floods_does_not_keep_the_others_waiting() -> None:
    backlog = filled(Backlog(100, 60.0), flood=90)
    assert backlog.take() is not None
    backlog.put(window_of(stream="calm"))
    assert "calm" in {window.stream for window in (backlog.take(), backlog.take()) if window}


def test_a_burst_is_worked_off_without_loss() -> None:
    backlog = filled(Backlog(6, 60.0), a=6)
    assert backlog.give_up(0.0) == []
    assert backlog.give_up(59.0) == []
    backlog.take()
    assert backlog.give_up(61.0) == []  # it was not full all the time
    backlog.put(window_of(stream="a", seq=6))
    assert backlog.give_up(100.0) == []
    assert not backlog.is_overloaded


def test_a_queue_that_stays_full_keeps_the_newest_of_each_stream() -> None:
    backlog = filled(Backlog(6, 60.0), a=4, b=2)
    backlog.give_up(0.0)
    assert names(backlog.give_up(61.0)) == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert backlog.is_overloaded
    assert (len(backlog), backlog.room) == (2, 4)
    assert taken(backlog) == [("a", 3), ("b", 1)]


def test_overload_ends_by_itself_when_the_queue_is_half_empty() -> None:
    backlog = filled(Backlog(4, 60.0), a=4)
    backlog.give_up(0.0)
    assert len(backlog.give_up(61.0)) == 3
    filled(backlog, b=3)
    assert names(backlog.give_up(61.5)) == [("b", 0), ("b", 1)]  # at once: it still cannot keep up
    assert backlog.give_up(62.0) == []
    assert not backlog.is_overloaded
    filled(backlog, c=2)
    assert backlog.give_up(63.0) == []
