"""Time of the pages over runs and of the wall over a large store.

``python -m tests.studies.many_runs FOLDER``

The store has 1000 runs of 250 streams with 4 windows each, a million verdicts, and the summaries of the runs
as the migration of an earlier store makes them. It is written once into the folder, or into an empty
PostgreSQL database (``--url``). Times are medians of several calls.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from dqm.events import Quality
from dqm.service.monitor.recorder import Recorder
from dqm.store import VerdictStore, sqlite_url
from dqm.store.schema import run_summaries, verdicts
from dqm.store.summary_filling import fill_summaries
from dqm.store.verdict_rows import row_of
from tests.verdicts import alter
from tests.world import START, Browser, World, make_world, verdict_of

RUN_SECONDS = 3600.0
AT_ONCE = 10_000
RECALLED = 50_000

WALL = ("/wall", "/wall?hours=8")
OVER_RUNS = (
    "/certification",
    "/certification/500",
    "/trends",
    "/trends?last=1000",
    "/trends?runs=401-500,601-900",
    "/trends?stream=chamber-000",
    "/trends?stream=chamber-000&last=1000",
    "/trends?stream=chamber-001&last=1000",
)


def names_of(n_streams: int) -> list[str]:
    return [f"chamber-{k:03}" for k in range(n_streams)]


def rows(
    n_runs: int, streams: list[str], n_windows: int, n_conditions: int = 0
) -> Iterator[dict[str, object]]:
    """Rows of verdicts in the order of time; one stream in ten gets worse from the middle on."""
    rng = np.random.default_rng(1)
    plain = row_of(verdict_of())
    for run in range(1, n_runs + 1):
        for seq in range(n_windows):
            z = rng.standard_normal(len(streams))
            z[::10] += 4.0 * max(0.0, run / n_runs - 0.5)
            moment = START + RUN_SECONDS * run + 600.0 * seq
            for name, value in zip(streams, z.tolist(), strict=True):
                quality = Quality.BAD if value > 3.1 else Quality.MEDIUM if value > 2.3 else Quality.GOOD
                readings = {f"condition_{k:02}": rng.normal(100.0, 1.0) for k in range(n_conditions)}
                yield plain | ({"conditions": readings} if n_conditions else {}) | {
                    "stream": name, "run": run, "seq": seq, "z": value, "quality": quality.value,
                    "judged_at": moment, "start": moment - 600.0, "end": moment,
                }  # fmt: skip


def fill(store: VerdictStore, n_runs: int, n_streams: int, n_windows: int, n_conditions: int) -> float:
    """Write the verdicts, then the summaries; give the seconds of the latter."""
    left = rows(n_runs, names_of(n_streams), n_windows, n_conditions)
    while batch := list(itertools.islice(left, AT_ONCE)):
        with store.database.transaction() as connection:
            connection.execute(verdicts.insert(), batch)
    begin = time.process_time()
    with store.database.transaction() as connection:
        fill_summaries(connection)
    return time.process_time() - begin


def measure(call: Callable[[], object], n: int = 7) -> str:
    """Write CPU time and wall time of a call."""
    call()
    times = []
    for _ in range(n):
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu, wall = (1000.0 * statistics.median(column) for column in zip(*times, strict=True))
    return f"{cpu:.3g} ms CPU, {wall:.3g} ms"


def measure_recording(world: World) -> str:
    """Time of recording a window: verdict, summary, alarms, commit."""
    numbers = itertools.count()
    base = verdict_of("chamber-000")
    recorder = Recorder(world.store, world.alarm_service, lambda: 0.0)
    return measure(
        lambda: recorder.record([alter(base, run=10**9, seq=next(numbers), judged_at=world.clock())]), 300
    )


def busy_world(folder: Path, url: str, n_streams: int, n_runs: int) -> World:
    """A monitor of so many streams over this store, with eight hours of windows to show."""
    names, rng = names_of(n_streams), np.random.default_rng(2)
    groups = {f"muon/station-{k // 50}": names[k : k + 50] for k in range(0, n_streams, 50)}
    world = make_world(folder / "many.sqlite", groups, url)
    world.clock.time = now = START + RUN_SECONDS * (n_runs + 1)
    for name in names:
        for k in range(240):
            quality = Quality.BAD if rng.random() < 0.01 else Quality.GOOD
            world.statuses.timeline.note(name, now - 120.0 * k, quality)
    return world


def ask(folder: Path, url: str, n_runs: int, n_streams: int) -> Iterator[str]:
    """Measure all pages."""
    for shown in sorted({n_streams, 1000}):
        world = busy_world(folder, url, shown, n_runs)
        begin = time.perf_counter()
        world.statuses.timeline.recall(world.store.last_qualities(0.0, RECALLED), RECALLED)
        yield f"{shown} streams: the last {RECALLED} verdicts are read in {time.perf_counter() - begin:.2f} s"
        browser = Browser(world, user="maria")
        for page in WALL + (OVER_RUNS if shown == n_streams else ()):
            answer = browser.get(page)
            assert answer.status_code == 200, answer.text
            took = measure(lambda page=page, browser=browser: browser.get(page))
            yield f"{page}: {took}, {len(answer.text) / 1000:.0f} kB"
        if shown == n_streams:
            yield f"recording a window: {measure_recording(world)}"
        world.store.close()


def main() -> None:
    """Fill the store if it is empty, then ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=250)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--conditions", type=int, default=0)
    asked = parser.parse_args()
    url = asked.url or sqlite_url(asked.folder / "many.sqlite")
    with VerdictStore(url) as store:
        with store.database.reading() as connection:
            n = connection.execute(select(func.count()).select_from(run_summaries)).scalar_one()
        if not n:
            seconds = fill(store, asked.runs, asked.streams, asked.windows, asked.conditions)
            print(f"summaries from verdicts: {seconds:.1f} s CPU")  # noqa: T201
    for line in ask(asked.folder, url, asked.runs, asked.streams):
        print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
