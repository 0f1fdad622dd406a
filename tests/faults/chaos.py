"""What is done at random to a monitor with 50 streams, users and Prometheus."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import numpy as np

from dqm.events import Verdict
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Identity
from tests.cli.program import run_dqm
from tests.ports import free_port
from tests.store.postgres import PostgresServer
from tests.waiting import wait_until

from .live import MADE
from .proxy import Relay
from .site import Site, workers_of

__all__ = [
    "FLOOD",
    "FLOOD_RUN",
    "GROUPS",
    "LOOK_SECONDS",
    "RUN",
    "SCRAPE_SECONDS",
    "STREAMS",
    "Books",
    "Chaos",
    "carry_out",
    "choose_acts",
    "scraped",
    "visited",
]

STREAMS = tuple(f"chamber-{n:02}" for n in range(50))
FAULTY, FLOODED = STREAMS[:2], STREAMS[-1]
FLOOD = "flood"
GROUPS = {"left": STREAMS[:25], "right": STREAMS[25:-1]}
RATE_HZ, RUN, FLOOD_RUN = 0.05, 5, 6
LONGEST_SECONDS, START_SECONDS = 12.0, 600.0
SCRAPE_SECONDS, LOOK_SECONDS = 5, 1.0
CAUGHT_UP_SECONDS = 30.0 + 1.0 / RATE_HZ


@dataclass
class Books:
    """What must be known at the end, besides the store."""

    acts: Counter[str] = field(default_factory=Counter)
    undone: set[Identity] = field(default_factory=set)
    """Windows whose verdicts a restored backup does not have."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Windows that collectors dropped, by their own account."""
    answers: Counter[int] = field(default_factory=Counter)
    n_changes_seen: int = 0


class Chaos:
    """A monitor with all that is around it, and what is done to it."""

    def __init__(
        self, site: Site, books: Books, chance: np.random.Generator, database: PostgresServer | None, url: str
    ) -> None:
        self.site, self.books, self.chance = site, books, chance
        self.database, self.plain_url = database, url
        self.url = url.replace("postgresql:", "postgresql+psycopg:") or sqlite_url(site.data / STORE_FILE)
        self.relay = Relay(site.address)
        site.connect = self.relay.address
        self.jump = site.folder / "jump"

    def start_collector(self, name: str) -> None:
        faulty = [s for s in GROUPS[name] if s in FAULTY]
        healthy = [s for s in GROUPS[name] if s not in FAULTY]
        section = "buffer_windows = 50000"
        self.site.collect(name, healthy=healthy, faulty=faulty, rate_hz=RATE_HZ, section=section, run=RUN)

    def open_store(self) -> VerdictStore:
        return VerdictStore(self.url, create=False)

    def start_daemon(self) -> None:
        """Start it as a service manager does: again, until it stays."""
        for _ in range(20):
            self.site.launch()
            daemon = self.site.daemon
            assert daemon is not None
            wait_until(
                lambda d=daemon: d.poll() is not None or self.site.n_logged("ready") > 0,
                "a start",
                START_SECONDS,
            )
            if daemon.poll() is None:
                return
            time.sleep(1.0)
        raise AssertionError(self.site.log.read_text()[-3000:])

    # What is done; each is undone when its block ends.

    @contextmanager
    def kill_daemon(self) -> Iterator[None]:
        self.site.kill()
        yield
        self.start_daemon()

    @contextmanager
    def abort_daemon(self) -> Iterator[None]:
        os.kill(self.site.pid, signal.SIGABRT)
        os.kill(self.site.pid, signal.SIGCONT)  # one that was stopped would wait with it
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

    def stop_daemon(self) -> AbstractContextManager[None]:
        return self.stop(self.site.pid)

    def stop_collector(self) -> AbstractContextManager[None]:
        return self.stop(self.site.collectors[str(self.chance.choice(list(GROUPS)))].pid)

    @contextmanager
    def kill_worker(self) -> Iterator[None]:
        for worker in workers_of(self.site.pid):
            os.kill(worker, signal.SIGKILL)
        yield

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
        self.site.collect(FLOOD, healthy=[FLOODED], section="buffer_windows = 200", run=FLOOD_RUN)
        self.site.wait_for_collector(FLOOD)
        yield
        self.end_collector(FLOOD)

    def end_collector(self, name: str) -> None:
        ended = self.site.end_collector(name)
        assert ended["refused"] == 0, ended
        self.books.dropped[name] += ended["lost"]

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
        copy = self.site.folder / "copy"
        if self.database is None:
            run_dqm("store", "backup", self.site.data / STORE_FILE, copy, "--replace", cwd=self.site.folder)
        else:
            self.database.back_up(self.plain_url, copy)
        time.sleep(self.chance.uniform(0.0, 2.0))
        self.site.stop()
        before = {identity for identity, _ in self.read()}
        if self.database is None:
            self.restore_file(copy)
        else:
            self.database.restore(self.plain_url, copy)
        self.books.undone |= before - {identity for identity, _ in self.read()}
        yield
        self.start_daemon()

    def restore_file(self, copy: Path) -> None:
        run_dqm("store", "restore", self.site.data / STORE_FILE, copy, "--replace", cwd=self.site.folder)
        for aside in self.site.data.glob(f"{STORE_FILE}?*"):
            if not aside.name.endswith(("-wal", "-shm")):
                aside.unlink()

    def calm(self) -> None:
        """Go on without the library that fakes the clock: on a busy machine it takes most of the time."""
        self.site.stop()
        self.site.variables.clear()
        self.start_daemon()

    def is_caught_up(self) -> bool:
        """Whether a window of every stream was judged that is not old: none waits in its collector."""
        made = self.site.metrics()
        streams = [stream for group in GROUPS.values() for stream in group]
        oldest = min(made.get(("dqm_condition", MADE, stream), 0.0) for stream in streams)
        return time.time() - oldest < CAUGHT_UP_SECONDS

    def read(self) -> list[tuple[Identity, Verdict]]:
        with self.open_store() as store:
            return [((v.window.stream, v.window.run, v.window.seq), v) for v in store.select()]


Act = Callable[[], AbstractContextManager[None]]


def choose_acts(chaos: Chaos, chance: np.random.Generator, *, has_disk: bool, has_clock: bool) -> list[Act]:
    """One act, or two that may go together."""
    long: list[Act] = [chaos.stop_collector, chaos.cut_network, chaos.stop_daemon]
    long += [chaos.fill_disk] * has_disk + [chaos.jump_clock] * has_clock
    long += [chaos.restart_database] if chaos.database else []
    short: list[Act] = [chaos.kill_daemon, chaos.abort_daemon, chaos.kill_collector, chaos.kill_worker]
    alone: list[Act] = [chaos.flood, chaos.reload, chaos.drop_connections, chaos.restore_backup]
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
        block.__enter__()
        begun.append(block)
        chaos.books.acts[act.__name__] += 1
        time.sleep(chaos.chance.uniform(0.0, 1.0))
    time.sleep(chaos.chance.exponential(2.0) if chaos.chance.random() < 0.8 else LONGEST_SECONDS)
    for block in begun:
        block.__exit__(None, None, None)


@contextmanager
def visited(site: Site, books: Books) -> Iterator[None]:
    """Users who look at pages, listen for changes and fetch numbers, whatever the daemon does."""
    stop = Event()

    def look() -> None:
        pages = ("/", "/alarms", f"/streams/{FAULTY[0]}", "/api/v1/overview", "/healthz", "/metrics")
        with httpx.Client(base_url=f"http://{site.http}", trust_env=False, timeout=5.0) as client:
            while True:
                for page in pages:
                    if stop.wait(LOOK_SECONDS):
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
        f"global: {{scrape_interval: {SCRAPE_SECONDS}s}}\nscrape_configs:\n"
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
