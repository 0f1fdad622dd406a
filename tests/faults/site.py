"""A daemon and its collectors as processes of their own, to be hurt: ``dqm run`` and ``dqm collect``."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from dqm.events import Quality, Verdict
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from tests.cli.program import WAIT_SECONDS, logged, start_dqm
from tests.ports import free_port
from tests.service.small import N_WINDOW
from tests.waiting import get, wait_until

from .live import install

__all__ = ["STREAMS", "Site", "memory_of", "workers_of"]

STREAMS = ("chamber-1", "chamber-2")


class Site:
    """Daemon of some streams, and collectors that never wait; addresses stay.

    Parameters
    ----------
    folder : Path
        Of this site alone.
    bundle : Path
        Reference of both streams.
    daemon : str
        More of ``[daemon]``, and tables that follow it.
    listen : str, optional
        Where the daemon listens; a free port of the loopback if left out.
    also : sequence of str
        Further addresses where it listens.
    streams : sequence of str
        What the daemon watches.
    **variables : str
        Of the daemon's environment.

    Attributes
    ----------
    connect : str
        Where collectors connect: the daemon's address, unless something is put in between.
    variables : dict of str to str
        Of the environment of the next daemon.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        daemon: str = "",
        *,
        listen: str | None = None,
        also: Sequence[str] = (),
        streams: Sequence[str] = STREAMS,
        **variables: str,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.address = listen or f"tcp://127.0.0.1:{free_port()}"
        self.connect = self.address
        self.http = f"127.0.0.1:{free_port()}"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.logs: list[Path] = []
        self.collectors: dict[str, subprocess.Popen[bytes]] = {}
        self._starts: Counter[str] = Counter()
        self.variables = variables
        self._plugins = install(folder)
        tables = "".join(f'[[streams]]\nname = "{name}"\nbundle = "{bundle}"\n' for name in streams)
        (folder / "daemon.toml").write_text(
            f'[daemon]\nlisten = {json.dumps([self.address, *also])}\nhttp = "{self.http}"\n{daemon}\n'
            f"[quality]\nbad_p = 0.001\nmedium_p = 0.01\n{tables}"
        )

    @property
    def log(self) -> Path:
        """Log of the daemon that was started last."""
        return self.logs[-1]

    @property
    def pid(self) -> int:
        assert self.daemon is not None
        return self.daemon.pid

    def start(self, *through: str) -> None:
        """Start the daemon and wait until it is ready."""
        self.launch(*through)
        daemon = self.daemon
        assert daemon is not None
        wait_until(lambda: daemon.poll() is not None or logged(self.log, "ready") is not None, "it is ready")
        assert daemon.poll() is None, self.log.read_text()[-3000:]

    def launch(self, *through: str) -> None:
        """Start the daemon."""
        self.logs.append(self.folder / f"daemon-{len(self.logs)}.log")
        self.daemon = start_dqm(
            "run", "daemon.toml", cwd=self.folder, log=self.log, through=through, **self.variables
        )

    def wait_for_end(self) -> int:
        """Exit code of a daemon that ends by itself."""
        assert self.daemon is not None
        return self.daemon.wait(WAIT_SECONDS)

    def stop(self) -> None:
        assert self.daemon is not None
        self.daemon.terminate()
        assert self.wait_for_end() == 0, self.log.read_text()

    def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        assert self.wait_for_end() == -signal.SIGKILL

    def collect(
        self,
        name: str = "live",
        *,
        through: Sequence[str] = (),
        healthy: Sequence[str] = (),
        faulty: Sequence[str] = (),
        rate_hz: float | None = None,
        section: str = "",
        run: int = 5,
    ) -> subprocess.Popen[bytes]:
        """Start a collector with a spool of its own; started again, it goes on with the same run."""
        rate = "" if rate_hz is None else f"rate_hz = {rate_hz}\n"
        (self.folder / f"{name}.toml").write_text(
            f'[collector]\nname = "live"\nrun = {run}\nconnect = "{self.connect}"\nspool = "spool-{name}"\n'
            f"{section}\n[window]\nevents = {N_WINDOW}\n"
            f"[options]\nhealthy = {json.dumps(healthy)}\nfaulty = {json.dumps(faulty)}\n{rate}"
        )
        self._starts[name] += 1
        log = self.folder / f"{name}-{self._starts[name]}.log"
        self.collectors[name] = start_dqm(
            "collect", f"{name}.toml", cwd=self.folder, log=log, through=through, **self._plugins
        )
        return self.collectors[name]

    def has_collected(self, name: str) -> bool:
        """Whether this collector was ever started."""
        return self._starts[name] > 0

    def wait_for_collector(self, name: str) -> None:
        """Wait until a collector has begun: until then a signal ends it without an account."""
        log = self.folder / f"{name}-{self._starts[name]}.log"
        wait_until(lambda: logged(log, "run started") is not None, f"collector {name}")

    def end_collector(self, name: str = "live") -> dict[str, Any]:
        """Let a collector deliver what it has and end; gives its own account of the run."""
        process = self.collectors.pop(name)
        process.terminate()
        process.wait(WAIT_SECONDS)
        log = self.folder / f"{name}-{self._starts[name]}.log"
        ended = logged(log, "run ended")
        assert ended is not None, log.read_text()
        return ended

    def close(self) -> None:
        """End everything, whatever its state."""
        for process in [*self.collectors.values(), *filter(None, [self.daemon])]:
            process.kill()
            process.wait()

    def get(self, path: str) -> httpx.Response:
        return get(f"http://{self.http}{path}")

    def metrics(self) -> Mapping[tuple[str, ...], float]:
        """Every sample: by its name and the values of its labels, in the order of their names."""
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
        }

    def metric(self, *key: str) -> float:
        return self.metrics()[key]

    def verdicts(self) -> list[Verdict]:
        with VerdictStore(sqlite_url(self.data / STORE_FILE), create=False) as store:
            return list(store.select())

    def run_of(self, run: int) -> list[Verdict]:
        """Verdicts of a run, each window once."""
        found = [verdict for verdict in self.verdicts() if verdict.window.run == run]
        assert len({(verdict.window.stream, verdict.window.seq) for verdict in found}) == len(found)
        return found

    def wait_for_good(self, stream: str = STREAMS[0]) -> None:
        """Wait until a new window is as it should be."""
        before = len(self.verdicts())

        def is_good() -> bool:
            return any(
                v.window.stream == stream and v.quality is Quality.GOOD for v in self.verdicts()[before:]
            )

        wait_until(is_good, f"a new good window of {stream}")

    def n_logged(self, event: str) -> int:
        """Count an event in the log of the daemon that was started last."""
        return self.log.read_text().count(f'"event": "{event}"')

    def events(self, event: str) -> list[dict[str, Any]]:
        """What all daemons of this site logged; the last line of one that was killed may be cut off."""
        lines = [line for log in self.logs for line in log.read_text().splitlines()]
        told = [json.loads(line) for line in lines if f'"{event}"' in line and line.endswith("}")]
        return [line for line in told if line["event"] == event]

    def check_delivery(self) -> dict[str, int]:
        """Check that every window was judged once and none is missing; gives how many each stream has."""
        numbers: dict[tuple[str, int], list[int]] = {}
        for verdict in self.verdicts():
            numbers.setdefault((verdict.window.stream, verdict.window.run), []).append(verdict.window.seq)
        for lane, found in numbers.items():
            missing = sorted(set(range(max(found))) - set(found))
            assert not missing, f"never judged: {missing} of {lane}"
        told = Counter((line["stream"], line["run"], line["seq"]) for line in self.events("judged"))
        assert not [window for window, times in told.items() if times > 1], "judged twice"
        return {stream: len(found) for (stream, _), found in numbers.items()}


def memory_of(pid: int) -> float:
    """Resident memory of a process, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def workers_of(pid: int) -> list[int]:
    """Worker processes of a daemon."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
