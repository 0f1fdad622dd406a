"""Other daemons on the page: real ones, and such as are slow, old, silent, or answer nonsense."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dqm.config import PeerSection, WebSection, validate
from dqm.errors import ConfigError
from dqm.web import HttpServer, OtherDaemons, create_app, other_daemons
from dqm.web.other_daemons import FRESH_SECONDS, OtherDaemonStatus
from tests.waiting import wait_until
from tests.world import PASSWORDS, Browser, World, make_world

Raw = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_daemons, "ASK_SECONDS", 0.05)


@pytest.fixture
def far(tmp_path: Path) -> World:
    """The world of another daemon."""
    return make_world(tmp_path / "far.sqlite", {"west": ["far-1", "far-2"]})


@contextmanager
def served(world: World) -> Iterator[HttpServer]:
    app = create_app(
        world.metrics, lambda: 0.1, queries=world.queries, authenticator=world.authenticator(names=["far"])
    )
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def asked(world: World, *sections: PeerSection) -> Iterator[OtherDaemons]:
    """Let a world ask peers until the end of the block; it has had a first answer of each, or a problem."""
    asking = OtherDaemons(sections, world.clock)
    world.queries = replace(world.queries, peer_statuses=asking.statuses)
    asking.start()
    try:
        wait_until(lambda: all(s.problem != "not asked yet" for s in asking.statuses()), "answers")
        yield asking
    finally:
        asking.stop()


@contextmanager
def answering(answer: Raw) -> Iterator[str]:
    """A server that does with each connection what the test says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    with suppress(OSError):
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def body(content: bytes) -> Raw:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + content)


def unpacking(connection: socket.socket) -> None:
    """Send 10 MB of blanks, compressed twice, as nobody asked."""
    content = gzip.compress(gzip.compress(b" " * 10_000_000, 1))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip, gzip\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)


def only_status(asking: OtherDaemons) -> OtherDaemonStatus:
    (status,) = asking.statuses()
    return status


def test_a_peer_is_shown_with_its_state_and_what_calls_there(world: World, far: World) -> None:
    far.raise_alarm("far-2")
    with served(far) as server:
        url = f"http://{server.address}"
        with asked(world, PeerSection(name="west", url=url)) as asking:
            wait_until(lambda: only_status(asking).overview is not None, "an answer")
            (peer,) = Browser(world).get("/api/v1/overview").json()["peers"]
            page = Browser(world).get("/").text
    assert (peer["name"], peer["is_fresh"], peer["problem"]) == ("west", True, "")
    assert peer["overview"]["tree"]["quality"] == "Bad"
    assert [alarm["stream"] for alarm in peer["overview"]["needs_response"]] == ["far-2"]
    assert f'href="{url}/"' in page
    assert "<b>far-2</b>" in page
    assert "far-1" not in page


def test_a_peer_that_goes_says_how_old_it_is_and_comes_back(world: World, far: World) -> None:
    with served(far) as server:
        section = PeerSection(name="west", url=f"http://{server.address}")
        with asked(world, section) as asking:
            wait_until(lambda: only_status(asking).overview is not None, "an answer")
            server.stop()
            wait_until(lambda: only_status(asking).problem != "", "its end")
            world.clock.time += FRESH_SECONDS + 1.0
            (peer,) = Browser(world).get("/api/v1/overview").json()["peers"]
            page = Browser(world).get("/").text
    assert (peer["is_fresh"], peer["overview"]["qualities"]["Null"]) == (False, 2)
    assert "It does not answer:" in page
    assert "not known" in page


def test_a_peer_that_wants_a_user_is_asked_as_one(world: World, far: World, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text(PASSWORDS["maria"] + "\n")

    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with answering(refuse) as url, asked(world, PeerSection(name="west", url=url)) as asking:
        assert only_status(asking).problem == (
            "it needs a user who may read: set user and password_file of this peer"
        )
    with served(far) as server:
        section = PeerSection(name="west", url=f"http://{server.address}", user="maria", password_file=secret)
        with asked(world, section) as asking:
            wait_until(lambda: only_status(asking).overview is not None, "an answer")


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(400):
        connection.sendall(b" ")
        if threading.Event().wait(0.02):
            return


OLD: dict[str, Any] = {"version": "0.1.0", "qualities": {"Good": 3}, "tree": {"quality": "Good"}}


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (drip, "its answer takes longer than"),
        (lambda connection: connection.recv(1), "timed out"),
        (lambda _: None, "Server disconnected"),
        (lambda c: (c.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), c.recv(1)), "illegal status line"),
        (lambda c: c.sendall(b"HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"), "it answers 500"),
        (
            lambda c: c.sendall(b"HTTP/1.1 302 x\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"),
            "it answers 302",
        ),
        (unpacking, "its answer is compressed"),
        (body(b"<html>"), "its answer is not that of a dqm daemon: as a whole"),
        (body(b"[" * 100_000), "its answer is not that of a dqm daemon"),
        (body(json.dumps(OLD | {"qualities": {"Good": -1}}).encode()), "qualities.Good"),
        (body(json.dumps(OLD | {"version": "x" * 10_000}).encode()), "version"),
        (body(json.dumps({"version": "0.1.0"}).encode()), "Field required"),
    ],
)
def test_what_is_no_answer_is_a_problem_of_this_peer_alone(
    world: World, answer: Raw, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_daemons, "ANSWER_SECONDS", 1.0)
    with answering(answer) as url, asked(world, PeerSection(name="odd", url=url)) as asking:
        assert problem in only_status(asking).problem
        assert Browser(world).get("/").status_code == 200


def test_an_answer_of_an_earlier_version_is_understood(world: World) -> None:
    with (
        answering(body(json.dumps(OLD).encode())) as url,
        asked(world, PeerSection(name="old", url=url)) as asking,
    ):
        assert only_status(asking).problem == ""
        assert "3 Good" in Browser(world).get("/").text


def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(other_daemons, "_LARGEST_ANSWER_BYTES", 1_000_000)
    with answering(body(b" " * 3_000_000)) as url, asked(world, PeerSection(name="huge", url=url)) as asking:
        assert only_status(asking).problem == "its answer has more than 1 MB"


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        ({"name": "west", "url": "west:8787"}, "must be http://HOST:PORT or https://HOST:PORT"),
        ({"name": "west", "url": "http://a:b@west"}, "must hold no user, password"),
        ({"name": "west", "url": "https://west", "user": "x"}, "user and password_file belong together"),
        (
            {"name": "west", "url": "http://west", "user": "x", "password_file": "p"},
            "a password would be sent in clear text: use https://",
        ),
        ({"name": "a b", "url": "https://west"}, "string should match"),
    ],
)
def test_a_peer_that_makes_no_sense_is_refused(peer: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(WebSection, {"peers": [peer]}, "[web]")


def test_two_peers_of_one_name_are_refused() -> None:
    peer = {"name": "west", "url": "https://west"}
    with pytest.raises(ConfigError, match="peers: 'west' is there twice"):
        validate(WebSection, {"peers": [peer, peer]}, "[web]")
