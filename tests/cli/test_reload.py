"""The daemon's process reloads under load: nothing lost, nothing twice, what changed is in effect."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest

from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Sender, SenderKeys, make_keys, read_public, read_secret
from tests.service.small import healthy_events, window_of
from tests.waiting import wait_until

from .test_online import Running, daemon_of

RELOADING, RELOADED = "reloading", "reloaded"
REFUSED = "reload refused: the configuration stays as it was"
SETTLED = "these keys changed and need a restart"
UNKNOWN_KEY = 'dqm_refused_messages_total{reason="unknown-key"}'
COLLECTORS = {"west": "chamber-1", "east": "chamber-2"}


@dataclass(frozen=True)
class Place:
    """Where the daemon's configuration lies, and what it listens at."""

    folder: Path
    bundle: Path

    @property
    def address(self) -> str:
        return f"ipc://{self.folder}/windows.ipc"

    def write(self, budget: float = 1.0, streams: tuple[str, ...] = tuple(COLLECTORS.values())) -> Path:
        """Write the configuration as an operator would, the file at once."""
        tables = "".join(f'[[streams]]\nname = "{name}"\nbundle = "{self.bundle}"\n' for name in streams)
        scratch = self.folder / "next.toml"
        scratch.write_text(
            f'[daemon]\nlisten = ["{self.address}"]\nkeys = "keys"\nkeyed = "all"\nhttp = "127.0.0.1:0"\n'
            f"workers = 1\n[alarm]\nfalse_alarms_per_shift = {budget}\n{tables}"
        )
        return scratch.replace(self.folder / "daemon.toml")


@pytest.fixture
def place(tmp_path: Path, bundle: Path) -> Place:
    make_keys(tmp_path / "keys", "daemon")
    for name, stream in COLLECTORS.items():
        make_keys(tmp_path / "keys", name, [stream, "chamber-3"])
    return Place(tmp_path, bundle)


@contextmanager
def under_load(place: Place, name: str) -> Iterator[Sender]:
    """Send windows of a collector's stream until the block ends."""
    keys = place.folder / "keys"
    sending = SenderKeys(read_secret(keys / f"{name}.secret"), read_public(keys / "daemon.public"))
    stop = Event()
    with Sender(place.address, keys=sending, ack_timeout_seconds=3.0) as sender:

        def send() -> None:
            seq = 0
            while not stop.wait(0.03):
                if sender.n_kept < 200:
                    x = healthy_events(60, seq)
                    sender.send(window_of(x, stream=COLLECTORS[name], seq=seq, start=0.0, end=1.0))
                    seq += 1
                sender.pump()

        thread = Thread(target=send)
        thread.start()
        try:
            yield sender
        finally:
            stop.set()
            thread.join()


def reload(daemon: Running, outcome: str) -> dict[str, object]:
    """Hang up on daemon and workers, wait for the end of the reload; gives what was logged."""
    before = len(logged_events(daemon.log, outcome))
    os.killpg(daemon.process.pid, signal.SIGHUP)
    wait_until(lambda: len(logged_events(daemon.log, outcome)) > before, outcome)
    return logged_events(daemon.log, outcome)[-1]


def logged_events(log: Path, event: str) -> list[dict[str, object]]:
    lines = [
        line for line in log.read_text().splitlines() if f'"event": "{event}"' in line and line.endswith("}")
    ]
    return list(map(json.loads, lines))


def threshold(daemon: Running) -> float:
    return float(daemon.get("/api/v1/thresholds").json()["p_threshold"])


def counter(daemon: Running, name: str) -> float:
    found = [line for line in daemon.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.split()[-1]) for line in found)


def judged_of(daemon: Running, stream: str) -> float:
    lines = daemon.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith("dqm_windows_total{") and f'"{stream}"' in line]
    return sum(float(line.split()[-1]) for line in found)


def workers_of(process: subprocess.Popen[bytes]) -> set[int]:
    """Processes that the daemon started to test windows."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"spawn_main" in status.with_name("cmdline").read_bytes():
                found.add(int(status.parent.name))
        except OSError:  # it has ended
            continue
    return found


def test_windows_flow_through_reloads_and_none_is_lost_or_judged_twice(place: Place) -> None:
    config = place.write()
    with daemon_of(config) as daemon, under_load(place, "west") as west:
        first = threshold(daemon)
        wait_until(lambda: judged_of(daemon, "chamber-1") > 5, "windows are judged")
        place.write(budget=50.0)
        reload(daemon, RELOADED)
        assert threshold(daemon) > 2 * first, "the budget is in effect"
        assert f"dqm_alarm_p_threshold {threshold(daemon)}" in daemon.get("/metrics").text
        workers = workers_of(daemon.process)
        sound = config.read_text()
        for broken, words in [
            (sound.replace("= 50.0", "= 0"), "alarm.false_alarms_per_shift: "),
            (sound.replace(str(place.bundle), "lost.dqmref"), "lost.dqmref: no reference bundle"),
            (sound[:-3], "not valid TOML"),
        ]:
            config.write_text(broken)
            assert words in str(reload(daemon, REFUSED)["why"])
        config.write_text(sound.replace("workers = 1", "workers = 2"))
        reload(daemon, RELOADED)
        assert logged_events(daemon.log, SETTLED)[-1]["keys"] == ["daemon.workers"]
        assert workers_of(daemon.process) == workers, "the same tests need no other workers"
        place.write(budget=1.0)
        n_begun = len(logged_events(daemon.log, RELOADING))
        os.killpg(daemon.process.pid, signal.SIGHUP)
        wait_until(lambda: len(logged_events(daemon.log, RELOADING)) > n_begun, "the reload begins")
        os.killpg(daemon.process.pid, signal.SIGHUP)  # another one while the first is under way
        wait_until(lambda: threshold(daemon) == first, "the last of the reloads is in effect")
        n = judged_of(daemon, "chamber-1")
        wait_until(lambda: judged_of(daemon, "chamber-1") > n + 5, "windows are judged after all that")
        wait_until(lambda: len(workers_of(daemon.process)) == 1, "the workers before have ended")
    with VerdictStore(sqlite_url(place.folder / "data" / STORE_FILE), create=False) as store:
        verdicts = list(store.select())
    assert west.n_lost == 0
    assert [verdict.window.seq for verdict in verdicts] == list(range(len(verdicts)))
    assert {verdict.window.n_lost for verdict in verdicts} == {0}
    told = [line["seq"] for line in logged_events(daemon.log, "judged")]
    # the last verdicts may be stored and not told yet when the daemon is killed: a worker has two windows
    assert len(told) == len(set(told)) >= len(verdicts) - 2 > 20


@pytest.mark.long
def test_streams_come_and_go_and_a_key_that_is_taken_away_sends_no_more(place: Place) -> None:
    config = place.write()
    with daemon_of(config) as daemon, under_load(place, "west") as west, under_load(place, "east"):
        wait_until(lambda: judged_of(daemon, "chamber-2") > 5, "windows of both are judged")
        (place.folder / "keys" / "east.public").unlink()
        place.write(streams=("chamber-1", "chamber-2", "chamber-3"))
        reload(daemon, RELOADED)
        assert daemon.get("/api/v1/streams/chamber-3").json()["quality"] == "Null"
        assert judged_of(daemon, "chamber-1") > 5, "counters go on"
        wait_until(lambda: counter(daemon, UNKNOWN_KEY) > 0, "the key is refused")
        wait_until(lambda: counter(daemon, "dqm_queue_windows") == 0, "what it had sent before is judged")
        n, others = judged_of(daemon, "chamber-2"), judged_of(daemon, "chamber-1")
        wait_until(lambda: judged_of(daemon, "chamber-1") > others + 10, "the other goes on")
        assert judged_of(daemon, "chamber-2") <= n + 2, "those in the workers' hands at most"
        place.write(streams=("chamber-2",))
        reload(daemon, RELOADED)
        wait_until(lambda: "unknown-stream" in west.refusals, "its sender is told")
        assert daemon.get("/api/v1/streams/chamber-1").status_code == 404
        assert 'stream="chamber-1"' not in daemon.get("/metrics").text
        place.write(streams=("chamber-1", "chamber-2"))
        reload(daemon, RELOADED)
        wait_until(lambda: judged_of(daemon, "chamber-1") > 0, "it is back")
        assert daemon.end() == 0
