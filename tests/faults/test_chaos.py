"""Everything at once, for an hour: kills, stops, cuts, full disks, floods, reloads, restores, clocks.

``DQM_CHAOS_SECONDS`` is the length and ``DQM_CHAOS_SEED`` the seed, which is printed: it determines what is
done in which order and for how long. At the end the books must balance.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from dqm.reference import Bundle
from tests.store.postgres import PostgresServer
from tests.waiting import wait_until

from .books import check_alarms, check_windows
from .chaos import (
    GROUPS,
    LOOK_SECONDS,
    SCRAPE_SECONDS,
    STREAMS,
    Books,
    Chaos,
    carry_out,
    choose_acts,
    scraped,
    visited,
)
from .conftest import DISK_MEGABYTES, Open, administer, mounted

pytestmark = pytest.mark.long

SECONDS = float(os.environ.get("DQM_CHAOS_SECONDS", "3600"))
SEED = int(os.environ.get("DQM_CHAOS_SEED", time.time_ns() % 100_000))
CALM_SECONDS = 4.0
CATCH_UP_SECONDS = 1800.0


@pytest.fixture
def library(require_program: Callable[[str], Path]) -> Path | None:
    """What libfaketime puts before the C library; None where it is not."""
    found = sorted((require_program("faketime").parents[1] / "lib").glob("**/libfaketimeMT.so.1"))
    return found[0] if found else None


def faked_clock(library: Path | None) -> dict[str, str]:
    """Give the variables of a process whose clock of the day is what the file ``jump`` says."""
    if library is None:
        return {}
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": "jump",
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Put the daemon's data on a disk of their own, where that is permitted."""
    with ExitStack() as opened:
        try:
            with (folder / "disk").open("wb") as file:
                file.truncate(DISK_MEGABYTES * 2**20)
            administer("mkfs.ext4", "-q", "-m", "0", folder / "disk")
            opened.enter_context(mounted(folder / "data", "-o", "loop", str(folder / "disk")))
        except pytest.skip.Exception:
            yield False
            return
        yield True


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_books_balance_after_an_hour_of_chaos(
    open_site: Open, bundle: Bundle, library: Path | None, require_program: Callable[[str], Path], kind: str
) -> None:
    print(f"DQM_CHAOS_SEED={SEED} DQM_CHAOS_SECONDS={SECONDS:.0f} {kind}")  # noqa: T201
    chance, books = np.random.default_rng([SEED, kind == "sqlite"]), Books()
    with ExitStack() as opened:
        database = opened.enter_context(PostgresServer()) if kind == "postgresql" else None
        url = database.make_database() if database else ""
        site = open_site(
            "workers = 1\nqueue_windows = 200" + (f'\nstore = "{url}"' if url else ""),
            bundle=bundle.path, streams=STREAMS, **faked_clock(library),
        )  # fmt: skip
        has_disk = opened.enter_context(small_disk(site.folder)) and database is None
        chaos = Chaos(site, books, chance, database, url)
        opened.callback(chaos.relay.close)
        opened.callback(site.close)
        chaos.jump.write_text("+0")
        site.start()
        for name in GROUPS:
            chaos.start_collector(name)
        n_scraped = opened.enter_context(scraped(site, require_program("prometheus")))
        with visited(site, books):
            ends_at = time.monotonic() + SECONDS
            while time.monotonic() < ends_at:
                time.sleep(chance.exponential(CALM_SECONDS))
                acts = choose_acts(chaos, chance, has_disk=has_disk, has_clock=library is not None)
                at = SECONDS - (ends_at - time.monotonic())
                print(f"{at:7.1f} {[act.__name__ for act in acts]}", flush=True)  # noqa: T201
                carry_out(chaos, acts)
                assert site.daemon is not None
                assert site.daemon.poll() is None, site.log.read_text()[-3000:]
        chaos.calm()
        wait_until(chaos.is_caught_up, "the collectors have caught up", CATCH_UP_SECONDS)
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(chaos.end_collector, GROUPS))
        scrapes = n_scraped()
        site.stop()
        told = f"{check_windows(chaos)}; {check_alarms(chaos)}"
    print(  # noqa: T201
        f"{SECONDS:.0f} s, seed {SEED}, {kind}: {dict(books.acts)}; {told}; answers {dict(books.answers)}, "
        f"{books.n_changes_seen} changes seen, {scrapes:.0f} scrapes"
    )
    assert set(books.answers) <= {200, 503}
    assert books.answers[200] > SECONDS / LOOK_SECONDS / 10
    assert scrapes > SECONDS / SCRAPE_SECONDS / 10
    assert books.n_changes_seen > 0
