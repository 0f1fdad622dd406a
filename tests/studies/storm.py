"""A storm: 250 streams that fail at once. How long do verdicts take, and does every window get one?

``python -m tests.studies.storm [--rates 100 80 60] [--seconds 20]`` runs the daemon with a worker for each
core. At each rate all streams are healthy for so many seconds, and then all are far from the reference: an
angle stuck or compressed, a time stuck, late or in another unit, one event again and again. Windows are made
on time, whether or not the daemon keeps up. Delays are from there to the verdict, and to the answer to the
sender, which follows when the verdict is on the disk. The sender runs on the same machine.

The first two rows say how many windows a second are judged where 64 are always on their way.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.errors import format_count
from dqm.events import FloatArray, Origin, PMethod, Verdict, Window, WindowCut
from dqm.reference import Recipe, calibrate, create_bundle
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Sender, identity_of
from tests.benchmarks.daemon import UNDER_WAY, RunningDaemon, copies
from tests.benchmarks.inputs import FEATURES, SETTINGS, events, windows

N_STREAMS = 250
N_WINDOWS = 60
"""Different windows, which are sent again and again."""

N_TOYS = 500
BUFFER_WINDOWS = 100_000
ANSWER_SECONDS = 300.0


def _column(number: int, value: float) -> Callable[[FloatArray], FloatArray]:
    def change(x: FloatArray) -> FloatArray:
        stuck = x.copy()
        stuck[:, number] = value
        return stuck

    return change


FAR: dict[str, Callable[[FloatArray], FloatArray]] = {
    "angles a tenth as wide": lambda x: np.column_stack([x[:, :4], 0.1 * x[:, 4] + 5.0]),
    "angle stuck at 0": _column(4, 0.0),
    "one time stuck": _column(1, 200.0),
    "all times late by 100 ns": lambda x: x + np.array([100.0, 100.0, 100.0, 100.0, 0.0]),
    "all times in ms": lambda x: x * [1e-6, 1e-6, 1e-6, 1e-6, 1.0],
    "one event again and again": lambda x: np.repeat(x[:1], len(x), axis=0),
}


@dataclass(frozen=True, slots=True)
class Phase:
    """What became of some windows.

    Parameters
    ----------
    n_sent : int
        Windows.
    seconds : float
        From the first to the last answer.
    verdicts : list of Verdict
        Of these windows.
    answered : ndarray
        Seconds from each window to the answer.
    daemon_seconds, worker_seconds, sender_seconds : float
        Processor time of the daemon's own process, of its workers, and of the sender.
    """

    n_sent: int
    seconds: float
    verdicts: list[Verdict]
    answered: FloatArray
    daemon_seconds: float
    worker_seconds: float
    sender_seconds: float

    @property
    def judged(self) -> FloatArray:
        """Seconds from each window to its verdict."""
        return np.array([verdict.judged_at - (verdict.window.end or 0.0) for verdict in self.verdicts])

    @property
    def n_untested(self) -> int:
        """Windows without a p."""
        return sum(verdict.result.p is None for verdict in self.verdicts)

    @property
    def n_bounds(self) -> int:
        """Windows whose fit ended early."""
        return sum(verdict.result.p_method is PMethod.BOUND for verdict in self.verdicts)


class Storm:
    """The daemon, and a sender that sends windows on time.

    Parameters
    ----------
    daemon : RunningDaemon
        Running.
    names : tuple of str
        Features of the windows.
    """

    def __init__(self, daemon: RunningDaemon, names: tuple[str, ...]) -> None:
        self._daemon = daemon
        self._names = names
        self._run = 0

    def send(self, x: Sequence[FloatArray], n: int, per_second: float | None) -> Phase:
        """Send n windows to all streams in turn, as a run of its own, and wait for the answers.

        Without a rate, as many as the daemon takes.
        """
        self._run += 1
        before, sender_before = self._seconds(), time.process_time()
        waiting: dict[tuple[str, int, int], float] = {}
        answered: list[float] = []
        begin = time.time()
        with Sender(f"ipc://{self._daemon.folder}/windows.ipc", BUFFER_WINDOWS) as sender:

            def look() -> None:
                sender.pump()
                now = time.time()
                done = [identity for identity in waiting if not sender.keeps(identity)]
                answered.extend(now - waiting.pop(identity) for identity in done)

            for k in range(n):
                due = begin + k / per_second if per_second else time.time()
                while time.time() < due or (per_second is None and sender.n_kept >= UNDER_WAY):
                    look()
                    time.sleep(1e-3)
                window = self._window(k, x[k % len(x)], due if per_second else time.time())
                waiting[identity_of(window)] = window.end or 0.0
                sender.send(window)
            ends_at = time.monotonic() + ANSWER_SECONDS
            while waiting and time.monotonic() < ends_at:
                look()
                time.sleep(1e-3)
            if waiting or sender.n_lost or sender.refusals:
                raise RuntimeError(f"windows were not answered: {self._daemon.log.read_text()[-2000:]}")
        seconds, sender_seconds = time.time() - begin, time.process_time() - sender_before
        of_daemon, of_workers = (a - b for a, b in zip(self._seconds(), before, strict=True))
        with VerdictStore(sqlite_url(self._daemon.folder / "data" / STORE_FILE), create=False) as store:
            verdicts = list(store.select(run=self._run))
        return Phase(n, seconds, verdicts, np.array(answered), of_daemon, of_workers, sender_seconds)

    def _window(self, k: int, x: FloatArray, now: float) -> Window:
        n_streams = self._daemon.n_streams
        return Window(
            f"stream-{k % n_streams}", self._run, k // n_streams, "storm", Origin.SIMULATED, WindowCut.COUNT,
            self._names, x, start=now, end=now,
        )  # fmt: skip

    def _seconds(self) -> tuple[float, float]:
        """Processor time of the daemon's own process, and of all others of it."""
        return self._daemon.cpu_seconds(own=True), self._daemon.cpu_seconds(own=False)


def far_windows(healthy: Sequence[FloatArray]) -> list[FloatArray]:
    """Make windows far from the reference, each kind in turn."""
    kinds = list(FAR.values())
    return [kinds[k % len(kinds)](x) for k, x in enumerate(healthy)]


def row(name: str, rate: float | None, phase: Phase) -> str:
    """Write a row of the table."""
    n, (judged, answered) = phase.n_sent, (phase.judged, phase.answered)
    kept = f"{n / phase.seconds:.0f}" if rate is None else f"{rate:.0f}"
    delays = [f"{1e3 * np.quantile(judged, 0.5):.0f} ms", f"{1e3 * np.quantile(judged, 0.99):.0f} ms"]
    delays += [f"{1e3 * judged.max():.0f} ms", f"{1e3 * np.quantile(answered, 0.99):.0f} ms"]
    costs = (phase.daemon_seconds, phase.worker_seconds, phase.sender_seconds)
    of_window = [f"{1e3 * cost / n:.1f} ms" for cost in costs]
    found = f"{len(phase.verdicts)}, {phase.n_untested} Null, {phase.n_bounds} with a bound"
    return "| " + " | ".join([name, kept, *delays, *of_window, found]) + " |"


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[100.0, 80.0, 60.0], help="windows a second"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of healthy and of far windows, each")
    parser.add_argument("--streams", type=int, default=N_STREAMS)
    parser.add_argument("--statistic", default="several", choices=["several", "kernel"])
    parser.add_argument("--bundles", type=int, default=1, help="streams have them in turn")
    options = parser.parse_args()
    setting = SETTINGS["default"]
    healthy = windows(setting, N_WINDOWS, seed=3)
    kinds = {"healthy": healthy, "far": far_windows(healthy)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = Recipe(FEATURES, setting.n_reference, setting.n_data, statistic=options.statistic)
        bundle = create_bundle(events(55_000, seed=1), recipe, folder / "chamber.dqmref")
        bundle = calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=1)
        paths = copies(bundle.path, folder, options.bundles)
        with RunningDaemon(folder, [paths[k % len(paths)] for k in range(options.streams)]) as daemon:
            storm = Storm(daemon, FEATURES)
            storm.send(healthy, options.streams, None)  # the first test in a worker is slow
            sys.stdout.write(
                f"{format_count(options.streams, 'stream')}, load {os.getloadavg()[0]:.1f}\n\n"
                "| windows | a second | delay: median | p99 | largest | answered: p99 | daemon | workers | "
                "sender | verdicts |\n|---|---|---|---|---|---|---|---|---|---|\n"
            )
            for kind, x in kinds.items():
                phase = storm.send(x, 600, None)
                sys.stdout.write(row(f"{kind}, as many as it takes", None, phase) + "\n")
                sys.stdout.flush()
            for rate in options.rates:
                for kind, x in kinds.items():
                    phase = storm.send(x, round(rate * options.seconds), rate)
                    sys.stdout.write(row(kind, rate, phase) + "\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
