"""All checks of an installation, in the order in which a person would make them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dqm.config import (
    CollectorConfig,
    DaemonConfig,
    is_local,
    load_collector,
    load_daemon,
    read_toml,
    url_on_host,
)
from dqm.errors import format_count
from dqm.service.configuration_check import find_all_problems
from dqm.service.doctor import access, host, neighbours, references, running, storage
from dqm.service.doctor.diagnosis import Diagnosis, green, guarded, red
from dqm.store import STORE_FILE
from dqm.stream import read_sender_keys

__all__ = ["NAMES", "DoctorOptions", "examine"]

NAMES = {
    "configuration": "every mistake that dqm check finds",
    "bundle": "files and null tables of the references; whether the daemon uses those on disk",
    "certificate": "its lines that are not green, and its age",
    "disk": "free room, growth, days until it is full",
    "permissions": "who may write data, store and configuration; whether the daemon's user can read the rest",
    "store": "whether it opens, version of its schema, size",
    "retention": "what is deleted when",
    "keys": "secret and public keys, and which streams they may send",
    "users": "who can sign in",
    "ports": "whether somebody listens for windows",
    "daemon": "whether it answers, is stuck, or turns collectors away",
    "cluster": "whether a Dask scheduler answers, and how many workers it has",
    "windows": "how old the last window of each stream is",
    "clock": "this clock against those of daemon, senders, Prometheus and a time server",
    "prometheus": "whether it scrapes the daemon and has the alerts",
    "grafana": "whether folder, data source and dashboards are there as they are",
    "mail": "whether receivers of messages answer; nothing is sent",
    "systemd": "whether a unit runs the configuration, and starts with the machine",
}
"""What is looked at, and what for."""


@dataclass(slots=True)
class DoctorOptions:
    """What to check besides the configuration.

    Parameters
    ----------
    prometheus : str or None
        Address of Prometheus; None: the usual one is tried.
    has_prometheus : bool
        Whether to look for one at all.
    time_server : str or None
        Time server to compare the clock with; None: none.
    offsets : dict of str to float
        How far other clocks are ahead of this one, s; filled by the checks.
    """

    prometheus: str | None = None
    has_prometheus: bool = True
    time_server: str | None = None
    offsets: dict[str, float] = field(default_factory=dict)


def examine(
    path: Path, overrides: Mapping[str, object] | None = None, wanted: DoctorOptions | None = None
) -> Iterator[Diagnosis]:
    """Look at the installation of a daemon or a collector; nothing is changed or sent.

    Parameters
    ----------
    path : Path
        Its configuration.
    overrides : mapping of str to object, optional
        Values from the command line by dotted key.
    wanted : DoctorOptions, optional
        What to look at besides.

    Yields
    ------
    Diagnosis
        As they are made; an error of a check is one.

    Raises
    ------
    ConfigError
        If the configuration itself is wrong: then it is not known what to check. It names every mistake.
    """
    overrides = overrides or {}
    wanted = wanted or DoctorOptions()
    config = (load_collector if "collector" in read_toml(path) else load_daemon)(path, overrides)
    problems = find_all_problems(path, overrides)
    for problem in problems:
        yield red("configuration", problem, "Correct it; 'dqm check' shows the same")
    if not problems:
        yield green("configuration", f"{path}: no mistakes found")
    if isinstance(config, CollectorConfig):
        yield from _examine_collector(path, config, wanted)
        return
    if not problems:
        yield from guarded("bundle", lambda: references.look_at_references(config, time.time()))
    yield from _examine_daemon(path, config, wanted)


def _examine_daemon(path: Path, config: DaemonConfig, wanted: DoctorOptions) -> Iterator[Diagnosis]:
    now = time.time()
    section = config.daemon
    yield from guarded("disk", lambda: _look_at_data(path, config, now, wanted))
    yield from guarded("keys", lambda: access.look_at_keys(config))
    yield from guarded("users", lambda: access.look_at_users(config))
    yield from guarded("ports", lambda: running.look_at_listeners(config))
    yield from guarded("daemon", lambda: _look_at_daemon(config, now, wanted))
    yield from guarded("cluster", lambda: neighbours.look_at_cluster(section.scheduler))
    if wanted.has_prometheus:
        yield from guarded(
            "prometheus",
            lambda: neighbours.look_at_prometheus(
                wanted.prometheus, url_on_host(section.http), wanted.offsets
            ),
        )
    yield from guarded("clock", lambda: host.look_at_clock(now, wanted.offsets, wanted.time_server))
    yield from guarded("grafana", lambda: neighbours.look_at_grafana(config))
    yield from guarded("mail", lambda: neighbours.look_at_notify(config.notify))
    yield from guarded("systemd", lambda: neighbours.look_at_units(path))


def _look_at_data(path: Path, config: DaemonConfig, now: float, wanted: DoctorOptions) -> Iterable[Diagnosis]:
    """Look at the data directory and the store."""
    data_dir = config.daemon.data_dir
    if not data_dir.exists():
        yield red("store", f"{data_dir} is not there: the daemon has never run", "Start it: 'dqm run'")
        return
    own = [data_dir, data_dir / STORE_FILE, path]
    yield from guarded("permissions", lambda: host.look_at_writers(own))
    needed = [path, *(bundle / "manifest.json" for bundle in references.paths_of(config))]
    yield from guarded("permissions", lambda: host.look_at_readers(data_dir, needed))
    measured: list[storage.Storage] = []

    def look_at_store() -> Iterator[Diagnosis]:
        measured.append(storage.measure_storage(config, now))
        yield from storage.look_at_storage(config, measured[0])

    yield from guarded("store", look_at_store)
    growth = ceiling = 0.0
    if measured:
        growth = measured[0].bytes_per_day if config.keep.verdict_days is None else 0.0
        ceiling = max(0.0, measured[0].kept_ceiling - measured[0].kept_bytes)
        wanted.offsets.update(measured[0].senders_ahead)
    yield from host.look_at_disk(data_dir, growth, ceiling)


def _look_at_daemon(config: DaemonConfig, now: float, wanted: DoctorOptions) -> Iterator[Diagnosis]:
    answers = running.ask_daemon(config)
    if answers is None:
        yield red("daemon", "its port is chosen when it starts, so it cannot be asked", "Set [daemon] http")
        return
    if answers.overview:
        wanted.offsets["the daemon"] = answers.ahead
    yield from running.look_at_daemon(config, answers, now)
    yield from guarded("bundle", lambda: references.look_at_used(config, answers.bundles))


def _examine_collector(path: Path, config: CollectorConfig, wanted: DoctorOptions) -> Iterator[Diagnosis]:
    section = config.collector

    def look_at_keys() -> Iterator[Diagnosis]:
        if read_sender_keys(section) is None:
            yield green("keys", "none are needed: the daemon is on this host")
        else:
            yield green("keys", f"{section.key} can be used")

    def look_at_daemon() -> Iterator[Diagnosis]:
        running.connect(section.connect)
        where = "on this host" if is_local(section.connect) else "on another host"
        yield green("daemon", f"somebody listens at {section.connect}, {where}")

    yield from guarded(
        "permissions", lambda: host.look_at_writers([path, *([section.spool] if section.spool else [])])
    )
    yield from guarded("keys", look_at_keys)
    yield from guarded("daemon", look_at_daemon)
    if section.spool is not None and section.spool.exists():
        files = list(section.spool.glob("*"))
        kept = sum(file.stat().st_size for file in files if file.is_file())
        yield from guarded("disk", lambda: host.look_at_disk(section.spool or path, 0.0, 0.0))
        yield green("store", f"the spool has {format_count(len(files), 'file')}, {kept / 1e6:.3g} MB")
    yield from guarded("clock", lambda: host.look_at_clock(time.time(), {}, wanted.time_server))
    yield from guarded("systemd", lambda: neighbours.look_at_units(path))
