"""The daemon's process with its store in a real PostgreSQL server, which goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from dqm.store import VerdictStore
from dqm.stream import Sender
from tests.service.small import faulty_events, healthy_events, window_of
from tests.store.postgres import PostgresServer
from tests.waiting import wait_until

from .test_online import Running, daemon_of, write_daemon
from .test_reload import counter


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


def state_of(daemon: Running, stream: str) -> str:
    """State of the alarm on windows that differ."""
    alarms = daemon.get("/api/v1/alarms").json()["alarms"]
    (state,) = [a["state"] for a in alarms if (a["stream"], a["cause"]) == (stream, "differs")]
    return str(state)


@pytest.mark.long
def test_nothing_is_lost_while_the_database_and_then_the_daemon_are_away(
    tmp_path: Path, bundle: Path, server: PostgresServer
) -> None:
    url = server.make_database()
    config = write_daemon(tmp_path, bundle)
    config.write_text(config.read_text().replace("[daemon]\n", f'[daemon]\nstore = "{url}"\n'))
    stop, n_sent = Event(), 0
    with Sender(f"ipc://{tmp_path}/windows.ipc", ack_timeout_seconds=3.0) as sender:

        def send() -> None:
            nonlocal n_sent
            while not stop.wait(0.05):
                sender.pump()
                if sender.n_kept > 100:
                    continue
                sender.send(window_of(healthy_events(60, n_sent), seq=n_sent))
                sender.send(window_of(faulty_events(60, n_sent), stream="chamber-2", seq=n_sent))
                n_sent += 1

        thread = Thread(target=send)
        thread.start()
        try:
            with daemon_of(config) as daemon:
                wait_until(lambda: daemon.n_judged() > 20, "windows are judged")
                assert state_of(daemon, "chamber-2") == "Active"
                server.stop()
                wait_until(lambda: counter(daemon, "dqm_store_failures_total") > 1, "the store is missed")
                judged = daemon.n_judged()
                assert daemon.get("/healthz").json()["status"] == "ok"
                server.start()
                wait_until(lambda: daemon.n_judged() > judged + 20, "windows are judged again")
                daemon.process.kill()
                daemon.process.wait()
            config.with_name("daemon.log").rename(tmp_path / "first.log")
            with daemon_of(config) as daemon:
                assert state_of(daemon, "chamber-2") == "Active"
                wait_until(lambda: daemon.n_judged() > 5, "the next daemon goes on")
                stop.set()
                thread.join()
                assert sender.confirm(60.0)
                assert daemon.end() == 0
        finally:
            stop.set()
            thread.join()
    with VerdictStore(url.replace("postgresql:", "postgresql+psycopg:"), create=False) as store:
        verdicts = list(store.select())
    assert sender.n_lost == 0
    for stream in ("chamber-1", "chamber-2"):
        assert sorted(v.window.seq for v in verdicts if v.window.stream == stream) == list(range(n_sent))
    assert {v.window.n_lost for v in verdicts} == {0}
