"""Probabilities of counts: the negative binomial distribution by its mean and relative variance."""

from __future__ import annotations

import numpy as np
from scipy import special

from dqm.events import FloatArray

__all__ = ["SMALLEST", "at_least_one", "two_sided"]

SMALLEST = 1e-300
"""Smallest probability that is distinguished from 0."""


def two_sided(counts: FloatArray, mean: FloatArray, spread: FloatArray) -> FloatArray:
    """Two-sided mid-p of counts with ``variance = mean + spread * mean^2``.

    Twice the smaller tail, in which half of the probability of the count itself is taken: so its distribution
    is close to uniform also for small means (Lancaster, J. Am. Stat. Assoc. 56 (1961) 223).

    Parameters
    ----------
    counts, mean, spread : ndarray, of one shape
        Whole numbers >= 0; > 0; > 0.

    Returns
    -------
    ndarray
        In [1e-300, 1].
    """
    size = 1.0 / spread
    success = spread * mean / (1.0 + spread * mean)
    below = counts <= mean
    tail = np.empty(len(counts))
    tail[below] = special.betainc(size[below], counts[below] + 1.0, 1.0 - success[below])
    tail[~below] = special.betainc(counts[~below], size[~below], success[~below])
    at_count = np.exp(
        special.gammaln(counts + size)
        - special.gammaln(counts + 1.0)
        - special.gammaln(size)
        + special.xlogy(counts, success)
        - size * np.log1p(spread * mean)
    )
    return np.asarray(np.clip(2.0 * tail - at_count, np.maximum(tail, SMALLEST), 1.0))


def at_least_one(p: FloatArray | float, n: int) -> FloatArray:
    """Probability that the smallest of n independent p-values is as small as this (Sidak 1967)."""
    return np.asarray(-np.expm1(n * np.log1p(-np.minimum(p, 1.0 - 1e-16))))
