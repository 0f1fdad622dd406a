"""Everything at once, for an hour: kills, stops, cuts, full disks, floods, reloads, restores, clocks.

``DQM_CHAOS_SECONDS`` is the length and ``DQM_CHAOS_SEED`` the seed, which is printed: it determines what is
done in which order and for how long. At the end the books must balance.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np
import pytest

from dqm.alarm import AlarmEngine, Cause
from dqm.config import load_daemon
from dqm.events import Quality, Verdict
from dqm.reference import Bundle
from dqm.service.monitor.resolved_config import resolve
from dqm.store import STORE_FILE, AlarmStore, Database, VerdictStore, sqlite_url
from dqm.stream import Identity
from tests.cli.program import run_dqm
from tests.ports import free_port
from tests.store.postgres import PostgresServer
from tests.waiting import wait_until

from .conftest import DISK_MEGABYTES, Open, administer, mounted
from .live import MADE
from .proxy import Relay
from .site import Site

pytestmark = pytest.mark.long

SECONDS = float(os.environ.get("DQM_CHAOS_SECONDS", "3600"))
SEED = int(os.environ.get("DQM_CHAOS_SEED", time.time_ns() % 100_000))
STREAMS = tuple(f"chamber-{n:02}" for n in range(50))
FAULTY, FLOODED = STREAMS[:2], STREAMS[-1]
GROUPS = {"left": STREAMS[:25], "right": STREAMS[25:-1]}
RATE_HZ, RUN, FLOOD_RUN = 0.1, 5, 6
LONGEST_SECONDS, CALM_SECONDS = 12.0, 4.0
CATCH_UP_SECONDS = 900.0
CAUSES = (Cause.DIFFERS, Cause.DRIFT, Cause.NUISANCE)
"""Causes that follow from verdicts; silence follows from when nothing came."""


@dataclass
class Books:
    """What must be known at the end, besides the store."""

    acts: Counter[str] = field(default_factory=Counter)
    undone: set[Identity] = field(default_factory=set)
    """Windows whose verdicts a restored backup does not have."""
    flood_lost: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    n_changes_seen: int = 0


class Chaos:
    """A monitor with all that is around it, and what is done to it."""

    def __init__(self, site: Site, books: Books, chance: np.random.Generator, url: str | None) -> None:
        self.site, self.books, self.chance, self.url = site, books, chance, url
        self.relay = Relay(site.address)
        site.connect = self.relay.address
        self.jump = site.folder / "jump"
        self.database: PostgresServer | None = None

    def start_collector(self, name: str) -> None:
        faulty = [s for s in GROUPS[name] if s in FAULTY]
        healthy = [s for s in GROUPS[name] if s not in FAULTY]
        section = "buffer_windows = 50000"
        self.site.collect(name, healthy=healthy, faulty=faulty, rate_hz=RATE_HZ, section=section, run=RUN)

    def open_store(self) -> VerdictStore:
        return VerdictStore(self.url or sqlite_url(self.site.data / STORE_FILE), create=False)

    def start_daemon(self) -> None:
        """Start it as a service manager does: again, until it stays."""
        for _ in range(20):
            self.site.launch()
            daemon = self.site.daemon
            assert daemon is not None
            wait_until(lambda d=daemon: d.poll() is not None or self.site.n_logged("ready") > 0, "a start")  # type: ignore[misc]
            if daemon.poll() is None:
                return
            time.sleep(1.0)
        raise AssertionError(self.site.log.read_text())

    # What is done; each is undone when its block ends.

    @contextmanager
    def kill_daemon(self) -> Iterator[None]:
        self.site.kill()
        yield
        self.start_daemon()

    @contextmanager
    def abort_daemon(self) -> Iterator[None]:
        os.kill(self.site.pid, signal.SIGABRT)
        assert self.site.wait_for_end() == -signal.SIGABRT
        yield
        self.start_daemon()

    @contextmanager
    def kill_collector(self) -> Iterator[None]:
        name = str(self.chance.choice(list(GROUPS)))
        self.site.collectors[name].kill()
        self.site.collectors[name].wait()
        yield
        self.start_collector(name)

    @contextmanager
    def stop(self, pid: int) -> Iterator[None]:
        os.kill(pid, signal.SIGSTOP)
        yield
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def stop_daemon(self) -> Iterator[None]:
        return self.stop(self.site.pid)  # type: ignore[return-value]

    def stop_collector(self) -> Iterator[None]:
        return self.stop(self.site.collectors[str(self.chance.choice(list(GROUPS)))].pid)  # type: ignore[return-value]

    @contextmanager
    def cut_network(self) -> Iterator[None]:
        self.relay.cut()
        yield
        self.relay.mend(forget=bool(self.chance.random() < 0.5))

    @contextmanager
    def drop_connections(self) -> Iterator[None]:
        self.relay.drop()
        yield

    @contextmanager
    def fill_disk(self) -> Iterator[None]:
        ballast = self.site.data / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        yield
        ballast.unlink()

    @contextmanager
    def flood(self) -> Iterator[None]:
        self.site.collect("flood", healthy=[FLOODED], section="buffer_windows = 200", run=FLOOD_RUN)
        self.site.wait_for_collector("flood")
        yield
        ended = self.site.end_collector("flood")
        assert ended["refused"] == 0
        self.books.flood_lost += ended["lost"]

    @contextmanager
    def reload(self) -> Iterator[None]:
        os.kill(self.site.pid, signal.SIGHUP)
        yield

    @contextmanager
    def jump_clock(self) -> Iterator[None]:
        self.jump.write_text(f"{self.chance.integers(-30, 30):+d}h")
        yield

    @contextmanager
    def restart_database(self) -> Iterator[None]:
        assert self.database is not None
        self.database.stop()
        yield
        self.database.start()

    @contextmanager
    def restore_backup(self) -> Iterator[None]:
        """Replace the store by a copy that was made a moment before; what it lacks is noted."""
        copy, store = self.site.folder / "copy", self.site.data / STORE_FILE
        run_dqm("store", "backup", store, copy, "--replace", cwd=self.site.folder)
        time.sleep(self.chance.uniform(0.0, 2.0))
        self.site.stop()
        before = {identity for identity, _ in self.read()}
        run_dqm("store", "restore", store, copy, "--replace", cwd=self.site.folder)
        self.books.undone |= before - {identity for identity, _ in self.read()}
        for aside in self.site.data.glob(f"{STORE_FILE}?*"):
            if not aside.name.endswith(("-wal", "-shm")):
                aside.unlink()
        yield
        self.start_daemon()

    def is_caught_up(self) -> bool:
        """Whether a window of every stream was judged that is not old: none waits in its collector."""
        made = self.site.metrics()
        streams = [stream for group in GROUPS.values() for stream in group]
        oldest = min(made.get(("dqm_condition", MADE, stream), 0.0) for stream in streams)
        return time.time() - oldest < 10.0 + 1.0 / RATE_HZ

    def read(self) -> list[tuple[Identity, Verdict]]:
        with self.open_store() as store:
            return [((v.window.stream, v.window.run, v.window.seq), v) for v in store.select()]


Act = Callable[[], Iterator[None]]


def choose_acts(chaos: Chaos, chance: np.random.Generator, *, has_disk: bool, has_clock: bool) -> list[Act]:
    """One act, or two that may go together."""
    long: list[Act] = [chaos.stop_collector, chaos.cut_network, chaos.stop_daemon]
    long += [chaos.fill_disk] * has_disk + [chaos.jump_clock] * has_clock
    long += [chaos.restart_database] if chaos.database else []
    short: list[Act] = [chaos.kill_daemon, chaos.abort_daemon, chaos.kill_collector]
    alone: list[Act] = [chaos.flood, chaos.reload, chaos.drop_connections]
    alone += [] if chaos.database else [chaos.restore_backup]
    kind = chance.choice(["long", "short", "alone", "both"])
    if kind == "both":
        return [long[chance.integers(len(long))], short[chance.integers(len(short))]]
    each = {"long": long, "short": short, "alone": alone}[str(kind)]
    return [each[chance.integers(len(each))]]


def carry_out(chaos: Chaos, acts: list[Act]) -> None:
    """Begin all, wait, and end them in the order in which they began."""
    begun = []
    for act in acts:
        block = act()
        block.__enter__()  # type: ignore[attr-defined]
        begun.append(block)
        chaos.books.acts[act.__name__] += 1
        time.sleep(chaos.chance.uniform(0.0, 1.0))
    time.sleep(chaos.chance.exponential(2.0) if chaos.chance.random() < 0.8 else LONGEST_SECONDS)
    for block in begun:
        block.__exit__(None, None, None)  # type: ignore[attr-defined]


@contextmanager
def visited(site: Site, books: Books) -> Iterator[None]:
    """Users who look at pages, listen for changes and fetch numbers, whatever the daemon does."""
    stop = Event()

    def look() -> None:
        pages = ("/", "/alarms", f"/streams/{FAULTY[0]}", "/api/v1/overview", "/healthz", "/metrics")
        with httpx.Client(base_url=f"http://{site.http}", trust_env=False, timeout=5.0) as client:
            while True:
                for page in pages:
                    if stop.wait(0.5):
                        return
                    with suppress(httpx.TransportError):
                        books.answers[client.get(page).status_code] += 1

    def listen() -> None:
        with httpx.Client(base_url=f"http://{site.http}", trust_env=False, timeout=10.0) as client:
            while not stop.wait(0.3):
                with suppress(httpx.TransportError), client.stream("GET", "/events") as events:
                    for line in events.iter_lines():
                        books.n_changes_seen += line.startswith("data")
                        if stop.is_set():
                            break

    threads = [Thread(target=work, daemon=True) for work in (look, listen, listen)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20.0)


@contextmanager
def scraped(site: Site, program: Path) -> Iterator[Callable[[], float]]:
    """Run Prometheus itself; gives how often it has scraped the daemon."""
    config, address = site.folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"  - {{job_name: dqm, static_configs: [{{targets: ['{site.http}']}}]}}\n"
    )
    options = (f"--config.file={config}", f"--storage.tsdb.path={site.folder}/tsdb")
    with (site.folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *options, f"--web.listen-address={address}"], stdout=log, stderr=log
        )

    def count() -> float:
        query = {"query": 'sum_over_time(up{job="dqm"}[2h])'}
        found = httpx.get(f"http://{address}/api/v1/query", params=query, trust_env=False).json()
        return float(found["data"]["result"][0]["value"][1])

    try:
        yield count
    finally:
        process.terminate()
        process.wait()


def replay(site: Site, verdicts: list[Verdict]) -> AlarmEngine:
    """Give the stored verdicts to alarms that nothing disturbs."""
    resolved = resolve(load_daemon(site.folder / "daemon.toml"))
    engine = AlarmEngine(resolved.rules, resolved.thresholds, verdicts[0].judged_at)
    for verdict in verdicts:
        engine.observe(verdict, verdict.judged_at)
    return engine


def check_books(chaos: Chaos, ended: dict[str, dict[str, int]]) -> str:
    """Every window is judged once or lost with a reason, and alarms are those of the stored verdicts."""
    books, site = chaos.books, chaos.site
    found = chaos.read()
    judged = {identity for identity, _ in found}
    assert len(judged) == len(found)
    missing: dict[int, set[Identity]] = {RUN: set(), FLOOD_RUN: set()}
    for stream in STREAMS:
        for run, absent in missing.items():
            seqs = {seq for s, r, seq in judged | books.undone if (s, r) == (stream, run)}
            absent |= {(stream, run, seq) for seq in set(range(max(seqs, default=-1) + 1)) - seqs}
    assert not missing[RUN], "taken, and neither judged nor lost"
    assert [(e["lost"], e["refused"], e["spooled"]) for e in ended.values()] == [(0, 0, 0)] * len(ended)
    assert len(missing[FLOOD_RUN]) <= books.flood_lost
    told = Counter((line["stream"], line["run"], line["seq"]) for line in site.events("judged"))
    twice = {identity for identity, n in told.items() if n > 1} - books.undone
    assert not twice, "judged twice"
    lossy = {(v.window.stream, v.window.run) for _, v in found if v.window.n_lost}
    assert lossy <= {(FLOODED, FLOOD_RUN)} | {(stream, run) for stream, run, _ in books.undone}
    assert not {v.reason for _, v in found if v.quality is Quality.NULL} - {*known_reasons(found)}
    check_alarms(chaos, [verdict for _, verdict in found])
    return (
        f"{len(found)} windows judged, {len(books.undone - judged)} undone by {books.acts['restore_backup']} "
        f"restored backups, {books.flood_lost} dropped by the flood's collector "
        f"({len(missing[FLOOD_RUN])} of their numbers are followed by others)"
    )


def known_reasons(found: list[tuple[Identity, Verdict]]) -> set[str]:
    """Give the reasons of ``Null`` verdicts that follow from what was done."""
    known = ("overload", "windows lost", "not tested", "1 window", "late")
    return {v.reason for _, v in found if v.reason.startswith(known) or "lost" in v.reason}


def check_alarms(chaos: Chaos, verdicts: list[Verdict]) -> None:
    """Compare what the alarms remember of the windows, and their states, with the replay."""
    database = Database(chaos.url or sqlite_url(chaos.site.data / STORE_FILE), create=False)
    try:
        stored = AlarmStore(database).states()
    finally:
        database.close()
    engine = replay(chaos.site, verdicts)
    for stream in {verdict.window.stream for verdict in verdicts}:
        expected = json.loads(json.dumps(engine.dump(stream)))
        actual = dict(stored[stream])
        for dump in (expected, actual):
            dump["evidence"] = {k: v for k, v in dump["evidence"].items() if k != "silent"}
        assert actual["evidence"] == expected["evidence"], stream
        for cause in CAUSES:
            states = [dump["alarms"][cause.value]["state"] for dump in (actual, expected)]
            assert states[0] == states[1], f"{stream} {cause}"


@pytest.fixture
def library(require_program: Callable[[str], Path]) -> Path | None:
    """What libfaketime puts before the C library; None where it is not."""
    found = sorted((require_program("faketime").parents[1] / "lib").glob("**/libfaketimeMT.so.1"))
    return found[0] if found else None


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
    open_site: Open, bundle: Bundle, library: Path, require_program: Callable[[str], Path], kind: str
) -> None:
    print(f"DQM_CHAOS_SEED={SEED} DQM_CHAOS_SECONDS={SECONDS:.0f}")  # noqa: T201
    chance, books = np.random.default_rng([SEED, kind == "sqlite"]), Books()
    with ExitStack() as opened:
        database = opened.enter_context(PostgresServer()) if kind == "postgresql" else None
        url = database.make_database() if database else None
        site = open_site(
            "workers = 1\nqueue_windows = 200" + (f'\nstore = "{url}"' if url else ""),
            bundle=bundle.path, streams=STREAMS,
            LD_PRELOAD=str(library), FAKETIME_CACHE_DURATION="1", FAKETIME_DONT_FAKE_MONOTONIC="1",
            DONT_FAKE_MONOTONIC="1", FAKETIME_TIMESTAMP_FILE="jump",
        )  # fmt: skip
        has_disk = opened.enter_context(small_disk(site.folder)) and database is None
        chaos = Chaos(site, books, chance, load_daemon(site.folder / "daemon.toml").daemon.store)
        opened.callback(chaos.relay.close)
        opened.callback(site.close)
        chaos.database = database
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
                print(f"{SECONDS - (ends_at - time.monotonic()):7.1f} {[act.__name__ for act in acts]}")  # noqa: T201
                carry_out(chaos, acts)
                assert site.daemon is not None
                assert site.daemon.poll() is None, site.log.read_text()[-3000:]
            chaos.jump.write_text("+0")
            wait_until(lambda: chaos.is_caught_up(), "the collectors have caught up", CATCH_UP_SECONDS)
            with ThreadPoolExecutor() as at_once:
                ended = dict(zip(GROUPS, at_once.map(site.end_collector, GROUPS), strict=True))
            scrapes = n_scraped()
        site.stop()
        told = check_books(chaos, ended)
    assert set(books.answers) <= {200, 503}, books.answers
    assert books.answers[200] > SECONDS / 5
    assert scrapes > SECONDS / 10
    assert books.n_changes_seen > 0
    print(  # noqa: T201
        f"{SECONDS:.0f} s, seed {SEED}, {kind}: {dict(books.acts)}; {told}; answers {dict(books.answers)}, "
        f"{books.n_changes_seen} changes seen, {scrapes:.0f} scrapes"
    )
