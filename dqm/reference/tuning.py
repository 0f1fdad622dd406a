"""How the settings of a test were chosen: widths, and how steady t is in centres and penalty.

`dqm.nplm.SeveralTest` chooses the settings; for a single kernel the recipe of the bundle does. Here the same
test is set up with other numbers, and the same healthy windows are tested with each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.spatial.distance import pdist

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm import KernelTest, SeveralTest
from dqm.nplm.samples import Sample, standardisation
from dqm.reference.advice import PENALTIES, draw_windows, is_bearable
from dqm.reference.build import USUAL_CENTERS
from dqm.reference.manifest import Manifest

__all__ = ["Tuning", "TuningPoint", "look_at_settings"]

CENTERS = (25, 50, 100, 200, USUAL_CENTERS)
"""Numbers of centres that are tried."""

WINDOWS = 16
"""Healthy windows that are tested with each setting."""

SAMPLED = 1000
"""Reference events whose distances are shown."""

STEADY = 0.7
"""Two settings are equivalent above this rank correlation of t in healthy windows."""


@dataclass(frozen=True, slots=True)
class TuningPoint:
    """One setting that was tried.

    Parameters
    ----------
    knob : str
        ``centers`` or ``penalty``.
    value : float
        Its value.
    mean_t, spread_t : float
        Mean and standard deviation of t in healthy windows; NaN if a fit did not converge.
    agreement : float
        Rank correlation with t of the same windows with the chosen setting: t itself has another scale
        with each setting, and only its order counts.
    milliseconds : float
        Time of a window.
    is_chosen : bool
        Whether this is what the bundle has, or ``dqm reference build`` would take.
    """

    knob: str
    value: float
    mean_t: float
    spread_t: float
    agreement: float
    milliseconds: float
    is_chosen: bool


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """Measurements of the settings.

    Parameters
    ----------
    statistic : str
        The test.
    n_expected : float
        Events of a window.
    distances : ndarray, shape (n,)
        Distances between two reference events, in standard deviations.
    widths : tuple of float
        Widths of the kernels of all features.
    n_single : int
        Settings that look at one feature.
    points : tuple of TuningPoint
        What was tried.
    """

    statistic: str
    n_expected: float
    distances: FloatArray
    widths: tuple[float, ...]
    n_single: int
    points: tuple[TuningPoint, ...]

    def of(self, knob: str) -> list[TuningPoint]:
        """Give the settings that were tried of one kind."""
        return [point for point in self.points if point.knob == knob]

    @property
    def words(self) -> list[str]:
        """What it means, a sentence each."""
        places = [100.0 * float((self.distances < width).mean()) for width in self.widths]
        listed = ", ".join(f"{w:.3g} ({p:.0f} %)" for w, p in zip(self.widths, places, strict=True))
        said = [
            f"widths of the kernels of all features: {listed}; in brackets the share of pairs of events that "
            "are nearer to each other"
        ]
        if self.n_single:
            said.append(f"{format_count(self.n_single, 'more setting')} look at single features")
        for knob in ("centers", "penalty"):
            tried = self.of(knob)
            if len(tried) > 1:
                said.append(_describe(knob, tried, self.n_expected))
        chosen = [point.milliseconds for point in self.points if point.is_chosen]
        if chosen:
            said.append(f"a window takes {np.median(chosen):.2g} ms")
        return said


def look_at_settings(
    x: FloatArray,
    *,
    n_reference: int,
    n_expected: float,
    seed: int,
    manifest: Manifest | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Tuning:
    """Try the test of a bundle, or that which would be built, with other numbers.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events of the run.
    n_reference : int
        Events of the reference.
    n_expected : float
        Events of a window.
    seed : int
        Splits the events.
    manifest : Manifest, optional
        Of the bundle.
    progress : callable
        Told the settings done and the total.

    Raises
    ------
    InputError
        If the statistic of the bundle is neither ``several`` nor ``kernel``.
    """
    statistic = "several" if manifest is None else manifest.statistic
    if statistic not in ("several", "kernel"):
        raise InputError(
            f"the settings of the statistic {statistic!r} are not known here",
            fix="Give a bundle of the statistic several or kernel, or a file of events",
        )
    settings: dict[str, Any] = {} if manifest is None else dict(manifest.settings)
    chosen_centers = USUAL_CENTERS if manifest is None else manifest.centers.shape[0]
    rng = np.random.default_rng(seed)
    begin, pool = Sample(x).split([n_reference], rng)
    reference = begin.x
    windows = draw_windows(pool, n_expected, WINDOWS, rng)
    n_distinct = len(np.unique(reference, axis=0))
    centers = sorted({min(number, n_distinct) for number in (*CENTERS, chosen_centers)})
    chosen_centers = min(chosen_centers, n_distinct)
    tries: list[tuple[str, float, dict[str, Any]]] = [
        ("centers", number, settings | {"centers": number}) for number in centers
    ]
    if statistic == "kernel":
        penalties = sorted({*PENALTIES, float(settings["penalty"])})
        tries += [
            ("penalty", value, settings | {"penalty": value, "centers": chosen_centers})
            for value in penalties
        ]
    chosen = {"centers": float(chosen_centers), "penalty": settings.get("penalty")}
    found = []
    for done, (_, _, arguments) in enumerate(tries):
        progress(done, len(tries))
        found.append(_try(_make(statistic, reference, n_expected, arguments, seed), windows))
    progress(len(tries), len(tries))
    is_chosen = [value == chosen[knob] for knob, value, _ in tries]
    usual = found[is_chosen.index(True)][0]
    points = [
        TuningPoint(knob, value, float(t.mean()), float(t.std(ddof=1)), _agreement(t, usual), ms, one)
        for (knob, value, _), (t, ms), one in zip(tries, found, is_chosen, strict=True)
    ]
    widths, n_single = _widths(statistic, reference, n_expected, settings | {"centers": centers[0]}, seed)
    return Tuning(statistic, n_expected, _distances(reference, rng), widths, n_single, tuple(points))


def _make(
    statistic: str, reference: FloatArray, n_expected: float, arguments: dict[str, Any], seed: int
) -> KernelTest | SeveralTest:
    factory: Callable[..., KernelTest | SeveralTest] = SeveralTest if statistic == "several" else KernelTest
    rng = np.random.default_rng(seed)
    return factory(reference, n_expected=n_expected, rng=rng, few_windows=True, **arguments)


def _try(test: KernelTest | SeveralTest, windows: Sequence[FloatArray]) -> tuple[FloatArray, float]:
    """Give t of the windows, NaN where a fit did not converge, and the milliseconds of one."""
    test.evaluate(windows[0])  # the first one takes longer
    begin = time.perf_counter()
    outcomes = [test.evaluate(window) for window in windows]
    seconds = time.perf_counter() - begin
    return np.array([one.t if one.converged else np.nan for one in outcomes]), 1e3 * seconds / len(windows)


def _agreement(t: FloatArray, other: FloatArray) -> float:
    if not (np.isfinite(t).all() and np.isfinite(other).all()):
        return 0.0
    return float(stats.spearmanr(t, other).statistic)


def _widths(
    statistic: str, reference: FloatArray, n_expected: float, arguments: dict[str, Any], seed: int
) -> tuple[tuple[float, ...], int]:
    if statistic == "kernel":
        return (float(arguments["width"]),), 0
    test = _make(statistic, reference, n_expected, arguments, seed)
    settings = test.settings if isinstance(test, SeveralTest) else ()
    common = tuple(one.width for one in settings if one.feature is None)
    return common, len(settings) - len(common)


def _distances(reference: FloatArray, rng: np.random.Generator) -> FloatArray:
    mean, scale = standardisation(reference, np.full(len(reference), 1.0 / len(reference)))
    some = reference[rng.choice(len(reference), size=min(SAMPLED, len(reference)), replace=False)]
    found: FloatArray = pdist((some - mean) / scale)
    return found


def _describe(knob: str, tried: Sequence[TuningPoint], n_expected: float) -> str:
    if knob == "penalty":
        wild = [f"{point.value:g}" for point in tried if not is_bearable(point.mean_t, n_expected)]
        if wild:
            return (
                f"penalties {', '.join(wild)} are too small: t is larger than windows of this size can have"
            )
        return "no penalty that was tried is too small"
    chosen = next(point for point in tried if point.is_chosen)
    fewer = [point for point in tried if point.value < chosen.value]
    if not fewer:
        return f"{chosen.value:g} centres is the smallest number that was tried"
    told = (
        f"with {fewer[-1].value:g} centres healthy windows come in an order that agrees to "
        f"{fewer[-1].agreement:.2f} with that of {chosen.value:g}"
    )
    if fewer[-1].agreement >= STEADY:
        return f"{told}: more centres would change little"
    return f"{told}: t is not steady in the number of centres"
