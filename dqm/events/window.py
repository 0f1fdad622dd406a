"""Data of a detector: batches of events, slow-control readings, and windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALLEST_WINDOW",
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

SMALLEST_WINDOW = 10
"""Fewest events of the windows that a reference is made for."""

Condition = str | float
"""Condition of the detector during a window, such as a voltage set point or the name of a trigger."""


class Origin(StrEnum):
    """Origin of events; every display marks an origin other than ``live``."""

    LIVE = "live"
    REPLAYED = "replayed"
    SIMULATED = "simulated"


class WindowCut(StrEnum):
    """How a window is cut: by a number of events or by a length in time."""

    COUNT = "count"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Reading:
    """One value read from a slow-control sensor.

    Parameters
    ----------
    name : str
        Name of the sensor: up to 64 letters, digits, ``.``, ``_``, ``-``.
    value : float
        Finite value, in the unit of the sensor.
    sigma : float or None
        One-sigma error in the same unit, above 0; None if not known.
    time : float
        Time of the reading, Unix seconds.
    """

    name: str
    value: float
    sigma: float | None
    time: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """Auxiliary measurement of a nuisance parameter by slow control.

    Parameters
    ----------
    name : str
        Name of the nuisance parameter.
    value, sigma : float
        Measured value and its one-sigma error, in the unit of the parameter; ``sigma > 0``.
    time : float
        Time of the measurement, Unix seconds.
    """

    name: str
    value: float
    sigma: float
    time: float


@dataclass(frozen=True, slots=True)
class EventBatch:
    """All events of one chamber in one stretch of time.

    A batch without events is valid: the chamber was live and had no events.

    Parameters
    ----------
    chamber : str
        Name of the chamber (or other detector unit) within the source.
    names : tuple of str
        Feature names, one for each column of `x`.
    x : ndarray, shape (n_events, n_features)
        Features in raw units.
    times : ndarray, shape (n_events,), or None
        Event times in Unix seconds, ascending, within ``[start, end)``; None if the source has no clock, or
        if the rows belong to all of the time of the batch.
    start, end : float or None
        Live time that the batch covers, Unix seconds; None if the source has no clock.
    auxiliary : tuple of Measurement
        Measurements of nuisance parameters valid for this time.
    conditions : mapping of str to str or float
        Conditions of the detector.
    counts : str
        Name of the column that says how many events each row stands for; empty if each row is one event.
    position : str
        From where a source that can go on after a restart reads again to yield this batch and those after it;
        empty for other sources.
    run : int or None
        Number of the run, of a source that knows it: the names of files say it. None: that of the collector.
    run_type : str
        What this run is for; empty: that of the collector.
    number : int or None
        Number of the batch among those of its chamber and run, ascending, and the same after a restart;
        None: its start orders it.
    """

    chamber: str
    names: tuple[str, ...]
    x: FloatArray
    times: FloatArray | None = None
    start: float | None = None
    end: float | None = None
    auxiliary: tuple[Measurement, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    counts: str = ""
    position: str = ""
    run: int | None = None
    run_type: str = ""
    number: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether its rows belong to all of its time, so that it cannot be divided: bins of histograms."""
        return bool(self.counts) and self.times is None

    @property
    def n_events(self) -> int:
        """Number of events; of counted rows the sum of their counts, rounded."""
        return round(float(self.x[:, self.names.index(self.counts)].sum())) if self.counts else len(self.x)


@dataclass(frozen=True, slots=True)
class Window:
    """Events that are sent in one message, tested together and get one verdict.

    ``(stream, run, seq)`` identifies a window.

    Parameters
    ----------
    stream : str
        Name of the stream; it determines the reference.
    run, seq : int
        Run number, and number of the window within run and stream, from 0.
    run_type : str
        Purpose of the run: ``physics``, ``cosmics``, ...
    origin : Origin
        Live, replayed or simulated.
    cut : WindowCut
        By count or by time.
    names : tuple of str
        Feature names, one for each column of `x`.
    x : ndarray, shape (n_events, n_features)
        Features in raw units.
    start, end : float or None
        Start and end of the time covered, Unix seconds; None if the source has no clock.
    live_seconds : float or None
        Time within the window during which the detector could record events, s.
    n_expected : float or None
        Events expected in a healthy detector (nominal rate times live time); None for windows cut by count.
    n_lost : int
        Windows of this run and stream that the sender dropped since the last one it sent.
    auxiliary : tuple of Measurement
        Measurements of nuisance parameters valid for the window.
    conditions : mapping of str to str or float
        Conditions of the detector.
    is_late : bool
        Whether another run of the stream had begun when it arrived; the monitor sets it.
    digest : str
        Hash of the events, of a window that was received: it tells a window that was sent again from another
        one with the same numbers. Empty otherwise.
    counts : str
        Name of the column of `x` that says how many events each row stands for, >= 0; empty if each row is
        one event.
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
    is_late: bool = False
    digest: str = field(default="", compare=False)
    counts: str = ""

    @property
    def weights(self) -> FloatArray | None:
        """Events that each row stands for, shape (n_rows,); None if each row is one event."""
        return self.x[:, self.names.index(self.counts)] if self.counts else None

    @property
    def n_events(self) -> int:
        """Number of events; of counted rows the sum of their counts, rounded."""
        weights = self.weights
        return len(self.x) if weights is None else round(float(weights.sum()))
