"""Many streams through the real daemon for long: is it the same at the end as at the start?

``python -m tests.studies.soak --minutes 240`` builds a reference of the simulated chamber, sends the same few
windows of 500 events again and again, scrapes, reloads, and lets verdicts and kept windows go by age and
size. It prints what grew. ``tests/cli/test_soak.py`` does the same for seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import numpy as np

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import Recipe, calibrate, create_bundle
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Sender
from tests.benchmarks.daemon import RunningDaemon
from tests.benchmarks.inputs import FEATURES, SETTINGS, events, windows

N_HEALTHY, N_FAULTY = 18, 2
KEPT_MEGABYTES = 0.5
CONFIRM_SECONDS = 600.0
"""Until the daemon has answered, reloaded or shown a page: the machine may be busy with other work."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent.

    Parameters
    ----------
    bundle : Path
        Copied for each stream, so that each has a test of its own.
    names : tuple of str
        Features of the windows.
    x : sequence of ndarray
        Windows, sent in turn by every stream.
    n_streams : int
        Streams.
    per_second : float
        Windows of all streams in a second.
    seconds : float
        For how long, on a machine that keeps up: so many windows are sent.
    interval_seconds : float
        Between two looks at the daemon on such a machine; it reloads at every third.
    verdict_seconds : float
        Age at which verdicts go.
    """

    bundle: Path
    names: tuple[str, ...]
    x: Sequence[FloatArray]
    n_streams: int
    per_second: float
    seconds: float
    interval_seconds: float
    verdict_seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """The daemon at one moment: memory in MB; since the last look, seconds from window to verdict and for the
    test alone.
    """

    seconds: float
    daemon_megabytes: float
    workers_megabytes: float
    n_descriptors: int
    n_threads: int
    store_megabytes: float
    log_megabytes: float
    delay_median: float
    delay_p99: float
    test_median: float


@dataclass(slots=True)
class Soak:
    """What was seen.

    Parameters
    ----------
    looks : list of Look
        In the order of time.
    results : dict
        Every pair of t and p that a window was given, by its place among those sent.
    judged, stored : set
        Identities of the windows that were judged, and of those whose verdicts were seen in the store.
    n_sent, n_lost, n_reloads : int
        Windows sent, and lost by the sender; reloads done.
    n_bytes : int
        Of the log, read so far.
    """

    looks: list[Look] = field(default_factory=list)
    results: dict[int, set[tuple[float | None, float | None]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    judged: set[tuple[str, int]] = field(default_factory=set)
    stored: set[tuple[str, int]] = field(default_factory=set)
    n_sent: int = 0
    n_lost: int = 0
    n_reloads: int = 0
    n_bytes: int = 0

    def quarter(self, number: int, name: str) -> FloatArray:
        """Give a figure of the looks in a quarter of the time, the last is number 3."""
        return np.array([getattr(look, name) for look in np.array_split(self.looks, 4)[number]])  # type: ignore[arg-type]


def soak(folder: Path, load: Load) -> Soak:
    """Run the daemon under a load; `folder` is for all its files."""
    bundles = [Path(shutil.copytree(load.bundle, folder / f"{k}.dqmref")) for k in range(load.n_streams)]
    daemon = RunningDaemon(folder, bundles)
    config = folder / "daemon.toml"
    keep = f"windows_megabytes = {KEPT_MEGABYTES}\nverdict_days = {load.verdict_seconds / 86_400:.9f}\n"
    config.write_text(f"{config.read_text()}[keep]\n{keep}")
    seen = Soak()
    with daemon, Sender(f"ipc://{folder}/windows.ipc") as sender:
        begin = send_at = time.monotonic()
        since = 0.0
        between = max(1, round(load.interval_seconds * load.per_second))  # as many looks on any machine
        for k in range(round(load.per_second * load.seconds)):
            while time.monotonic() < send_at:
                sender.pump()
                time.sleep(0.002)
            sender.send(_window(load, k))
            send_at += 1.0 / load.per_second
            if (k + 1) % between == 0:
                since = _look(daemon, load, seen, time.monotonic() - begin, since)
                send_at = time.monotonic()  # a flood of what could have been sent meanwhile is another test
        if not sender.confirm(CONFIRM_SECONDS):
            raise RuntimeError("windows were not answered")
        _look(daemon, load, seen, time.monotonic() - begin, since)
        _wait_for_reloads(daemon, seen)
        seen.n_sent, seen.n_lost = sender.n_sent, sender.n_lost
    return seen


def _window(load: Load, k: int) -> Window:
    """Give the k-th window of all; streams are at different places of the same round."""
    stream, seq, now = k % load.n_streams, k // load.n_streams, time.time()
    return Window(
        f"stream-{stream}", 1, seq, "soak", Origin.SIMULATED, WindowCut.COUNT, load.names,
        load.x[_place(load, stream, seq)], start=now, end=now,
    )  # fmt: skip


def _place(load: Load, stream: int, seq: int) -> int:
    return (stream + seq) % len(load.x)


def _look(daemon: RunningDaemon, load: Load, seen: Soak, seconds: float, since: float) -> float:
    """Take figures and what was judged since the look before; gives where the next one goes on."""
    _wait_for_reloads(daemon, seen)  # until then the daemon has one or two bundles open, of 10 files each
    for page in ("metrics", ""):
        address = f"http://{daemon.http_address}/{page}"
        httpx.get(address, trust_env=False, timeout=CONFIRM_SECONDS).raise_for_status()
    processes = daemon.processes()
    memory = [_kilobytes(process) / 1024 for process in processes]
    store = daemon.folder / "data" / STORE_FILE
    with VerdictStore(sqlite_url(store), create=False) as verdicts:
        # verdicts may be stored in another order than they were found
        found = list(verdicts.select(since=since - load.interval_seconds))
    fresh = [verdict for verdict in found if (verdict.window.stream, verdict.window.seq) not in seen.stored]
    seen.stored |= {(verdict.window.stream, verdict.window.seq) for verdict in fresh}
    for verdict in fresh:
        place = _place(load, int(verdict.window.stream.removeprefix("stream-")), verdict.window.seq)
        seen.results[place].add((verdict.result.t, verdict.result.p))
    delays = [verdict.judged_at - (verdict.window.end or 0.0) for verdict in fresh] or [0.0]
    seen.looks.append(
        Look(
            seconds=seconds,
            daemon_megabytes=memory[0],
            workers_megabytes=sum(memory[1:]),
            n_descriptors=sum(len(list((process / "fd").iterdir())) for process in processes),
            n_threads=sum(len(list((process / "task").iterdir())) for process in processes),
            store_megabytes=sum(path.stat().st_size for path in store.parent.glob(f"{STORE_FILE}*")) / 1e6,
            log_megabytes=daemon.log.stat().st_size / 1e6,
            delay_median=float(np.median(delays)),
            delay_p99=float(np.quantile(delays, 0.99)),
            test_median=float(np.median([verdict.seconds for verdict in fresh] or [0.0])),
        )
    )
    if len(seen.looks) % 3 == 0:
        os.kill(int(processes[0].name), signal.SIGHUP)
    return max((verdict.judged_at for verdict in fresh), default=since)


def _wait_for_reloads(daemon: RunningDaemon, seen: Soak) -> None:
    """Read the log until all reloads that were asked for are done."""
    ends_at = time.monotonic() + CONFIRM_SECONDS
    while True:
        _read_log(daemon.log, seen)
        if seen.n_reloads == len(seen.looks) // 3:
            return
        if time.monotonic() > ends_at:
            raise RuntimeError(f"the daemon did not reload: {daemon.log.read_text()[-2000:]}")
        time.sleep(0.02)


def _read_log(log: Path, seen: Soak) -> None:
    """Note what is new in the log, up to the end of its last whole line."""
    with log.open("rb") as file:
        file.seek(seen.n_bytes)
        new = file.read()
    new = new[: new.rfind(b"\n") + 1]
    seen.n_bytes += len(new)
    for line in map(json.loads, new.splitlines()):
        seen.n_reloads += line["event"] == "reloaded"
        if line["event"] == "judged":
            seen.judged.add((line["stream"], line["seq"]))


def _kilobytes(process: Path) -> int:
    """Resident memory that is its own."""
    lines = (process / "smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def chamber_load(
    folder: Path, n_streams: int, per_second: float, seconds: float, interval_seconds: float
) -> Load:
    """Make a reference of the simulated chamber, and windows of which one in ten is faulty."""
    setting = SETTINGS["default"]
    recipe = Recipe(FEATURES, setting.n_reference, setting.n_data)
    bundle = create_bundle(events(55_000, seed=1), recipe, folder / "chamber.dqmref")
    calibrate(bundle, 500, kind=bundle.manifest.kind, seed=1)
    x = [*windows(setting, N_HEALTHY, seed=3), *windows(setting, N_FAULTY, 0.75, seed=4)]
    kept_for = 12.0 * interval_seconds
    return Load(bundle.path, FEATURES, x, n_streams, per_second, seconds, interval_seconds, kept_for)


def report(seen: Soak) -> str:
    """Write down the second quarter, when all is warm, and the last one."""
    lines = [f"{'':20}{'second quarter':>16}{'last quarter':>16}"]
    for name in Look.__slots__[1:]:  # type: ignore[attr-defined]
        early, late = (float(np.median(seen.quarter(number, name))) for number in (1, 3))
        lines.append(f"{name:20}{early:16.4g}{late:16.4g}")
    once = sum(len(pairs) == 1 for pairs in seen.results.values())
    lines.append(
        f"{seen.looks[-1].seconds:.0f} s: {seen.n_sent} windows sent, {len(seen.judged)} judged, "
        f"{seen.n_lost} lost, {seen.n_reloads} reloads; {once} of {len(seen.results)} different windows had "
        "one t and one p throughout"
    )
    return "\n".join(lines)


def main() -> None:
    """Run for as long as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10.0, help="windows in a second, of all streams")
    parser.add_argument("--interval", type=float, default=10.0, help="seconds from look to look")
    parser.add_argument("--looks", type=Path, help="write the figures of every look here, as JSON lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = 60.0 * options.minutes
        load = chamber_load(Path(folder), options.streams, options.rate, seconds, options.interval)
        seen = soak(Path(folder), load)
    if options.looks:
        options.looks.write_text("".join(f"{json.dumps(asdict(look))}\n" for look in seen.looks))
    sys.stdout.write(report(seen) + "\n")


if __name__ == "__main__":
    main()
