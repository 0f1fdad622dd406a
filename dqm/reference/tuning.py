"""How the settings of a test were chosen: widths, and how steady t is in centres and penalty.

The test of a bundle is taken, or that which ``dqm reference build`` would choose for a file. It is set up
with other numbers, and the same healthy windows are tested with each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from scipy.spatial.distance import pdist

from dqm.errors import InputError, format_count
from dqm.events import FloatArray, WindowCut
from dqm.nplm.samples import Sample
from dqm.nplm.setting import ScaledReference, ScaledSample, Setting, choose_views
from dqm.reference.advice import PENALTIES, draw_windows, is_plausible
from dqm.reference.build import USUAL_CENTERS, ChosenTest, Recipe, choose_test
from dqm.reference.manifest import Manifest
from dqm.reference.prepared_statistic import PreparedStatistic
from dqm.reference.splits import ordered_in, refuse_sizes
from dqm.reference.statistic_interface import Settings, SettingValue

__all__ = ["Tuning", "TuningPoint", "look_at_settings"]

CENTERS = (25, 50, 100, 200, USUAL_CENTERS)
"""Numbers of centres that are tried."""

WINDOWS = 16
"""Healthy windows that are tested with each setting."""

SAMPLED = 1000
"""Reference events whose distances are shown."""

PENALTY_FACTORS = (0.1, 1.0, 10.0)
"""Factors by which all penalties of several kernels are multiplied."""

STEADY = 0.7
"""Two settings are equivalent above this rank correlation of t in healthy windows."""


@dataclass(frozen=True, slots=True)
class TuningPoint:
    """One setting that was tried.

    Parameters
    ----------
    knob : str
        ``centers`` or ``penalty``; ``penalty factor``: of several kernels, which have each its own penalty.
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
    penalties : tuple of float
        Their penalties.
    n_single : int
        Settings that look at one feature.
    points : tuple of TuningPoint
        What was tried.
    """

    statistic: str
    n_expected: float
    distances: FloatArray
    widths: tuple[float, ...]
    penalties: tuple[float, ...]
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
        if len(self.penalties) > 1:
            said.append(f"their penalties: {', '.join(f'{penalty:.2g}' for penalty in self.penalties)}")
        if self.n_single:
            said.append(f"{format_count(self.n_single, 'more setting')} look at single features")
        for knob in ("centers", "penalty", "penalty factor"):
            tried = self.of(knob)
            if len(tried) > 1:
                said.append(_describe(knob, tried, self.n_expected))
        chosen = [point.milliseconds for point in self.points if point.is_chosen]
        if chosen:
            said.append(f"a window takes {np.median(chosen):.2g} ms")
        said.append(_advise(self))
        return said


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A test to try: the chosen one with another value of one knob, see `TuningPoint`."""

    knob: str
    value: float
    centers: FloatArray
    settings: Settings
    is_chosen: bool


def look_at_settings(
    x: FloatArray,
    names: Sequence[str],
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
    names : sequence of str
        Features.
    n_reference : int
        Events of the reference.
    n_expected : float
        Events of a window.
    seed : int
        Splits the events. A bundle that is built with it has the widths that are shown.
    manifest : Manifest, optional
        Of the bundle.
    progress : callable
        Told the settings done and the total.

    Raises
    ------
    InputError
        If the statistic of the bundle is neither ``several`` nor ``kernel``, no test can use the features, or
        the windows are too large for the run, as in `create_bundle`.
    """
    cut = WindowCut.COUNT if manifest is None else manifest.cut
    refuse_sizes(len(x), n_reference, n_expected, cut=cut)
    chosen = _choose(x, names, n_reference, n_expected, seed, manifest)
    rng = np.random.default_rng(seed)
    windows = draw_windows(chosen.pool, n_expected, WINDOWS, rng)
    candidates = [*_vary_centers(chosen, rng), *_vary_penalty(chosen)]
    found = []
    for done, one in enumerate(candidates):
        progress(done, len(candidates))
        test = replace(chosen, settings=one.settings).make(chosen.reference, one.centers, few_windows=True)
        found.append(_try(test, windows))
    progress(len(candidates), len(candidates))
    usual, _ = next(result for one, result in zip(candidates, found, strict=True) if one.is_chosen)
    points = [
        TuningPoint(
            one.knob,
            one.value,
            float(t.mean()),
            float(t.std(ddof=1)),
            _agreement(t, usual),
            ms,
            one.is_chosen,
        )
        for one, (t, ms) in zip(candidates, found, strict=True)
    ]
    widths, penalties, n_single = _kernels(chosen.settings)
    return Tuning(
        chosen.recipe.statistic,
        n_expected,
        _distances(chosen.reference, chosen.settings, rng),
        widths,
        penalties,
        n_single,
        tuple(points),
    )


def _choose(
    x: FloatArray,
    names: Sequence[str],
    n_reference: int,
    n_expected: float,
    seed: int,
    manifest: Manifest | None,
) -> ChosenTest:
    """Give the test of a bundle, with a reference of its own, or that which would be built."""
    statistic = "several" if manifest is None else manifest.statistic
    if statistic not in ("several", "kernel"):
        raise InputError(
            f"the settings of the statistic {statistic!r} are not known here",
            fix="Give a bundle of the statistic several or kernel, or a file of events",
        )
    recipe = Recipe(tuple(names), n_reference, n_expected, seed=seed, statistic=statistic)
    rng = np.random.default_rng(seed)
    if manifest is None:
        return choose_test(Sample(x), recipe, rng)
    reference, pool = Sample(x).split([n_reference], rng, ordered_in(manifest))
    n_centers = min(manifest.centers.shape[0], len(np.unique(reference.x, axis=0)))
    return ChosenTest(recipe, reference, pool, reference.choose_rows(n_centers, rng), dict(manifest.settings))


def _vary_centers(chosen: ChosenTest, rng: np.random.Generator) -> list[_Candidate]:
    """Give the chosen test with other numbers of centres: fewer of its own, or more of the reference."""
    usual = len(chosen.centers)
    n_distinct = len(np.unique(chosen.reference.x, axis=0))
    found = []
    for n in sorted({min(number, n_distinct) for number in (*CENTERS, usual)}):
        centers = chosen.centers[:n] if n <= usual else chosen.reference.choose_rows(n, rng)
        found.append(_Candidate("centers", n, centers, chosen.settings, is_chosen=n == usual))
    return found


def _vary_penalty(chosen: ChosenTest) -> list[_Candidate]:
    """Give the chosen test with other penalties; those of several kernels change together."""
    penalty = chosen.settings["penalty"]
    if isinstance(penalty, tuple):
        knob = "penalty factor"
        own = 1.0
        tried: dict[float, SettingValue] = {
            by: tuple(by * float(one) for one in penalty) for by in PENALTY_FACTORS
        }
    else:
        knob = "penalty"
        own = float(penalty)
        tried = {value: value for value in sorted({*PENALTIES, own})}
    return [
        _Candidate(
            knob, value, chosen.centers, {**chosen.settings, "penalty": setting}, is_chosen=value == own
        )
        for value, setting in tried.items()
    ]


def _try(test: PreparedStatistic, windows: Sequence[FloatArray]) -> tuple[FloatArray, float]:
    """Give t of the windows, NaN where a fit did not converge, and the milliseconds of one."""
    test.evaluate(windows[0])  # the first one takes longer
    begin = time.perf_counter()
    outcomes = [test.evaluate(window) for window in windows]
    seconds = time.perf_counter() - begin
    return np.array([one.t if one.converged else np.nan for one in outcomes]), 1e3 * seconds / len(windows)


def _agreement(t: FloatArray, other: FloatArray) -> float:
    if not (np.isfinite(t).all() and np.isfinite(other).all()):
        return 0.0
    if not (np.ptp(t) and np.ptp(other)):  # windows without an order
        return 0.0
    return float(stats.spearmanr(t, other).statistic)


def _kernels(settings: Settings) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Give widths and penalties of the kernels of all features, and how many look at single features."""
    widths = np.atleast_1d(np.asarray(settings["width"], dtype=float))
    penalties = np.broadcast_to(np.asarray(settings["penalty"], dtype=float), widths.shape)
    single = settings.get("feature_width", ())
    n_single = len(single) if isinstance(single, tuple) else 0
    return tuple(widths.tolist()), tuple(penalties.tolist()), n_single


def _distances(reference: Sample, settings: Settings, rng: np.random.Generator) -> FloatArray:
    """Give the distances of some events where the kernels of all features look at them."""
    kinds = settings.get("kinds", ())
    shares = np.full(len(reference.x), 1.0 / len(reference.x))
    views = choose_views([str(one) for one in kinds] if isinstance(kinds, tuple) else (), reference, shares)
    seen = ScaledReference(views, reference.x, reference.x, shares, reference.n_events)
    some = reference.x[rng.choice(len(reference.x), size=min(SAMPLED, len(reference.x)), replace=False)]
    found: FloatArray = pdist(ScaledSample(seen, some).at(Setting("kernel")))
    return found


def _advise(tuning: Tuning) -> str:
    """Say what to do."""
    of_centers = tuning.of("centers")
    chosen = next((point.value for point in of_centers if point.is_chosen), 0.0)
    fewer = [point for point in of_centers if point.value < chosen]
    if fewer and fewer[-1].agreement < STEADY:
        return f"what to do: build with more centres, --centers {2 * chosen:g}, and look again"
    if any(
        point.is_chosen and not is_plausible(point.mean_t, tuning.n_expected)
        for point in tuning.of("penalty")
    ):
        return "what to do: build with a larger --penalty, or with --statistic several, which chooses it"
    return "what to do: nothing, these settings can stay"


def _describe(knob: str, tried: Sequence[TuningPoint], n_expected: float) -> str:
    if knob == "penalty":
        wild = [f"{point.value:g}" for point in tried if not is_plausible(point.mean_t, n_expected)]
        if wild:
            return (
                f"penalties {', '.join(wild)} are too small: t is larger than windows of this size can have"
            )
        return "no penalty that was tried is too small"
    if knob == "penalty factor":
        least = min((point for point in tried if not point.is_chosen), key=lambda point: point.agreement)
        steady = least.agreement >= STEADY
        judged = "the penalties matter little" if steady else "keep the penalties that build chooses"
        return (
            f"with all penalties times {least.value:g} healthy windows come in an order that agrees to "
            f"{least.agreement:.2f} with that of the chosen ones: {judged}"
        )
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
