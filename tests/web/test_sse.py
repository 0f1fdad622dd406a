"""Live updates over a real connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from dqm.alarm import AddMask
from dqm.export import Metrics
from dqm.web import HttpServer, create_app, remove_user, sse
from tests.world import PASSWORDS, World, verdict_of


@pytest.fixture
def url(world: World) -> Iterator[str]:
    server = HttpServer(
        create_app(Metrics({}, world.clock, ""), lambda: 0.0, queries=world.queries), "127.0.0.1", 0
    )
    server.start()
    yield f"http://{server.address}/events"
    server.stop()


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def test_a_listener_learns_of_windows_alarms_and_masks(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "_EVENT_SECONDS", 0.02)
    monkeypatch.setattr(sse, "_READ_SECONDS", 0.0)
    with httpx.stream("GET", url, trust_env=False, timeout=60.0) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        received = events(response)
        first = next(received)
        assert next(received)["number"] == first["number"]
        assert first["time"] == world.clock()

        def wait_for_change(number: int) -> dict[str, Any]:
            return next(event for event in received if event["number"] != number)

        world.judge(verdict_of("chamber-1"))
        second = wait_for_change(first["number"])
        assert second["alarms"] == []
        world.raise_alarm("chamber-2")
        third = next(event for event in received if event["alarms"])
        assert third["alarms"][0]["id"] == "chamber-2/differs"
        assert third["alarms"][0]["priority"] == "P2"
        world.alarm_service.apply(AddMask("3f9a", "chamber-3", "x"), "jo")
        assert wait_for_change(third["number"])["number"] > second["number"]


def test_from_elsewhere_a_listener_authenticates_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_EVENT_SECONDS", 0.02)
    monkeypatch.setattr(sse, "_ADMITTED_SECONDS", 0.1)
    authenticator = world.authenticator(
        proxies=["127.0.0.1"]
    )  # whatever comes through a proxy comes from elsewhere
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=authenticator)
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    url, known = f"http://{server.address}/events", ("maria", PASSWORDS["maria"])
    with httpx.stream("GET", url, trust_env=False, timeout=60.0, auth=known) as response:
        assert 1 < len(list(events(response))) < 20
    remove_user(world.users, "maria")
    assert httpx.get(url, trust_env=False, auth=known).status_code == 401
    server.stop()


def test_listeners_are_bounded_and_leave_room_when_they_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_EVENT_SECONDS", 0.02)
    monkeypatch.setattr(sse, "_MOST_LISTENERS", 3)
    with ExitStack() as stack:
        listening = [
            events(stack.enter_context(httpx.stream("GET", url, trust_env=False, timeout=60.0)))
            for _ in range(3)
        ]
        assert [next(received)["number"] for received in listening] == [1, 1, 1]
        refused = httpx.get(url, trust_env=False)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "15"
    for _ in range(500):
        with httpx.stream("GET", url, trust_env=False, timeout=60.0) as response:
            if response.status_code == 200:
                assert next(events(response))["number"] == 1
                return
    pytest.fail("nobody may listen although everybody has gone")


def test_a_server_with_listeners_stops(world: World) -> None:
    server = HttpServer(
        create_app(Metrics({}, world.clock, ""), lambda: 0.0, queries=world.queries), "127.0.0.1", 0
    )
    server.start()
    with httpx.stream("GET", f"http://{server.address}/events", trust_env=False, timeout=60.0) as response:
        received = events(response)
        next(received)
        server.stop()
        assert list(received) == []  # the answer ends, it is not torn off
