"""Configuration of ``dqm run``: every key with its unit, range and meaning, as frozen models."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import filter as filter_names
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dqm.config.certification import CertificationSection, RegistrySection
from dqm.config.grafana import GrafanaSection
from dqm.config.notify import NotifySection, PriorityName
from dqm.config.streams import GroupSection, StreamSection, Text
from dqm.config.values import (
    ConfigPath,
    GroupPath,
    HttpAddress,
    KeyPath,
    ListenAddress,
    Name,
    Probability,
    Section,
    StoreUrl,
    is_local,
)
from dqm.config.web import WebSection
from dqm.errors import LARGEST_INTEGER

__all__ = [
    "AlarmSection",
    "DaemonConfig",
    "DaemonSection",
    "DriftTestName",
    "KeepSection",
    "LimitsSection",
    "NuisancesSection",
    "QualitySection",
]

DriftTestName = Literal["sum", "run"]


class LimitsSection(Section):
    """``[daemon.limits]``: the largest message that is accepted."""

    max_header_bytes: int = Field(65_536, ge=1024, le=2**20, description="largest header, bytes")
    max_payload_bytes: int = Field(67_108_864, ge=4096, le=2**30, description="largest payload, bytes")
    max_events: int = Field(100_000, ge=1, le=10_000_000, description="most events in a window")
    max_features: int = Field(64, ge=1, le=1024, description="most features in a window")


class DaemonSection(Section):
    """``[daemon]``: addresses, data directory and processes of the daemon."""

    listen: tuple[ListenAddress, ...] = Field(
        ("tcp://127.0.0.1:5565",),
        min_length=1,
        description="ZeroMQ addresses, tcp://IP:PORT or ipc://PATH; port 0: any free port",
    )
    keys: ConfigPath | None = Field(
        None,
        description="directory of the collectors' public keys; required to accept other hosts",
    )
    key: KeyPath | None = Field(
        None, description="secret key of the daemon; default: daemon.secret in the directory of keys"
    )
    keyed: Literal["remote", "all"] = Field(
        "remote", description="addresses that require keys: remote, or all (also the loopback and ipc)"
    )
    http: HttpAddress = Field(
        "127.0.0.1:8787",
        description="HOST:PORT of page, API and /metrics; port not from 9100 to 9999; 0: any free port",
    )
    data_dir: ConfigPath = Field(
        Path("data"),
        validate_default=True,
        description="directory of the verdicts and the kept windows; relative to this file",
    )
    store: StoreUrl | None = Field(
        None,
        description="PostgreSQL database for the verdicts, postgresql://USER@HOST/NAME without password",
    )
    queue_windows: int = Field(
        256, ge=1, le=100_000, description="most windows that wait for their test; at least 2 for each stream"
    )
    overload_seconds: float = Field(
        60.0,
        gt=0.0,
        description="with a full queue for this time, the oldest windows become Null (overload), s",
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="processes that test windows; default: one for each CPU core, at most 4; "
        "0: the daemon itself",
    )
    scheduler: str | None = Field(
        None,
        pattern=r"^(tcp|tls|ucx|ws|wss)://.+",
        description="Dask scheduler whose workers test the windows, as in tcp://HOST:8786; the processes of "
        "this machine test what these do not",
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads of each worker")
    longest_test_seconds: float = Field(
        60.0,
        gt=0.0,
        description="after this time a test has failed: its worker is replaced, its window is Null, s",
    )
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="where windows are tested: cpu, or cuda (a GPU)"
    )
    limits: LimitsSection = Field(LimitsSection(), description="largest message that is accepted")

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        remote = [address for address in self.listen if not is_local(address)]
        if self.keys is None and (remote or self.key is not None or self.keyed == "all"):
            key = f"{remote[0]!r} can be reached from other hosts: keys" if remote else "keys"
            raise ValueError(
                f"{key} must name a directory; make it with 'dqm keys new daemon --dir keys', and a key for "
                "each collector; or listen at 127.0.0.1, [::1] or ipc://"
            )
        return self

    @property
    def n_workers(self) -> int:
        """Number of processes that test windows."""
        return min(4, len(os.sched_getaffinity(0))) if self.workers is None else self.workers


class KeepSection(Section):
    """``[keep]``: what is kept, and for how long."""

    windows_megabytes: float = Field(
        1024.0, ge=0.0, description="most megabytes of Medium and Bad windows, as Parquet files; 0: keep none"
    )
    good_share: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description="share of the Good windows that are kept too, for references of later runs; 0: none",
    )
    good_megabytes: float = Field(
        1024.0, ge=0.0, description="most megabytes of Good windows, as Parquet files beside the others"
    )
    trend_days: float | None = Field(
        None, gt=0.0, description="summaries of runs are deleted after this time; default: never, days"
    )
    verdict_days: float | None = Field(
        None,
        gt=0.0,
        description="verdicts, explanations and alarm history are deleted after this time, days; "
        "default: never",
    )


class QualitySection(Section):
    """``[quality]``: limits of the p-value for each quality."""

    medium_p: Probability | None = Field(
        None, description="p-value below which a window is Medium, 0 to 1; default: three times bad_p"
    )
    bad_p: Probability | None = Field(
        None, description="p-value below which it is Bad, less than medium_p; default: that of [alarm]"
    )
    min_events: int = Field(
        50,
        ge=1,
        le=LARGEST_INTEGER,
        description="the shape of a window with fewer events is not tested, only their number",
    )
    rate_uncertainty: float = Field(
        0.02,
        ge=0.0,
        le=1.0,
        description="relative uncertainty of the expected number of events; a nuisance parameter of the rate "
        "brings its own",
    )

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.bad_p is not None and self.medium_p is not None and not self.bad_p < self.medium_p:
            raise ValueError(f"bad_p = {self.bad_p} must be less than medium_p = {self.medium_p}")
        return self


class NuisancesSection(Section):
    """``[nuisances]``: use of the slow-control measurements of nuisance parameters."""

    max_age_seconds: float = Field(
        600.0, gt=0.0, description="largest time between a measurement and the end of its window, s"
    )
    unmeasured: Literal["null", "free"] = Field(
        "null",
        description="window without a usable measurement: null, or free (fitted without, with its own null "
        "table)",
    )
    largest_pull: float | None = Field(
        None,
        gt=0.0,
        description="a larger difference of fitted and measured value is a warning, standard deviations; "
        "default: 3, or more if [alarm] allows fewer warnings",
    )


class AlarmSection(Section):
    """``[alarm]``: the false-alarm budget, and defaults for all streams."""

    false_alarms_per_shift: float = Field(
        1.0, gt=0.0, le=1000.0, description="false alarms allowed in a shift, all streams together, > 0"
    )
    shift_hours: float = Field(8.0, gt=0.0, le=168.0, description="length of a shift, h")
    windows_per_hour: float = Field(
        60.0, gt=0.0, le=1e6, description="windows that a stream sends in one hour of data taking"
    )
    k: int = Field(2, ge=1, le=16, description="windows among the last n that must differ, 1 to n")
    n: int = Field(3, ge=1, le=16, description="number of last windows that are considered, 1 to 16")
    drift_share: float = Field(
        0.5,
        ge=0.0,
        lt=1.0,
        description="share of the budget for slow deterioration (drift); 0: no such alarm",
    )
    drift_test: DriftTestName = Field(
        "sum",
        description="how slow deterioration is found: sum (cumulative sum of significances) or run "
        "(evidence of each run by itself; the share bounds the probability that a healthy run alarms)",
    )
    runs_per_shift: float = Field(
        1.0, gt=0.0, le=10_000.0, description='runs in a shift, for drift_test = "run"'
    )
    nuisance_share: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="share for nuisance parameters far from their measurement, if there are any",
    )
    rate_share: float = Field(
        0.1,
        ge=0.0,
        lt=1.0,
        description="share for another number of events than expected, where windows say what is; 0: no such "
        "alarm",
    )
    rolling_share: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="share for windows that differ from the last good ones, if a stream has a rolling "
        "reference",
    )
    autocorrelation: float = Field(
        0.0,
        ge=0.0,
        le=0.7,
        description="correlation of the significances of neighbouring healthy windows of a stream, 0 to 0.7",
    )
    on_delay_seconds: float = Field(
        0.0, ge=0.0, le=86_400.0, description="a condition must last this time before the alarm is raised, s"
    )
    off_delay_seconds: float = Field(
        300.0, ge=0.0, le=86_400.0, description="it must be absent this time before the alarm ends, s"
    )
    latching: bool = Field(
        False, description="whether an alarm stays until it is acknowledged when its condition has ended"
    )
    grace_windows: int = Field(
        0, ge=0, le=100_000, description="number of first windows of each run that are ignored"
    )
    run_types: tuple[Name, ...] = Field((), description="types of runs whose windows count; empty: all types")
    priority: PriorityName = Field("P2", description="how soon an operator must respond, P1 first")
    condition: Text = Field(
        None, min_length=1, description="what a departure means, in words; default: a text for each cause"
    )
    action: Text = Field(
        None, min_length=1, description="what to do first about a departure; default: a text for each cause"
    )
    contact: str = Field(
        "the detector expert on call", min_length=1, description="whom to call: name and number"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k = {self.k} must not exceed n = {self.n}")
        if self.drift_share + self.nuisance_share + self.rate_share >= 1.0:
            raise ValueError(
                f"drift_share = {self.drift_share}, nuisance_share = {self.nuisance_share} and rate_share = "
                f"{self.rate_share} leave nothing for windows that differ: their sum must be less than 1"
            )
        return self


class DaemonConfig(Section):
    """Configuration of ``dqm run``."""

    daemon: DaemonSection = Field(DaemonSection(), validate_default=True, description="the daemon itself")
    web: WebSection = Field(WebSection(), description="who may read and change something by HTTP")
    keep: KeepSection = Field(KeepSection(), description="what is kept, and for how long")
    quality: QualitySection = Field(QualitySection(), description="limits of the p-value for each quality")
    nuisances: NuisancesSection = Field(
        NuisancesSection(), description="use of the measurements of nuisance parameters"
    )
    alarm: AlarmSection = Field(AlarmSection(), description="false-alarm budget, and defaults of all streams")
    grafana: GrafanaSection | None = Field(
        None, description="Grafana server that shows alarms as annotations; default: none"
    )
    notify: NotifySection | None = Field(
        None, description="whom to tell of alarms by mail, chat and webhooks; default: nobody"
    )
    certification: CertificationSection = Field(
        CertificationSection(), description="which sign-off of a run is proposed, and who may sign"
    )
    registry: RegistrySection | None = Field(
        None, description="run registry that gets each sign-off as JSON; default: none"
    )
    groups: dict[GroupPath, GroupSection] = Field({}, description="groups of streams by path")
    streams: tuple[StreamSection, ...] = Field(min_length=1, description="streams, each with its references")

    @model_validator(mode="after")
    def _check_web(self) -> Self:
        if not is_local(self.daemon.http) and not self.web.has_login:
            raise ValueError(
                f"daemon.http: {self.daemon.http!r} can be reached from other hosts: web.users must name a "
                "file made by 'dqm users add', web.proxy_header and web.proxies must describe a reverse "
                "proxy that signs users in, or web.oidc a provider that does; or listen at 127.0.0.1 or [::1]"
            )
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [stream.name for stream in self.streams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"streams: each name may be used once; used twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _check_required(self) -> Self:
        names = [stream.name for stream in self.streams]
        unknown = [glob for glob in self.certification.required if not filter_names(names, glob)]
        if unknown:
            raise ValueError(f"certification.required: no stream is called {unknown[0]!r}")
        return self

    @model_validator(mode="after")
    def _check_shares(self) -> Self:
        a = self.alarm
        shares = a.drift_share + a.nuisance_share + a.rate_share + a.rolling_share
        if any(stream.rolling for stream in self.streams) and shares >= 1.0:
            raise ValueError(
                f"alarm: rolling_share = {a.rolling_share} and the other shares leave nothing for windows "
                "that differ: their sum must be less than 1"
            )
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        self._check_known("groups", self.groups)
        for number, rule in enumerate(self.notify.rules if self.notify else ()):
            self._check_known(f"notify.rules[{number}].groups", rule.groups)
        return self

    def _check_known(self, key: str, groups: Iterable[str]) -> None:
        paths = [f"{stream.group}/" for stream in self.streams]
        empty = [group for group in groups if not any(path.startswith(f"{group}/") for path in paths)]
        if empty:
            raise ValueError(f"{key}: no stream has a group in {', '.join(empty)}")
