"""Every configuration key with its unit, range and meaning, as frozen pydantic models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dqm.config.addresses import Endpoint, Http, Listen, StoreUrl, is_local
from dqm.config.alarm import AlarmSection, GroupSection, PriorityName, Text
from dqm.config.grafana import GrafanaSection
from dqm.config.paths import ConfigPath, KeyPath
from dqm.config.section import GroupPath, Name, Probability
from dqm.config.section import Section as _Section
from dqm.config.web import WebSection

__all__ = [
    "CalibrationSection",
    "CollectorConfig",
    "CollectorSection",
    "DaemonConfig",
    "DaemonSection",
    "KeepSection",
    "LimitsSection",
    "NuisancesSection",
    "QualitySection",
    "ReadingSection",
    "SlowControlSection",
    "StreamSection",
    "WindowSection",
]

_LARGEST_INTEGER = 2**63 - 1


class LimitsSection(_Section):
    """``[daemon.limits]``: how much one message may claim before it is refused."""

    max_header_bytes: int = Field(65_536, ge=1024, le=2**20, description="largest header, bytes")
    max_payload_bytes: int = Field(67_108_864, ge=4096, le=2**30, description="largest payload, bytes")
    max_events: int = Field(100_000, ge=1, le=10_000_000, description="most events in a window")
    max_features: int = Field(64, ge=1, le=1024, description="most features in a window")


class DaemonSection(_Section):
    """``[daemon]``: where it listens, where it shows, where it keeps."""

    listen: tuple[Listen, ...] = Field(
        ("tcp://127.0.0.1:5565",),
        min_length=1,
        description="ZeroMQ addresses, tcp://IP:PORT or ipc://PATH; port 0: a free one",
    )
    keys: ConfigPath | None = Field(
        None,
        description="directory of the collectors' public keys; must be given to listen beyond this host",
    )
    key: KeyPath | None = Field(
        None, description="secret key of the daemon; left out: daemon.secret in the directory of keys"
    )
    keyed: Literal["remote", "all"] = Field(
        "remote", description="which addresses ask for keys: remote, or all: the loopback and ipc too"
    )
    http: Http = Field(
        "127.0.0.1:8787",
        description="HOST:PORT of page, API and /metrics, not a port from 9100 to 9999; port 0: a free one",
    )
    data_dir: ConfigPath = Field(
        Path("data"),
        validate_default=True,
        description="directory of the verdicts and of kept windows; relative to this file",
    )
    store: StoreUrl | None = Field(
        None,
        description="PostgreSQL database of the verdicts instead, postgresql://USER@HOST/NAME, no password",
    )
    queue_windows: int = Field(
        256, ge=1, le=100_000, description="windows that may wait for their test; at least two a stream may"
    )
    overload_seconds: float = Field(
        60.0,
        gt=0.0,
        description="with so many waiting for so long, the oldest are given up: Null, overload, s",
    )
    workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="processes that test windows; left out: one a CPU core, at most 4; 0: the daemon's own",
    )
    threads: int = Field(1, ge=1, le=256, description="CPU threads of a worker")
    longest_test_seconds: float = Field(
        60.0, gt=0.0, description="a test that takes longer hangs: its worker is replaced, its window Null, s"
    )
    device: Literal["cpu", "cuda"] = Field("cpu", description="where windows are tested: cpu, or cuda: a GPU")
    limits: LimitsSection = Field(LimitsSection(), description="how much one message may claim")

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        remote = [address for address in self.listen if not is_local(address)]
        if self.keys is None and (remote or self.key is not None or self.keyed == "all"):
            wish = f"{remote[0]!r} can be reached from other hosts: keys" if remote else "keys"
            raise ValueError(
                f"{wish} must name a directory; make it by 'dqm keys new daemon --dir keys', and a key for "
                "each collector; or listen at 127.0.0.1, [::1] or ipc://"
            )
        return self

    @property
    def n_workers(self) -> int:
        """Processes that test windows."""
        return min(4, len(os.sched_getaffinity(0))) if self.workers is None else self.workers


class KeepSection(_Section):
    """``[keep]``: what is kept, and for how long."""

    windows_megabytes: float = Field(
        1024.0, ge=0.0, description="most megabytes of Medium and Bad windows, as Parquet files; 0 keeps none"
    )
    verdict_days: float | None = Field(
        None, gt=0.0, description="verdicts, explanations and alarm history go after so many days; never"
    )


class QualitySection(_Section):
    """``[quality]``: from p-value to quality."""

    medium_p: Probability | None = Field(
        None, description="p-value below which a window is Medium, 0 to 1; left out: three times bad_p"
    )
    bad_p: Probability | None = Field(
        None, description="p-value below which it is Bad, less than medium_p; left out: as [alarm] counts"
    )
    min_events: int = Field(50, ge=1, le=_LARGEST_INTEGER, description="fewer events than this are Null")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.bad_p is not None and self.medium_p is not None and not self.bad_p < self.medium_p:
            raise ValueError(f"bad_p = {self.bad_p} must be less than medium_p = {self.medium_p}")
        return self


class NuisancesSection(_Section):
    """``[nuisances]``: slow-control measurements of what may change without being a fault."""

    max_age_seconds: float = Field(
        600.0, gt=0.0, description="a measurement further from the end of its window is stale, s"
    )
    unmeasured: Literal["null", "free"] = Field(
        "null",
        description="without a usable measurement: null, or free: fitted without it, by its own null table",
    )
    largest_pull: float | None = Field(
        None,
        gt=0.0,
        description="fitted and measured value further apart are a warning, standard deviations; "
        "left out: 3, or more where [alarm] allows no more warnings",
    )


class StreamSection(_Section):
    """``[[streams]]``: one stream and the reference it is tested against."""

    name: Name = Field(description="name of the stream: up to 64 letters, digits, '.', '_', '-'")
    bundle: ConfigPath = Field(description="reference bundle; relative to this file")
    min_events: int | None = Field(
        None, ge=1, le=_LARGEST_INTEGER, description="instead of [quality] min_events, for this stream"
    )
    stale_seconds: float = Field(
        600.0, gt=0.0, description="without a window for so long the stream is Null and alarms, s"
    )
    group: GroupPath | Literal[""] = Field(
        "", description="path of its group, such as muon/station-1; empty: directly at the top"
    )
    windows_per_hour: float | None = Field(
        None, gt=0.0, le=1e6, description="instead of [alarm] windows_per_hour, for this stream"
    )
    enabled: bool | None = Field(None, description="whether it alarms; left out: as its group, else true")
    priority: PriorityName | None = Field(None, description="how soon to respond; left out: as its group")
    condition: Text = Field(None, min_length=1, description="what a departure means; left out: as its group")
    action: Text = Field(None, min_length=1, description="what to do first; left out: as its group")
    contact: Text = Field(None, min_length=1, description="whom to call; left out: as its group")


class DaemonConfig(_Section):
    """Configuration of ``dqm run``."""

    daemon: DaemonSection = Field(DaemonSection(), validate_default=True, description="the daemon itself")
    web: WebSection = Field(WebSection(), description="who may read and change by HTTP")
    keep: KeepSection = Field(KeepSection(), description="what is kept, and for how long")
    quality: QualitySection = Field(QualitySection(), description="from p-value to quality")
    nuisances: NuisancesSection = Field(
        NuisancesSection(), description="what may change without being a fault"
    )
    alarm: AlarmSection = Field(AlarmSection(), description="what raises an alarm")
    grafana: GrafanaSection | None = Field(
        None, description="a Grafana that shows alarms as annotations; left out: none"
    )
    groups: dict[GroupPath, GroupSection] = Field({}, description="groups of streams by their paths")
    streams: tuple[StreamSection, ...] = Field(min_length=1, description="streams, each with its reference")

    @model_validator(mode="after")
    def _check_web(self) -> Self:
        if not is_local(self.daemon.http) and not self.web.has_login:
            raise ValueError(
                f"daemon.http: {self.daemon.http!r} can be reached from other hosts: web.users must name a "
                "file made by 'dqm users add', or web.proxy_header and web.proxies a reverse proxy that "
                "knows its users; or listen at 127.0.0.1 or [::1]"
            )
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [stream.name for stream in self.streams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"streams: each name may appear once, not so {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        paths = [f"{stream.group}/" for stream in self.streams]
        empty = [group for group in self.groups if not any(path.startswith(f"{group}/") for path in paths)]
        if empty:
            raise ValueError(f"groups: no stream has a group in {', '.join(empty)}")
        return self


class CollectorSection(_Section):
    """``[collector]``: which source, which run, which daemon."""

    name: Name = Field(description="collector, by its entry-point name in the group dqm.collectors")
    run: int | None = Field(
        None,
        ge=0,
        le=_LARGEST_INTEGER,
        description="run number; when left out, the start time in Unix seconds",
    )
    run_type: Name = Field("physics", description="what the run is for: physics, cosmics, ...")
    connect: Endpoint = Field("tcp://127.0.0.1:5565", description="ZeroMQ address of the daemon")
    key: KeyPath | None = Field(
        None, description="secret key of this collector; must be given if the daemon is on another host"
    )
    daemon_key: ConfigPath | None = Field(None, description="public key of the daemon; together with key")
    buffer_windows: int = Field(
        1000, ge=1, le=1_000_000, description="windows kept until the daemon has judged them"
    )
    buffer_bytes: int = Field(2**28, ge=2**20, le=2**36, description="the same in bytes of their events")
    spool: ConfigPath | None = Field(
        None,
        description="directory of this collector alone that keeps windows across restarts; left out: none",
    )

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if (self.key is None) != (self.daemon_key is None):
            raise ValueError("key and daemon_key must both be given or both be left out")
        if self.key is None and not is_local(self.connect):
            raise ValueError(
                f"{self.connect!r} is on another host: key and daemon_key must be given; make a key by "
                "'dqm keys new NAME --stream ...', take NAME.public to the daemon's directory of keys and "
                "daemon.public from there"
            )
        return self


class WindowSection(_Section):
    """``[window]``: by count (``events``) or by time (``seconds`` and ``expected_rate_hz``)."""

    events: int | None = Field(None, ge=1, le=_LARGEST_INTEGER, description="events in each window")
    seconds: float | None = Field(None, ge=0.001, description="length of each window, s")
    expected_rate_hz: float | None = Field(
        None, gt=0.0, description="events per second of live time when all is well, Hz"
    )

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        by_time = (self.seconds, self.expected_rate_hz)
        if self.events is not None and by_time != (None, None):
            raise ValueError("give either events, or seconds with expected_rate_hz, not both")
        if self.events is None and None in by_time:
            raise ValueError("give events, or seconds together with expected_rate_hz")
        return self


class ReadingSection(_Section):
    """``[slow_control.nuisances.NAME.readings.READING]``: how one reading moves a nuisance parameter."""

    nominal: float = Field(description="reading at which the parameter is 0, in the unit of the reading")
    slope: float = Field(description="change of the parameter per unit of the reading, not 0")
    sigma: float | None = Field(
        None,
        ge=0.0,
        description="one-sigma error of the reading, in its unit, >= 0; left out: as the source gives it",
    )

    @model_validator(mode="after")
    def _check_slope(self) -> Self:
        if self.slope == 0:
            raise ValueError("slope must not be 0: such a reading says nothing of the parameter")
        return self


class CalibrationSection(_Section):
    """``[slow_control.nuisances.NAME]``: nuisance parameter as a linear function of readings."""

    sigma: float = Field(
        0.0, ge=0.0, description="error of the relation itself, in the unit of the parameter, >= 0"
    )
    readings: dict[Name, ReadingSection] = Field(
        min_length=1, description="readings it is computed from, by their names"
    )

    @model_validator(mode="after")
    def _check_error(self) -> Self:
        if self.sigma == 0 and all(reading.sigma == 0 for reading in self.readings.values()):
            raise ValueError("sigma and those of all readings are 0: an error above 0 must be given")
        return self


class SlowControlSection(_Section):
    """``[slow_control]``: where readings come from, and what they say of nuisance parameters."""

    source: Name = Field(description="source, by its entry-point name in the group dqm.slow_control")
    options: dict[str, Any] = Field({}, description="options of the source itself")
    nuisances: dict[Name, CalibrationSection] = Field(
        {}, max_length=64, description="nuisance parameters by name, at most 64"
    )


class CollectorConfig(_Section):
    """Configuration of ``dqm collect``."""

    collector: CollectorSection = Field(description="source, run and daemon")
    window: WindowSection = Field(description="how windows are cut")
    options: dict[str, Any] = Field({}, description="options of the collector itself")
    slow_control: SlowControlSection | None = Field(
        None, description="readings that go with the windows; left out: none"
    )
    streams: dict[str, Name] = Field(
        {}, description="stream of each chamber; a chamber left out keeps its name"
    )

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        names = list(self.streams.values())
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"streams: chambers must feed streams of their own, not so {', '.join(twice)}")
        return self
