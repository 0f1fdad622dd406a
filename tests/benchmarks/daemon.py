"""The real daemon as a process, what it takes, and windows for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import open_bundle
from dqm.reference.stored_bundle import MANIFEST
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Sender
from tests.benchmarks.inputs import FEATURES

START_SECONDS = 300.0
UNDER_WAY = 64
"""Windows sent and not yet answered, at most: the daemon is busy, and skips none."""


def copies(bundle: Path, folder: Path, n: int) -> list[Path]:
    """Copy a bundle n times; each copy has its own identifier: those of one identifier are opened once."""
    paths = [Path(shutil.copytree(bundle, folder / f"{k}.dqmref")) for k in range(n)]
    for k, path in enumerate(paths):
        manifest = open_bundle(path).manifest.model_copy(update={"parent": f"copy {k}"})
        (path / MANIFEST).write_bytes(manifest.encode())
    return paths


class RunningDaemon:
    """``dqm run``; it ends with the block.

    Parameters
    ----------
    folder : Path
        Empty; for its configuration, log and store.
    bundles : sequence of Path
        One for each stream, ``stream-0`` and so on.
    """

    def __init__(self, folder: Path, bundles: Sequence[Path]) -> None:
        self.folder, self.n_streams = folder, len(bundles)
        self._numbers = dict.fromkeys(range(self.n_streams), 0)
        streams = "".join(
            f'[[streams]]\nname = "stream-{k}"\nbundle = "{path}"\n' for k, path in enumerate(bundles)
        )
        (folder / "daemon.toml").write_text(
            f'[daemon]\nlisten = ["ipc://{folder}/windows.ipc"]\nhttp = "127.0.0.1:0"\n'
            f"[quality]\nmedium_p = 0.01\nbad_p = 0.001\n{streams}"
        )

    def __enter__(self) -> Self:
        begin = time.perf_counter()
        self.log = self.folder / "daemon.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dqm.cli.entry", "run", "daemon.toml"],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        while not self._is_ready():
            if self._process.poll() is not None or time.perf_counter() - begin > START_SECONDS:
                raise RuntimeError(f"the daemon did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)
        self.start_seconds = time.perf_counter() - begin
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def http_address(self) -> str:
        """Where it shows itself, ``HOST:PORT``."""
        (ready,) = self._told("ready")
        return str(ready["http"])

    def megabytes(self, kind: str) -> float:
        """Memory of daemon and workers: ``Pss`` now, shared pages once; ``VmHWM`` the sum of peaks."""
        total = 0
        for process in self.processes():
            source = process / ("smaps_rollup" if kind == "Pss" else "status")
            values = [
                line.split()[1] for line in source.read_text().splitlines() if line.startswith(f"{kind}:")
            ]
            total += int(values[0])
        return total / 1024

    def cpu_seconds(self, *, own: bool | None = None) -> float:
        """Processor time since the start of daemon and workers, or of its own process or all others alone."""
        processes = self.processes()
        ticks = 0
        for process in processes if own is None else processes[:1] if own else processes[1:]:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def send(
        self,
        x: Sequence[FloatArray],
        n: int,
        per_second: float | None = None,
        live_shares: Sequence[float] | None = None,
    ) -> float:
        """Send windows to all streams in turn; give the seconds from the first to the last answer.

        With `live_shares` they are cut by time, and live for these shares of it, one after the other.
        """
        rng = np.random.default_rng(1)
        begin = time.perf_counter()
        with Sender(f"ipc://{self.folder}/windows.ipc") as sender:
            for k in range(n):
                while sender.n_waiting + sender.n_unconfirmed >= UNDER_WAY:
                    sender.pump()
                    time.sleep(2e-4)
                while per_second is not None and time.perf_counter() < begin + k / per_second:
                    sender.pump()
                    time.sleep(2e-4)
                share = live_shares[k % len(live_shares)] if live_shares else None
                sender.send(self._window(k % self.n_streams, x[rng.integers(len(x))], share))
            sender.flush(START_SECONDS)
            if not sender.confirm(START_SECONDS):
                raise RuntimeError(f"windows were not answered: {self.log.read_text()[-2000:]}")
        return time.perf_counter() - begin

    def delays(self, n: int) -> FloatArray:
        """Give the seconds from window to verdict of the last n; raises if one was not tested."""
        with VerdictStore(sqlite_url(self.folder / "data" / STORE_FILE), create=False) as store:
            verdicts = sorted(store.select(), key=lambda v: v.judged_at)[-n:]
        untested = [v.reason for v in verdicts if v.result.p is None]
        if untested:
            raise RuntimeError(f"{len(untested)} windows were not tested: {untested[0]}")
        return np.array([v.judged_at - (v.window.end or 0.0) for v in verdicts])

    def _window(self, stream: int, x: FloatArray, live_share: float | None) -> Window:
        seq = self._numbers[stream]
        self._numbers[stream] += 1
        now = time.time()
        return Window(
            f"stream-{stream}", 1, seq, "bench", Origin.SIMULATED, WindowCut.COUNT, FEATURES, x,
            start=now, end=now,
        ) if live_share is None else Window(
            f"stream-{stream}", 1, seq, "bench", Origin.SIMULATED, WindowCut.TIME, FEATURES,
            x[: round(live_share * len(x))], start=now - 10.0, end=now, live_seconds=10.0 * live_share,
            n_expected=live_share * len(x),
        )  # fmt: skip

    def _is_ready(self) -> bool:
        return bool(self._told("ready"))

    def _told(self, event: str) -> list[dict[str, object]]:
        lines = [line for line in self.log.read_text().splitlines() if f'"event": "{event}"' in line]
        return [json.loads(line) for line in lines if line.endswith("}")]

    def processes(self) -> list[Path]:
        """The daemon, and then all that descend from it."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
        family = {self._process.pid}
        while more := {child for child, parent in parents.items() if parent in family} - family:
            family |= more
        others = sorted(family - {self._process.pid})
        return [Path("/proc") / str(pid) for pid in (self._process.pid, *others)]
