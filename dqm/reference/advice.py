"""What a run allows: which windows, how many toys, and how soon a fault is seen.

Nothing is decided here. The sizes of reference and pool, the origin of the toys and the limits of their
uncertainty are those of `dqm.reference.splits`; the test is the one that ``dqm reference build`` would take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import special

from dqm.alarm import ample_toys
from dqm.alarm.budget import LARGEST_Z, REFERENCE_Z
from dqm.errors import InputError
from dqm.events import FloatArray, WindowCut
from dqm.nplm import KernelTest
from dqm.nplm.kernel_test import USUAL_WIDTH
from dqm.nplm.samples import Sample
from dqm.reference.build import Recipe, choose_test
from dqm.reference.certificate import Light
from dqm.reference.null import NullTable
from dqm.reference.splits import TOLERATED_OFFSET, choose_origin, choose_reference_size
from dqm.reference.toys import largest_window

__all__ = [
    "DetectionTime",
    "Faults",
    "PenaltyAdvice",
    "WindowAdvice",
    "advise_penalties",
    "advise_window",
    "draw_windows",
    "events_needed",
    "generic_faults",
    "is_plausible",
    "mean_wait",
    "time_to_detect",
]

PENALTIES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
"""Penalties of a single kernel that are tried."""

WILD = 1.5
"""With a healthy t above this for each event of the window, the fit has diverged."""

CENTERS = 100

TRIED_SPLITS = 3
"""References with which faults are tried."""

TOYS_OF_SPLIT = 40
"""Healthy toys for each of them."""

WINDOWS_OF_SPLIT = 8
"""Faulty windows for each of them."""

UNLIKE_CHANCE = 3.0
"""A fault is seen if its windows count more often than healthy ones by this factor."""

LONGEST_RUN = 1e9
"""No longer run is advised, events."""

FEATURES_TRIED = 6
"""Features of which generic faults are made."""

Faults = Mapping[str, Callable[[FloatArray, np.random.Generator], FloatArray]]
"""By name: makes a faulty window from a healthy one, or from nothing if it has its own events."""


@dataclass(frozen=True, slots=True)
class WindowAdvice:
    """What a run can do for windows of one size.

    Parameters
    ----------
    n_expected : float
        Events of a window.
    n_reference, n_pool : int
        Events that ``dqm reference build`` would choose.
    light : Light
        Green: p-values hold; amber: they are uncertain; red: refused.
    uncertainty : float
        Of p, in sigmas; infinite if refused.
    n_toys : int
        Toys that the false-alarm budget asks for.
    n_needed : int
        Events of the shortest run with which it would be green.
    reason : str
        Why.
    """

    n_expected: float
    n_reference: int
    n_pool: int
    light: Light
    uncertainty: float
    n_toys: int
    n_needed: int
    reason: str


@dataclass(frozen=True, slots=True)
class PenaltyAdvice:
    """How a single kernel does with one penalty.

    Parameters
    ----------
    penalty : float
        Lambda.
    mean_t : float
        Of healthy windows; NaN if a fit did not converge.
    is_plausible : bool
        Whether it is not larger than windows of this size can have.
    """

    penalty: float
    mean_t: float
    is_plausible: bool


@dataclass(frozen=True, slots=True)
class DetectionTime:
    """How soon one fault would be seen.

    Parameters
    ----------
    fault : str
        Its name.
    n_expected : float
        Events of a window.
    share : float
        Share of the faulty windows with p below the threshold, estimated from their significances.
    n_windows : float
        Windows until the first alarm, on average; infinite if none was seen.
    between : tuple of (float, float)
        The same for a fault that is stronger or weaker by one standard error of the windows that were tried.
    n_tried : int
        Faulty windows that were tried.
    cause : str
        Alarm that comes first: ``differs`` or ``drift``; empty if none does.
    """

    fault: str
    n_expected: float
    share: float
    n_windows: float
    between: tuple[float, float]
    n_tried: int
    cause: str


def advise_window(n_events: int, n_expected: float, cut: WindowCut, p_threshold: float) -> WindowAdvice:
    """Say what a run can do for windows of a size.

    Parameters
    ----------
    n_events : int
        Events of the run.
    n_expected : float
        Events of a window.
    cut : WindowCut
        What closes the windows.
    p_threshold : float
        p below which a window counts for an alarm.
    """
    light, uncertainty, reason = _judge(n_events, n_expected, cut)
    n_reference = min(n_events, choose_reference_size(n_events, n_expected))
    return WindowAdvice(
        n_expected,
        n_reference,
        n_events - n_reference,
        light,
        uncertainty,
        ample_toys(p_threshold),
        n_events if light is Light.GREEN else events_needed(n_expected, cut),
        reason,
    )


def events_needed(n_expected: float, cut: WindowCut) -> int:
    """Give the events of the shortest run that is green for windows of a size, within 1 %."""
    low = n_expected
    high = 10.0 * n_expected
    while _judge(round(high), n_expected, cut)[0] is not Light.GREEN and high < LONGEST_RUN:
        low = high
        high = 2.0 * high
    while high > 1.01 * low + 1:
        middle = 0.5 * (low + high)
        is_green = _judge(round(middle), n_expected, cut)[0] is Light.GREEN
        low, high = (low, middle) if is_green else (middle, high)
    return math.ceil(high)


def _judge(n_events: int, n_expected: float, cut: WindowCut) -> tuple[Light, float, str]:
    n_reference = choose_reference_size(n_events, n_expected)
    n_pool = n_events - n_reference
    needed = 2 * largest_window(cut, n_expected)
    if n_pool < needed:
        return Light.RED, math.inf, f"{n_pool} events beside the reference, {needed} are needed for toys"
    try:
        origin = choose_origin(n_expected, n_reference, n_pool)
    except InputError as error:
        return Light.RED, math.inf, error.what
    light = Light.GREEN if origin.offset <= TOLERATED_OFFSET else Light.AMBER
    toys = "fresh splits of the run" if origin.per_split else "the pool"
    return light, origin.offset, f"toys from {toys} leave p uncertain by {origin.offset:.2f} sigma"


def advise_penalties(
    x: FloatArray, n_reference: int, n_expected: float, rng: np.random.Generator, n_toys: int = 4
) -> list[PenaltyAdvice]:
    """Try the penalties of a single kernel (likelihood loss) on healthy windows.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events of the run.
    n_reference : int
        Events of the reference.
    n_expected : float
        Events of a window.
    rng : numpy.random.Generator
        Splits the events.
    n_toys : int
        Healthy windows.
    """
    reference, pool = Sample(x).split([n_reference], rng, [True] * x.shape[1])
    windows = draw_windows(pool, n_expected, n_toys, rng)
    found = []
    for penalty in PENALTIES:
        test = KernelTest(
            reference.x,
            n_expected=n_expected,
            width=USUAL_WIDTH,
            penalty=penalty,
            centers=min(CENTERS, len(np.unique(reference.x, axis=0))),
            loss="likelihood",
            rng=rng,
            few_windows=True,
        )
        outcomes = [test.evaluate(window) for window in windows]
        t = float(np.mean([one.t if one.converged else math.nan for one in outcomes]))
        found.append(PenaltyAdvice(penalty, t, is_plausible(t, n_expected)))
    return found


def is_plausible(mean_t: float, n_expected: float) -> bool:
    """Tell whether windows of a size can have such a mean t; False if the fit has diverged, and for NaN."""
    return bool(mean_t <= WILD * n_expected)


def draw_windows(pool: Sample, n_expected: float, n: int, rng: np.random.Generator) -> list[FloatArray]:
    """Draw healthy windows of the expected number of events, each from the whole pool."""
    size = max(1, round(n_expected))
    return [pool.x[rng.choice(len(pool.x), size=size, replace=False)] for _ in range(n)]


def generic_faults(x: FloatArray, names: Sequence[str]) -> Faults:
    """Make faults of the run itself, for features that nobody simulates.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events of the run.
    names : sequence of str
        Names of the features; if there are many, the first few are taken.
    """
    faults: dict[str, Callable[[FloatArray, np.random.Generator], FloatArray]] = {}
    for k, name in enumerate(names[:FEATURES_TRIED]):
        low, middle, high = np.quantile(x[:, k], [0.16, 0.5, 0.84])
        width = 0.5 * float(high - low) or float(x[:, k].std())
        faults[f"{name} shifted by a quarter of its width"] = _shift(k, 0.25 * width)
        faults[f"{name} spread by 20 %"] = _stretch(k, 1.2, float(middle))
        faults[f"half of the events lost where {name} is high"] = _lose(k, float(high))
    return faults


def _shift(k: int, by: float) -> Callable[[FloatArray, np.random.Generator], FloatArray]:
    def make(x: FloatArray, _rng: np.random.Generator) -> FloatArray:
        moved = x.copy()
        moved[:, k] += by
        return moved

    return make


def _stretch(k: int, by: float, middle: float) -> Callable[[FloatArray, np.random.Generator], FloatArray]:
    def make(x: FloatArray, _rng: np.random.Generator) -> FloatArray:
        wider = x.copy()
        wider[:, k] = middle + by * (wider[:, k] - middle)
        return wider

    return make


def _lose(k: int, above: float) -> Callable[[FloatArray, np.random.Generator], FloatArray]:
    def make(x: FloatArray, rng: np.random.Generator) -> FloatArray:
        kept: FloatArray = x[(x[:, k] < above) | (rng.random(len(x)) < 0.5)]
        return kept

    return make


def time_to_detect(
    x: FloatArray,
    names: Sequence[str],
    faults: Faults,
    *,
    n_reference: int,
    n_expected: float,
    p_threshold: float,
    drift_limit: float | None,
    k: int,
    n: int,
    rng: np.random.Generator,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[DetectionTime]:
    """Estimate how many windows pass until each fault raises an alarm.

    The test is that of ``dqm reference build``, with fewer centres. A few references are made of the run,
    each with healthy toys and faulty windows. p at the threshold is read from the tail fitted to these toys.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Healthy events.
    names : sequence of str
        Features.
    faults : mapping of str to callable
        What makes a faulty window of a healthy one.
    n_reference : int
        Events of a reference.
    n_expected : float
        Events of a window.
    p_threshold, drift_limit, k, n
        As the false-alarm budget has them.
    rng : numpy.random.Generator
        Splits the events and draws the windows.
    progress : callable
        Told the windows done and the total.
    """
    toys: list[float] = []
    seen: dict[str, list[float]] = {name: [] for name in faults}
    total = TRIED_SPLITS * (TOYS_OF_SPLIT + WINDOWS_OF_SPLIT * len(faults))
    done = 0
    n_centers = min(CENTERS, len(np.unique(x, axis=0)))
    recipe = Recipe(tuple(names), n_reference, n_expected, centers=n_centers, statistic="several")
    chosen = choose_test(Sample(x), recipe, rng, lambda _done, _total: progress(done, total))
    for _ in range(TRIED_SPLITS):
        reference, pool = Sample(x).split([n_reference], rng, chosen.ordered_features)
        test = chosen.make(reference, reference.choose_rows(n_centers, rng))
        for name in ["", *faults]:
            n_windows = WINDOWS_OF_SPLIT if name else TOYS_OF_SPLIT
            for healthy in draw_windows(pool, n_expected, n_windows, rng):
                window = faults[name](healthy, rng) if name else healthy
                (seen[name] if name else toys).append(test.evaluate(window).t)
                done += 1
            progress(done, total)
    table = NullTable(np.array(toys))
    return [
        _detection(name, n_expected, [table.p_value(t).p for t in values], p_threshold, drift_limit, (k, n))
        for name, values in seen.items()
    ]


def _detection(
    name: str,
    n_expected: float,
    p: Sequence[float],
    p_threshold: float,
    drift_limit: float | None,
    k_of_n: tuple[int, int],
) -> DetectionTime:
    significances: FloatArray = -special.ndtri(np.minimum(np.array(p), 1.0 - 1e-3))
    spread = max(1.0, float(significances.std(ddof=1)))
    error = spread / math.sqrt(len(p))
    z = float(np.clip(significances, -LARGEST_Z, LARGEST_Z).mean())

    def estimate(by: float) -> tuple[float, dict[str, float]]:
        # few windows are tried: a Gaussian of their significances says more than the number that count
        share = float(special.ndtr((significances.mean() + by + special.ndtri(p_threshold)) / spread))
        waits = {"differs": mean_wait(share, *k_of_n) if share > UNLIKE_CHANCE * p_threshold else math.inf}
        gain = min(z + by, LARGEST_Z) - REFERENCE_Z
        if drift_limit is not None and gain > 0:
            waits["drift"] = drift_limit / gain
        return share, waits

    share, waits = estimate(0.0)
    cause = min(waits, key=waits.__getitem__)
    soon, late = (min(estimate(by)[1].values()) for by in (error, -error))
    seen = cause if math.isfinite(waits[cause]) else ""
    return DetectionTime(name, n_expected, share, waits[cause], (soon, late), len(p), seen)


def mean_wait(share: float, k: int, n: int) -> float:
    """Mean number of windows until k of the last n count, if each counts with a probability.

    Parameters
    ----------
    share : float
        That probability, in (0, 1].
    k, n : int
        ``1 <= k <= n``.
    """
    states = [state for state in product((0, 1), repeat=n - 1) if sum(state) < k]
    place = {state: row for row, state in enumerate(states)}
    equations = np.eye(len(states))
    for state, row in place.items():
        for counts, probability in ((0, 1.0 - share), (1, share)):
            following = (*state, counts)
            if sum(following) < k:
                equations[row, place[following[1:]]] -= probability
    return float(np.linalg.solve(equations, np.ones(len(states)))[place[(0,) * (n - 1)]])
