"""From a false-alarm budget to thresholds.

A false alarm is one passage of an alarm from Normal to Active while all is well. Healthy windows have
p-values that are uniform between 0 and 1, so their significances Z are standard normal; neighbours are
independent, or their Z follow an autoregression of first order, ``Z' = c Z + sqrt(1 - c^2) e``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count, pairwise
from typing import TypeVar

import numpy as np
from scipy import optimize, special

from dqm.errors import InputError
from dqm.events import SMALLEST_P, FloatArray

__all__ = [
    "LARGEST_CORRELATION",
    "LARGEST_P",
    "LARGEST_Z",
    "REFERENCE_Z",
    "ample_toys",
    "correlated_onset_rate",
    "drift_limit",
    "onset_rate",
    "run_length",
    "shared_onset_rate",
    "smallest_supported_p",
    "solve_threshold",
]

P = TypeVar("P", float, FloatArray)

LARGEST_P = 0.05
"""No threshold is above this, however generous the budget: one healthy window in twenty is not evidence."""

REFERENCE_Z = 0.5
"""Subtracted from every Z before it is summed: half the shift of a mean that is looked for, in sigmas."""

LARGEST_Z = 3.0
"""Significances enter the sum between plus and minus this, so that no single window makes a drift."""

SUPPORTING_TOYS = 10
"""Toys that a null table should have beyond a threshold."""

AMPLE_TOYS = 100
"""Toys beyond a threshold with which the luck of a table changes false alarms of "2 of 3" by 20 %."""

LARGEST_CORRELATION = 0.7

_CELL = 0.08
_MOST_CELLS = 150
_NODES = 48
_FARTHEST_Z = 7.0
_ROOT_2_PI = math.sqrt(2.0 * math.pi)
_RESOLUTION = 1e-13
_SHARED_NODES = 2001
_SMALLEST_SHARE = 1e-3
_LONGEST_LIMIT = 80.0


def onset_rate(p: P, k: int, n: int) -> P:
    """Rate at which "k of the last n" becomes true, if each window counts with probability `p`.

    The step that makes it true brings a window that counts, drops one that does not, and finds k - 1 among
    the n - 1 between: ``binom(n - 1, k - 1) p^k (1 - p)^(n - k + 1)``, and ``p (1 - p)`` for 1 of 1.

    Parameters
    ----------
    p : float or ndarray
        Probability of a single window, 0 to 1.
    k, n : int
        ``1 <= k <= n``.

    Returns
    -------
    float or ndarray
        Onsets per window in the long run.
    """
    return math.comb(n - 1, k - 1) * p**k * (1.0 - p) ** (n - k + 1)


def solve_threshold(rate: float, onset: Callable[[float], float]) -> float:
    """Probability of a single window at which onsets come at a given rate.

    Parameters
    ----------
    rate : float
        Onsets per window that are allowed, > 0.
    onset : callable
        Rate of onsets as a function of that probability, increasing up to `LARGEST_P`.

    Returns
    -------
    float
        Not above `LARGEST_P`, even if `rate` is not used up there.

    Raises
    ------
    InputError
        If `rate` asks for less than any p-value that is quoted.
    """
    if onset(LARGEST_P) <= rate:
        return LARGEST_P
    if onset(SMALLEST_P) > rate:
        raise InputError(
            f"a false-alarm rate of {rate:.2g} per window asks for p-values below {SMALLEST_P:g}",
            fix="Allow more false alarms per shift, or let more windows decide: raise [alarm] k and n",
        )
    solved = optimize.brentq(
        lambda log_p: math.log(onset(math.exp(log_p)) / rate),
        math.log(SMALLEST_P),
        math.log(LARGEST_P),
        xtol=1e-9,
    )
    return math.exp(solved)


def correlated_onset_rate(p: float, k: int, n: int, correlation: float) -> float:
    """As `onset_rate`, for windows whose significances are correlated.

    The joint density of Z and of how many windows counted is carried on from window to window, on
    Gauss-Legendre nodes to both sides of the threshold.

    Parameters
    ----------
    p : float
        Probability of a single window, 0 to 1.
    k, n : int
        ``1 <= k <= n``.
    correlation : float
        Of neighbouring Z, 0 to `LARGEST_CORRELATION`.

    Returns
    -------
    float
        Onsets per window in the long run.
    """
    edge = -float(special.ndtri(p))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    ends = (-_FARTHEST_Z, edge, max(edge, 0.0) + _FARTHEST_Z)
    z = np.concatenate([0.5 * (b - a) * nodes + 0.5 * (a + b) for a, b in pairwise(ends)])
    weight = np.concatenate([0.5 * (b - a) * weights for a, b in pairwise(ends)])
    spread = math.sqrt(1.0 - correlation**2)
    step = np.exp(-0.5 * ((z - correlation * z[:, None]) / spread) ** 2) * weight / (spread * _ROOT_2_PI)
    counts = z > edge
    # by how many of the windows between counted; the first of all does not count
    density = np.zeros((k, len(z)))
    density[0] = np.exp(-0.5 * z**2) / _ROOT_2_PI * weight * ~counts
    for _ in range(n - 1):
        following = density @ step
        density = following * ~counts
        density[1:] += (following * counts)[:-1]
    return float((density[k - 1] @ step)[counts].sum())


def shared_onset_rate(p: float, k: int, n: int, share: float) -> float:
    """As `onset_rate`, for two-sided p-values of windows that have one deviation in common.

    The significance of each window is ``sqrt(share) u + sqrt(1 - share) e``. There u is the same for all
    windows of a long time (the true rate is not quite the expected one), and e is each window's own. Given u
    the windows are independent, so the rate is the mean of `onset_rate` over u.

    Parameters
    ----------
    p : float
        Probability of a single window, 0 to 1, both sides together.
    k, n : int
        ``1 <= k <= n``.
    share : float
        Share of the variance that is common, 0 to 1.

    Returns
    -------
    float
        Onsets per window in the long run.
    """
    if share <= 0.0:
        return onset_rate(p, k, n)
    edge = -float(special.ndtri(0.5 * p))
    u = np.linspace(-_FARTHEST_Z, _FARTHEST_Z, _SHARED_NODES)
    weight = np.exp(-0.5 * u**2)
    own = math.sqrt(max(1.0 - share, _SMALLEST_SHARE))
    common = math.sqrt(share) * u
    single = special.ndtr((common - edge) / own) + special.ndtr((-common - edge) / own)
    return float((weight * onset_rate(single, k, n)).sum() / weight.sum())


def run_length(
    limit: float,
    reference_z: float = REFERENCE_Z,
    largest_z: float = LARGEST_Z,
    correlation: float = 0.0,
) -> float:
    """Mean number of healthy windows until the sum ``S = max(0, S + Z - reference_z)`` first exceeds a limit.

    Z is cut off at plus and minus `largest_z`. The sum is a Markov chain on cells of ``[0, limit]``, the
    first one half as wide, around 0; with correlation the last Z is part of its state. Survival is summed
    until it falls geometrically.

    Parameters
    ----------
    limit : float
        Where the sum alarms, > 0.
    reference_z, largest_z : float
        As in `REFERENCE_Z` and `LARGEST_Z`.
    correlation : float
        Of neighbouring Z, 0 to `LARGEST_CORRELATION`.

    Returns
    -------
    float
        Average run length from S = 0, windows; infinite where it is beyond the resolution of the numbers.

    References
    ----------
    Brook and Evans (1972), doi:10.1093/biomet/59.3.539, section 3.
    """
    n_cells = min(math.ceil(limit / _CELL) + 1, _MOST_CELLS)
    width = limit / (n_cells - 0.5)
    steps = np.arange(math.floor((-_FARTHEST_Z - reference_z) / width), math.ceil(_FARTHEST_Z / width))
    z = reference_z + width * steps
    edges = np.append(z[:-1] + 0.5 * width, math.inf)
    means = correlation * z[:, None] if correlation else np.zeros((1, 1))
    below = special.ndtr((edges - means) / math.sqrt(1.0 - correlation**2))
    probability = np.diff(below, axis=1, prepend=0.0)
    reach = math.floor((largest_z - reference_z) / width + 0.5)
    moves = np.clip(steps, math.floor(-(largest_z + reference_z) / width + 0.5), reach)
    target = np.maximum(np.arange(n_cells)[:, None] + moves, 0)
    # the cell beyond the limit has no survivors
    target = np.minimum(target, n_cells)
    column = np.arange(len(z)) if correlation else np.zeros(len(z), dtype=int)
    alive = np.zeros((n_cells + 1, len(probability)))
    alive[:n_cells] = 1.0
    start = np.diff(special.ndtr(edges), prepend=0.0) if correlation else np.ones(1)
    total = survival = 1.0
    ratio = 0.0
    for n_windows in count(1):
        alive[:n_cells] = alive[target, column] @ probability.T
        now = float(alive[0] @ start)
        total += now
        previous, ratio, survival = ratio, now / survival, now
        # no earlier: at first no path is long enough to reach the limit
        if n_windows < 4.0 * limit / reference_z:
            continue
        if ratio >= 1.0 - _RESOLUTION:
            return math.inf
        if abs(ratio - previous) <= 1e-5 * (1.0 - ratio):
            break
    return total + survival * ratio / (1.0 - ratio)


def drift_limit(
    windows: float,
    length: Callable[[float], float] = run_length,
    reference_z: float = REFERENCE_Z,
    largest_z: float = LARGEST_Z,
) -> float:
    """Where the sum of significances must alarm to do so once in `windows` healthy windows.

    Parameters
    ----------
    windows : float
        Windows between false alarms, >= 1.
    length : callable
        Average run length as a function of the limit, increasing.
    reference_z, largest_z : float
        As in `REFERENCE_Z` and `LARGEST_Z`.

    Returns
    -------
    float
        At least what a single window can add, even if fewer `windows` were allowed.

    Raises
    ------
    InputError
        If the rate is too small to be computed.
    """
    least = largest_z - reference_z
    if length(least) >= windows:
        return least
    if length(_LONGEST_LIMIT) < windows:
        raise InputError(
            f"one false drift alarm in {windows:.2g} windows is too rare to be computed",
            fix="Allow more false alarms per shift",
        )
    return float(
        optimize.brentq(
            lambda limit: math.log(min(length(limit), 1e300) / windows), least, _LONGEST_LIMIT, xtol=1e-6
        )
    )


def smallest_supported_p(n_toys: int) -> float:
    """Smallest threshold that a null table supports well.

    With m toys beyond the threshold the true probability of a window to pass it is uncertain by
    ``1 / sqrt(m)``, and the rate of k of n by k times as much; below it p is read from a fitted tail.

    Parameters
    ----------
    n_toys : int
        Toys in the table.

    Returns
    -------
    float
        ``10 / (n_toys + 1)``.
    """
    return SUPPORTING_TOYS / (n_toys + 1)


def ample_toys(p_threshold: float) -> int:
    """Toys of a null table that is ample for a threshold: `AMPLE_TOYS` beyond it.

    Parameters
    ----------
    p_threshold : float
        p below which a window counts, in (0, 1).

    Returns
    -------
    int
        Rounded up to two digits.
    """
    n = AMPLE_TOYS / p_threshold
    digit = int(10 ** max(0, math.floor(math.log10(n)) - 1))
    return math.ceil(round(n / digit, 9)) * digit
