"""Peers that say nothing, send half a request, do not read, or are not browsers, against a real server."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from ipaddress import ip_network
from pathlib import Path
from typing import cast

import httpx
import pytest

from dqm.export import Metrics
from dqm.web import HttpServer, create_app, sse
from dqm.web.auth.authenticator import Authenticator
from dqm.web.connections import ConnectionLimits, ConnectionRoom, LimitedProtocol, Phase
from tests.waiting import wait_until
from tests.world import PASSWORDS, World

HOST = b"Host: 127.0.0.1\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n"
SAID = {
    "nothing": b"",
    "half a header": b"GET / HTTP/1.1\r\nHo",
    "half a body": b"POST /login HTTP/1.1\r\n" + HOST + FORM + b"user=",
    "half a body that nobody reads": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nx",
    "a request and half of the next": b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\nGET /he",
}
PLOTLY = b"GET /static/plotly.min.js HTTP/1.1\r\n" + HOST + b"\r\n"
EVENTS = b"GET /events HTTP/1.1\r\n" + HOST
SHORT = ConnectionLimits(idle_seconds=0.3, request_seconds=0.5, read_seconds=0.5)
WAITING = (Phase.IDLE, Phase.REQUEST, Phase.BLOCKED)


@dataclass
class Site:
    """A server, and peers that connect to it."""

    server: HttpServer
    peers: ExitStack

    def get(self, path: str = "/healthz") -> int:
        url = f"http://{self.server.address}{path}"
        return httpx.get(url, trust_env=False, timeout=60.0).status_code

    def connect(self, said: bytes = b"", n: int = 1) -> list[socket.socket]:
        host, port = self.server.address.split(":")
        found = []
        for _ in range(n):
            peer = self.peers.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.settimeout(60.0)
            peer.connect((host, int(port)))
            with contextlib.suppress(ConnectionError):  # it may have been closed already
                peer.sendall(said)
            found.append(peer)
        return found


@pytest.fixture
def serve(world: World) -> Iterator[Callable[..., Site]]:
    with ExitStack() as stack:

        def start(limits: ConnectionLimits = SHORT, authenticator: Authenticator | None = None) -> Site:
            app = create_app(
                Metrics({}, world.clock, ""),
                lambda: 0.0,
                queries=world.queries,
                authenticator=authenticator or world.authenticator(),
            )
            server = HttpServer(app, "127.0.0.1", 0, limits=limits)
            server.start()
            stack.callback(server.stop)
            return Site(server, stack.enter_context(ExitStack()))

        yield start


def read_all(peer: socket.socket) -> bytes:
    """Read until the server closes."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def status_of(peer: socket.socket) -> int:
    head = peer.recv(4096).split(b" ", 2)
    return int(head[1]) if len(head) > 1 else 0


def resident_megabytes() -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_others_are_answered_beside_many_silent_peers(serve: Callable[..., Site], said: bytes) -> None:
    site = serve(ConnectionLimits(most=16))
    site.connect(said, 24)
    assert [site.get(path) for path in ("/healthz", "/metrics", "/")] == [200, 200, 200]


@pytest.mark.long
@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_others_are_answered_within_a_second_for_minutes(serve: Callable[..., Site], said: bytes) -> None:
    site = serve(ConnectionLimits())
    seconds, end = [], time.monotonic() + 60.0
    while time.monotonic() < end:
        for _ in range(260):  # the same again and again: those that were closed come back
            site.connect(said)
        for path in ("/healthz", "/metrics", "/"):
            begin = time.monotonic()
            assert site.get(path) == 200
            seconds.append(time.monotonic() - begin)
        time.sleep(1.0)  # the peers hold their connections for so long
        site.peers.close()
    seconds.sort()
    assert seconds[9 * len(seconds) // 10] < 1.0  # the attackers share the processor with the server


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_half_a_request_has_a_deadline_that_more_bytes_do_not_prolong(
    serve: Callable[..., Site], caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    (peer,) = serve().connect(said)
    peer.settimeout(0.05)
    is_open, deadline = True, time.monotonic() + 60.0
    while is_open and time.monotonic() < deadline:
        try:
            if said:
                peer.sendall(b"x")
            is_open = bool(peer.recv(4096))
        except TimeoutError:
            continue
        except ConnectionError:
            is_open = False
    assert not is_open
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(serve: Callable[..., Site]) -> None:
    site = serve(ConnectionLimits(idle_seconds=2.0, request_seconds=0.5))
    connection = HTTPConnection(site.server.address, timeout=60.0)
    for _ in range(4):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        kept = connection.sock
        time.sleep(0.6)  # longer than a request may take, shorter than a connection may be idle
    assert kept.recv(1) == b""
    connection.close()


def test_peers_that_do_not_read_hold_no_memory_and_are_closed(serve: Callable[..., Site]) -> None:
    site = serve(ConnectionLimits(read_seconds=1.0))
    assert site.get("/static/plotly.min.js") == 200
    before = resident_megabytes()
    peers = site.connect(PLOTLY, 60)
    assert site.get() == 200
    grown = resident_megabytes() - before
    assert grown < 50.0  # 60 files are 280 MB
    time.sleep(1.0)  # the peers do nothing for so long
    lengths = [len(read_all(peer)) for peer in peers]
    assert max(lengths) < 4_000_000


def test_peers_that_do_not_read_give_place_to_others(serve: Callable[..., Site]) -> None:
    site = serve(ConnectionLimits(most_blocked=4, read_seconds=60.0, idle_seconds=0.5))
    peers = site.connect(PLOTLY, 10)
    assert [site.get(), site.get()] == [200, 200]
    lengths = [len(read_all(peer)) for peer in peers]
    assert sum(length > 4_000_000 for length in lengths) == 4


def test_a_slow_reader_gets_all_of_a_large_file(serve: Callable[..., Site]) -> None:
    (peer,) = serve(ConnectionLimits(read_seconds=2.0)).connect(
        PLOTLY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
    parts = []
    while part := peer.recv(262_144):
        parts.append(part)
        time.sleep(0.01)  # it reads slowly
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    declared = re.search(rb"content-length: (\d+)", head)
    assert declared
    assert len(body) == int(declared[1]) > 4_000_000


def test_listeners_are_bounded_also_when_all_come_at_once(serve: Callable[..., Site], world: World) -> None:
    site = serve(ConnectionLimits(), world.authenticator(proxies=["127.0.0.1"]))
    known = b"Authorization: Basic " + base64.b64encode(f"maria:{PASSWORDS['maria']}".encode()) + b"\r\n"
    assert status_of(site.connect(b"GET / HTTP/1.1\r\n" + HOST + known + b"\r\n")[0]) == 200

    def answers(addresses: Sequence[str]) -> list[int]:
        peers = [
            site.connect(EVENTS + known + f"X-Forwarded-For: {address}\r\n\r\n".encode())[0]
            for address in addresses
        ]
        return [status_of(peer) for peer in peers]

    assert sorted(answers(["10.0.0.1"] * 12)) == [200] * sse._MOST_OF_CLIENT + [503] * 8
    others = answers([f"10.0.1.{i}" for i in range(108)])
    assert others.count(200) == sse._MOST_LISTENERS - sse._MOST_OF_CLIENT
    assert others.count(503) == 108 - others.count(200)


def test_a_listener_that_sends_requests_ahead_is_closed(serve: Callable[..., Site]) -> None:
    (peer,) = serve().connect(EVENTS + b"\r\n")
    assert status_of(peer) == 200
    peer.setblocking(False)
    ahead = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"

    def is_refused() -> bool:
        try:
            peer.send(ahead * 1000)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return False

    wait_until(is_refused, "the connection is closed")


def test_requests_sent_ahead_are_answered_in_turn(serve: Callable[..., Site]) -> None:
    ask = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    (peer,) = serve().connect(ask * 49 + ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert read_all(peer).count(b"HTTP/1.1 200 OK") == 50


ODD = {
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
    "CONNECT": (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + HOST + b"\r\n", 401),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 401),
    "TRACE": (b"TRACE /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 401),
    "upgrade": (
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        200,
    ),
    "another version": (b"GET / HTTP/x\r\n" + HOST + b"\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "no Host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
    "long header": (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 70_000 + b"\r\n\r\n", 400),
    "many headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: x\r\n" * 20_000 + b"\r\n", 400),
    "long address": (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "NUL in an address": (b"GET /\x00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "two lengths": (
        b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        400,
    ),
    "negative length": (b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "bad chunk": (
        b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        400,
    ),
    "endless chunk": (
        b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000,
        400,
    ),
    "other coding": (b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
}


@pytest.mark.parametrize(("said", "status"), ODD.values(), ids=ODD)
def test_what_is_no_request_is_told_and_harms_nobody(
    serve: Callable[..., Site], caplog: pytest.LogCaptureFixture, said: bytes, status: int
) -> None:
    site = serve()
    (peer,) = site.connect(said)
    assert status_of(peer) == status
    assert site.get() == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_chunk_that_turns_bad_after_the_answer_ends_the_connection_alone(
    serve: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = serve()
    (peer,) = site.connect(
        b"GET /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    )
    assert status_of(peer) == 200
    peer.sendall(b"zz\r\n\r\n")
    read_all(peer)
    assert site.get() == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


class Peer:
    """A connection as the room sees it."""

    def __init__(self, address: str, phase: Phase = Phase.IDLE, waits_since: float = 0.0) -> None:
        self.address, self.phase, self.waits_since = address, phase, waits_since
        self.reason = ""

    def give_up(self, reason: str) -> None:
        self.reason = reason


class Room(ConnectionRoom):
    """A room without a log, for peers of a test."""

    def note(self, reason: str, address: str) -> None:
        pass

    def take(self, peer: Peer) -> bool:
        return self.admit(cast(LimitedProtocol, peer))


LIMITS = ConnectionLimits(most=8, most_of_address=3, kept_for_loopback=2)


@pytest.mark.parametrize("phase", WAITING)
def test_the_one_that_is_waited_for_the_longest_gives_place(phase: Phase) -> None:
    room = Room(LIMITS)
    peers = [Peer("10.0.0.1", phase, waits_since) for waits_since in (5.0, 1.0, 3.0)]
    assert all(map(room.take, peers))
    assert room.take(Peer("10.0.0.2"))
    assert [peer.reason for peer in peers] == ["", "", ""], "another address has a limit of its own"
    assert room.take(Peer("10.0.0.1"))
    assert [bool(peer.reason) for peer in peers] == [False, True, False]


def test_an_address_whose_requests_are_being_answered_gets_no_more() -> None:
    room = Room(LIMITS)
    peers = [Peer("10.0.0.1", Phase.ANSWERING) for _ in range(3)]
    assert all(map(room.take, peers))
    assert not room.take(Peer("10.0.0.1"))
    assert [peer.reason for peer in peers] == ["", "", ""]
    room.leave(cast(LimitedProtocol, peers[0]))
    assert room.take(Peer("10.0.0.1"))


def test_an_ipv6_network_counts_as_one_address() -> None:
    room = Room(LIMITS)
    peers = [Peer(f"2001:db8::{i}", Phase.ANSWERING) for i in range(3)]
    assert all(map(room.take, peers))
    assert not room.take(Peer("2001:db8::ffff:1"))
    assert room.take(Peer("2001:db8:0:1::1"))


def test_peers_whose_address_is_not_known_have_one_limit() -> None:
    room = Room(LIMITS)
    assert [room.take(Peer("", Phase.ANSWERING)) for _ in range(4)] == [True, True, True, False]


def test_other_hosts_leave_room_for_this_one() -> None:
    room = Room(LIMITS)
    taken = [room.take(Peer(f"10.0.0.{i}", Phase.ANSWERING)) for i in range(8)]
    assert taken == [True] * 6 + [False] * 2
    assert [room.take(Peer("127.0.0.1", Phase.ANSWERING)) for _ in range(3)] == [True, True, False]


def test_this_host_and_proxies_may_have_many_clients() -> None:
    room = Room(LIMITS, [ip_network("10.0.0.7/32")])
    assert all(room.take(Peer("10.0.0.7", Phase.ANSWERING)) for _ in range(6))
    assert not room.take(Peer("10.0.0.7"))
    room = Room(LIMITS)
    local = ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.2")
    assert all(room.take(Peer(address, Phase.ANSWERING)) for address in local * 2)
    assert not room.take(Peer("::1"))
