"""From t to p: the empirical null table, and a fitted tail beyond it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy  # its `stats` takes a second to load, and the daemon seldom asks for it
from numpy.typing import NDArray
from scipy import special

from dqm.errors import InputError
from dqm.events import SMALLEST_P, FloatArray, PMethod

__all__ = [
    "NullTable",
    "PValue",
    "empirical_p_value",
    "measure_linear_share",
    "pool_offset",
    "share_error",
    "split_offset",
]

IntArray = NDArray[np.int64]

EXPONENTIAL = 1.0
"""Skewness above which the tail is that of an exponential: a statistic that is the logarithm of a p."""

TAIL_SHARE = 0.05
"""Such a tail is fitted to this share of the toys, the largest ones."""

CHECKED = (0.01, 0.001)
"""p at which the fitted tail is compared with the toys."""

MISFIT = 1e-3
"""The fit is called wrong if the number of toys beyond such a p has a smaller probability."""

SMALLEST_TABLE = 100
"""Toys below which no tail is fitted and no p-value given."""

BOOTSTRAPS = 400

LARGEST_SHARE_ERROR = 0.2
"""A measured share with a larger error is not used."""


@dataclass(frozen=True, slots=True)
class PValue:
    """A p-value with its 95 % interval.

    Parameters
    ----------
    p, low, high : float
        Value and interval, in (0, 1].
    method : PMethod
        Read from the table, or extrapolated.
    z : float
        One-sided Gaussian significance of `p`.
    """

    p: float
    low: float
    high: float
    method: PMethod
    z: float


def empirical_p_value(t_observed: float, t_null: FloatArray) -> float:
    """Upper-tail p-value from toys drawn under the reference.

    Parameters
    ----------
    t_observed : float
        Statistic of the window, dimensionless.
    t_null : ndarray, shape (n_toys,), sorted
        Statistic of reference-only toys of the same expected size.

    Returns
    -------
    float
        ``(k + 1) / (n_toys + 1)`` with k toys at or above `t_observed`; never 0.

    Raises
    ------
    InputError
        If `t_observed` is NaN: sorting would rank it as an alarm.

    References
    ----------
    Phipson and Smyth (2010), doi:10.2202/1544-6115.1585.
    """
    if np.isnan(t_observed):
        raise InputError("the statistic is NaN", fix="Only a converged fit has a p-value")
    k = len(t_null) - int(np.searchsorted(t_null, t_observed, side="left"))
    return (k + 1) / (len(t_null) + 1)


def pool_offset(n_expected: float, n_pool: int, n_reference: int, linear_share: float | None = None) -> float:
    """Estimate the offset that a null table may have because its toys share one finite pool.

    The pool differs from the truth by its own fluctuation, which no number of toys averages out. A share s of
    the variance of a statistic is linear in the events of the window; the rest is in their pairs. Toys from
    one pool have a mean that scatters from pool to pool by ``sqrt(h s + h^2 (1 - s))`` of the statistic's
    spread, where h is the window's size over the pool's.

    For a sum of many squares of fluctuations of window minus reference s is ``2 g / (1 + 2 g)``, with g the
    window's size over the reference's. It is larger where single events count for much: a narrow kernel that
    covers only one event of the window.

    Parameters
    ----------
    n_expected : float
        Events expected in a window.
    n_pool, n_reference : int
        Events in pool and reference.
    linear_share : float, optional
        s as measured, see `measure_linear_share`; by default that of a sum of many squares, which is also the
        smallest that is used.

    Returns
    -------
    float
        Standard deviation of the offset, in standard deviations of the statistic: p-values of this table are
        uncertain by about as many Gaussian sigmas.
    """
    h, g = n_expected / n_pool, n_expected / n_reference
    share = max(2.0 * g / (1.0 + 2.0 * g), linear_share or 0.0)
    return float(np.sqrt(h * share + h**2 * (1.0 - share)))


def share_error(n_toys: int, n_pool: int) -> float:
    """Give the standard error of `measure_linear_share`."""
    return math.sqrt(2.0 * n_pool) / n_toys


def measure_linear_share(t: FloatArray, drawn: Iterable[IntArray], n_pool: int) -> float | None:
    """Measure the share of the variance of t that is linear in the events of a window.

    Toys with a given event have a mean that differs from that of all toys by the effect of this event. The
    scatter of these means, beyond that of so few toys, is the effect of single events.

    Parameters
    ----------
    t : ndarray, shape (n_toys,)
        Statistic of toys from one pool.
    drawn : iterable of ndarray of int
        Which events of the pool each toy has, none of them twice.
    n_pool : int
        Events of the pool.

    Returns
    -------
    float or None
        0 to 1, for t as a significance; None if there are too few toys to tell.

    References
    ----------
    Hoeffding (1948), doi:10.1214/aoms/1177730196, for the parts of a variance.
    """
    if share_error(len(t), n_pool) > LARGEST_SHARE_ERROR:
        return None
    z = special.ndtri((scipy.stats.rankdata(t) - 0.5) / len(t))
    n_with, total = np.zeros(n_pool), np.zeros(n_pool)
    for places, value in zip(drawn, z, strict=True):
        n_with[places] += 1.0
        total[places] += value
    seen = n_with > 0
    means = total[seen] / n_with[seen]
    means -= np.average(means, weights=n_with[seen])  # windows by time have more events if t is large
    effect = np.average(means**2 - 1.0 / n_with[seen], weights=n_with[seen])
    n_each = n_with.sum() / len(t)
    return float(np.clip(n_each * effect / (1.0 - n_each / n_pool), 0.0, 1.0))


def split_offset(n_expected: float, n_reference: int) -> float:
    """Estimate the offset that a null table of fresh splits may have for one bundle.

    The table holds on average over references. That of the bundle has a fluctuation r of its own. It adds
    ``|r|^2`` to a statistic that is a sum of many squares of fluctuations of window minus reference. It
    scatters by ``g / sqrt(1 + 2 g)`` of the statistic's spread; g is the window's size over the reference's.

    Parameters
    ----------
    n_expected : float
        Events expected in a window.
    n_reference : int
        Events in the reference.

    Returns
    -------
    float
        Standard deviation of the offset, as in `pool_offset`.
    """
    g = n_expected / n_reference
    return float(g / np.sqrt(1.0 + 2.0 * g))


class NullTable:
    """Distribution of t in healthy windows of one kind and expected size.

    Inside the table p is empirical, with a Clopper-Pearson interval. Beyond its largest toy p follows a
    Pearson type III distribution (a shifted gamma, which a penalised sum of squares is close to) with the
    toys' mean, variance and skewness. Where the skewness is above `EXPONENTIAL`, it follows an exponential
    that is fitted to the largest toys: the smallest of several p is so distributed, and the moments of the
    whole would make its tail too short. The interval is the spread over bootstrap samples of the toys.

    Parameters
    ----------
    toys : ndarray, shape (n_toys,)
        Statistic of the toys, in any order, finite; at least 100.

    Raises
    ------
    InputError
        If there are too few toys or one is not finite.
    """

    def __init__(self, toys: FloatArray) -> None:
        if len(toys) < SMALLEST_TABLE or not np.isfinite(toys).all():
            raise InputError(
                f"a null table of {len(toys)} toys, {int((~np.isfinite(toys)).sum())} of them not finite",
                fix=f"Calibrate with {SMALLEST_TABLE} toys or more",
            )
        self._sorted = np.sort(toys)
        rng = np.random.default_rng(0)
        resampled = rng.choice(toys, size=(BOOTSTRAPS, len(toys)))
        samples = np.concatenate([toys[None], *np.split(resampled, BOOTSTRAPS)])
        self._tails: tuple[FloatArray, ...] = (*_pearson3(samples), *_exponential(samples))
        self._is_exponential = bool(self._tails[0][0] > EXPONENTIAL)

    @classmethod
    def between(cls, lower: NullTable, upper: NullTable, share: float) -> NullTable:
        """Table for windows of a size between two calibrated ones.

        Every quantile of t, and every number of the fitted tail, is between those of the two tables.

        Parameters
        ----------
        lower, upper : NullTable
            Tables of both sizes.
        share : float
            0 for `lower` to 1 for `upper`; the share of the way between them in the logarithm of the size.
        """
        table = cls.__new__(cls)
        n = min(len(lower), len(upper))
        table._sorted = (1.0 - share) * lower._quantiles(n) + share * upper._quantiles(n)
        pairs = zip(lower._tails, upper._tails, strict=True)
        table._tails = tuple((1.0 - share) * a + share * b for a, b in pairs)
        table._is_exponential = lower._is_exponential or upper._is_exponential
        return table

    def __len__(self) -> int:
        return len(self._sorted)

    def _quantiles(self, n: int) -> FloatArray:
        """Give n toys that stand for all."""
        if n == len(self._sorted):
            return self._sorted
        return np.quantile(self._sorted, np.linspace(0.0, 1.0, n))

    @property
    def t_range(self) -> tuple[float, float]:
        """Smallest and largest toy."""
        return float(self._sorted[0]), float(self._sorted[-1])

    @property
    def t_implausible(self) -> float:
        """Value below which no window is healthy: a standard deviation under the smallest toy.

        The logistic loss does not maximise t, so a window unlike the reference can end here, by large ratios
        at single reference events; a p-value near 1 would call it healthy.
        """
        return float(self._sorted[0] - self._sorted.std())

    @property
    def t_quotable(self) -> float:
        """Largest value that the table has a p-value for: above it, p and its interval are `SMALLEST_P`."""
        # half of it, so that rounding of the distribution leaves no p above
        return max(self.t_range[1], float(self._quantiles_beyond(0.5 * SMALLEST_P).max()))

    @property
    def misfit(self) -> str:
        """Say where the fitted tail does not describe the toys; empty if it does."""
        n = len(self._sorted)
        for p in CHECKED:
            beyond = int((self._sorted > self._quantiles_beyond(p)[0]).sum())
            if scipy.stats.binom.sf(beyond - 1, n, p) < MISFIT:
                return f"{beyond} of {n} toys where the fitted tail expects {n * p:.3g}"
        return ""

    def _quantiles_beyond(self, p: float) -> FloatArray:
        """Give t that the fitted tails exceed with a probability, one for each sample."""
        skewness, mean, deviation, start, scale = self._tails
        if self._is_exponential and p < TAIL_SHARE:
            found: FloatArray = start + scale * np.log(TAIL_SHARE / p)
        else:
            found = scipy.stats.pearson3.isf(p, skewness, mean, deviation)
        return found

    def _tail_p(self, t: float) -> FloatArray:
        """Give the probability of t or more by the fitted tails, one for each sample."""
        skewness, mean, deviation, start, scale = self._tails
        if self._is_exponential:
            found: FloatArray = TAIL_SHARE * np.exp(-(t - start) / scale)
        else:
            found = scipy.stats.pearson3.sf(t, skewness, mean, deviation)
        return found

    def p_value(self, t: float) -> PValue:
        """Upper-tail probability of `t` in healthy windows; raises `InputError` if `t` is NaN."""
        n = len(self._sorted)
        p = empirical_p_value(t, self._sorted)
        if t <= self._sorted[-1]:
            k = round(p * (n + 1)) - 1
            low = float(special.betaincinv(k, n - k + 1, 0.025))
            high = float(special.betaincinv(k + 1, n - k, 0.975)) if k < n else 1.0
            z = _gaussian_sigmas(min(p, 1.0 - 0.5 / (n + 1)))  # finite also below all toys
            return PValue(p, min(low, p), max(high, p), PMethod.EMPIRICAL, z)
        tails = np.clip(self._tail_p(t), SMALLEST_P, p)
        low, high = np.quantile(tails[1:], [0.025, 0.975])
        p = float(tails[0])
        return PValue(p, min(float(low), p), max(float(high), p), PMethod.TAIL, _gaussian_sigmas(p))


def _gaussian_sigmas(p: float) -> float:
    """Give the one-sided significance of p, below 1."""
    return -float(special.ndtri(p))


def _pearson3(samples: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Skewness, mean and standard deviation of each row; the skewness is never negative.

    A negative one would give the distribution an end, and windows beyond it a p of zero.
    """
    skewness = np.maximum(scipy.stats.skew(samples, axis=1), 0.0)
    return skewness, samples.mean(axis=1), samples.std(axis=1, ddof=1)


def _exponential(samples: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Start and scale of the exponential that the largest of each row follow."""
    start = np.quantile(samples, 1.0 - TAIL_SHARE, axis=1)
    n_beyond = np.maximum((samples > start[:, None]).sum(axis=1), 1)
    scale = np.maximum(samples - start[:, None], 0.0).sum(axis=1) / n_beyond
    return start, np.maximum(scale, 1e-12 * samples.std(axis=1))
