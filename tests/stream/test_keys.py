"""Who may speak: files of keys, and real sockets that are let in or turned away."""

from __future__ import annotations

import json
import math
import socket as tcp
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import zmq

from dqm.errors import ConfigError, PeerError
from dqm.events import RunEvent, RunNotice, Window
from dqm.stream import (
    KeyRing,
    Reason,
    Receiver,
    RunMessage,
    Sender,
    SenderKeys,
    encode,
    make_keys,
    read_public,
    read_secret,
)
from tests.waiting import wait_until

from .windows import window_of
from .zmtp import GREETING, connect, end_handshake, frames_of

Prepare = Callable[[zmq.Socket[bytes]], None]
LOOPBACK = "tcp://127.0.0.1:0"
WAIT_SECONDS, AFTERWARDS_SECONDS = 60.0, 0.2


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The daemon's directory, and beside it the secret of a collector that may send two streams."""
    make_keys(tmp_path / "keys", "daemon")
    make_keys(tmp_path, "west", ["chamber-1", "gas-*"])
    (tmp_path / "west.public").rename(tmp_path / "keys" / "west.public")
    return tmp_path / "keys"


@pytest.fixture
def ring(keys: Path) -> KeyRing:
    return KeyRing(keys, keys / "daemon.secret")


@pytest.fixture
def receiver(ring: KeyRing) -> Iterator[Receiver]:
    with Receiver([LOOPBACK], keys=ring, keyed_everywhere=True) as opened:
        yield opened


def sending(secret: Path, daemon: Path) -> SenderKeys:
    return SenderKeys(read_secret(secret), read_public(daemon))


@pytest.fixture
def west(keys: Path) -> SenderKeys:
    return sending(keys.parent / "west.secret", keys / "daemon.public")


@dataclass
class Heard:
    """What a receiver took in, and what it refused by reason."""

    windows: list[Window] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def seqs(self) -> list[int]:
        return [window.seq for window in self.windows]


def listen(receiver: Receiver, until: Callable[[Heard], bool], *senders: Sender) -> Heard:
    """Receive until it is enough, and a little longer for what must not come."""
    heard = Heard()
    last, deadline = math.inf, time.monotonic() + WAIT_SECONDS
    while (now := time.monotonic()) < last:
        assert now < deadline, f"not within {WAIT_SECONDS:.0f} s: {heard}"
        for sender in senders:
            sender.pump()
        told = receiver.receive(20)
        if isinstance(told, PeerError):
            heard.refused[told.reason] += 1
        elif told is not None:
            heard.windows.append(told)
            receiver.acknowledge(told)
        if last == math.inf and until(heard):
            last = time.monotonic() + AFTERWARDS_SECONDS
    return heard


def test_a_new_key_is_two_files_and_the_secret_is_for_its_owner(tmp_path: Path) -> None:
    secret, public = make_keys(tmp_path / "new", "west", ["chamber-1"])
    assert (secret.name, public.name) == ("west.secret", "west.public")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    pair = read_secret(secret)
    assert read_public(public) == pair.public
    assert pair.secret not in public.read_text() + repr(pair) + str(pair)
    assert 'streams = ["chamber-1"]' in public.read_text()


@pytest.mark.parametrize("name", ["", "../west", "a b", ".west"])
def test_a_key_needs_a_name_that_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="not a valid name"):
        make_keys(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_no_key_is_overwritten(tmp_path: Path) -> None:
    secret, public = make_keys(tmp_path, "west")
    secret.unlink()
    with pytest.raises(ConfigError, match="a key of this name already exists"):
        make_keys(tmp_path, "west")
    assert not secret.exists()
    assert public.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_can_read_is_refused(keys: Path, mode: int) -> None:
    secret = keys / "daemon.secret"
    secret.chmod(mode)
    with pytest.raises(ConfigError, match=rf"open to others \(mode {mode:04o}\).*chmod 600"):
        KeyRing(keys, secret)


def test_a_credential_of_systemd_may_show_its_access_list(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = keys / "daemon.secret"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(keys))
    secret.chmod(0o440)
    read_secret(secret)
    secret.chmod(0o444)
    with pytest.raises(ConfigError, match="open to others"):
        read_secret(secret)


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[", b'public = "x"', b"secret = 5\n", b"x = 1\n" * 20_000]
)
def test_a_file_that_is_no_key_is_refused_and_its_text_not_shown(keys: Path, content: bytes) -> None:
    good = (keys / "daemon.secret").read_bytes()
    (keys / "daemon.secret").write_bytes(content)
    with pytest.raises(ConfigError, match=r"daemon\.secret: not a secret key"):
        read_secret(keys / "daemon.secret")
    (keys / "daemon.secret").write_bytes(good[:-20])
    with pytest.raises(ConfigError) as caught:
        read_secret(keys / "daemon.secret")
    assert good.decode().split('"')[3][:10] not in str(caught.value)


def test_halves_of_two_keys_are_refused(keys: Path, tmp_path: Path) -> None:
    ours, theirs = (keys / "daemon.secret").read_text(), (tmp_path / "west.secret").read_text()
    (keys / "daemon.secret").write_text(ours.replace(ours.split('"')[1], theirs.split('"')[1]))
    with pytest.raises(ConfigError, match="are not a pair"):
        read_secret(keys / "daemon.secret")


def test_one_key_under_two_names_is_refused(keys: Path) -> None:
    (keys / "east.public").write_text((keys / "west.public").read_text())
    with pytest.raises(ConfigError, match=r"west\.public: east has the same key"):
        KeyRing(keys, keys / "daemon.secret")


def test_a_directory_that_is_not_there_is_reported(keys: Path) -> None:
    with pytest.raises(ConfigError, match="directory of public keys cannot be read"):
        KeyRing(keys / "none", keys / "daemon.secret")


def test_a_known_key_sends_what_it_may(receiver: Receiver, west: SenderKeys) -> None:
    with Sender(receiver.addresses[0], keys=west) as sender:
        for seq, stream in enumerate(["chamber-1", "gas-7", "chamber-2", "gas"]):
            sender.send(window_of(seq=seq, stream=stream))
        heard = listen(receiver, lambda heard: len(heard.windows) == heard.refused.total() == 2, sender)
        assert sender.confirm(5.0)
        assert sender.refusals == {"stream-not-allowed": 2}
    assert [window.stream for window in heard.windows] == ["chamber-1", "gas-7"]
    assert heard.refused == {Reason.STREAM_NOT_ALLOWED: 2}


def null(_: zmq.Socket[bytes]) -> None:
    return


def plain(socket: zmq.Socket[bytes]) -> None:
    socket.plain_username, socket.plain_password = b"west", b"west"


def unknown(socket: zmq.Socket[bytes]) -> None:
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()


@pytest.mark.parametrize(
    ("prepare", "knows_daemon", "reason"),
    [
        (null, False, Reason.HANDSHAKE),
        (plain, False, Reason.HANDSHAKE),
        (unknown, True, Reason.UNKNOWN_KEY),
        (unknown, False, Reason.HANDSHAKE),
    ],
    ids=["null", "plain", "unknown key", "wrong key of the daemon"],
)
def test_everybody_else_is_turned_away_and_counted(
    receiver: Receiver, keys: Path, prepare: Prepare, knows_daemon: bool, reason: Reason
) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.sndtimeo = 1000  # it may have been turned away before it sends
        prepare(socket)
        if prepare is unknown:
            socket.curve_serverkey = (
                read_public(keys / "daemon.public").encode() if knows_daemon else zmq.curve_keypair()[0]
            )
        socket.connect(receiver.addresses[0])
        with suppress(zmq.Again):
            socket.send_multipart(encode(window_of()))
        heard = listen(receiver, lambda heard: bool(heard.refused))
        wait_until(lambda: bool(receiver.turned_away()), "the address is told")
    assert heard.windows == []
    assert set(heard.refused) == {reason}
    peer = receiver.turned_away()[0]
    assert peer.address in {"127.0.0.1", ""}, "a peer that is refused at once may be gone already"
    assert peer.since <= peer.last <= time.time()
    assert ("unknown key" in peer.what) == (reason is Reason.UNKNOWN_KEY)


def test_a_sender_with_a_wrong_key_of_the_daemon_is_told_by_its_address(
    receiver: Receiver, west: SenderKeys
) -> None:
    wrong = replace(west, daemon=zmq.curve_keypair()[0].decode())
    with Sender(receiver.addresses[0], keys=wrong) as sender:
        sender.send(window_of())

        def is_told() -> bool:
            listen(receiver, lambda _: True, sender)
            return {peer.address: peer.count for peer in receiver.turned_away()}.get("127.0.0.1", 0) >= 2

        wait_until(is_told, "its address is told, and counted")


def test_what_is_turned_away_says_so_and_comes_in_when_its_key_is_known(
    receiver: Receiver, keys: Path, tmp_path: Path
) -> None:
    _, public = make_keys(tmp_path, "east", ["*"])
    with Sender(
        receiver.addresses[0], keys=sending(tmp_path / "east.secret", keys / "daemon.public")
    ) as sender:
        sender.send(window_of())
        sender.flush(1.0)
        listen(receiver, lambda heard: heard.refused[Reason.UNKNOWN_KEY] >= 1)
        sender.pump()
        assert "the daemon refuses this collector" in sender.problem
        public.rename(keys / "east.public")
        receiver.reload_keys()
        heard = listen(receiver, lambda _: sender.n_kept == 0, sender)
        assert sender.problem == ""
    assert len(heard.windows) == 1


def test_a_key_that_was_taken_away_sends_no_more_though_it_is_connected(
    receiver: Receiver, keys: Path, west: SenderKeys
) -> None:
    with Sender(receiver.addresses[0], keys=west) as sender:
        sender.send(window_of(seq=0))
        assert len(listen(receiver, lambda _: sender.n_kept == 0, sender).windows) == 1
        (keys / "west.public").unlink()
        receiver.reload_keys()
        sender.send(window_of(seq=1))
        heard = listen(receiver, lambda heard: bool(heard.refused), sender)
        assert (heard.windows, heard.refused) == ([], {Reason.UNKNOWN_KEY: 1})
        assert not sender.confirm(0.1), "it keeps the window: a new key may be on its way"


def test_a_reload_that_fails_leaves_the_keys_as_they_were(
    receiver: Receiver, keys: Path, west: SenderKeys
) -> None:
    (keys / "broken.public").write_text("nonsense")
    with pytest.raises(ConfigError, match=r"broken\.public: not a public key"):
        receiver.reload_keys()
    with Sender(receiver.addresses[0], keys=west) as sender:
        sender.send(window_of())
        assert len(listen(receiver, lambda _: sender.n_kept == 0, sender).windows) == 1


def test_local_addresses_ask_for_no_keys_unless_they_are_told_to(
    ring: KeyRing, west: SenderKeys, tmp_path: Path
) -> None:
    addresses = [f"ipc://{tmp_path}/w", "tcp://0.0.0.0:0"]
    with Receiver(addresses, keys=ring) as receiver:
        port = receiver.addresses[1].rpartition(":")[2]
        with Sender(receiver.addresses[0]) as local, Sender(f"tcp://127.0.0.1:{port}") as stranger:
            local.send(window_of(seq=0, stream="anything"))
            stranger.send(window_of(seq=1))
            heard = listen(receiver, lambda heard: bool(heard.windows and heard.refused), local, stranger)
            assert heard.seqs == [0]
            assert set(heard.refused) == {Reason.HANDSHAKE}
        with Sender(f"tcp://127.0.0.1:{port}", keys=west) as remote:
            remote.send(window_of(seq=2))
            assert listen(receiver, lambda _: remote.n_kept == 0, remote).seqs == [2]


def test_nobody_listens_to_other_hosts_without_keys() -> None:
    with pytest.raises(ConfigError, match="can be reached from other hosts, and there are no keys"):
        Receiver(["tcp://0.0.0.0:0"])


def test_messages_are_heard_while_strangers_knock(receiver: Receiver, west: SenderKeys) -> None:
    with zmq.Context() as context, Sender(receiver.addresses[0], keys=west) as sender:
        strangers = [context.socket(zmq.DEALER) for _ in range(20)]
        for socket in strangers:
            socket.linger = 0
            socket.reconnect_ivl = 1
            socket.connect(receiver.addresses[0])
        for seq in range(20):
            sender.send(window_of(seq=seq))
        heard = listen(receiver, lambda h: sender.n_kept == 0 and h.refused[Reason.HANDSHAKE] >= 20, sender)
        for socket in strangers:
            socket.close()
    assert heard.seqs == list(range(20))


def dealer(
    context: zmq.Context[zmq.Socket[bytes]], address: str, keys: SenderKeys | None
) -> zmq.Socket[bytes]:
    """A sender in another language that sets the routing id that others set as well."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.setsockopt(zmq.ROUTING_ID, b"daq-1")
    if keys is not None:
        keys.set_on(socket)
    socket.connect(address)
    return socket


@pytest.mark.parametrize("is_keyed", [False, True])
def test_two_senders_with_one_routing_id_are_two_connections_with_answers_of_their_own(
    keys: Path, ring: KeyRing, west: SenderKeys, is_keyed: bool
) -> None:
    make_keys(keys, "east", ["chamber-1"])
    east = sending(keys / "east.secret", keys / "daemon.public")
    ring.reload()
    with (
        Receiver([LOOPBACK], keys=ring, keyed_everywhere=is_keyed) as receiver,
        zmq.Context() as context,
        dealer(context, receiver.addresses[0], west if is_keyed else None) as first,
        dealer(context, receiver.addresses[0], east if is_keyed else None) as second,
    ):
        for seq in range(6):
            (first, second)[seq % 2].send_multipart(encode(window_of(seq=seq)))
        heard = listen(receiver, lambda heard: len(heard.windows) == 6)
        answers = [[socket.recv_multipart() for _ in range(3)] for socket in (first, second)]
        assert not first.poll(50)
        assert not second.poll(50)
    assert sorted(heard.seqs) == list(range(6))
    assert not heard.refused
    for n, own in enumerate(answers):
        assert [(kind, json.loads(identity)["seq"]) for kind, identity in own] == [
            (b"ack", seq) for seq in range(n, 6, 2)
        ]


def shake_hands_late(receiver: Receiver) -> tcp.socket:
    opened = connect(receiver.addresses[0])
    opened.sendall(GREETING)
    end_handshake(opened, b"daq-1")
    return opened


def test_a_peer_that_keeps_its_routing_id_is_told_once_for_each_period() -> None:
    now = 0.0
    with Receiver([LOOPBACK], monotonic=lambda: now) as receiver, shake_hands_late(receiver) as peer:
        for seq in range(4):
            now += 500.0
            peer.sendall(b"".join(frames_of(encode(window_of(seq=seq)))))
            heard = listen(receiver, lambda heard: bool(heard.windows))
            assert heard.seqs == [seq]
            assert heard.refused == ({Reason.ROUTING_ID: 1} if seq % 2 == 0 else {})
        (shown,) = receiver.turned_away()
        assert (shown.count, shown.what) == (2, "a sender has set the routing id 'daq-1': senders set none")


def test_a_message_about_a_run_says_whose_key_sent_it(
    receiver: Receiver, ring: KeyRing, west: SenderKeys
) -> None:
    with Sender(receiver.addresses[0], keys=west) as sender:
        sender.announce(RunNotice("chamber-1", 5, "cosmics", RunEvent.END, 1.0))
        deadline = time.monotonic() + WAIT_SECONDS
        while (told := receiver.receive(20)) is None:
            sender.pump()
            assert time.monotonic() < deadline
        assert isinstance(told, RunMessage)
        assert told.sender is not None
        assert (told.sender.name, told.sender.streams) == ("west", ("chamber-1", "gas-*"))
        assert told.sender == ring.find(west.own.public)
