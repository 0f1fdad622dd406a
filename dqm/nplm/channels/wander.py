"""Slow changes of the channels: how much farther later windows are from the mean of a run than its own.

The channels of a run vary about the mean of the run. If they vary slowly, the mean of the run is itself one
draw of this variation: its own windows are close to it, later ones are not. For a variance sigma^2 with the
correlation rho^k after k windows, the mean of n windows has the variance f sigma^2, with (Priestley, Spectral
Analysis and Time Series, 1981, section 5.3)

    f = (1 + rho) / (n (1 - rho)) - 2 rho (1 - rho^n) / (n (1 - rho))^2

The windows of the run scatter about its mean by (1 - f) sigma^2, later ones by (1 + f) sigma^2. Poisson
noise, and other variations that are independent from window to window, have no such correlation. So rho and
sigma^2 follow from the covariances of windows that are 1, 2, ... apart, of all channels together. They are
uncertain, since the run has few independent windows, and an error is the same in every later window. So an
upper limit is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray

__all__ = ["LEAST_FACTOR", "wander_factor"]

LEAST_FACTOR = 2.0
"""Smallest factor of the dispersion: there may be a correlation that cannot be measured."""

LARGEST_FACTOR = 6.0
"""Largest factor: a run cannot show variations that are slower than its length."""

CERTAIN_Z = 3.0
"""Standard errors of the covariance of neighbours below which no variation is assumed."""

UPPER_Z = 2.0
"""Standard errors of the variance that are added to it."""

RESTLESS = 10.0
"""A channel whose dispersion is this many times the typical one says nothing about the others."""

FEWEST_WINDOWS = 20
MOST_LAGS = 20
RHO = np.linspace(0.3, 0.99, 70)


def wander_factor(hits: FloatArray, fitted: FloatArray, dispersion: FloatArray) -> float:
    """Estimate how many times the dispersion within the run counts for later windows.

    Parameters
    ----------
    hits, fitted : ndarray, shape (n_windows, n_channels)
        Hits without bursts, and hits expected by the run's mean and the fitted modes, > 0.
    dispersion : ndarray, shape (n_channels,)
        Relative variance within the run beyond Poisson, > 0.

    Returns
    -------
    float
        `LEAST_FACTOR` to `LARGEST_FACTOR`.
    """
    n, n_channels = hits.shape
    if n < FEWEST_WINDOWS:
        return LEAST_FACTOR
    typical = float(np.median(dispersion))
    # not by the dispersion of each channel: a channel that scatters little by chance would count more
    weight = (1.0 / (1.0 / fitted.mean(axis=0) + typical)) ** 2 * (dispersion < RESTLESS * typical)
    distance = (hits - fitted) / fitted
    lags = np.arange(1, min(MOST_LAGS, n // 3) + 1)
    covariance = np.array([weight @ (distance[k:] * distance[:-k]).mean(axis=0) / weight.sum() for k in lags])
    if covariance[0] < CERTAIN_Z / np.sqrt((n - 1) * weight.sum()):
        return LEAST_FACTOR
    share, shapes = _covariances(n, lags)
    sizes = (shapes @ covariance) / (shapes**2).sum(axis=1)
    misfit = ((covariance - sizes[:, None] * shapes) ** 2).sum(axis=1)
    best = int(np.argmin(np.where(sizes > 0.0, misfit, np.inf)))
    within = max(float(weight @ dispersion / weight.sum()), sizes[best] * (1.0 - share[best]))
    n_independent = max(1.0, n * (1.0 - RHO[best]) / (1.0 + RHO[best]))
    limit = 1.0 + UPPER_Z * np.sqrt(2.0 / (n_independent * n_channels))
    factor = limit * (1.0 + 2.0 * share[best] * sizes[best] / within)
    return float(np.clip(factor, LEAST_FACTOR, LARGEST_FACTOR))


def _covariances(n: int, lags: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Give f, and the covariances about the mean of n windows, for each `RHO` and sigma = 1.

    Returns
    -------
    share : ndarray, shape (n_rho,)
        f.
    shapes : ndarray, shape (n_rho, n_lags)
        Mean covariance of windows that are so far apart.
    """
    rho = RHO[:, None]
    place = np.arange(n)
    with_mean = (1.0 + rho - rho ** (place + 1) - rho ** (n - place)) / (n * (1.0 - rho))
    share = with_mean.mean(axis=1)
    ends = np.stack(
        [with_mean[:, : n - k].mean(axis=1) + with_mean[:, k:].mean(axis=1) for k in lags], axis=1
    )
    return share, rho**lags - ends + share[:, None]
