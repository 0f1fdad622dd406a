"""What a new installation consists of: names, addresses, files, and the commands that come next."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dqm._version import __version__
from dqm.config import DaemonConfig, find_problems, validate
from dqm.errors import ConfigError
from dqm.events import WindowCut
from dqm.service.configuration_check import find_all_problems
from dqm.service.installation.detector import Detector
from dqm.service.installation.good_run import ChamberRun
from dqm.service.installation.toml_text import write_keys
from dqm.service.installation.units import UnitPlaces, write_units
from dqm.service.installation.workplace import REFERENCES

__all__ = [
    "COLLECTOR",
    "DAEMON",
    "UNITS",
    "Layout",
    "Windows",
    "check_addresses",
    "check_installation",
    "write_configuration",
]

DAEMON = "daemon.toml"
COLLECTOR = "collector.toml"
UNITS = "systemd"

_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Windows:
    """How windows are cut.

    Parameters
    ----------
    cut : WindowCut
        By count or by time.
    n_events : float
        Events expected in a window of the chamber with the lowest rate.
    rates_hz : mapping of str to float
        Rate of each chamber in the good run; empty if it has no times.

    Raises
    ------
    ConfigError
        If windows shall be cut by time, and the run has no times.
    """

    cut: WindowCut
    n_events: float
    rates_hz: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.cut is WindowCut.TIME and not self.rates_hz:
            raise ConfigError(
                "the good run has no times, so the rate is not known",
                where="--cut time",
                fix="Give a run with a column 'time', or cut by count",
            )

    @classmethod
    def of(cls, run: Sequence[ChamberRun], cut: WindowCut, n_events: float) -> Windows:
        """Take the rates of a good run."""
        rates = {one.chamber: one.rate_hz for one in run}
        known = {chamber: rate for chamber, rate in rates.items() if rate}
        return cls(cut, n_events, known if len(known) == len(rates) else {})

    @property
    def seconds(self) -> float | None:
        """Length of a window of the slowest chamber, s; None if no rate is known."""
        return self.n_events / min(self.rates_hz.values()) if self.rates_hz else None

    @property
    def per_hour(self) -> float | None:
        """Windows of the fastest chamber in an hour; None if no rate is known."""
        if not self.seconds:
            return None
        most_hz = max(self.rates_hz.values()) / self.n_events
        return min(1e6, _SECONDS_PER_HOUR * (most_hz if self.cut is WindowCut.COUNT else 1.0 / self.seconds))

    def expected_of(self, chamber: str) -> float:
        """Events expected in a window of a chamber."""
        if self.cut is WindowCut.COUNT or not self.seconds:
            return self.n_events
        return self.rates_hz[chamber] * self.seconds

    @property
    def keys(self) -> dict[str, object]:
        """Table ``[window]`` of the collector."""
        if self.cut is WindowCut.COUNT:
            return {"events": round(self.n_events)}
        lowest = min(self.rates_hz.values())
        others = {name: rate for name, rate in self.rates_hz.items() if rate != lowest}
        keys: dict[str, object] = {"seconds": self.seconds, "expected_rate_hz": lowest}
        return keys | ({"rates_hz": others} if others else {})


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and addresses of a new installation.

    Parameters
    ----------
    directory : Path
        Where it will be.
    name : str
        Its name, in those of streams and units.
    chambers : tuple of str
        Chambers of the source.
    listen, http : str
        Addresses for windows and for the page.
    user : str
        User that the units run as.
    written : tuple of Path
        Directories that the collector writes to, beside its spool.
    """

    directory: Path
    name: str
    chambers: tuple[str, ...]
    listen: str = "tcp://127.0.0.1:5565"
    http: str = "127.0.0.1:8787"
    user: str = ""
    written: tuple[Path, ...] = ()

    @property
    def streams(self) -> dict[str, str]:
        """Stream of each chamber."""
        if len(self.chambers) == 1:
            return {self.chambers[0]: self.name}
        return {chamber: f"{self.name}-{chamber}" for chamber in self.chambers}

    @property
    def service_user(self) -> str:
        """User of the units: as given; by default ``dqm`` if root makes them, else the one who makes them."""
        return self.user or ("dqm" if os.geteuid() == 0 else getpass.getuser())

    def bundle(self, stream: str) -> Path:
        """Place of the reference of a stream, within the installation."""
        return Path(REFERENCES) / f"{stream}.dqmref"

    @property
    def first_commands(self) -> tuple[tuple[str, str], ...]:
        """What to do next by hand: commands with their meaning."""
        daemon, collector = (shlex.quote(_short(self.directory / name)) for name in (DAEMON, COLLECTOR))
        return (
            (f"dqm run {daemon}", f"the monitor, with its page at http://{self.http}/"),
            (f"dqm collect {collector}", "the collector, in another terminal"),
            (f"dqm doctor {daemon}", "what is still missing, and what to do"),
        )

    @property
    def service_commands(self) -> tuple[str, ...]:
        """What root does to run it as services."""
        folder = shlex.quote(str(self.directory))
        user = shlex.quote(self.service_user)
        units = UnitPlaces.names(self.name)
        new = [path for path in self.written if not path.is_dir()]
        data = self.directory / "data"
        commands = [
            *(
                f"install -d -o {user} -m 700 {shlex.quote(str(path))}"
                for path in dict.fromkeys((data, *new))
            ),
            *(f"chown {user} {shlex.quote(str(path))}" for path in self.written if path.is_dir()),
            f"cp {folder}/{UNITS}/dqm* /etc/systemd/system/",
        ]
        if self.service_user == "dqm":
            commands[:0] = [
                f"cp {folder}/{UNITS}/sysusers.conf /usr/lib/sysusers.d/dqm.conf && systemd-sysusers",
                f"chgrp -R dqm {folder} && chmod -R g+rX {folder}",
            ]
        return (*commands, f"systemctl daemon-reload && systemctl enable --now {' '.join(units)} dqm.target")


def check_addresses(listen: str, http: str) -> None:
    """Refuse addresses with which the daemon would not start; raises `ConfigError`."""
    daemon = {"listen": [listen], "http": http}
    stream = {"name": "any", "bundle": "any"}
    validate(DaemonConfig, {"daemon": daemon, "streams": [stream]}, "--listen, --http")


def write_configuration(folder: Path, layout: Layout, detector: Detector, windows: Windows) -> None:
    """Write configurations and units, and check everything that needs no reference.

    Parameters
    ----------
    folder : Path
        Becomes the directory of the layout.
    layout : Layout
        Names and addresses.
    detector : Detector
        Collector and options.
    windows : Windows
        How windows are cut.

    Raises
    ------
    ConfigError
        If a value cannot be used, or a path cannot be in a unit.
    OSError
        If a file cannot be written.
    """
    places = UnitPlaces(
        layout.directory,
        layout.name,
        _program(),
        layout.service_user,
        tuple(map(Path, detector.input_paths)),
        layout.written,
    )
    (folder / DAEMON).write_text(_daemon_text(layout, windows), encoding="utf-8")
    (folder / COLLECTOR).write_text(_collector_text(layout, detector, windows), encoding="utf-8")
    _refuse([problem for name in (DAEMON, COLLECTOR) for problem in find_problems(folder / name)])
    shutil.rmtree(folder / UNITS, ignore_errors=True)
    write_units(folder / UNITS, places, daemon=DAEMON, collector=COLLECTOR)


def check_installation(folder: Path) -> None:
    """Check configurations and references as ``dqm check`` does; raises `ConfigError` with every mistake."""
    _refuse([problem for name in (DAEMON, COLLECTOR) for problem in find_all_problems(folder / name, {})])


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError("\n".join(problems), fix="Correct the option that it comes from")


def _daemon_text(layout: Layout, windows: Windows) -> str:
    daemon: dict[str, object] = {"listen": [layout.listen], "http": layout.http, "data_dir": "data"}
    parts = [
        f"# The monitor of {layout.name}, written by dqm {__version__}: `dqm run {DAEMON}`.\n"
        "# docs/reference/configuration.md has all keys. Relative paths start from this directory.\n\n",
        f"[daemon]\n{write_keys(daemon)}",
    ]
    if windows.per_hour:
        parts.append(
            "\n# At the rate of the good run; limits follow from the false alarms that a shift accepts.\n"
            f"[alarm]\nwindows_per_hour = {windows.per_hour:.4g}\n"
        )
    for stream in layout.streams.values():
        keys = {"name": stream, "bundle": str(layout.bundle(stream))}
        if len(layout.streams) > 1:
            keys["group"] = layout.name
        parts.append(f"\n[[streams]]\n{write_keys(keys)}")
    return "".join(parts)


def _collector_text(layout: Layout, detector: Detector, windows: Windows) -> str:
    connect = layout.listen.replace("//0.0.0.0:", "//127.0.0.1:")
    parts = [
        f"# The collector of {layout.name}, written by dqm {__version__}: `dqm collect {COLLECTOR}`.\n\n",
        f"[collector]\n{write_keys({'name': detector.collector, 'connect': connect})}",
        "# run = 591                          # default: the start time in Unix seconds\n",
        f"\n[window]\n{write_keys(windows.keys)}",
        f"\n# chamber = stream\n[streams]\n{write_keys(layout.streams)}",
    ]
    if detector.absolute_options:
        parts.append(f"\n[options]\n{write_keys(detector.absolute_options)}")
    return "".join(parts)


def _program() -> Path:
    """Find the program ``dqm`` of this installation of the package."""
    beside = Path(sys.executable).with_name("dqm")
    found = None if beside.exists() else shutil.which("dqm")
    return Path(found) if found else beside


def _short(path: Path) -> str:
    """Write a path relative to the working directory, if it is below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
