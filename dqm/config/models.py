"""Every configuration key with its unit, range and meaning, as frozen pydantic models."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    model_validator,
)

__all__ = [
    "NAME_PATTERN",
    "CalibrationSection",
    "CollectorConfig",
    "CollectorSection",
    "DaemonConfig",
    "DaemonSection",
    "LimitsSection",
    "NuisancesSection",
    "QualitySection",
    "ReadingSection",
    "SlowControlSection",
    "StreamSection",
    "WindowSection",
    "split_http",
]

NAME_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
"""Names of streams, features, runs' types and conditions: they become metric labels and file names."""

_LOWEST_EXPORTER_PORT, _HIGHEST_EXPORTER_PORT = 9100, 9999
_HIGHEST_PORT = 65_535
_LONGEST_IPC_PATH = 107  # of a Unix socket on Linux
_LARGEST_INTEGER = 2**63 - 1


def _split_port(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise ValueError(f"{address!r} is not HOST:PORT with a port from 0 to {_HIGHEST_PORT}")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise ValueError(f"{address!r}: write an IPv6 address in brackets, [::1]:{port}")
    return host.strip("[]"), int(port)


def _check_endpoint(address: str) -> str:
    """Refuse what is neither a tcp nor an ipc address of ZeroMQ."""
    if address.startswith("tcp://"):
        _split_port(address.removeprefix("tcp://"))
    elif address.startswith("ipc://"):
        path = address.removeprefix("ipc://")
        if not 0 < len(path.encode()) <= _LONGEST_IPC_PATH:
            raise ValueError(f"{address!r}: the path must have 1 to {_LONGEST_IPC_PATH} bytes")
    else:
        raise ValueError(f"{address!r} must begin with tcp:// or ipc://")
    return address


def _check_listen(address: str) -> str:
    """Refuse to listen where strangers could send."""
    _check_endpoint(address)
    if address.startswith("ipc://"):
        return address
    host, _ = _split_port(address.removeprefix("tcp://"))
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ValueError(f"{address!r}: listen at an IP address, such as 127.0.0.1, not at a name") from None
    if not is_loopback:
        raise ValueError(
            f"{address!r} is not a loopback address, and senders are not authenticated yet; listen at "
            "127.0.0.1, [::1] or ipc:// and bring windows from other hosts through an SSH tunnel"
        )
    return address


def _check_http(address: str) -> str:
    _, port = _split_port(address)
    if _LOWEST_EXPORTER_PORT <= port <= _HIGHEST_EXPORTER_PORT:
        raise ValueError(
            f"port {port} lies within {_LOWEST_EXPORTER_PORT} to {_HIGHEST_EXPORTER_PORT}, which Prometheus "
            "exporters share among themselves; take another, such as 8787"
        )
    return address


def split_http(address: str) -> tuple[str, int]:
    """Host and port of a checked ``[daemon] http``.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` or ``[IPV6]:PORT``.

    Returns
    -------
    tuple of str and int
        Host without brackets, port.
    """
    return _split_port(address)


def _resolve(path: Path, info: ValidationInfo) -> Path:
    """Read a relative path from the directory of the configuration file."""
    base = (info.context or {}).get("base")
    return path if base is None else base / path.expanduser()


Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
ConfigPath = Annotated[Path, AfterValidator(_resolve)]
Listen = Annotated[str, AfterValidator(_check_listen)]
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
Http = Annotated[str, AfterValidator(_check_http)]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
        description="ZeroMQ addresses, tcp://IP:PORT on the loopback or ipc://PATH; port 0: a free one",
    )
    http: Http = Field(
        "127.0.0.1:8787",
        description="HOST:PORT of /metrics and /healthz, not a port from 9100 to 9999; port 0: a free one",
    )
    data_dir: ConfigPath = Field(
        Path("data"),
        validate_default=True,
        description="directory of the verdicts; relative to this file",
    )
    queue_windows: int = Field(256, ge=1, le=100_000, description="windows that may wait for their test")
    threads: int = Field(2, ge=1, le=256, description="CPU threads of a test")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where windows are tested: cpu, or cuda: a GPU")
    limits: LimitsSection = Field(LimitsSection(), description="how much one message may claim")


class QualitySection(_Section):
    """``[quality]``: from p-value to quality."""

    medium_p: Probability = Field(0.01, description="p-value below which a window is Medium, 0 to 1")
    bad_p: Probability = Field(0.001, description="p-value below which a window is Bad, less than medium_p")
    min_events: int = Field(50, ge=1, le=_LARGEST_INTEGER, description="fewer events than this are Null")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.bad_p < self.medium_p:
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
    largest_pull: float = Field(
        3.0, gt=0.0, description="fitted and measured value further apart are a warning, standard deviations"
    )


class StreamSection(_Section):
    """``[[streams]]``: one stream and the reference it is tested against."""

    name: Name = Field(description="name of the stream: up to 64 letters, digits, '.', '_', '-'")
    bundle: ConfigPath = Field(description="reference bundle; relative to this file")
    min_events: int | None = Field(
        None, ge=1, le=_LARGEST_INTEGER, description="instead of [quality] min_events, for this stream"
    )
    stale_seconds: float = Field(
        600.0, gt=0.0, description="without a window for so long the stream is Null, s"
    )


class DaemonConfig(_Section):
    """Configuration of ``dqm run``."""

    daemon: DaemonSection = Field(DaemonSection(), validate_default=True, description="the daemon itself")
    quality: QualitySection = Field(QualitySection(), description="from p-value to quality")
    nuisances: NuisancesSection = Field(
        NuisancesSection(), description="what may change without being a fault"
    )
    streams: tuple[StreamSection, ...] = Field(min_length=1, description="streams, each with its reference")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [stream.name for stream in self.streams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"streams: each name may appear once, not so {', '.join(twice)}")
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
    buffer_windows: int = Field(
        1000, ge=1, le=1_000_000, description="windows kept while the daemon cannot take them"
    )


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
