"""Configuration of ``dqm collect``: every key with its unit, range and meaning, as frozen models."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dqm.config.values import ConfigPath, Endpoint, KeyPath, Name, Section, is_local
from dqm.errors import LARGEST_INTEGER

__all__ = [
    "CalibrationSection",
    "ChannelsSection",
    "CollectorConfig",
    "CollectorSection",
    "ReadingSection",
    "SlowControlSection",
    "WindowSection",
]


class CollectorSection(Section):
    """``[collector]``: source, run and daemon."""

    name: Name = Field(description="name of the collector: an entry point of the group dqm.collectors")
    run: int | None = Field(
        None,
        ge=0,
        le=LARGEST_INTEGER,
        description="run number; default: the start time in Unix seconds",
    )
    run_type: Name = Field("physics", description="what the run is for: physics, cosmics, ...")
    connect: Endpoint = Field("tcp://127.0.0.1:5565", description="ZeroMQ address of the daemon")
    key: KeyPath | None = Field(
        None, description="secret key of this collector; required if the daemon is on another host"
    )
    daemon_key: ConfigPath | None = Field(None, description="public key of the daemon; required with key")
    buffer_windows: int = Field(
        1000, ge=1, le=1_000_000, description="most windows kept until the daemon has acknowledged them"
    )
    buffer_bytes: int = Field(2**28, ge=2**20, le=2**36, description="most bytes of events kept likewise")
    spool: ConfigPath | None = Field(
        None,
        description="directory that keeps windows across restarts, for this collector alone; default: none",
    )

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if (self.key is None) != (self.daemon_key is None):
            raise ValueError("key and daemon_key must both be given or both be left out")
        if self.key is None and not is_local(self.connect):
            raise ValueError(
                f"{self.connect!r} is on another host: key and daemon_key must be given; make a key with "
                "'dqm keys new NAME --stream ...', copy NAME.public to the daemon's directory of keys, and "
                "copy daemon.public from there"
            )
        return self


class WindowSection(Section):
    """``[window]``: by count (``events``) or by time (``seconds`` and ``expected_rate_hz``)."""

    events: int | None = Field(None, ge=1, le=LARGEST_INTEGER, description="events in each window")
    seconds: float | None = Field(None, ge=0.001, description="length of each window, s")
    expected_rate_hz: float | None = Field(
        None, gt=0.0, description="events per second of live time in a healthy detector, Hz"
    )
    rates_hz: dict[str, Annotated[float, Field(gt=0.0, allow_inf_nan=False)]] = Field(
        {}, description="the same for single chambers that differ, by their names, Hz"
    )

    @model_validator(mode="after")
    def _check_one_way(self) -> Self:
        by_time = (self.seconds, self.expected_rate_hz)
        if self.events is not None and by_time != (None, None):
            raise ValueError("give either events, or seconds with expected_rate_hz, not both")
        if self.events is not None and self.rates_hz:
            raise ValueError("rates_hz is for windows cut by time: leave it out with events")
        if self.events is None and None in by_time:
            raise ValueError("give events, or seconds together with expected_rate_hz")
        return self


class ChannelsSection(Section):
    """``[channels]``: windows of the hits of every channel, if the source counts them."""

    seconds: float = Field(
        ge=0.001, description="length of each window, s: a multiple of the time in which the source counts"
    )
    expected_rate_hz: float = Field(
        gt=0.0,
        description="hits per second of live time in all channels of a healthy chamber together, Hz; "
        "'dqm reference channels' says it",
    )


class ReadingSection(Section):
    """``[slow_control.nuisances.NAME.readings.READING]``: effect of one reading on a nuisance parameter."""

    nominal: float = Field(description="reading at which the parameter is 0, in the unit of the reading")
    slope: float = Field(description="change of the parameter per unit of the reading, not 0")
    sigma: float | None = Field(
        None,
        ge=0.0,
        description="one-sigma error of the reading, in its unit, >= 0; default: that of the source",
    )

    @model_validator(mode="after")
    def _check_slope(self) -> Self:
        if self.slope == 0:
            raise ValueError("slope must not be 0: such a reading says nothing about the parameter")
        return self


class CalibrationSection(Section):
    """``[slow_control.nuisances.NAME]``: nuisance parameter as a linear function of readings."""

    sigma: float = Field(
        0.0, ge=0.0, description="error of the relation itself, in the unit of the parameter, >= 0"
    )
    readings: dict[Name, ReadingSection] = Field(
        min_length=1, description="readings that the parameter is computed from, by name"
    )

    @model_validator(mode="after")
    def _check_error(self) -> Self:
        if self.sigma == 0 and all(reading.sigma == 0 for reading in self.readings.values()):
            raise ValueError("sigma is 0, and so is that of every reading: one of them must be above 0")
        return self


class SlowControlSection(Section):
    """``[slow_control]``: source of the readings, and the nuisance parameters computed from them."""

    source: Name = Field(description="name of the source: an entry point of the group dqm.slow_control")
    options: dict[str, Any] = Field({}, description="options of the source itself")
    nuisances: dict[Name, CalibrationSection] = Field(
        {}, max_length=64, description="nuisance parameters by name, at most 64"
    )


class CollectorConfig(Section):
    """Configuration of ``dqm collect``."""

    collector: CollectorSection = Field(description="source, run and daemon")
    window: WindowSection = Field(description="how windows are cut")
    channels: ChannelsSection | None = Field(
        None, description="windows of the hits of every channel; default: none"
    )
    options: dict[str, Any] = Field({}, description="options of the collector itself")
    slow_control: SlowControlSection | None = Field(
        None, description="readings that are sent with the windows; default: none"
    )
    streams: dict[str, Name] = Field(
        {}, description="stream of each chamber; default: the name of the chamber"
    )

    @model_validator(mode="after")
    def _check_streams(self) -> Self:
        names = list(self.streams.values())
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"streams: each chamber needs its own stream; used twice: {', '.join(twice)}")
        return self
