"""Slow control beside the events: readings become measurements of nuisance parameters in window headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, cast

import structlog
from pydantic import BaseModel

from dqm.config import CalibrationSection, SlowControlSection, find_plugin, validate
from dqm.errors import ConfigError, InputError
from dqm.events import Condition, Measurement, Reading, Window

__all__ = ["ReadingSource", "SlowControl", "measure", "open_readings"]

log = structlog.get_logger(__name__)

OPTIONS = "[slow_control.options]"
MOST_CONDITIONS = 64
"""Facts that a window's header can hold."""


class ReadingSource(AbstractContextManager["ReadingSource"], Protocol):
    """What a source of readings is: it takes hold of files and sockets when it is entered, not before."""

    announced: Mapping[str, float | None] | None
    """Readings it will give, with their errors (None: without); None if that shows only as they come."""

    def latest(self, until: float | None, /) -> Mapping[str, Reading]:
        """Newest reading of each name at or before `until` (Unix s; None: of all); `InputError` if unusable.

        It does not wait for new ones: events come first.
        """


class ReadingSourceFactory(Protocol):
    """Class of a source of readings."""

    Options: type[BaseModel]
    """Model of its options."""

    def __call__(self, options: BaseModel, /) -> ReadingSource:
        """Set the source up, without touching anything outside."""


def open_readings(name: str, options: Mapping[str, object], base: Path) -> ReadingSource:
    """Check the options of a source of readings and set it up.

    Parameters
    ----------
    name : str
        Name of the entry point in the group ``dqm.slow_control``.
    options : mapping of str to object
        Its options, unchecked.
    base : Path
        Directory that relative paths start from.

    Raises
    ------
    ConfigError
        If the source is unknown or an option is; the text lists every mistake.
    """
    found = find_plugin("dqm.slow_control", name, where="[slow_control] source")
    factory = cast(ReadingSourceFactory, found)
    return factory(validate(factory.Options, dict(options), OPTIONS, base))


def measure(name: str, nuisance: CalibrationSection, readings: Mapping[str, Reading]) -> Measurement:
    """Compute a nuisance parameter from readings.

    ``nu = sum_j slope_j (reading_j - nominal_j)``, its variance ``sigma^2 + sum_j (slope_j sigma_j)^2``.

    Parameters
    ----------
    name : str
        Nuisance parameter.
    nuisance : CalibrationSection
        Its calibration.
    readings : mapping of str to Reading
        Readings by name.

    Returns
    -------
    Measurement
        As old as the oldest of the readings it needs.

    Raises
    ------
    InputError
        If a reading is missing or has no error, or if the result is no finite number.
    """
    value, errors, times = 0.0, [nuisance.sigma], []
    for key, calibration in nuisance.readings.items():
        if key not in readings:
            raise InputError(f"no reading of {key}")
        reading = readings[key]
        sigma = reading.sigma if calibration.sigma is None else calibration.sigma
        if sigma is None:
            raise InputError(f"the reading of {key} has no error", fix=_missing_error(name, key))
        value += calibration.slope * (reading.value - calibration.nominal)
        errors.append(calibration.slope * sigma)
        times.append(reading.time)
    total = math.hypot(*errors)
    if not math.isfinite(value) or not 0 < total < math.inf:
        raise InputError("readings are too large or too small for the calibration")
    return Measurement(name, value, total, min(times))


def _missing_error(nuisance: str, reading: str) -> str:
    return f"Give it one: [slow_control.nuisances.{nuisance}.readings.{reading}] sigma"


class SlowControl:
    """Attaches what slow control says to windows.

    Windows, not batches: a batch of a replay may span hours, and each window gets the newest readings taken
    at or before its own end. What cannot be read or computed is left out and logged when it begins and when
    it ends; data taking goes on, and the daemon sees that a measurement is missing.

    Parameters
    ----------
    section : SlowControlSection
        Source and calibrations.
    base : Path
        Directory that relative paths in the source's options start from.

    Raises
    ------
    ConfigError
        If the source or its options are unknown, or if it is known beforehand that a reading or its error
        will be missing.
    """

    def __init__(self, section: SlowControlSection, base: Path) -> None:
        self._source = open_readings(section.source, section.options, base)
        self._nuisances = section.nuisances
        _check_announced(section.nuisances, self._source.announced)
        self._troubles: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Begin to take in readings; raises `DqmError` if that is not possible."""
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, error, trace)

    def attach(self, window: Window) -> Window:
        """Add measurements and, among the conditions, the readings themselves.

        A measurement the window has already stays if it is newer.
        """
        readings = self._read(window.end)
        found = {known.name: known for known in window.auxiliary}
        for name, nuisance in self._nuisances.items():
            try:
                measurement = measure(name, nuisance, readings)
            except InputError as error:
                self._tell(name, str(error))
                continue
            self._tell(name, "")
            if name not in found or found[name].time <= measurement.time:
                found[name] = measurement
        return replace(
            window, auxiliary=tuple(found.values()), conditions=self._join(window.conditions, readings)
        )

    def _read(self, until: float | None) -> Mapping[str, Reading]:
        try:
            readings = self._source.latest(until)
        except InputError as error:
            self._tell("source", str(error))
            return {}
        self._tell("source", "")
        return readings

    def _join(
        self, conditions: Mapping[str, Condition], readings: Mapping[str, Reading]
    ) -> dict[str, Condition]:
        """Conditions and readings, as many as a header holds: those that are needed come first."""
        needed = {key for nuisance in self._nuisances.values() for key in nuisance.readings}
        joined = dict(conditions)
        for name in sorted(readings, key=lambda name: (name not in needed, name)):
            if name in joined or len(joined) < MOST_CONDITIONS:
                joined[name] = readings[name].value
        return joined

    def _tell(self, name: str, trouble: str) -> None:
        """Log what goes wrong once, and its end."""
        if trouble == self._troubles.get(name, ""):
            return
        self._troubles[name] = trouble
        if trouble:
            log.warning("slow control incomplete", missing=name, reason=trouble)
        else:
            log.info("slow control complete again", found=name)


def _check_announced(
    nuisances: Mapping[str, CalibrationSection], announced: Mapping[str, float | None] | None
) -> None:
    """Refuse calibrations for which a reading or its error is known to be missing for ever."""
    if announced is None:
        return
    for name, nuisance in nuisances.items():
        for key, calibration in nuisance.readings.items():
            where = f"[slow_control.nuisances.{name}.readings.{key}]"
            if key not in announced:
                raise ConfigError(
                    f"the source has no reading {key!r}",
                    where=where,
                    fix=f"It has {', '.join(announced) or 'none'}: see {OPTIONS}",
                )
            if calibration.sigma is None and announced[key] is None:
                raise ConfigError(
                    f"the source gives no error of {key!r}", where=where, fix=_missing_error(name, key)
                )
