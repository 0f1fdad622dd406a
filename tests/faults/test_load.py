"""Floods, silent peers, peers that stop in the middle, and a Prometheus that does not scrape."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from dqm.events import Quality
from dqm.stream import Sender
from tests.service.small import window_of
from tests.waiting import wait_until

from .site import STREAMS, Site, memory_of

WAIT_SECONDS = 60.0
pytestmark = pytest.mark.slow
HEALTHY, OTHER = STREAMS


@pytest.mark.long
@pytest.mark.parametrize("seconds", [2.0, 120.0])
def test_a_flood_is_worked_off_as_overload_in_bounded_memory(shared: Site, seconds: float) -> None:
    before, skipped = memory_of(shared.pid), shared.metric("dqm_skipped_windows_total", OTHER)
    name = f"flood-{seconds:.0f}"
    flood = shared.collect(name, healthy=[OTHER], section="buffer_windows = 500", run=int(300 + seconds))
    wait_until(lambda: shared.metric("dqm_skipped_windows_total", OTHER) > skipped, "overload")
    time.sleep(seconds)  # so long lasts the flood
    taken = memory_of(flood.pid)
    assert memory_of(shared.pid) < before + 60.0
    assert shared.get("/healthz").status_code == 200
    ended = shared.end_collector(name)
    verdicts = shared.run_of(int(300 + seconds))
    overloaded = [v for v in verdicts if v.reason.startswith("overload: the daemon cannot keep up")]
    lossy = [v for v in verdicts if v.window.n_lost]
    assert {v.quality for v in overloaded} == {Quality.NULL}
    assert lossy
    assert {v.quality for v in lossy} <= {Quality.NULL, Quality.MEDIUM, Quality.BAD}  # one in 100 by chance
    assert ended["windows"] == len(verdicts) + ended["lost"]
    assert sum(v.window.n_lost for v in verdicts) <= ended["lost"]
    assert taken < 400.0
    with Sender(shared.address) as sender:
        sender.send(window_of(stream=OTHER, run=int(600 + seconds)))
        assert sender.confirm(WAIT_SECONDS)
    assert [v.quality for v in shared.run_of(int(600 + seconds))] == [Quality.GOOD]
    print(  # noqa: T201
        f"{ended['windows']} windows: {len(verdicts)} judged, {len(overloaded)} of them given up, "
        f"{ended['lost']} dropped by their collector; daemon {before:.0f} -> {memory_of(shared.pid):.0f} MB, "
        f"collector {taken:.0f} MB"
    )


@pytest.mark.long
def test_a_flood_of_one_stream_does_not_starve_another(shared: Site, sender: Sender) -> None:
    shared.collect("greedy", healthy=[OTHER], section="buffer_windows = 100", run=310)
    skipped = shared.metric("dqm_skipped_windows_total", OTHER)
    wait_until(lambda: shared.metric("dqm_skipped_windows_total", OTHER) > skipped, "overload")
    for seq in range(5):
        sender.send(window_of(run=311, seq=seq))
        assert sender.confirm(WAIT_SECONDS)
    shared.end_collector("greedy")
    assert [v.quality for v in shared.run_of(311)] == [Quality.GOOD] * 5


@pytest.mark.parametrize("n_windows", [300, pytest.param(20_000, marks=pytest.mark.long)])
def test_nothing_grows_while_nobody_scrapes(shared: Site, sender: Sender, n_windows: int) -> None:
    run = 320 + n_windows % 7

    def send(first: int, n: int) -> None:
        for seq in range(first, first + n):
            sender.send(window_of(run=run, seq=seq))
            while sender.n_kept > 10:
                sender.confirm(0.01)
        assert sender.confirm(WAIT_SECONDS)

    send(0, 200)  # what is used for the first time is allocated
    before = memory_of(shared.pid)
    send(200, n_windows)
    grown = memory_of(shared.pid) - before
    assert grown < 4.0 + n_windows / 2000
    assert len(shared.run_of(run)) == 200 + n_windows
    print(f"{n_windows} windows without a scrape: {grown:+.1f} MB")  # noqa: T201


def test_peers_that_connect_and_say_nothing_hold_up_nobody(shared: Site, sender: Sender) -> None:
    ports = [shared.address.rsplit(":", 1)[1], shared.http.rsplit(":", 1)[1]]
    silent = [socket.create_connection(("127.0.0.1", int(port))) for port in ports for _ in range(60)]
    try:
        for seq in range(5):
            sender.send(window_of(run=330, seq=seq))
        assert sender.confirm(WAIT_SECONDS)
        assert shared.metric("dqm_queue_windows") == 0
    finally:
        for each in silent:
            each.close()
    assert [v.quality for v in shared.run_of(330)] == [Quality.GOOD] * 5


@pytest.mark.long
def test_a_peer_that_never_ends_its_handshake_is_dropped(shared: Site) -> None:
    with socket.create_connection(("127.0.0.1", int(shared.address.rsplit(":", 1)[1])), 40.0) as silent:
        while silent.recv(4096):
            pass


@pytest.mark.long
@pytest.mark.parametrize(("victim", "seconds"), [("daemon", 2.0), ("daemon", 45.0), ("collector", 45.0)])
def test_a_process_that_stands_still_goes_on_where_it_was(shared: Site, victim: str, seconds: float) -> None:
    run, name = int({"daemon": 400, "collector": 500}[victim] + seconds), f"{victim}-{seconds:.0f}"
    collector = shared.collect(name, healthy=[HEALTHY], rate_hz=20.0, run=run)
    wait_until(lambda: len(shared.run_of(run)) > 5, "windows")
    pid = collector.pid if victim == "collector" else shared.pid
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)  # so long it stands still
    os.kill(pid, signal.SIGCONT)
    n_before = len(shared.run_of(run))
    wait_until(lambda: len(shared.run_of(run)) > n_before + 5, "windows")
    ended = shared.end_collector(name)
    assert (ended["lost"], ended["spooled"], ended["refused"]) == (0, 0, 0)
    verdicts = shared.run_of(run)
    assert sorted(v.window.seq for v in verdicts) == list(range(ended["windows"]))
    untested = [v.reason for v in verdicts if v.quality is Quality.NULL]
    assert all(reason.startswith("overload") for reason in untested), "more had waited than the queue holds"
