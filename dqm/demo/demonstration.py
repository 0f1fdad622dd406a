"""The demonstration: simulated chambers, their collectors and the daemon as processes on this machine.

Chambers, seeds and faults are fixed, and rates scale with the duration, so every run of a duration has the
same windows. They are cut by time: a chamber that dies goes on sending windows, and at last they are empty.
One chamber sends the hits of its channels beside its segments.
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

from dqm.alarm import Alarm, AlarmState, Cause
from dqm.config import make_private_directory
from dqm.errors import ConfigError, DqmError
from dqm.events import FloatArray, Verdict, WindowCut
from dqm.service.collector.sources import open_source
from dqm.store import STORE_FILE, AlarmStore, VerdictStore, sqlite_url

__all__ = [
    "CHAMBERS",
    "FAULTS",
    "SECONDS",
    "STREAMS",
    "USER",
    "Demonstration",
    "Injection",
    "learn_known_faults",
    "make_directory",
    "prepare_channels",
    "prepare_reference",
]

SECONDS = 180.0
"""Length of the timeline of `FAULTS`, s."""

WINDOW_EVENTS = 500
WINDOW_SECONDS = 5.0
"""Length of a window on the timeline of `SECONDS`, s; a healthy chamber has `WINDOW_EVENTS` in it."""

SEGMENTS_PER_MUON = 0.689
"""In healthy simulated chambers, at any rate of muons up to 1 kHz."""

STOP_SECONDS = 15.0
USER = "shifter"
USERS_FILE = "users.toml"
CHAMBERS = ("chamber-1", "chamber-2", "chamber-3", "chamber-4", "chamber-5")
GROUPS = ("station-1", "station-1", "station-2", "station-2", "station-2")
COUNTING = 1
"""Chamber whose channels are counted."""

CHANNELS = f"{CHAMBERS[COUNTING]}.channels"
STREAMS = (*CHAMBERS[: COUNTING + 1], CHANNELS, *CHAMBERS[COUNTING + 1 :])
N_CHANNELS = 64
CARD_CHANNELS = 16
LAYERS = (4, 2, 3, 1)
"""Layer of the channels 0, 1, 2, 3 of the simulated chamber, and of every four that follow."""

N_CHANNEL_WINDOWS = 60
FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
N_REFERENCE = 5000
N_POOL = 50_000
N_TOYS = 1000
N_LABELLED = 10_000
SEED = 7


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault of the demonstration.

    Parameters
    ----------
    stream : str
        Stream that must see it.
    chamber : int
        Number of the chamber, from 0.
    knob : str
        Condition of the simulation that changes.
    value : float or list of int
        New value, in its own unit; of the rate, its share of that of a healthy chamber.
    seconds : float
        Time of the change on the timeline of `SECONDS`, s.
    label : str
        Description for people.
    cause : Cause
        Alarm that must see it.
    channel : int or None
        Channel that must be named as the worst.
    """

    stream: str
    chamber: int
    knob: str
    value: float | list[int]
    seconds: float
    label: str
    cause: Cause
    channel: int | None = None


FAULTS = (
    Injection("chamber-5", 4, "rate_hz", 0.7, 30.0, "rate at 70 %", Cause.RATE),
    Injection("chamber-2", 1, "strip_voltage_v", -900.0, 60.0, "cathode strips at 75 %", Cause.DIFFERS),
    Injection("chamber-5", 4, "rate_hz", 0.1, 90.0, "rate at 10 %", Cause.RATE),
    Injection(CHANNELS, 1, "dead_wires", [17], 105.0, "wire 5 of layer 2 dead", Cause.DIFFERS, 17),
    Injection("chamber-4", 3, "threshold_mv", 50.0, 120.0, "front-end thresholds at 50 %", Cause.DIFFERS),
    Injection("chamber-5", 4, "efficiency", 0.0, 150.0, "dead", Cause.RATE),
)
"""In the order of time; the last of a stream is what is wrong with it in the end."""


KNOWN_FAULTS: dict[str, dict[str, Any]] = {
    "lowered cathode voltage": {"strip_voltage_v": -800.0},
    "lowered threshold": {"threshold_mv": 65.0},
    "layer 2 late": {"t0_ns": (0.0, 20.0, 0.0, 0.0)},
}
"""Conditions of the faults whose templates are learned; their strengths differ from the injected ones."""


def make_directory(path: Path) -> None:
    """Make a directory for its owner alone; raises `ConfigError` if that fails, or others may write to it."""
    try:
        make_private_directory(path)
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", where=str(path)) from error


def prepare_reference(
    cache: Path, progress: Callable[[int, int], None], cut: WindowCut = WindowCut.TIME
) -> Path:
    """Make the calibrated bundle of a healthy simulated chamber, if it is not in the cache.

    Parameters
    ----------
    cache : Path
        Directory of the bundle.
    progress : callable
        Called with the number of finished toys and the total.
    cut : WindowCut
        What closes the windows that it judges.

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
        cut=cut,
    )
    events = _simulate(N_REFERENCE + N_POOL, SEED, {})
    content = hashlib.sha256(f"{VERSION}{recipe}{KNOWN_FAULTS}".encode() + events.tobytes()).hexdigest()[:12]
    path = cache / f"chamber-{content}.dqmref"
    bundle = open_bundle(path) if path.exists() else create_bundle(events, recipe, path)
    calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=SEED, progress=progress)
    return path


def prepare_channels(cache: Path, progress: Callable[[int, int], None], seconds: float) -> Path:
    """Make the calibrated bundle of the channels of a healthy simulated chamber, if it is not in the cache.

    Parameters
    ----------
    cache : Path
        Directory of the bundle.
    progress : callable
        Called with the number of finished toys and the total.
    seconds : float
        Actual duration of the timeline of `SECONDS`, s; the rates depend on it.

    Returns
    -------
    Path
        The bundle.
    """
    from dqm.reference import (
        CHANNEL,
        ChannelRecipe,
        ChannelTable,
        calibrate,
        create_channel_bundle,
        open_bundle,
    )
    from dqm.reference.manifest import VERSION

    length = WINDOW_SECONDS * seconds / SECONDS
    options = {"rate_hz": _muons_hz(seconds / SECONDS), "seconds": N_CHANNEL_WINDOWS * length}
    known = {"chambers": [0], "seed": SEED, "channels": True, "batch_seconds": length}
    batches = [batch for batch in open_source("simulate", options | known) if batch.counts]
    hits = np.concatenate([batch.x[:, batch.names.index(batch.counts)] for batch in batches])
    numbers = np.concatenate([batch.x[:, batch.names.index(CHANNEL)] for batch in batches])
    times = length * np.repeat(np.arange(len(batches), dtype=np.float64), N_CHANNELS)
    recipe = ChannelRecipe(batches[0].counts, length, seed=SEED)
    places = _channel_map()
    content = f"{VERSION}{recipe}".encode() + places.tobytes() + hits.tobytes()
    path = cache / f"channels-{hashlib.sha256(content).hexdigest()[:12]}.dqmref"
    if not path.exists():
        create_channel_bundle([ChannelTable(times, numbers, hits, "simulated")], places, recipe, path)
    bundle = open_bundle(path)
    # in this process: that takes a second, which is less than others need to start
    calibrate(bundle, N_TOYS, kind=bundle.manifest.kind, seed=SEED, n_processes=1, progress=progress)
    return path


def _channel_map() -> FloatArray:
    """Give channel, layer, wire and card of each channel of the simulated chamber."""
    number = np.arange(N_CHANNELS)
    layer = np.array(LAYERS)[number % len(LAYERS)]
    places = [number, layer, number // len(LAYERS) + 1, number // CARD_CHANNELS + 1]
    return np.column_stack(places).astype(np.float64)


def _muons_hz(scale: float) -> float:
    """Rate of muons that gives a healthy chamber `WINDOW_EVENTS` segments in a window."""
    return WINDOW_EVENTS / (WINDOW_SECONDS * scale) / SEGMENTS_PER_MUON


def learn_known_faults(path: Path, progress: Callable[[int, int], None]) -> None:
    """Add the templates of `KNOWN_FAULTS` to the bundle, if they are missing.

    Parameters
    ----------
    path : Path
        The bundle.
    progress : callable
        Called with the number of finished faults and the total.
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
    """Simulate the first `n` events of a chamber under some conditions."""
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
    """Processes of the daemon and the collectors.

    Parameters
    ----------
    bundle, channels : Path
        Calibrated bundles of a healthy chamber, and of its channels at the rates of `seconds`.
    directory : Path
        Directory for configurations, logs and the store; files of an earlier demonstration are replaced.
    seconds : float
        Actual duration of the timeline of `SECONDS`, s.

    Attributes
    ----------
    password : str
        Password of `USER`, who may acknowledge alarms; a new one each time.

    Raises
    ------
    DqmError
        If the directory cannot be written or a process does not start; the message has the end of its log.
    """

    def __init__(self, bundle: Path, channels: Path, directory: Path, seconds: float) -> None:
        from dqm.web import add_user

        self.directory = directory
        self.http = f"127.0.0.1:{_free_port(8787)}"
        self.password = secrets.token_urlsafe(9)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            make_private_directory(directory)
            for old in directory.glob(f"{STORE_FILE}*"):
                old.unlink()
            shutil.rmtree(directory / "windows", ignore_errors=True)
            (directory / USERS_FILE).unlink(missing_ok=True)
            add_user(directory / USERS_FILE, USER, self.password)
            self._write_configs(bundle, channels, seconds / SECONDS)
        except OSError as error:
            raise ConfigError(f"cannot write: {error.strerror}", where=str(directory)) from error

    @property
    def is_running(self) -> bool:
        """Whether all collectors have started their runs."""
        logs = [self.directory / f"{chamber}.log" for chamber in CHAMBERS]
        return all(b"run started" in log.read_bytes() for log in logs)

    @property
    def is_listening(self) -> bool:
        """Whether the daemon has opened store and addresses."""
        return (self.directory / "windows.ipc").exists()

    def start_daemon(self) -> None:
        """Start the daemon; it listens after some seconds."""
        (self.directory / "windows.ipc").unlink(missing_ok=True)
        self._start("daemon", "run")

    def start_collectors(self) -> None:
        """Start one collector for each chamber; this starts the timeline."""
        for chamber in CHAMBERS:
            self._start(chamber, "collect")

    def verdicts(self) -> dict[str, list[Verdict]]:
        """Return the verdicts so far by stream, in order; raises `DqmError` if a process has ended."""
        self.check_processes()
        found: dict[str, list[Verdict]] = {stream: [] for stream in STREAMS}
        with VerdictStore(sqlite_url(self.directory / STORE_FILE), create=False) as store:
            for verdict in store.select():
                found[verdict.window.stream].append(verdict)
        return found

    def raised_alarms(self) -> list[Alarm]:
        """Return the alarms as they were when they were raised, in the order of time."""
        with VerdictStore(sqlite_url(self.directory / STORE_FILE), create=False) as store:
            changes = list(AlarmStore(store.database).changes())
        return [
            change.alarm
            for change in changes
            if change.alarm.state is AlarmState.ACTIVE is not change.before and change.action == "window"
        ]

    def stop(self) -> None:
        """End the collectors, then the daemon; kill processes that do not end."""
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

    def _write_configs(self, bundle: Path, channels: Path, scale: float) -> None:
        judged = dict.fromkeys(CHAMBERS, bundle) | {CHANNELS: channels}
        groups = dict(zip(CHAMBERS, GROUPS, strict=True)) | {CHANNELS: GROUPS[COUNTING]}
        streams = "".join(
            f'[[streams]]\nname = "{stream}"\nbundle = {str(judged[stream])!r}\n'
            f'group = "{groups[stream]}"\n\n'
            for stream in STREAMS
        )
        text = f"""[daemon]
listen = ["ipc://windows.ipc"]
http = "{self.http}"
data_dir = "."
workers = 1

[web]
users = "{USERS_FILE}"

[alarm]
windows_per_hour = {3600 / (WINDOW_SECONDS * scale):.0f}
contact = "nobody: this is a demonstration"

{streams}"""
        (self.directory / "daemon.toml").write_text(text)
        for number, chamber in enumerate(CHAMBERS):
            text = _collector_config(number, channels if number == COUNTING else None, scale)
            (self.directory / f"{chamber}.toml").write_text(text)

    def _start(self, name: str, command: str) -> None:
        # one thread for each process: all processes share the cores
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603 - our own program and files
                [sys.executable, "-m", "dqm.cli.entry", command, f"{name}.toml"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C ends the demonstration, which ends the processes in order
            )

    def check_processes(self) -> None:
        """Raise `DqmError` if a process has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = (self.directory / f"{name}.log").read_text(errors="replace")
                raise DqmError(f"{name} ended with code {process.returncode}: ...{log[-600:]}")


def _collector_config(number: int, bundle: Path | None, scale: float) -> str:
    """Write the configuration of a collector; with the bundle of the channels it counts their hits."""
    muons_hz = _muons_hz(scale)
    text = f"""[collector]
name = "simulate"
run = 1
run_type = "demo"
connect = "ipc://windows.ipc"

[window]
seconds = {WINDOW_SECONDS * scale}
expected_rate_hz = {WINDOW_EVENTS / (WINDOW_SECONDS * scale)}
{_channel_section(bundle, scale)}
[options]
chambers = [0]
seed = {SEED + 1 + number}
rate_hz = {muons_hz}
speed = 1.0
start = "now"
batch_seconds = {scale}
channels = {"false" if bundle is None else "true"}

[streams]
0 = "{CHAMBERS[number]}"
"""
    for fault in (fault for fault in FAULTS if fault.chamber == number):
        value = fault.value
        if fault.knob == "rate_hz" and isinstance(value, float):
            value *= muons_hz
        text += f"""
[[options.faults]]
chamber = 0
knob = "{fault.knob}"
value = {value}
start = {fault.seconds * scale}
"""
    return text


def _channel_section(bundle: Path | None, scale: float) -> str:
    if bundle is None:
        return ""
    from dqm.reference import StoredBundle

    rate_hz = StoredBundle.read(bundle).manifest.rate_hz
    return f"\n[channels]\nseconds = {WINDOW_SECONDS * scale}\nexpected_rate_hz = {rate_hz}\n"


def _free_port(preferred: int) -> int:
    """Return the preferred TCP port of the loopback, or another if it is in use."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no TCP port is free on 127.0.0.1")
