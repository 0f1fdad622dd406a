"""What a detector sends: events, slow-control readings and the windows they are cut into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Condition",
    "EventBatch",
    "FloatArray",
    "Measurement",
    "Origin",
    "Reading",
    "Window",
    "WindowCut",
]

FloatArray = NDArray[np.float64]
Condition = str | float
"""One fact about the detector while a window was taken: a voltage set point, a trigger name."""


class Origin(StrEnum):
    """Where events came from; anything but ``live`` is badged wherever it is shown."""

    LIVE = "live"
    REPLAYED = "replayed"
    SIMULATED = "simulated"


class WindowCut(StrEnum):
    """What closes a window: a number of events or a stretch of time."""

    COUNT = "count"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a slow-control sensor, as it was read.

    Parameters
    ----------
    name : str
        Sensor: up to 64 letters, digits, ``.``, ``_``, ``-``.
    value : float
        What it showed, finite, in the sensor's own unit.
    sigma : float or None
        One-sigma error in the same unit, above 0; None if it is not known.
    time : float
        When it was read, Unix seconds.
    """

    name: str
    value: float
    sigma: float | None
    time: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Slow-control reading that constrains a nuisance parameter.

    Parameters
    ----------
    name : str
        Nuisance parameter it measures.
    value, sigma : float
        Reading and its one-sigma error, in the parameter's own unit; ``sigma > 0``.
    time : float
        When it was read, Unix seconds.
    """

    name: str
    value: float
    sigma: float
    time: float


@dataclass(frozen=True, slots=True)
class EventBatch:
    """All events a source saw in one chamber over one stretch of time.

    A batch without events is news too: the chamber was live and saw nothing.

    Parameters
    ----------
    chamber : str
        Name of the chamber (or other unit) within the source.
    names : tuple of str
        Feature names, one for each column of `x`.
    x : ndarray, shape (n_events, n_features)
        Features in raw units.
    times : ndarray, shape (n_events,), or None
        Event times in Unix seconds, ascending, within ``[start, end)``; None if the source has no clock.
    start, end : float or None
        Stretch of live time the batch covers, Unix seconds; None together with `times`.
    auxiliary : tuple of Measurement
        Slow-control readings valid for this stretch.
    conditions : mapping of str to str or float
        Facts that describe the stretch.
    """

    chamber: str
    names: tuple[str, ...]
    x: FloatArray
    times: FloatArray | None = None
    start: float | None = None
    end: float | None = None
    auxiliary: tuple[Measurement, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """One message, one test, one verdict. ``(stream, run, seq)`` is its identity.

    Parameters
    ----------
    stream : str
        Stream the window belongs to; names the reference it is tested against.
    run, seq : int
        Run number and number of the window within run and stream, from 0.
    run_type : str
        What the run is for: ``physics``, ``cosmics``, ...
    origin : Origin
        Live, replayed or simulated.
    cut : WindowCut
        What closed the window.
    names : tuple of str
        Feature names, one for each column of `x`.
    x : ndarray, shape (n_events, n_features)
        Features in raw units.
    start, end : float or None
        First and last moment covered, Unix seconds; None if the source has no clock.
    live_seconds : float or None
        Time within the window during which the detector could record.
    n_expected : float or None
        Events expected when all is well (nominal rate times live time); None for windows cut by count.
    n_lost : int
        Windows of this run and stream dropped by the sender since the last one it sent.
    auxiliary : tuple of Measurement
        Slow-control readings valid for the window.
    conditions : mapping of str to str or float
        Facts that describe the window.
    """

    stream: str
    run: int
    seq: int
    run_type: str
    origin: Origin
    cut: WindowCut
    names: tuple[str, ...]
    x: FloatArray
    start: float | None = None
    end: float | None = None
    live_seconds: float | None = None
    n_expected: float | None = None
    n_lost: int = 0
    auxiliary: tuple[Measurement, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
