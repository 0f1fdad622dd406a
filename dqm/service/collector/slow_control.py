"""Slow control: readings, and measurements of nuisance parameters computed from them, for window headers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Protocol, Self, cast

import structlog
from pydantic import BaseModel

from dqm.config import (
    CalibrationSection,
    SlowControlSection,
    check_members,
    check_packages_of,
    find_plugin,
    label_of,
    plugin_errors,
    validate,
)
from dqm.errors import ConfigError, InputError, PluginError
from dqm.events import Condition, Measurement, Reading, Window

__all__ = ["ReadingSource", "SlowControl", "measure", "open_readings"]

log = structlog.get_logger(__name__)

GROUP = "dqm.slow_control"
OPTIONS = "[slow_control.options]"
MOST_CONDITIONS = 64
"""Most conditions in a window's header."""


class ReadingSource(Protocol):
    """A source of readings; it opens files and sockets when its context is entered, not before."""

    announced: Annotated[
        Mapping[str, float | None] | None,
        "the names of the readings that will come, with their errors or None; None: not known in advance",
    ]

    def __enter__(self) -> Self:
        """Open the source."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Close it."""

    def latest(self, until: float | None, /) -> Mapping[str, Reading]:
        """Return the newest reading of each name at or before `until` (Unix s; None: of all).

        It does not wait for new readings, so that events are not delayed; raises `InputError` if the source
        fails.
        """


class ReadingSourceFactory(Protocol):
    """Class of a source of readings."""

    Options: Annotated[type[BaseModel], "a class of its own: the pydantic model of its options"]

    def __call__(self, options: BaseModel, /) -> ReadingSource:
        """Make the source, without opening anything."""


def open_readings(name: str, options: Mapping[str, object], base: Path) -> ReadingSource:
    """Check the options of a source of readings and make it.

    Parameters
    ----------
    name : str
        Name of the entry point in the group ``dqm.slow_control``.
    options : mapping of str to object
        Its options, unchecked.
    base : Path
        Directory from which relative paths start.

    Raises
    ------
    ConfigError
        If the source is unknown or an option is wrong; the message lists every mistake. If a package is not
        installed that it needs.
    PluginError
        If it lacks what `ReadingSource` asks for; the message names what is missing.
    """
    found = find_plugin(GROUP, name, where="[slow_control] source")
    label = label_of(GROUP, name)
    check_members(label, found, ReadingSourceFactory)
    factory = cast(ReadingSourceFactory, found)
    checked = validate(factory.Options, dict(options), OPTIONS, base)
    with plugin_errors(label):
        source = factory(checked)
    check_members(label, source, ReadingSource)
    check_packages_of(label, source, "[slow_control] source")
    return source


def measure(name: str, nuisance: CalibrationSection, readings: Mapping[str, Reading]) -> Measurement:
    """Compute a nuisance parameter from readings.

    ``nu = sum_j slope_j (reading_j - nominal_j)``, its variance ``sigma^2 + sum_j (slope_j sigma_j)^2``.

    Parameters
    ----------
    name : str
        Name of the nuisance parameter.
    nuisance : CalibrationSection
        Calibration of the parameter.
    readings : mapping of str to Reading
        Readings by name.

    Returns
    -------
    Measurement
        Measurement with the time of the oldest reading in it.

    Raises
    ------
    InputError
        If a reading is missing or has no error, or if the result is not finite.
    """
    value = 0.0
    errors = [nuisance.sigma]
    times = []
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
    """Adds readings and measurements to windows.

    Each window gets the newest readings taken at or before its end. They are not added to batches, because a
    batch of a replay may cover hours. A measurement that cannot be computed is left out; this is logged when
    it starts and when it ends. Data taking continues, and the daemon sees that a measurement is missing.

    Parameters
    ----------
    section : SlowControlSection
        Source and calibrations.
    base : Path
        Directory from which relative paths in the options of the source start.

    Raises
    ------
    ConfigError
        If the source or an option is unknown, or if it is known in advance that a reading or its error will
        be missing.
    """

    def __init__(self, section: SlowControlSection, base: Path) -> None:
        self._source = open_readings(section.source, section.options, base)
        self._label = label_of(GROUP, section.source)
        self._nuisances = section.nuisances
        _check_announced(section.nuisances, self._source.announced)
        self._problems: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Open the source; raises `DqmError` if this fails."""
        self._source.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.__exit__(kind, error, trace)

    def attach(self, window: Window) -> Window:
        """Add measurements to a window, and the readings to its conditions.

        A measurement that the window already has is kept if it is newer.
        """
        readings = self._read(window.end)
        found = {known.name: known for known in window.auxiliary}
        for name, nuisance in self._nuisances.items():
            try:
                measurement = measure(name, nuisance, readings)
            except InputError as error:
                self._log_change(name, str(error))
                continue
            self._log_change(name, "")
            if name not in found or found[name].time <= measurement.time:
                found[name] = measurement
        return replace(
            window, auxiliary=tuple(found.values()), conditions=self._join(window.conditions, readings)
        )

    def _read(self, until: float | None) -> Mapping[str, Reading]:
        try:
            with plugin_errors(self._label):
                readings = self._source.latest(until)
        except (InputError, PluginError) as error:
            self._log_change("source", str(error))
            return {}
        self._log_change("source", "")
        return readings

    def _join(
        self, conditions: Mapping[str, Condition], readings: Mapping[str, Reading]
    ) -> dict[str, Condition]:
        """Join conditions and readings up to the limit of a header; needed readings come first."""
        needed = {key for nuisance in self._nuisances.values() for key in nuisance.readings}
        joined = dict(conditions)
        for name in sorted(readings, key=lambda name: (name not in needed, name)):
            if name in joined or len(joined) < MOST_CONDITIONS:
                joined[name] = readings[name].value
        return joined

    def _log_change(self, name: str, problem: str) -> None:
        """Log a problem when it starts and when it ends."""
        if problem == self._problems.get(name, ""):
            return
        self._problems[name] = problem
        if problem:
            log.warning("slow control incomplete", missing=name, reason=problem)
        else:
            log.info("slow control complete again", found=name)


def _check_announced(
    nuisances: Mapping[str, CalibrationSection], announced: Mapping[str, float | None] | None
) -> None:
    """Refuse a calibration if a reading or its error will never come."""
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
