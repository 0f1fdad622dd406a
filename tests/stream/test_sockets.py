from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from dqm.errors import ConfigError, InputError, PeerError
from dqm.events import Window
from dqm.stream import Limits, Reason, Receiver, Sender, encode

from .windows import window_of

WAIT_MS = 10_000
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
        received = []
        for _ in range(100):
            received.append(receive(receiver).seq)
            sender.pump()
            if sender.n_waiting:
                sender.flush(WAIT_SECONDS)
        assert received == list(range(100))
        assert (sender.n_sent, sender.n_lost, sender.n_waiting) == (100, 0, 0)
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
        for _ in range(3000):
            sender.send(large)
        assert sender.n_lost > 0
        assert sender.n_sent + sender.n_lost + sender.n_waiting == 3000
        assert not sender.flush(0.01)
        sender.close(0.0)


def test_a_restarted_daemon_gets_what_waited(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/windows"
    with Sender(address) as sender:
        with Receiver([address]) as first:
            sender.send(window_of(seq=0))
            assert sender.flush(WAIT_SECONDS)
            assert receive(first).seq == 0
        with Receiver([address]) as second:
            while (window := second.receive(50)) is None:
                sender.send(window_of(seq=1))
            assert isinstance(window, Window)


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


@pytest.mark.parametrize("address", ["nonsense", "tcp://nowhere.invalid:1", "ipc:///no/such/directory/x"])
def test_an_address_that_cannot_be_used_is_reported(address: str) -> None:
    with pytest.raises(ConfigError, match="cannot listen at"):
        Receiver([address])


def test_a_sender_needs_an_address_and_room() -> None:
    with pytest.raises(ConfigError, match="cannot connect"):
        Sender("nonsense")
    with pytest.raises(InputError, match="buffer_windows"):
        Sender("tcp://127.0.0.1:1", buffer_windows=0)
