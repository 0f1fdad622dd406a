"""Choice of the weight clipping: t of healthy windows shall follow a chi-square distribution.

With a strict clipping the network cannot use its parameters, and t is too small; with a loose one it follows
single events, and t is too large. Between the two, t of healthy windows has the chi-square distribution with
as many degrees of freedom as the network has parameters (d'Agnolo et al. 2022, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.samples import Sample

__all__ = ["ClippingChoice", "ClippingTrial", "choose_clipping", "draw_windows"]

LOWEST = 1.0
"""Smallest clipping that is tried."""

HIGHEST = 100.0
"""Largest clipping that is tried."""

FEW_WINDOWS = 40
"""Windows with which the mean is compared; all are used for the distribution."""

MOST_HALVINGS = 8
"""Steps of the search by the mean."""

NEIGHBOURS = (0.75, 1.0, 1.33)
"""Factors of the found clipping among which the distribution decides."""

Statistics = Callable[[float, Sequence[Sample]], FloatArray]
"""t of windows, given a clipping."""


@dataclass(frozen=True, slots=True, eq=False)
class ClippingTrial:
    """Results of one clipping.

    Parameters
    ----------
    clipping : float
        Largest weight.
    t : ndarray, shape (n_windows,)
        t of healthy windows, divided by ``1 + N(R_0) / N_R``: a reference of N_R events fluctuates itself.
    n_parameters : int
        Degrees of freedom.
    """

    clipping: float
    t: FloatArray
    n_parameters: int

    @property
    def excess(self) -> float:
        """Mean of t less the degrees of freedom."""
        return float(self.t.mean()) - self.n_parameters

    @property
    def error(self) -> float:
        """Standard error of `excess`."""
        return float(self.t.std(ddof=1) / np.sqrt(len(self.t)))

    @property
    def p(self) -> float:
        """Kolmogorov-Smirnov p of t with the chi-square distribution."""
        return float(stats.kstest(self.t, stats.chi2(self.n_parameters).cdf).pvalue)


@dataclass(frozen=True, slots=True, eq=False)
class ClippingChoice:
    """The clipping that was chosen, and all that were tried.

    Parameters
    ----------
    best : ClippingTrial
        With the largest p among those around the right mean.
    trials : tuple of ClippingTrial
        By their clipping; those of few windows too.
    """

    best: ClippingTrial
    trials: tuple[ClippingTrial, ...]


def choose_clipping(
    statistics: Statistics,
    windows: Sequence[Sample],
    *,
    n_parameters: int,
    inflation: float = 1.0,
    progress: Callable[[ClippingTrial], None] = lambda _: None,
) -> ClippingChoice:
    """Choose a clipping, as table 1 of the paper does.

    The mean of t brackets it, then the Kolmogorov-Smirnov p decides among neighbours. If t is too large with
    the strictest clipping, or too small with the loosest, this clipping is taken.

    Parameters
    ----------
    statistics : callable
        Gives t of windows for a clipping; NaN where the fit failed.
    windows : sequence of Sample
        Healthy windows, 10 or more, the same for all clippings.
    n_parameters : int
        Of the network.
    inflation : float
        Mean of t over `n_parameters` that is right: ``1 + N(R_0) / N_R``.
    progress : callable
        Told each trial.

    Raises
    ------
    InputError
        If there are too few windows, or no fit of a clipping converges.
    """
    if len(windows) < 10:
        raise InputError(
            f"{format_count(len(windows), 'window')} to choose the clipping from", fix="Give 10 or more"
        )
    trials: list[ClippingTrial] = []

    def attempt(clipping: float, n: int) -> ClippingTrial:
        t = statistics(clipping, windows[:n])
        t = t[np.isfinite(t)] / inflation
        if len(t) < 2:
            raise InputError(f"no fit with the clipping {clipping:.3g} converged", fix="Give other layers")
        trials.append(ClippingTrial(clipping, t, n_parameters))
        progress(trials[-1])
        return trials[-1]

    middle = _bracket(lambda clipping: attempt(clipping, FEW_WINDOWS))
    final = [attempt(middle * factor, len(windows)) for factor in NEIGHBOURS]
    best = max(final, key=lambda one: one.p)
    return ClippingChoice(best, tuple(sorted(trials, key=lambda one: one.clipping)))


def _bracket(attempt: Callable[[float], ClippingTrial]) -> float:
    """Find the clipping with the right mean, within the error of the mean."""
    low, high = LOWEST, HIGHEST
    if attempt(low).excess >= 0.0:
        return low
    if attempt(high).excess <= 0.0:
        return high
    for _ in range(MOST_HALVINGS):
        middle = float(np.sqrt(low * high))
        found = attempt(middle)
        if abs(found.excess) <= found.error:
            break
        low, high = (middle, high) if found.excess < 0.0 else (low, middle)
    return middle


def draw_windows(pool: Sample, n_windows: int, n_events: int, rng: np.random.Generator) -> list[Sample]:
    """Draw healthy windows from a pool, each without replacement."""
    return [pool.split([n_events], rng)[0] for _ in range(n_windows)]
