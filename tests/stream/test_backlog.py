"""What a sender keeps: never out of order, never beyond its room, every loss told once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.errors import InputError
from dqm.stream.backlog import MAX_IN_FLIGHT, Backlog, Message
from dqm.stream.wire import header_of, payload_of

from .windows import window_of


def message_of(seq: int, stream: str = "chamber-1") -> Message:
    window = window_of(seq=seq, stream=stream)
    return Message(header_of(window), payload_of(window))


def filled(n: int, room: int = 1000) -> Backlog:
    backlog = Backlog(room, 2**30)
    for seq in range(n):
        backlog.add(message_of(seq))
    return backlog


def send_all(backlog: Backlog) -> list[tuple[int, int]]:
    """Send what may be sent; gives seq and n_lost of each."""
    sent = []
    while (message := backlog.next()) is not None:
        backlog.mark_sent(message)
        sent.append((message.header.seq, message.header.n_lost))
    return sent


def identity(seq: int) -> tuple[str, int, int]:
    return message_of(seq).identity


def test_so_many_are_in_flight_and_no_more() -> None:
    backlog = filled(100)
    assert len(send_all(backlog)) == MAX_IN_FLIGHT
    assert backlog.mark_answered(identity(3))
    assert send_all(backlog) == [(MAX_IN_FLIGHT, 0)]
    assert not backlog.mark_answered(identity(3))


def test_what_an_earlier_process_may_have_sent_is_dropped_last() -> None:
    """The daemon may have judged it: it would be told to be lost, and is not."""
    backlog = Backlog(MAX_IN_FLIGHT + 2, 2**30)
    backlog.restore(message_of(seq) for seq in range(MAX_IN_FLIGHT + 2))
    for seq in range(MAX_IN_FLIGHT + 2, MAX_IN_FLIGHT + 6):
        backlog.add(message_of(seq))
    assert backlog.make_room() == [identity(MAX_IN_FLIGHT + n) for n in range(4)]
    assert send_all(backlog) == [(seq, 0) for seq in range(MAX_IN_FLIGHT)]
    backlog.mark_answered(identity(0))
    backlog.mark_answered(identity(1))
    assert send_all(backlog) == [(MAX_IN_FLIGHT + 4, 4), (MAX_IN_FLIGHT + 5, 0)]


def test_without_room_the_oldest_that_was_never_sent_is_dropped() -> None:
    backlog = filled(MAX_IN_FLIGHT + 4, room=MAX_IN_FLIGHT + 2)
    send_all(backlog)
    assert backlog.make_room() == [identity(MAX_IN_FLIGHT), identity(MAX_IN_FLIGHT + 1)]
    assert not backlog.has_room
    assert backlog.n_lost == 2
    backlog.requeue(broken=True)
    backlog.add(message_of(MAX_IN_FLIGHT + 4))
    assert backlog.make_room() == [identity(MAX_IN_FLIGHT + 2)]
    assert send_all(backlog) == [(0, 0)]


def test_the_next_window_of_the_run_tells_the_loss_however_often_it_is_sent() -> None:
    backlog = filled(3, room=2)
    backlog.add(message_of(0, stream="chamber-2"))
    backlog.make_room()
    for _ in range(2):
        message = backlog.next()
        assert message
        assert (message.header.seq, message.header.n_lost) == (2, 2)
        backlog.mark_sent(message)
        backlog.requeue(broken=True)


def test_bytes_are_bounded_too() -> None:
    one = len(message_of(0).payload)
    backlog = Backlog(1000, 3 * one)
    for seq in range(10):
        backlog.add(message_of(seq))
        backlog.make_room()
    assert len(backlog) == 3
    tight = Backlog(1000, 1)
    tight.add(message_of(0))
    assert tight.make_room() == []
    assert not tight.has_room


def test_after_a_break_one_goes_alone_until_answers_come() -> None:
    backlog = filled(20)
    send_all(backlog)
    assert backlog.requeue(broken=True) == []
    assert send_all(backlog) == [(0, 0)]
    backlog.mark_answered(identity(0))
    assert send_all(backlog) == [(1, 0), (2, 0)]


def test_a_window_that_breaks_every_connection_is_given_up_if_others_come_through() -> None:
    backlog = filled(3)
    given_up = []
    for _ in range(20):
        message = backlog.next()
        if message is None:
            break
        backlog.mark_sent(message)
        if message.header.seq == 0:
            given_up += backlog.requeue(broken=True)
        else:
            backlog.mark_answered(message.identity)
    assert given_up == [identity(0)]
    assert (backlog.n_lost, backlog.n_answered, len(backlog)) == (1, 2, 0)


def test_a_window_whose_connections_broke_for_another_reason_is_not_given_up() -> None:
    """Connections that live a second or two break again and again, and some windows meet several of them."""
    backlog = filled(3)
    lost = []

    def send_one(*, is_broken: bool) -> int:
        message = backlog.next()
        assert message
        backlog.mark_sent(message)
        if is_broken:
            lost.extend(backlog.requeue(broken=True))
        else:
            backlog.mark_answered(message.identity)
        return message.header.seq

    assert [send_one(is_broken=True) for _ in range(5)] == [0] * 5
    assert [send_one(is_broken=False) for _ in range(2)] == [1, 2]
    assert [send_one(is_broken=True) for _ in range(4)] == [0] * 4
    assert send_one(is_broken=False) == 0
    assert (lost, backlog.n_lost, backlog.n_answered) == ([], 0, 3)


def test_no_window_is_given_up_while_none_comes_through() -> None:
    backlog = filled(3)
    for _ in range(100):
        message = backlog.next()
        assert message
        backlog.mark_sent(message)
        assert backlog.requeue(broken=True) == []
    assert len(backlog) == 3


def test_silence_alone_gives_nothing_up() -> None:
    backlog = filled(1)
    for _ in range(20):
        send_all(backlog)
        assert backlog.requeue(broken=False) == []
    assert len(backlog) == 1


def test_a_buffer_has_room() -> None:
    with pytest.raises(InputError, match="buffer_windows must be at least 1, got 0"):
        Backlog(0, 1)


@given(st.lists(st.sampled_from(["add", "send", "answer", "break", "silence"]), max_size=200), st.data())
def test_whatever_happens_windows_leave_in_order_and_losses_are_told(
    steps: list[str], data: st.DataObject
) -> None:
    room = data.draw(st.integers(1, 5))
    backlog = Backlog(room, 2**30)
    n_added = told = 0
    settled: set[int] = set()
    dropped: set[int] = set()
    flying: list[Message] = []
    for step in steps:
        if step == "add":
            backlog.add(message_of(n_added))
            n_added += 1
            dropped |= {seq for _, _, seq in backlog.make_room()}
        elif step == "send" and (message := backlog.next()) is not None:
            told += 0 if message.was_sent else message.header.n_lost
            backlog.mark_sent(message)
            assert not flying or flying[-1].header.seq < message.header.seq
            flying.append(message)
        elif step == "answer" and flying:
            message = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            assert backlog.mark_answered(message.identity)
            settled.add(message.header.seq)
        elif step in {"break", "silence"} and len(flying) != 1:
            assert backlog.requeue(broken=step == "break") == []
            flying = []
        assert len(backlog) <= room
    assert settled | dropped | {seq for seq in range(n_added) if identity(seq) in backlog} == set(
        range(n_added)
    )
    assert told <= backlog.n_lost == len(dropped)
