"""A demonstration: the daemon and the collectors of a scenario as processes on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from dqm.alarm import Alarm, AlarmState
from dqm.config import make_private_directory
from dqm.demo.scenario import Scenario
from dqm.errors import ConfigError, DqmError
from dqm.events import Verdict
from dqm.store import STORE_FILE, AlarmStore, VerdictStore, sqlite_url

__all__ = [
    "MARK",
    "USER",
    "Demonstration",
    "claim_directory",
    "make_directory",
    "mark_directory",
    "refuse_foreign",
]

STOP_SECONDS = 15.0
USER = "shifter"
USERS_FILE = "users.toml"
DAEMON = "daemon"
MARK = ".dqm-demo"
"""File that says that a directory is of demonstrations: what they write there may be replaced."""


def make_directory(path: Path) -> None:
    """Make a directory for its owner alone; raises `ConfigError` if that fails, or others may write to it."""
    try:
        make_private_directory(path)
    except OSError as error:
        raise ConfigError(
            f"cannot be made: {error.strerror}",
            where=str(path),
            fix="Choose another directory, or change its rights",
        ) from error


def refuse_foreign(path: Path) -> None:
    """Refuse a directory that holds something, and is not of earlier demonstrations; raises `ConfigError`."""
    if any(path.iterdir()) and not (path / MARK).is_file():
        raise ConfigError(
            "has files that no demonstration made, and a demonstration replaces daemon.toml, users.toml, the "
            "store and the windows",
            where=str(path),
            fix="Choose a new directory, or an empty one",
        )


def claim_directory(path: Path) -> None:
    """Make a directory, or take over that of an earlier demonstration, and mark it before all else.

    Raises
    ------
    ConfigError
        As `make_directory` and `refuse_foreign`, or if it cannot be marked.
    """
    make_directory(path)
    refuse_foreign(path)
    mark_directory(path)


def mark_directory(path: Path) -> None:
    """Say in a directory that what is in it may be replaced; raises `ConfigError` if that fails."""
    try:
        (path / MARK).write_text("Made by 'dqm demo', which replaces what is here.\n", encoding="ascii")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(directory: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot write: {error.strerror}",
        where=str(directory),
        fix="Choose another directory, or free space on the disk",
    )


class Demonstration:
    """Processes of the daemon and the collectors.

    Parameters
    ----------
    scenario : Scenario
        What it shows.
    directory : Path
        Directory for configurations, logs and the store: new, empty, or of an earlier demonstration, whose
        files are replaced.

    Attributes
    ----------
    password : str
        Password of `USER`, who may acknowledge alarms; a new one each time.

    Raises
    ------
    DqmError
        If the directory cannot be written or has other files, or a process does not start; the message has
        the end of its log.
    """

    def __init__(self, scenario: Scenario, directory: Path) -> None:
        from dqm.web import add_user

        self.scenario = scenario
        self.directory = directory
        self.http = f"127.0.0.1:{_free_port(8787)}"
        self.password = secrets.token_urlsafe(9)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            claim_directory(directory)
            for old in directory.glob(f"{STORE_FILE}*"):
                old.unlink()
            shutil.rmtree(directory / "windows", ignore_errors=True)
            (directory / USERS_FILE).unlink(missing_ok=True)
            add_user(directory / USERS_FILE, USER, self.password)
            self._write_configs()
        except OSError as error:
            raise _unwritable(directory, error) from error

    @property
    def is_running(self) -> bool:
        """Whether all collectors have started their runs."""
        logs = [self.directory / f"{chamber}.log" for chamber in self.scenario.collectors]
        return all(b"run started" in log.read_bytes() for log in logs)

    @property
    def is_listening(self) -> bool:
        """Whether the daemon has opened store and addresses."""
        return (self.directory / "windows.ipc").exists()

    def start_daemon(self) -> None:
        """Start the daemon; it listens after some seconds."""
        (self.directory / "windows.ipc").unlink(missing_ok=True)
        self._start(DAEMON, "run")

    def start_collectors(self) -> None:
        """Start the collectors; this starts the timeline."""
        for name in self.scenario.collectors:
            self._start(name, "collect")

    def verdicts(self) -> dict[str, list[Verdict]]:
        """Return the verdicts so far by stream, in order; raises `DqmError` if a process has ended."""
        self.check_processes()
        found: dict[str, list[Verdict]] = {stream: [] for stream in self.scenario.streams}
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
        for name in sorted(self._processes, key=DAEMON.__eq__):
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

    def _write_configs(self) -> None:
        scenario = self.scenario
        streams = "".join(
            f'[[streams]]\nname = "{stream}"\nbundle = {str(bundle)!r}\n'
            + (f'group = "{scenario.groups[stream]}"\n\n' if stream in scenario.groups else "\n")
            for stream, bundle in scenario.bundles.items()
        )
        text = f"""[daemon]
listen = ["ipc://windows.ipc"]
http = "{self.http}"
data_dir = "."
workers = 1

[web]
users = "{USERS_FILE}"

[quality]
min_events = {scenario.min_events}

[alarm]
windows_per_hour = {scenario.windows_per_hour:.0f}
contact = "nobody: this is a demonstration"

{streams}"""
        (self.directory / "daemon.toml").write_text(text)
        for name, config in scenario.collectors.items():
            (self.directory / f"{name}.toml").write_text(config)

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
        """Raise `DqmError` if a process has failed, or the daemon has ended."""
        for name, process in self._processes.items():
            if process.poll() not in (None, 0) or (name == DAEMON and process.poll() is not None):
                log = (self.directory / f"{name}.log").read_text(errors="replace")
                raise DqmError(f"{name} ended with code {process.returncode}: ...{log[-600:]}")


def _free_port(preferred: int) -> int:
    """Return the preferred TCP port of the loopback; another one if it is in use."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigError("no TCP port is free on 127.0.0.1", fix="End one of the programs that listen there")
