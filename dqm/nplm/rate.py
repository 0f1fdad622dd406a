"""Test of the number of events, beside that of their shape."""

from __future__ import annotations

from scipy import special

from dqm.errors import InputError

__all__ = ["count_p_value", "duration_p_value"]

SMALLEST_UNCERTAINTY = 1e-4
"""Below this a rate counts as exact: the numbers are the same, and the tails are computed more accurately."""


def count_p_value(n: int, expected: float, uncertainty: float = 0.0) -> tuple[float, int]:
    """Two-sided p-value of a number of events in a fixed time.

    The number is Poisson with a mean that is itself known with a relative error; the mean follows a gamma
    distribution, so that the number follows a negative binomial one.

    Parameters
    ----------
    n : int
        Events, >= 0.
    expected : float
        Events expected, > 0.
    uncertainty : float
        Relative one-sigma uncertainty of `expected`, >= 0.

    Returns
    -------
    p : float
        Twice the smaller tail, at most 1; exact for every `n`, also for 0.
    side : int
        -1 for too few events, 1 for too many.

    Raises
    ------
    InputError
        If a number is out of its range.

    References
    ----------
    Gelman et al., Bayesian Data Analysis, 3rd edition (2013), section 2.6: the gamma-Poisson mixture.

    Examples
    --------
    >>> from dqm.nplm import count_p_value
    >>> p, side = count_p_value(30, 488.0, uncertainty=0.02)
    >>> (p < 1e-50, side)
    (True, -1)
    """
    _check(n, expected, uncertainty)
    return _two_sided(_at_most(n, expected, uncertainty), _at_least(n, expected, uncertainty))


def duration_p_value(n: int, expected: float, uncertainty: float = 0.0) -> tuple[float, int]:
    """Two-sided p-value of the time that a fixed number of events took.

    At an exactly known rate the time follows an Erlang distribution. The time is longer than T if fewer than
    n events come within T, so that both tails are tails of the number of events.

    Parameters
    ----------
    n : int
        Events, >= 1; the time ends with the last of them.
    expected : float
        Events expected in that time, > 0.
    uncertainty : float
        Relative one-sigma uncertainty of `expected`, >= 0.

    Returns
    -------
    p : float
        Twice the smaller tail, at most 1.
    side : int
        -1 if the events came too slowly, 1 if they came too fast.

    Raises
    ------
    InputError
        If a number is out of its range.
    """
    _check(n - 1, expected, uncertainty)
    return _two_sided(_at_most(n - 1, expected, uncertainty), _at_least(n, expected, uncertainty))


def _check(n: int, expected: float, uncertainty: float) -> None:
    if not (n >= 0 and 0.0 < expected < float("inf") and 0.0 <= uncertainty < float("inf")):
        raise InputError(
            f"the number of events cannot be tested: {n} where {expected:g} are expected, uncertain by "
            f"{uncertainty:g}",
            fix="Numbers of events must not be negative, and the expected one must be above 0 and finite",
        )


def _at_most(n: int, expected: float, uncertainty: float) -> float:
    if uncertainty < SMALLEST_UNCERTAINTY:
        return float(special.gammaincc(n + 1, expected))
    shape = uncertainty**-2
    return float(special.betainc(shape, n + 1, shape / (shape + expected)))


def _at_least(n: int, expected: float, uncertainty: float) -> float:
    if n == 0:
        return 1.0
    if uncertainty < SMALLEST_UNCERTAINTY:
        return float(special.gammainc(n, expected))
    shape = uncertainty**-2
    return float(special.betainc(n, shape, expected / (shape + expected)))


def _two_sided(low: float, high: float) -> tuple[float, int]:
    return min(1.0, 2.0 * min(low, high)), -1 if low < high else 1
