"""A real daemon for Prometheus to scrape, with one healthy chamber and one that goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np

from dqm import events
from dqm.config import load_daemon
from dqm.events import (
    Explanation,
    Likeness,
    NuisanceResult,
    PMethod,
    Profiled,
    Quality,
    RatioMap,
    Verdict,
)
from dqm.reference import Bundle
from dqm.service.monitor.daemon import Daemon
from dqm.stream import Sender
from tests.service.small import FEATURES, N_WINDOW, faulty_events, healthy_events, window_of
from tests.verdicts import make_verdict

GOOD, FAULTY = "chamber-1", "chamber-2"
SECONDS = 20.0


@dataclass(frozen=True)
class Monitor:
    """The daemon, running, and a sender of windows for it."""

    daemon: Daemon
    sender: Sender

    @property
    def address(self) -> str:
        return self.daemon.http_address

    def send(self, stream: str, first: int, n: int = 3) -> None:
        """Send windows, of the faulty chamber faulty ones, and wait until they are judged."""
        make = faulty_events if stream == FAULTY else healthy_events
        for seq in range(first, first + n):
            conditions = {"strip_voltage_v": -900.0 if stream == FAULTY else -1200.0}
            window = window_of(make(N_WINDOW, 40 + seq), stream=stream, seq=seq, conditions=conditions)
            self.sender.send(window)
        assert self.sender.flush(SECONDS)

    def explain(self) -> None:
        """Show a verdict with all that a reference with nuisance parameters and templates gives."""
        self.daemon._parts.statuses.observe(explained_verdict())


def explained_verdict() -> Verdict:
    """One of the faulty chamber."""
    edges = np.linspace(0.0, 400.0, 17)
    expected = np.full(16, 30.0)
    fitted = expected * np.linspace(0.5, 2.0, 16)
    maps = tuple(RatioMap((f,), (edges,), expected, np.full(16, 0.5), fitted, fitted) for f in FEATURES)
    gas = NuisanceResult(0.001, Profiled(0.004, 0.002, 3.5), Profiled(0.002, 0.003, 1.0))
    return make_verdict(
        stream=FAULTY,
        run=7,
        seq=0,
        quality=Quality.BAD,
        reason="differs from the reference",
        result=events.TestResult(
            480,
            500.0,
            t=400.0,
            p=1e-5,
            p_method=PMethod.TAIL,
            z=4.3,
            tau=410.0,
            delta=10.0,
            nuisances={"gas": gas},
            rolling=events.RollingResult(2, (7, 0), (7, 1), p=1e-4, p_method=PMethod.TAIL),
        ),
        bundle="3f9a",
        seconds=0.04,
        judged_at=0.0,
        warnings={"gas": "gas is 3.5 sigma above what its measurement says"},
        conditions={"strip_voltage_v": -900.0},
        explanation=Explanation(
            maps, (), (("b", 0.75), ("a", 0.25)), (Likeness("lowered cathode voltage", 0.92),)
        ),
    )


@contextmanager
def monitor(bundle: Bundle, folder: Path, port: int = 0) -> Iterator[Monitor]:
    """Run the daemon in this process."""
    address = f"ipc://{folder}/windows.ipc"
    (folder / "daemon.toml").write_text(
        f'[daemon]\nlisten = ["{address}"]\nhttp = "127.0.0.1:{port}"\nworkers = 0\n'
        '[alarm]\npriority = "P1"\n'
        + "".join(f'[[streams]]\nname = "{name}"\nbundle = "{bundle.path}"\n' for name in (FAULTY, GOOD))
        + "[streams.rolling]\nwindows = 2\n"
    )
    stop = Event()
    with Daemon(load_daemon(folder / "daemon.toml", environ={})) as daemon, Sender(address) as sender:
        thread = Thread(target=daemon.run, args=[stop])
        thread.start()
        try:
            yield Monitor(daemon, sender)
        finally:
            stop.set()
            thread.join(SECONDS)
