"""Distances of two samples: energy distance, and maximum mean discrepancies (MMD) of Gaussian kernels.

All are V-statistics times ``n m / (n + m)``, so that their size does not depend on the samples' sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist, pdist

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.peers.standardised import Standardised

__all__ = ["EnergyTest", "FuseTest", "MmdTest", "NystroemTest"]

BLOCK = 500
"""Rows of the reference whose distances are in memory at one time."""

SAMPLED = 1000
"""Reference events whose distances choose widths."""

FUSED_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles of the distances that are the widths of `FuseTest`."""


class EnergyTest:
    """Energy distance ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``; features in standard deviations.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    power : float
        Of the distance, in (0, 2).

    References
    ----------
    Szekely and Rizzo (2013), doi:10.1016/j.jspi.2013.03.018.
    """

    def __init__(self, reference: ArrayLike, *, power: float = 1.0) -> None:
        if not 0.0 < power < 2.0:
            raise InputError(f"power is {power}", fix="Give a number above 0 and below 2")
        self._units = Standardised(reference)
        self._power = power
        self._own = _mean_of(self._distance, self._units.reference)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        x, y = self._units.window(data), self._units.reference
        found = 2.0 * self._distance(x, y).mean() - self._distance(x, x).mean() - self._own
        return float(found) * len(x) * len(y) / (len(x) + len(y))

    def _distance(self, x: FloatArray, y: FloatArray) -> FloatArray:
        distance: FloatArray = cdist(x, y)
        return distance if self._power == 1.0 else distance**self._power


class MmdTest:
    """Squared MMD of a Gaussian kernel; features in standard deviations.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    width : float
        Of the kernel; 0 takes the median distance of reference events.

    References
    ----------
    Gretton et al. (2012), Journal of Machine Learning Research 13, 723.
    """

    def __init__(self, reference: ArrayLike, *, width: float = 0.0) -> None:
        self._units = Standardised(reference)
        self._width = _choose_width(width, self._units.reference)
        self._own = _mean_of(self._kernel, self._units.reference)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        x, y = self._units.window(data), self._units.reference
        found = self._kernel(x, x).mean() + self._own - 2.0 * self._kernel(x, y).mean()
        return float(found) * len(x) * len(y) / (len(x) + len(y))

    def _kernel(self, x: FloatArray, y: FloatArray) -> FloatArray:
        return _gaussian(x, y, self._width)


class NystroemTest:
    """The same with the features that the centres span: a window costs n times m, not the whole reference.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    centers : array_like, shape (m, d)
        Reference events that span the features.
    width : float
        As of `MmdTest`.

    References
    ----------
    Chatalic et al. (2025), arXiv:2502.13570.
    """

    def __init__(self, reference: ArrayLike, *, centers: ArrayLike, width: float = 0.0) -> None:
        self._units = Standardised(reference)
        self._width = _choose_width(width, self._units.reference)
        self._centers = np.unique(self._units.window(centers), axis=0)
        values, vectors = np.linalg.eigh(_gaussian(self._centers, self._centers, self._width))
        is_kept = values > 1e-10 * values[-1]
        self._root = vectors[:, is_kept] / np.sqrt(values[is_kept])
        self._mean = self._features(self._units.reference)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        x = self._units.window(data)
        n_reference = len(self._units.reference)
        departure = self._features(x) - self._mean
        return float(departure @ departure) * len(x) * n_reference / (len(x) + n_reference)

    def _features(self, x: FloatArray) -> FloatArray:
        mean: FloatArray = _gaussian(x, self._centers, self._width).mean(axis=0) @ self._root
        return mean


class FuseTest:
    """MMD-FUSE: the soft maximum of normalised MMDs of Gaussian and Laplace kernels of five widths.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.

    References
    ----------
    Biggs, Schrab and Gretton (2023), arXiv:2306.08777, eq. 6.
    """

    def __init__(self, reference: ArrayLike) -> None:
        self._units = Standardised(reference)
        y = self._units.reference
        self._kernels: list[Callable[[FloatArray, FloatArray], FloatArray]] = []
        for share in FUSED_SHARES:
            for metric, make in (("euclidean", _gaussian), ("cityblock", _laplace)):
                width = float(np.quantile(pdist(y[:SAMPLED], metric), share))
                self._kernels.append(lambda a, b, make=make, width=width: make(a, b, width))  # type: ignore[misc]
        self._own = [
            (_mean_of(kernel, y), _mean_of(lambda a, b, k=kernel: k(a, b) ** 2, y))  # type: ignore[misc]
            for kernel in self._kernels
        ]

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        x, y = self._units.window(data), self._units.reference
        n, m = len(x), len(y)
        found = []
        for kernel, (mean, mean_square) in zip(self._kernels, self._own, strict=True):
            within, across = kernel(x, x), kernel(x, y)
            mmd = within.mean() + mean - 2.0 * across.mean()
            total = (within**2).sum() + m**2 * mean_square + 2.0 * (across**2).sum()
            found.append(mmd / np.sqrt(total / (n + m) ** 2))
        strength = np.sqrt(n * (n - 1.0)) if n > 1 else 1.0
        scaled = strength * np.array(found)
        highest = scaled.max()
        return float(highest + np.log(np.exp(scaled - highest).mean()))


def _gaussian(x: FloatArray, y: FloatArray, width: float) -> FloatArray:
    values: FloatArray = np.exp(-0.5 * cdist(x, y, "sqeuclidean") / width**2)
    return values


def _laplace(x: FloatArray, y: FloatArray, width: float) -> FloatArray:
    values: FloatArray = np.exp(-cdist(x, y, "cityblock") / width)
    return values


def _mean_of(pairs: Callable[[FloatArray, FloatArray], FloatArray], y: FloatArray) -> float:
    """Mean over all pairs of a sample, a block at a time."""
    total = sum(float(pairs(y[k : k + BLOCK], y).sum()) for k in range(0, len(y), BLOCK))
    return total / len(y) ** 2


def _choose_width(width: float, reference: FloatArray) -> float:
    if not (np.isfinite(width) and width >= 0.0):
        raise InputError(f"width is {width}", fix="Give a number above 0, or 0 for the median distance")
    return width or float(np.median(pdist(reference[:SAMPLED])))
