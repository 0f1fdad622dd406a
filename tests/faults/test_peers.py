"""Peers that connect, send, stall, close and come back at random, with equal and different routing ids."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dqm.store import STORE_FILE
from dqm.stream import make_keys
from tests.ports import free_port
from tests.waiting import wait_until

from .conftest import Open
from .peers import LAST_SECONDS, Outcome, Plan
from .site import STREAMS, Site

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("DQM_PEERS_SEED", time.time_ns() % 10_000))


def make_all_keys(folder: Path) -> list[str]:
    """Make the daemon's key and those of two collectors; gives the files that the peers need."""
    keys = folder / "keys"
    make_keys(keys, "daemon")
    for name in ("west", "east"):
        make_keys(keys, name, ["chamber-*"])
    return [str(keys / name) for name in ("west.secret", "east.secret", "daemon.public")]


def hold_now_and_then(site: Site, chance: np.random.Generator, seconds: float) -> int:
    """Lock the store for seconds, so that the daemon reads no messages; gives how often."""
    assert site.daemon is not None
    n_held, ends_at = 0, time.monotonic() + seconds
    with closing(sqlite3.connect(site.data / STORE_FILE, isolation_level=None, timeout=60.0)) as locking:
        while time.monotonic() < ends_at and site.daemon.poll() is None:
            time.sleep(chance.uniform(0.5, 3.0))
            locking.execute("BEGIN IMMEDIATE")
            time.sleep(chance.uniform(0.5, 2.5))
            locking.execute("ROLLBACK")
            n_held += 1
    return n_held


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [4.0, pytest.param(180.0, marks=pytest.mark.long)])
def test_the_daemon_survives_its_peers_and_serves_every_sender(open_site: Open, seconds: float) -> None:
    print(f"DQM_PEERS_SEED={SEED}")  # noqa: T201
    keyed, ipc = f"tcp://0.0.0.0:{free_port()}", "ipc://windows.ipc"
    site = open_site('workers = 0\nkeys = "keys"', also=(keyed, ipc))
    keys = make_all_keys(site.folder)
    site.start()
    plan = Plan(
        SEED,
        seconds,
        [site.address, f"ipc://{site.folder}/windows.ipc"],
        keyed.replace("0.0.0.0", "127.0.0.1"),  # noqa: S104
        keys,
    )
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.peers", json.dumps(asdict(plan))],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as peers:  # fmt: skip
        n_held = hold_now_and_then(site, np.random.default_rng(SEED), seconds)
        told, _ = peers.communicate(timeout=seconds + 3 * LAST_SECONDS)
    assert site.daemon is not None
    assert site.daemon.poll() is None, site.log.read_text()[-2000:]
    assert peers.returncode == 0
    outcome = Outcome(**json.loads(told.splitlines()[-1]))
    assert (outcome.problems, outcome.unanswered, outcome.refused) == ([], [], {})
    wait_until(lambda: site.metric("dqm_queue_windows") == 0, "windows of peers that have gone")
    n_counted = sum(value for key, value in site.metrics().items() if key[0] == "dqm_windows_total")
    site.stop()
    answered = {tuple(identity) for identity in outcome.answered}
    judged = Counter((line["stream"], line["run"], line["seq"]) for line in site.events("judged"))
    stored = Counter((v.window.stream, v.window.run, v.window.seq) for v in site.verdicts())
    assert not answered - set(stored), "answered and not stored"
    assert set(judged.values()) == set(stored.values()) == {1}
    assert len(judged) == len(stored) == n_counted
    assert {stream for stream, _, _ in answered} == set(STREAMS)
    print(  # noqa: T201
        f"{outcome.n_connections} connections, {n_held} times the store was locked: "
        f"{len(answered)} windows answered, {len(stored)} judged, each once"
    )
