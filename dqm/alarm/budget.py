"""From a false-alarm budget to thresholds.

A false alarm is one passage of an alarm from Normal to Active while all is well. Healthy windows have
independent p-values, uniform between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import optimize, special

from dqm.errors import InputError

__all__ = [
    "LARGEST_P",
    "LARGEST_Z",
    "REFERENCE_Z",
    "drift_limit",
    "onset_rate",
    "run_length",
    "smallest_supported_p",
    "solve_threshold",
]

LARGEST_P = 0.05
"""No threshold is above this, however generous the budget: one healthy window in twenty is no evidence."""

REFERENCE_Z = 0.5
"""What is taken off every Z before it is summed: half the shift of a mean that is looked for, in sigmas."""

LARGEST_Z = 3.0
"""Significances enter the sum between plus and minus this, so that no single window makes a drift."""

SUPPORTING_TOYS = 10
"""Toys that a null table should have beyond a threshold."""

_CELLS = 150
_SMALLEST_P = 1e-15
_LONGEST_LIMIT = 80.0


def onset_rate(p: float, k: int, n: int) -> float:
    """Rate at which "k of the last n" becomes true, if each window counts with probability `p`.

    The step that makes it true brings a window that counts, drops one that does not, and finds k - 1 among
    the n - 1 between: ``binom(n - 1, k - 1) p^k (1 - p)^(n - k + 1)``, and ``p (1 - p)`` for 1 of 1.

    Parameters
    ----------
    p : float
        Probability of a single window, 0 to 1.
    k, n : int
        ``1 <= k <= n``.

    Returns
    -------
    float
        Onsets per window in the long run.
    """
    return math.comb(n - 1, k - 1) * p**k * (1.0 - p) ** (n - k + 1)


def solve_threshold(rate: float, onset: Callable[[float], float], peak: float) -> float:
    """Probability of a single window at which onsets come at a given rate.

    Parameters
    ----------
    rate : float
        Onsets per window that are allowed, > 0.
    onset : callable
        Rate of onsets as a function of that probability, increasing up to `peak`.
    peak : float
        ``k / (n + 1)`` for `onset_rate`.

    Returns
    -------
    float
        Not above `LARGEST_P`, even if `rate` is not used up there.

    Raises
    ------
    InputError
        If `rate` asks for less than any p-value that is quoted.
    """
    largest = min(LARGEST_P, peak)
    if onset(largest) <= rate:
        return largest
    if onset(_SMALLEST_P) > rate:
        raise InputError(
            f"a false-alarm rate of {rate:.2g} per window asks for p-values below {_SMALLEST_P:g}",
            fix="Allow more false alarms per shift, or let more windows decide: raise [alarm] k and n",
        )
    solved = optimize.brentq(
        lambda log_p: math.log(onset(math.exp(log_p)) / rate),
        math.log(_SMALLEST_P),
        math.log(largest),
        xtol=1e-9,
    )
    return math.exp(solved)


def run_length(limit: float, reference_z: float = REFERENCE_Z, largest_z: float = LARGEST_Z) -> float:
    """Mean number of healthy windows until the sum ``S = max(0, S + Z - reference_z)`` first exceeds a limit.

    Z is standard normal, cut off at plus and minus `largest_z`. The sum is a Markov chain on cells of
    ``[0, limit]``, the first one half as wide, around 0.

    Parameters
    ----------
    limit : float
        Where the sum alarms, > 0.
    reference_z, largest_z : float
        As in `REFERENCE_Z` and `LARGEST_Z`.

    Returns
    -------
    float
        Average run length from S = 0, windows; infinite where it is beyond the resolution of the numbers.

    References
    ----------
    Brook and Evans (1972), doi:10.1093/biomet/59.3.539, section 3.
    """
    width = limit / (_CELLS - 0.5)
    centers = width * np.arange(_CELLS)
    edges = centers[None, :] + 0.5 * width - centers[:, None] + reference_z
    below = np.where(edges >= largest_z, 1.0, np.where(edges < -largest_z, 0.0, special.ndtr(edges)))
    transition = np.diff(below, axis=1, prepend=0.0)
    lengths = np.linalg.solve(np.eye(_CELLS) - transition, np.ones(_CELLS))
    return float(lengths[0]) if lengths[0] > 0.0 else math.inf


def drift_limit(
    windows: float,
    length: Callable[[float], float] = run_length,
    reference_z: float = REFERENCE_Z,
    largest_z: float = LARGEST_Z,
) -> float:
    """Where the sum of significances must alarm to do so once in so many healthy windows.

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
