from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import zmq

from dqm.errors import ConfigError, InputError, PeerError
from dqm.events import Window
from dqm.stream import Limits, Reason, Receiver, Sender, encode
from dqm.stream.acknowledgement import identity_of
from dqm.stream.backlog import Backlog, Message
from tests.waiting import wait_until

from .windows import window_of
from .zmtp import GREETING, connect, end_handshake, frames_of

WAIT_MS = 60_000
WAIT_SECONDS = WAIT_MS / 1000


@pytest.fixture(params=["tcp://127.0.0.1:0", "tcp://[::1]:0", "ipc"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    address = f"ipc://{tmp_path}/windows" if request.param == "ipc" else request.param
    with Receiver([address], Limits(max_payload_bytes=100_000)) as opened:
        yield opened


@pytest.fixture
def stranger(receiver: Receiver) -> Iterator[zmq.Socket[bytes]]:
    """A socket that keeps no rule of the format."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.ipv6 = "[" in receiver.addresses[0]
        socket.connect(receiver.addresses[0])
        yield socket


def receive(receiver: Receiver) -> Window:
    window = receiver.receive(WAIT_MS)
    assert isinstance(window, Window)
    return window


def test_windows_arrive_in_order(receiver: Receiver) -> None:
    with Sender(receiver.addresses[0]) as sender:
        for seq in range(100):
            sender.send(window_of(seq=seq))
        assert serve(receiver, sender) == list(range(100))
        assert (sender.n_sent, sender.n_repeated, sender.n_lost, sender.n_kept) == (100, 0, 0, 0)
    assert receiver.receive(0) is None


def test_a_refusal_says_why_and_the_next_message_is_received(
    receiver: Receiver, stranger: zmq.Socket[bytes]
) -> None:
    for frames in ([b"x"], [b"x"] * 1000, [b"{}", b""], encode(window_of(seq=5))):
        stranger.send_multipart(frames)
    reasons = [receiver.receive(WAIT_MS) for _ in range(3)]
    assert [error.reason for error in reasons if isinstance(error, PeerError)] == [
        Reason.FRAMES,
        Reason.FRAMES,
        Reason.VERSION,
    ]
    assert receive(receiver).seq == 5


def test_a_frame_above_the_limit_never_arrives(receiver: Receiver, stranger: zmq.Socket[bytes]) -> None:
    stranger.send_multipart([b"{}", b"\0" * 200_000])
    with Sender(receiver.addresses[0]) as sender:
        sender.send(window_of(seq=1))
        assert sender.flush(WAIT_SECONDS)
        assert receive(receiver).seq == 1
    assert receiver.receive(100) is None


@pytest.mark.parametrize("way", ["tcp://127.0.0.1:0", "ipc"])
def test_peers_that_stop_in_the_middle_of_a_message_hold_up_nobody(tmp_path: Path, way: str) -> None:
    address = f"ipc://{tmp_path}/windows" if way == "ipc" else way
    whole = b"".join(frames_of([b"{}", bytes(1000)]))
    with Receiver([address]) as receiver, ExitStack() as opened:
        for end in (1, 5, 9, 10, 11, 12, 20, 500, len(whole) - 1):  # in a length, a frame, between two
            peer = opened.enter_context(connect(receiver.addresses[0]))
            peer.sendall(GREETING)
            end_handshake(peer, b"")
            peer.sendall(whole[:end])
        claiming = opened.enter_context(connect(receiver.addresses[0]))
        claiming.sendall(GREETING)
        end_handshake(claiming, b"")
        claiming.sendall(struct.pack(">BQ", 2, Limits().max_payload_bytes) + bytes(1000))
        with Sender(receiver.addresses[0]) as sender:
            for seq in range(5):
                sender.send(window_of(seq=seq))
            assert serve(receiver, sender) == list(range(5))
        peer.sendall(whole[-1:])  # the last one goes on, the others close
        refused = receiver.receive(WAIT_MS)
        assert isinstance(refused, PeerError)
        assert refused.reason == Reason.VERSION
        opened.close()
        assert receiver.receive(200) is None


def test_without_a_daemon_the_oldest_windows_are_dropped_and_told(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/windows"
    with Sender(address, buffer_windows=3) as sender:
        for seq in range(5):
            sender.send(window_of(seq=seq))
        for seq in range(2):
            sender.send(window_of(seq=seq, stream="chamber-2"))
        assert (sender.n_waiting, sender.n_lost, sender.n_sent) == (3, 4, 0)
        with Receiver([address]) as receiver:
            assert sender.flush(WAIT_SECONDS)
            received = [receive(receiver) for _ in range(3)]
    assert [(window.stream, window.seq, window.n_lost) for window in received] == [
        ("chamber-1", 4, 4),
        ("chamber-2", 0, 0),
        ("chamber-2", 1, 0),
    ]


def test_a_daemon_that_does_not_read_does_not_stop_the_sender(receiver: Receiver) -> None:
    with Sender(receiver.addresses[0], buffer_windows=10) as sender:
        large = window_of(x=window_of().x.repeat(2000, axis=0))
        for seq in range(500):
            sender.send(replace(large, seq=seq))
        assert (sender.n_kept, sender.n_lost) == (10, 490)
        assert not sender.confirm(0.01)
        sender.close(0.0)


def test_a_restarted_daemon_gets_all_that_was_not_acknowledged_in_order(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/windows"
    with Sender(address) as sender:
        with Receiver([address]) as first:
            for seq in range(5):
                sender.send(window_of(seq=seq))
            assert sender.flush(WAIT_SECONDS)
            assert [receive(first).seq for _ in range(3)] == [0, 1, 2]
            first.acknowledge(window_of(seq=1))
            assert not sender.confirm(0.2)
        sender.send(window_of(seq=5))
        assert not sender.confirm(0.1)
        received = []
        with Receiver([address]) as second:
            while sender.n_kept:
                sender.pump()
                if (window := second.receive(50)) is not None:
                    assert isinstance(window, Window)
                    received.append(window.seq)
                    second.acknowledge(window)
    assert received == [0, 2, 3, 4, 5]
    assert sender.n_sent == 6
    assert sender.n_repeated in (4, 5)  # the last one too, if the loss of the connection was not known yet


def test_a_sender_reads_away_what_it_does_not_know(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/windows"
    with zmq.Context() as context, context.socket(zmq.ROUTER) as daemon:
        daemon.linger = 0
        daemon.bind(address)
        with Sender(address) as sender:
            sender.send(window_of(seq=0))
            assert sender.flush(WAIT_SECONDS)
            assert daemon.poll(WAIT_MS)
            identity = daemon.recv_multipart()[0]
            for _ in range(100):
                daemon.send_multipart([identity, b"news", b"from", b"the", b"future"])
                sender.pump()
            sender.send(window_of(seq=1))
            assert sender.flush(WAIT_SECONDS)
            assert daemon.poll(WAIT_MS)


def test_a_window_that_breaks_the_format_is_the_callers_fault(tmp_path: Path) -> None:
    with Sender(f"ipc://{tmp_path}/windows") as sender:
        with pytest.raises(InputError, match="stream"):
            sender.send(window_of(stream="no/name"))
        assert sender.n_waiting == 0


def test_an_address_in_use_is_reported(receiver: Receiver) -> None:
    with pytest.raises(ConfigError, match="is already in use"):
        Receiver(receiver.addresses)


def test_an_ipc_file_left_behind_does_not_matter(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/windows"
    (tmp_path / "windows").touch()
    Receiver([address]).close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:port", "ipc:///no/such/directory/x"])
def test_an_address_that_cannot_be_used_is_reported(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen at"):
        Receiver([address])


def test_a_sender_needs_an_address_and_room() -> None:
    with pytest.raises(ConfigError, match="cannot connect"):
        Sender("nonsense")
    with pytest.raises(InputError, match="buffer_windows"):
        Sender("tcp://127.0.0.1:1", buffer_windows=0)


def serve(receiver: Receiver, sender: Sender, *, seconds: float = WAIT_SECONDS) -> list[int]:
    """Receive and acknowledge until the sender keeps nothing."""
    received = []
    deadline = time.monotonic() + seconds
    while sender.n_kept and time.monotonic() < deadline:
        sender.pump()
        window = receiver.receive(20)
        if isinstance(window, Window):
            received.append(window.seq)
            receiver.acknowledge(window)
    return received


def test_what_is_not_answered_is_sent_again(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/windows"
    with Receiver([address]) as receiver, Sender(address, ack_timeout_seconds=0.2) as sender:
        for seq in range(3):
            sender.send(window_of(seq=seq))
        assert sender.flush(WAIT_SECONDS)
        assert [receive(receiver).seq for _ in range(3)] == [0, 1, 2]
        assert not sender.confirm(0.25)
        assert serve(receiver, sender) == [0, 1, 2]
        assert (sender.n_sent, sender.n_lost) == (3, 0)
        assert sender.n_repeated >= 3


def test_a_window_too_large_for_the_daemon_does_not_hold_up_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqm.stream.connection._LONGEST_PAUSE_SECONDS", 0.1)  # it breaks several connections
    address = f"ipc://{tmp_path}/windows"
    limits = Limits(max_payload_bytes=100_000)
    with Receiver([address], limits) as receiver, Sender(address) as sender:
        sender.send(window_of(window_of().x.repeat(20_000, axis=0), seq=0))
        for seq in range(1, 4):
            sender.send(window_of(seq=seq))
        received = serve(receiver, sender, seconds=60.0)
    assert received[:3] == [1, 2, 3]  # one may come twice: the large one broke its connection
    assert (sender.n_kept, sender.n_lost, sender.given_up) == (0, 1, (identity_of(window_of(seq=0)),))


def test_a_window_that_is_being_moved_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector ends a run when its sender keeps nothing; another thread may just send the last window."""
    seen: list[int] = []
    move = Backlog.mark_sent

    def look_meanwhile(backlog: Backlog, message: Message) -> None:
        message_there = backlog._waiting.pop(message.identity)
        reader = Thread(target=lambda: seen.append(sender.n_kept))
        reader.start()
        reader.join(0.2)  # it has to wait for the lock
        backlog._waiting[message.identity] = message_there
        move(backlog, message)

    monkeypatch.setattr(Backlog, "mark_sent", look_meanwhile)
    address = f"ipc://{tmp_path}/windows"
    with Receiver([address]) as receiver, Sender(address) as sender:
        sender.send(window_of(seq=0))
        assert sender.flush(WAIT_SECONDS)
        assert receive(receiver).seq == 0
        wait_until(lambda: bool(seen), "the other thread has looked")
    assert seen == [1]


def test_a_refused_window_is_forgotten_and_counted(receiver: Receiver) -> None:
    with Sender(receiver.addresses[0]) as sender:
        too_many = window_of(np.zeros((2, 65)), seq=0)
        sender.send(too_many)
        sender.send(window_of(seq=1))
        assert sender.flush(WAIT_SECONDS)
        refusal = receiver.receive(WAIT_MS)
        assert isinstance(refusal, PeerError)
        receiver.refuse(receive(receiver), Reason.UNKNOWN_STREAM)
        assert sender.confirm(WAIT_SECONDS)
        assert sender.refusals == {"feature-count": 1, "unknown-stream": 1}
        assert sender.n_lost == 0
