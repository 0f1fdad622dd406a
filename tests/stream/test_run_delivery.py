"""Messages about runs between a real sender and a real receiver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from dqm.errors import PeerError
from dqm.events import RunEvent, RunNotice, Window
from dqm.stream import Reason, Receiver, RunMessage, Sender, Spool, encode_run
from dqm.stream.acknowledgement import encode_acknowledgement, encode_refusal

from .windows import window_of

WAIT_MS = 60_000
WAIT_SECONDS = WAIT_MS / 1000
BEGIN = RunNotice("chamber-1", 591, "cosmics", RunEvent.BEGIN, 1.7e9)
END = RunNotice("chamber-1", 591, "cosmics", RunEvent.END, 1.7e9 + 60.0, "operator")


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/windows"


def take(receiver: Receiver, sender: Sender) -> Window | RunMessage | PeerError:
    for _ in range(200):
        sender.pump()
        if (message := receiver.receive(50)) is not None:
            return message
    raise AssertionError("nothing came")


def told(message: Window | RunMessage | PeerError) -> str:
    assert not isinstance(message, PeerError)
    return message.notice.event.value if isinstance(message, RunMessage) else str(message.seq)


def test_the_borders_of_a_run_are_around_its_windows(address: str) -> None:
    with Receiver([address]) as receiver, Sender(address) as sender:
        sender.announce(BEGIN)
        for seq in range(100):  # more than may be in flight
            sender.send(window_of(seq=seq))
        sender.announce(END)
        sender.announce(END)
        order = []
        while sender.n_kept or sender.n_announced:
            message = take(receiver, sender)
            order.append(told(message))
            if isinstance(message, RunMessage):
                receiver.answer_run(message)
            else:
                assert isinstance(message, Window)
                receiver.acknowledge(message)
            sender.confirm(0.01)
        assert order == ["begin", *map(str, range(100)), "end"]


def test_what_a_restarted_daemon_has_not_answered_comes_again_in_order(address: str) -> None:
    with Sender(address) as sender:
        with Receiver([address]) as first:
            sender.announce(BEGIN)
            sender.send(window_of())
            sender.announce(END)
            assert [told(take(first, sender)) for _ in range(3)] == ["begin", "0", "end"]
        with Receiver([address]) as second:
            assert [told(take(second, sender)) for _ in range(3)] == ["begin", "0", "end"]


def test_a_refusal_comes_back_with_reason_and_words(address: str) -> None:
    with Receiver([address]) as receiver, Sender(address) as sender:
        sender.announce(END)
        message = take(receiver, sender)
        assert isinstance(message, RunMessage)
        receiver.answer_run(message, PeerError(Reason.RUN_ENDED, "run 591 ended already"))
        assert sender.confirm(WAIT_SECONDS)
        (refusal,) = sender.run_refusals
        assert (refusal.reason, refusal.what) == ("run-ended", "run 591 ended already")


def test_a_damaged_message_is_refused_and_answered_if_it_says_which_run(address: str) -> None:
    frame = encode_run(END).replace(b"cosmics", b"not a name")
    with Receiver([address]) as receiver, zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(address)
        socket.send(frame)
        refusal = receiver.receive(WAIT_MS)
        assert isinstance(refusal, PeerError)
        assert (refusal.reason, refusal.run, refusal.window) == ("header-field", ("chamber-1", 591), None)
        assert socket.poll(WAIT_MS)
        kind, text = socket.recv_multipart()
        assert kind == b"nak"
        assert b'"streams":"chamber-1","run":591,"event":"end"' in text


def test_a_spool_keeps_the_borders_of_a_run(address: str, tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool, Sender(address, spool=spool) as sender:
        sender.announce(BEGIN)
        sender.send(window_of())
        sender.announce(END)
    with (
        Spool(tmp_path / "spool") as spool,
        Receiver([address]) as receiver,
        Sender(address, spool=spool) as sender,
    ):
        messages = [take(receiver, sender) for _ in range(3)]
        assert [told(message) for message in messages] == ["begin", "0", "end"]
        for message in messages:
            if isinstance(message, RunMessage):
                receiver.answer_run(message)
        assert not sender.confirm(0.2)
        assert (spool.load_runs(), len(spool.load())) == ([], 1)


@pytest.fixture
def old_daemon(address: str) -> Iterator[zmq.Socket[bytes]]:
    """A daemon of version 1: it answers windows, and has no answer for a message of one frame."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind(address)
        yield socket


def serve(daemon: zmq.Socket[bytes], sender: Sender, n: int, *, refuse: bool = False) -> None:
    """Answer windows until so many were answered."""
    while n:
        sender.pump()
        if not daemon.poll(20):
            continue
        peer, *frames = daemon.recv_multipart()
        if len(frames) == 2:
            identity = ("chamber-1", 591, int(frames[0].partition(b'"seq":')[2].partition(b",")[0]))
            answer = encode_refusal(identity, "origin") if refuse else encode_acknowledgement(identity)
            daemon.send_multipart([peer, *answer])
            n -= 1


def test_a_daemon_of_version_1_holds_up_no_window_and_no_connection(
    address: str, old_daemon: zmq.Socket[bytes]
) -> None:
    with Sender(address, ack_timeout_seconds=0.1) as sender:
        sender.announce(BEGIN)
        sender.send(window_of(seq=0))
        serve(old_daemon, sender, 1)
        assert sender.confirm(WAIT_SECONDS)
        assert (sender.n_announced, sender.n_kept) == (0, 0), "the begin is forgotten with a later window"
        sender.announce(END)
        assert not sender.confirm(0.5)
        assert (sender.n_announced, sender.n_kept, sender.n_repeated) == (1, 0, 0)
        sender.send(window_of(seq=1))
        serve(old_daemon, sender, 1)
        assert sender.confirm(WAIT_SECONDS)


def test_a_refused_window_is_no_sign_that_a_border_is_stored(
    address: str, old_daemon: zmq.Socket[bytes]
) -> None:
    with Sender(address) as sender:
        sender.announce(BEGIN)
        sender.send(window_of(seq=0))
        serve(old_daemon, sender, 1, refuse=True)
        assert not sender.confirm(0.3)
        assert (sender.n_announced, sender.n_kept) == (1, 0)
