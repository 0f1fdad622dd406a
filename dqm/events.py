"""Values that travel between the rooms: frozen, without behaviour.

Samples are ``x`` of shape ``(n_events, n_features)`` in float64 and raw units (ns, degrees). Times are Unix
seconds. Arrays inside these values are shared, not copied: nobody writes to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SMALLEST_P",
    "Condition",
    "EventBatch",
    "Explanation",
    "FloatArray",
    "Likeness",
    "Measurement",
    "NuisanceResult",
    "Origin",
    "PMethod",
    "Profiled",
    "Quality",
    "RatioMap",
    "Reading",
    "TestResult",
    "Verdict",
    "Window",
    "WindowCut",
]

FloatArray = NDArray[np.float64]
Condition = str | float
"""One fact about the detector while a window was taken: a voltage set point, a trigger name."""

SMALLEST_P = 1e-15  # none is quoted below it: a p-value that equals it is this small or smaller


class Quality(StrEnum):
    """What a window says of the detector; ``Null`` means "not known" and always has a reason."""

    NULL = "Null"
    GOOD = "Good"
    MEDIUM = "Medium"
    BAD = "Bad"


class Origin(StrEnum):
    """Where events came from; anything but ``live`` is badged wherever it is shown."""

    LIVE = "live"
    REPLAYED = "replayed"
    SIMULATED = "simulated"


class WindowCut(StrEnum):
    """What closes a window: a number of events or a stretch of time."""

    COUNT = "count"
    TIME = "time"


class PMethod(StrEnum):
    """How a p-value was read: from the null table, or from the tail fitted beyond it."""

    EMPIRICAL = "empirical"
    TAIL = "tail"


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


@dataclass(frozen=True, slots=True)
class Profiled:
    """Fitted value of a nuisance parameter under one hypothesis.

    Parameters
    ----------
    value, error : float
        Fitted value and its one-sigma error, auxiliary measurement included.
    pull : float or None
        Distance of the value from the measurement, standard normal in healthy windows; None for a free
        parameter, which has nothing to disagree with.
    """

    value: float
    error: float
    pull: float | None


@dataclass(frozen=True, slots=True)
class NuisanceResult:
    """A nuisance parameter in one window.

    Parameters
    ----------
    measured : float or None
        Auxiliary measurement; None for a free parameter.
    reference : Profiled
        Fit without anomaly, f = 0.
    alternative : Profiled
        Fit together with f.
    """

    measured: float | None
    reference: Profiled
    alternative: Profiled


@dataclass(frozen=True, slots=True)
class TestResult:
    """What the test of one window against its reference gave.

    Either `t` and `p` are numbers, or `p` is None and `reason` says why nothing is known.

    Parameters
    ----------
    n_data : int
        Events in the window.
    n_expected : float
        Events the reference was scaled to, N(R_0).
    t : float or None
        Test statistic ``tau - delta``, dimensionless; None if the fit did not run or did not converge.
    p : float or None
        Upper-tail probability of `t` in healthy windows, in (0, 1].
    p_low, p_high : float or None
        95 % interval of `p` from the finite null table or the fitted tail.
    p_method : PMethod or None
        How `p` was obtained.
    z : float or None
        `p` as a one-sided Gaussian significance.
    reason : str
        Why `p` is None; empty otherwise.
    tau, delta : float or None
        Twice the log likelihood ratio to the nominal reference, of the best anomaly with nuisance parameters
        and of these alone; None together with `t`.
    nuisances : mapping of str to NuisanceResult
        Fitted nuisance parameters by name.
    remarks : tuple of str
        What limits the meaning of these numbers, in words: a constraint that was dropped, events where the
        reference has none.
    """

    n_data: int
    n_expected: float
    t: float | None = None
    p: float | None = None
    p_low: float | None = None
    p_high: float | None = None
    p_method: PMethod | None = None
    z: float | None = None
    reason: str = ""
    tau: float | None = None
    delta: float | None = None
    nuisances: Mapping[str, NuisanceResult] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RatioMap:
    """A window and its reference in bins of one feature or of two.

    Parameters
    ----------
    features : tuple of str
        One name or two.
    edges : tuple of ndarray
        Bin edges of each feature, ascending, raw units.
    reference, reference_error : ndarray, shape (n_bins,) or (n_bins, n_bins)
        Events expected in each bin, the reference scaled to N(R_0), with its own one-sigma error.
    data : ndarray, same shape
        Events seen in the window.
    fitted : ndarray, same shape
        Events of the reference reweighted by exp(f), the learned density ratio.
    """

    features: tuple[str, ...]
    edges: tuple[FloatArray, ...]
    reference: FloatArray
    reference_error: FloatArray
    data: FloatArray
    fitted: FloatArray


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much an anomalous window looks like a known fault.

    Parameters
    ----------
    fault : str
        Name of the fault, as its template was named.
    share : float
        Probability among the known faults and "unlike anything known", 0 to 1.
    """

    fault: str
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a window departs from the reference, and what it looks like.

    Parameters
    ----------
    maps : tuple of RatioMap
        One for each feature.
    pairs : tuple of RatioMap
        One for each pair of features.
    ranking : tuple of (str, float)
        Features and the share of the departure they carry, 0 to 1, the largest first.
    likenesses : tuple of Likeness
        Known faults, the most similar first; empty without templates.
    text : str
        The same in one sentence: "looks like lowered cathode voltage, 92 %", "unlike anything known".
    """

    maps: tuple[RatioMap, ...]
    pairs: tuple[RatioMap, ...]
    ranking: tuple[tuple[str, float], ...]
    likenesses: tuple[Likeness, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on one window, as it is stored and shown.

    Parameters
    ----------
    stream, run, seq : str, int, int
        Identity of the window.
    quality : Quality
        The decision.
    reason : str
        Why, in words for the shift crew; never empty unless the quality is ``Good``.
    result : TestResult
        Numbers behind the decision.
    bundle : str
        Identifier of the reference bundle that judged it; empty if none did.
    seconds : float
        Wall time the test took.
    judged_at : float
        When the decision was taken, Unix seconds.
    warnings : mapping of str to str
        Nuisance parameters that disagree with their measurement, each with the disagreement in words; no
        data-quality alarm, but a fault can hide there.
    explanation : Explanation or None
        Where and why, of a window that is ``Medium`` or ``Bad``.
    run_type, origin, start, end, n_lost, conditions
        As in `Window`.
    """

    stream: str
    run: int
    seq: int
    quality: Quality
    reason: str
    result: TestResult
    bundle: str
    seconds: float
    judged_at: float
    run_type: str = ""
    origin: Origin = Origin.LIVE
    start: float | None = None
    end: float | None = None
    n_lost: int = 0
    warnings: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    explanation: Explanation | None = None
