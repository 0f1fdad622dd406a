"""Time until pages of a large monitor are there, in a real browser.

``python -m tests.studies.page_load FOLDER``

The monitor has 250 streams and a store of a million verdicts, which is written once into the folder. For each
page: when its first byte came, when it could be used and when its figures were drawn, ms after the request,
and what was transferred. Medians of several loads; files that browsers keep are there already.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from sqlalchemy import insert

from dqm.store import VerdictStore, sqlite_url
from dqm.store.schema import run_summaries, verdicts
from dqm.store.summary_filling import fill_summaries
from dqm.web import HttpServer, create_app
from tests.browser.conftest import FLAGS
from tests.world import START, World, make_world, verdict_of

N_STREAMS, N_WINDOWS, N_RUNS = 250, 40, 100
AT_ONCE = 20_000
LOADS = 5
RECALLED = 50_000
GROUPS = {f"muon/station-{s}": [f"chamber-{s * 50 + n:03}" for n in range(50)] for s in range(5)}
STREAMS = [name for names in GROUPS.values() for name in names]
PAGES = (
    "/", "/?quality=Bad", "/alarms", "/alarms?show=all", "/masks", "/streams/chamber-007",
    "/windows/chamber-007/100/39", "/wall", "/trends", "/trends?last=1000", "/trends?stream=chamber-007",
    "/certification", "/certification/100", "/compare?a_stream=chamber-007", "/help",
)  # fmt: skip
TIMES = """
    const page = performance.getEntriesByType("navigation")[0];
    const all = [page, ...performance.getEntriesByType("resource")];
    return [page.responseStart, page.domContentLoadedEventEnd, document.querySelectorAll("*").length,
            all.reduce((sum, one) => sum + one.transferSize, 0)];
"""


def write_store(path: Path) -> None:
    """Write a million verdicts; one of a hundred windows is Bad."""
    with VerdictStore(sqlite_url(path)) as store:
        store.append(verdict_of("chamber-000", run=0))
        store.append(verdict_of("chamber-000", run=0, seq=1, p=1e-9))
        with store.database.reading() as connection:
            plain, bad = (dict(row._mapping) for row in connection.execute(verdicts.select()).all())
        del plain["id"], bad["id"]
        rows: list[dict[str, object]] = []
        for row in _rows(plain, bad):
            rows.append(row)
            if len(rows) == AT_ONCE:
                with store.database.transaction() as connection:
                    connection.execute(insert(verdicts), rows)
                rows.clear()
        with store.database.transaction() as connection:
            connection.execute(run_summaries.delete())  # of the two above
            fill_summaries(connection)


def _rows(plain: dict[str, object], bad: dict[str, object]) -> Iterator[dict[str, object]]:
    rng = np.random.default_rng(1)
    for run in range(1, N_RUNS + 1):
        for seq in range(N_WINDOWS):
            moment = START + 3600.0 * run + 60.0 * seq
            for stream, share in zip(STREAMS, rng.random(N_STREAMS).tolist(), strict=True):
                chosen = bad if share < 0.01 else plain
                times = {"judged_at": moment, "start": moment - 60.0, "end": moment}
                yield chosen | {"stream": stream, "run": run, "seq": seq} | times


def recall(world: World) -> None:
    """Show the last windows of each stream, as the start of a daemon does; one stream has alarms."""
    for stream in STREAMS:
        world.statuses.recall(world.store.latest(stream, 24)[::-1], 600.0)
    world.statuses.timeline.recall(world.store.last_qualities(0.0, RECALLED), RECALLED)
    world.judge(
        *(verdict_of("chamber-007", seq, p=2e-9, run=N_RUNS) for seq in range(N_WINDOWS, N_WINDOWS + 3))
    )


def open_browser() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def measure(browser: webdriver.Chrome, url: str) -> tuple[float, float, float, float, float]:
    browser.get("data:,")
    begin = time.perf_counter()
    browser.get(url)
    drawn = (
        "return !document.querySelector('[data-chart]') || document.documentElement.dataset.drawn === 'yes'"
    )
    while not browser.execute_script(drawn):
        time.sleep(0.01)
    complete = 1000.0 * (time.perf_counter() - begin)
    first, usable, n_nodes, n_bytes = browser.execute_script(TIMES)
    return first, usable, complete, n_nodes, n_bytes / 1000.0


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "million.sqlite"
    if not store.exists():
        write_store(store)
    world = make_world(store, GROUPS)
    world.clock.time = START + 3600.0 * N_RUNS + 60.0 * N_WINDOWS
    recall(world)
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    browser = open_browser()
    print("| page | first byte, ms | usable, ms | with figures, ms | elements | kB |")  # noqa: T201
    for path in PAGES:
        loads = [measure(browser, f"http://{server.address}{path}") for _ in range(LOADS + 1)][1:]
        numbers = [statistics.median(column) for column in zip(*loads, strict=True)]
        print(f"| `{path}` | " + " | ".join(f"{number:.0f}" for number in numbers) + " |")  # noqa: T201
    print(f"load of the machine {os.getloadavg()[0]:.1f}")  # noqa: T201
    browser.quit()
    server.stop()
    world.store.close()


if __name__ == "__main__":
    main()
