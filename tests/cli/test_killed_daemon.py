"""The daemon killed at random moments under load: every window judged once, none said to be lost."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from tests.service.small import N_WINDOW, healthy_events, write_csv

from .program import WAIT_SECONDS, logged, start_dqm
from .test_online import STREAMS, write_daemon, write_replay

MOST_WINDOWS_PER_LIFE = 20


@pytest.mark.parametrize("n_kills", [2, pytest.param(100, marks=pytest.mark.long)])
def test_no_window_is_lost_or_judged_twice_when_the_daemon_is_killed(
    tmp_path: Path, bundle: Path, n_kills: int
) -> None:
    chance = np.random.default_rng(n_kills)
    n_rows = N_WINDOW * 4 * MOST_WINDOWS_PER_LIFE * (n_kills + 5)
    write_csv(
        tmp_path / "events.csv", healthy_events(n_rows, 7), itertools.islice(itertools.cycle(STREAMS), n_rows)
    )
    config = write_daemon(tmp_path, bundle)
    collector = write_replay(tmp_path, tmp_path / "events.csv")
    collector.write_text(collector.read_text().replace("[window]", "buffer_windows = 64\n[window]"))
    collecting = start_dqm("collect", collector.name, cwd=tmp_path, log=tmp_path / "collector.log")
    logs = [tmp_path / f"daemon-{number}.log" for number in range(n_kills + 1)]
    daemon = None
    try:
        for log in logs[:-1]:
            daemon = start_dqm("run", config.name, cwd=tmp_path, log=log)
            wait_for_ready(daemon, log)
            wanted = chance.integers(MOST_WINDOWS_PER_LIFE)
            wait(lambda log=log, n=wanted: len(judged(log)) >= n)  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.2))
            assert collecting.poll() is None, "the load ended before the kills"
            daemon.kill()
            assert daemon.wait() == -9
        daemon = start_dqm("run", config.name, cwd=tmp_path, log=logs[-1])
        wait_for_ready(daemon, logs[-1])
        collecting.terminate()
        collecting.wait(600)
        daemon.terminate()
        assert daemon.wait(30) == 0
    finally:
        collecting.kill()
        if daemon is not None:
            daemon.kill()
    with VerdictStore(sqlite_url(tmp_path / "data" / STORE_FILE), create=False) as store:
        verdicts = list(store.select())
    identities = [(verdict.stream, verdict.seq) for verdict in verdicts]
    assert len(identities) == len(set(identities))
    for stream in STREAMS:
        numbers = sorted(seq for name, seq in identities if name == stream)
        assert numbers == list(range(len(numbers)))
    ended = logged(tmp_path / "collector.log", "run ended")
    assert ended is not None
    assert ended["sent"] == len(identities)
    assert ended["lost"] == ended["windows"] - ended["sent"], "only what a stopped replay did not send"
    assert not [verdict.reason for verdict in verdicts if verdict.n_lost]
    told = [identity for log in logs for identity in judged(log)]
    assert len(told) == len(set(told)), "a window was judged twice"
    print(f"{n_kills} kills, {len(identities)} windows judged, each once, 0 lost")  # noqa: T201


def wait_for_ready(daemon: subprocess.Popen[bytes], log: Path) -> None:
    wait(lambda: daemon.poll() is not None or logged(log, "ready") is not None)
    assert daemon.poll() is None, log.read_text()


def wait(done: Callable[[], bool]) -> None:
    """Wait for long: the machine may have much else to do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def judged(log: Path) -> list[tuple[str, int]]:
    """Windows that a daemon said it judged; the last line may be cut off."""
    lines = [line for line in log.read_text().splitlines() if '"judged"' in line and line.endswith("}")]
    return [(line["stream"], line["seq"]) for line in map(json.loads, lines)]
