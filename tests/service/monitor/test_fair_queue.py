from __future__ import annotations

from dqm.events import Window
from dqm.service.monitor.fair_queue import FairQueue
from tests.service.small import window_of


def filled(queue: FairQueue, **counts: int) -> FairQueue:
    """Put windows of streams named by the keys, all of one stream before the next."""
    for stream, n in counts.items():
        for seq in range(n):
            queue.put(window_of(stream=stream, seq=seq))
    return queue


def names(windows: list[Window]) -> list[tuple[str, int]]:
    return [(window.stream, window.seq) for window in windows]


def taken(queue: FairQueue) -> list[tuple[str, int]]:
    windows = []
    while (window := queue.take()) is not None:
        windows.append(window)
    return names(windows)


def test_streams_take_turns_and_keep_their_order() -> None:
    queue = filled(FairQueue(10, 60.0), a=4, b=1, c=2)
    assert taken(queue) == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("a", 2), ("a", 3)]
    assert (len(queue), queue.room) == (0, 10)


def test_a_stream_that_floods_does_not_keep_the_others_waiting() -> None:
    queue = filled(FairQueue(100, 60.0), flood=90)
    assert queue.take() is not None
    queue.put(window_of(stream="calm"))
    assert "calm" in {window.stream for window in (queue.take(), queue.take()) if window}


def test_a_burst_is_worked_off_without_loss() -> None:
    queue = filled(FairQueue(6, 60.0), a=6)
    assert queue.give_up(0.0) == []
    assert queue.give_up(59.0) == []
    queue.take()
    assert queue.give_up(61.0) == []  # it was not full all the time
    queue.put(window_of(stream="a", seq=6))
    assert queue.give_up(100.0) == []
    assert not queue.is_overloaded


def test_a_queue_that_stays_full_keeps_the_newest_of_each_stream() -> None:
    queue = filled(FairQueue(6, 60.0), a=4, b=2)
    queue.give_up(0.0)
    assert names(queue.give_up(61.0)) == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert queue.is_overloaded
    assert (len(queue), queue.room) == (2, 4)
    assert taken(queue) == [("a", 3), ("b", 1)]


def test_overload_ends_by_itself_when_the_queue_is_half_empty() -> None:
    queue = filled(FairQueue(4, 60.0), a=4)
    queue.give_up(0.0)
    assert len(queue.give_up(61.0)) == 3
    filled(queue, b=3)
    assert names(queue.give_up(61.5)) == [("b", 0), ("b", 1)]  # at once: it still cannot keep up
    assert queue.give_up(62.0) == []
    assert not queue.is_overloaded
    filled(queue, c=2)
    assert queue.give_up(63.0) == []
