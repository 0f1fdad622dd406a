"""The demonstration: simulated chambers, their collectors and the daemon as processes on this machine.

Chambers, seeds and faults are fixed, and rates scale with the duration, so every run sees the same windows.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from dqm.alarm import Alarm, AlarmState
from dqm.errors import ConfigError, DqmError
from dqm.events import FloatArray, Verdict
from dqm.service.collector.sources import open_source
from dqm.store import STORE_FILE, AlarmStore, VerdictStore, sqlite_url

__all__ = [
    "CHAMBERS",
    "FAULTS",
    "SECONDS",
    "USER",
    "Demonstration",
    "Injection",
    "learn_known_faults",
    "prepare_reference",
]

SECONDS = 180.0
"""Timeline of the faults below."""

WINDOW_EVENTS = 500
WINDOWS = 36
"""Windows of a healthy chamber within `SECONDS`."""

SEGMENTS_PER_MUON = 0.85
STOP_SECONDS = 15.0
USER, USERS_FILE = "shifter", "users.toml"
CHAMBERS = ("chamber-1", "chamber-2", "chamber-3", "chamber-4")
GROUPS = ("station-1", "station-1", "station-2", "station-2")
FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
N_REFERENCE, N_POOL, N_TOYS, N_LABELLED, SEED = 5000, 50_000, 1000, 10_000, 7


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault of the demonstration.

    Parameters
    ----------
    chamber : int
        Number of the chamber, from 0.
    knob : str
        Condition of the simulation that changes.
    value : float
        What it changes to, in its own unit.
    seconds : float
        When, on the timeline of `SECONDS`.
    label : str
        What a person would say.
    """

    chamber: int
    knob: str
    value: float
    seconds: float
    label: str


FAULTS = (
    Injection(1, "strip_voltage_v", -900.0, 60.0, "cathode strips at 75 %"),
    Injection(3, "threshold_mv", 50.0, 120.0, "front-end thresholds at 50 %"),
)


KNOWN_FAULTS: dict[str, dict[str, Any]] = {
    "lowered cathode voltage": {"strip_voltage_v": -800.0},
    "lowered threshold": {"threshold_mv": 65.0},
    "layer 2 late": {"t0_ns": (0.0, 20.0, 0.0, 0.0)},
}
"""What the reference is taught: conditions by fault, at other strengths than those that are injected."""


def prepare_reference(cache: Path, progress: Callable[[int, int], None]) -> Path:
    """Make the calibrated bundle of a healthy simulated chamber, or take the one made before.

    Parameters
    ----------
    cache : Path
        Directory to keep it in.
    progress : callable
        Told the toys done and the total.

    Returns
    -------
    Path
        The bundle.
    """
    from dqm.reference import Recipe, calibrate, create_bundle, open_bundle
    from dqm.reference.manifest import VERSION

    recipe = Recipe(
        features=FEATURES,
        n_reference=N_REFERENCE,
        n_expected=WINDOW_EVENTS,
        seed=SEED,
    )
    events = _simulate(N_REFERENCE + N_POOL, SEED, {})
    content = hashlib.sha256(f"{VERSION}{recipe}{KNOWN_FAULTS}".encode() + events.tobytes()).hexdigest()[:12]
    path = cache / f"chamber-{content}.dqmref"
    bundle = open_bundle(path) if path.exists() else create_bundle(events, recipe, path)
    calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=SEED, progress=progress)
    return path


def learn_known_faults(path: Path, progress: Callable[[int, int], None]) -> None:
    """Teach the bundle what `KNOWN_FAULTS` look like, where it does not know yet.

    Parameters
    ----------
    path : Path
        The bundle.
    progress : callable
        Told the faults learned and the total.
    """
    from dqm.reference import LabelledSample, learn_templates, open_bundle

    bundle = open_bundle(path)
    known = {entry.fault for entry in bundle.manifest.templates}
    for number, (fault, conditions) in enumerate(KNOWN_FAULTS.items()):
        progress(number, len(KNOWN_FAULTS))
        if fault not in known:
            sample = LabelledSample(fault, _simulate(N_LABELLED, SEED + 100 + number, conditions))
            bundle = learn_templates(bundle, [sample], max_events=N_LABELLED)
    progress(len(KNOWN_FAULTS), len(KNOWN_FAULTS))


def _simulate(n: int, seed: int, conditions: dict[str, Any]) -> FloatArray:
    """Take the first `n` events of a simulated chamber under some conditions."""
    parts: list[FloatArray] = []
    n_events = 0
    for batch in open_source("simulate", {"chambers": [0], "seed": seed, "conditions": conditions}):
        columns = [batch.names.index(name) for name in FEATURES]
        parts.append(batch.x[:, columns])
        n_events += len(batch.x)
        if n_events >= n:
            break
    return np.concatenate(parts)[:n]


class Demonstration:
    """Daemon and collectors, running.

    Parameters
    ----------
    bundle : Path
        Calibrated reference of a healthy chamber.
    directory : Path
        Where configurations, logs and the store go; what an earlier demonstration left there is replaced.
    seconds : float
        How long the timeline of `SECONDS` shall take.

    Attributes
    ----------
    password : str
        Of `USER`, who may acknowledge alarms; a new one each time.

    Raises
    ------
    DqmError
        If the directory cannot be written or a process does not start; the text has the end of its log.
    """

    def __init__(self, bundle: Path, directory: Path, seconds: float) -> None:
        from dqm.web import add_user

        self.directory = directory
        self.http = f"127.0.0.1:{_free_port(8787)}"
        self.password = secrets.token_urlsafe(9)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for old in directory.glob(f"{STORE_FILE}*"):
                old.unlink()
            shutil.rmtree(directory / "windows", ignore_errors=True)
            (directory / USERS_FILE).unlink(missing_ok=True)
            add_user(directory / USERS_FILE, USER, self.password)
            self._write_configs(bundle, seconds / SECONDS)
        except OSError as error:
            raise ConfigError(f"cannot write: {error.strerror}", where=str(directory)) from error

    @property
    def is_running(self) -> bool:
        """Whether all collectors have begun their runs."""
        logs = [self.directory / f"{chamber}.log" for chamber in CHAMBERS]
        return all(b"run started" in log.read_bytes() for log in logs)

    @property
    def is_listening(self) -> bool:
        """Whether the daemon has opened its store and its addresses."""
        return (self.directory / "windows.ipc").exists()

    def start_daemon(self) -> None:
        """Start the daemon; it takes some seconds until it listens."""
        (self.directory / "windows.ipc").unlink(missing_ok=True)
        self._start("daemon", "run")

    def start_collectors(self) -> None:
        """Start one collector for each chamber: the timeline begins."""
        for chamber in CHAMBERS:
            self._start(chamber, "collect")

    def verdicts(self) -> dict[str, list[Verdict]]:
        """Verdicts so far, by stream in the order of the windows; raises `DqmError` if a process has died."""
        self.check_processes()
        found: dict[str, list[Verdict]] = {chamber: [] for chamber in CHAMBERS}
        with VerdictStore(sqlite_url(self.directory / STORE_FILE), create=False) as store:
            for verdict in store.select():
                found[verdict.window.stream].append(verdict)
        return found

    def raised_alarms(self) -> list[Alarm]:
        """Alarms as they were when they were raised, in order of time."""
        with VerdictStore(sqlite_url(self.directory / STORE_FILE), create=False) as store:
            changes = list(AlarmStore(store.database).changes())
        return [
            change.alarm
            for change in changes
            if change.alarm.state is AlarmState.ACTIVE is not change.before and change.action == "window"
        ]

    def stop(self) -> None:
        """End the collectors, then the daemon; kill what does not end."""
        for name in sorted(self._processes, key="daemon".__eq__):
            process = self._processes[name]
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_configs(self, bundle: Path, scale: float) -> None:
        streams = "".join(
            f'[[streams]]\nname = "{chamber}"\nbundle = {str(bundle)!r}\ngroup = "{group}"\n\n'
            for chamber, group in zip(CHAMBERS, GROUPS, strict=True)
        )
        text = f"""[daemon]
listen = ["ipc://windows.ipc"]
http = "{self.http}"
data_dir = "."
workers = 1

[web]
users = "{USERS_FILE}"

[alarm]
windows_per_hour = {WINDOWS * 3600 / (SECONDS * scale):.0f}
contact = "nobody: this is a demonstration"

{streams}"""
        (self.directory / "daemon.toml").write_text(text)
        rate_hz = WINDOWS * WINDOW_EVENTS / (SECONDS * scale) / SEGMENTS_PER_MUON
        for number, chamber in enumerate(CHAMBERS):
            text = f"""[collector]
name = "simulate"
run = 1
run_type = "demo"
connect = "ipc://windows.ipc"

[window]
events = {WINDOW_EVENTS}

[options]
chambers = [{number}]
seed = {SEED + 1}
rate_hz = {rate_hz}
speed = 1.0
start = "now"
batch_seconds = {min(1.0, scale)}

[streams]
{number} = "{chamber}"
"""
            for fault in FAULTS:
                if fault.chamber == number:
                    text += f"""
[[options.faults]]
chamber = {number}
knob = "{fault.knob}"
value = {fault.value}
start = {fault.seconds * scale}
"""
            (self.directory / f"{chamber}.toml").write_text(text)

    def _start(self, name: str, command: str) -> None:
        # one thread each: five processes share the cores
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own program and files
                [sys.executable, "-m", "dqm.cli.main", command, f"{name}.toml"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the demonstration alone, which ends them in order
            )

    def check_processes(self) -> None:
        """Raise `DqmError` if a process has ended by itself."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = (self.directory / f"{name}.log").read_text(errors="replace")
                raise DqmError(f"{name} ended with code {process.returncode}: ...{log[-600:]}")


def _free_port(preferred: int) -> int:
    """Give the preferred TCP port of the loopback, or another if it is taken."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no TCP port is free on 127.0.0.1")
