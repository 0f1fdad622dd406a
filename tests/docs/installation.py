"""An installation as the reference pages speak of it: a daemon's page, runs in its store, kept events."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dqm.events import Verdict
from dqm.reference import StoredBundle
from dqm.store import GOOD_WINDOWS, STORE_FILE, WindowKeeper
from dqm.web import HttpServer, create_app
from tests.service.small import FEATURES, N_WINDOW, faulty_events, healthy_events, window_of
from tests.world import World, make_world, verdict_of

CHANNELS = "chamber-2.channels"
GROUPS = {
    "muon/station-1": ["chamber-0", "chamber-1", "chamber-2", CHANNELS],
    "muon/station-2": ["chamber-4"],
}
STREAMS = [name for names in GROUPS.values() for name in names if name != CHANNELS]
NOW = datetime(2026, 11, 28, 19, 0, tzinfo=UTC).timestamp()
SILENT_SECONDS = 601.0
N_WINDOWS = {7: 40, 12: 45, 17: 40, 118: 20}
RUNS = (7, 10, 11, 12, 13, 15, 17, *range(100, 131))
KEPT = {"chamber-1": (10, 11, 12, 13, 15), "chamber-2": (10, 11, 12, 112, 118)}
"""Runs whose events were kept."""
FILES = (12, 200, 201)
"""Runs of which there is a file."""


@contextmanager
def running(folder: Path, bundle: StoredBundle) -> Iterator[str]:
    """Write ``daemon.toml``, ``west.toml`` and what they name; give the address of the page that runs."""
    data = folder / "data"
    data.mkdir(mode=0o700)
    for name in ("chamber2", "chamber-2", "chamber-1"):
        shutil.copytree(bundle.path, folder / f"{name}.dqmref")
    for run in FILES:
        events = dict(zip(FEATURES, healthy_events(4000, run).T, strict=True))
        pq.write_table(pa.table(events), folder / f"run{run}.parquet")
    world = make_world(data / STORE_FILE, GROUPS)
    world.know_channels(CHANNELS, n=64)
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    try:
        _write_configuration(folder, server.address)
        _fill(world, data, bundle)
        yield server.address
    finally:
        server.stop()
        world.store.close()


def _write_configuration(folder: Path, http: str) -> None:
    streams = "".join(
        f'[[streams]]\nname = "{name}"\nbundle = "chamber2.dqmref"\ngroup = "{group}"\n'
        for group, names in GROUPS.items()
        for name in names
    )
    text = f'[daemon]\nlisten = ["ipc://{folder}/windows.ipc"]\nhttp = "{http}"\n{streams}'
    for name in ("daemon.toml", "west.toml"):
        (folder / name).write_text(text)


def _fill(world: World, data: Path, bundle: StoredBundle) -> None:
    """Store the windows of all runs; the newest raise an alarm, and then none comes any more."""
    keepers = [WindowKeeper(data / folder, 10**8) for folder in (GOOD_WINDOWS, "windows")]
    for run in RUNS:
        begin = NOW - 3600.0 * (131 - run) if run != 7 else NOW - 4000.0
        for stream in STREAMS:
            is_bad = (run, stream) == (118, "chamber-2")
            for seq in range(N_WINDOWS.get(run, 5)):
                moment = begin + 60.0 * seq
                verdict = verdict_of(
                    stream, seq, p=1e-9 if is_bad or (run == 12 and seq > 40) else 0.5, run=run,
                    judged_at=moment + 60.0, start=moment, end=moment + 60.0, bundle=bundle.identifier,
                )  # fmt: skip
                world.store.append(verdict)
                if run in KEPT.get(stream, ()) and (seq < 5 or seq > 40 or is_bad):
                    _keep(keepers, verdict, is_bad=verdict.quality != "Good")
    world.clock.time = NOW
    world.raise_alarm("chamber-2")
    world.clock.time += SILENT_SECONDS
    world.alarm_service.tick()


def _keep(keepers: list[WindowKeeper], verdict: Verdict, *, is_bad: bool) -> None:
    window = verdict.window
    seed = 1000 * window.run + window.seq + 10**6 * STREAMS.index(window.stream)
    x = (faulty_events if is_bad else healthy_events)(N_WINDOW, seed)
    keepers[is_bad].keep(
        window_of(x, stream=window.stream, run=window.run, seq=window.seq), replace(verdict, explanation=None)
    )
