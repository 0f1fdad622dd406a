"""The statistic of a kernel: one Newton step from f = 0.

One Newton step lowers twice the penalised likelihood by ``T = g^T A^-1 g``. There g is the gradient (the sums
of the functions at the window's events, less those expected) and A the Hessian of a healthy window. Both
losses have the same T, up to a constant: the loss is no setting here. The functions are orthonormal for the
penalty and uncorrelated in the reference, so A is diagonal, and T costs the kernels at the window's events
and little more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from scipy.linalg import lapack, solve_triangular
from scipy.spatial.distance import pdist

from dqm.events import FloatArray
from dqm.nplm.kernel import gaussian_kernel

__all__ = ["Score", "SizedScore", "log_chi_squared", "quantiles_of_distances", "weigh_functions"]

SAMPLED_EVENTS = 1000
"""Reference events whose distances are computed."""

TOLERANCE = 1e-9
"""Kernel variance at the centres that may be lost where they are redundant."""


def quantiles_of_distances(
    columns: FloatArray, shares: FloatArray, quantiles: tuple[float, ...]
) -> tuple[float, ...]:
    """Give quantiles of the distances between reference events; distances of 0 do not count.

    Parameters
    ----------
    columns : ndarray, shape (n_reference, k)
        Coordinates for kernels. Of ticks and categories no kernel is narrower than the smallest step.
    shares : ndarray, shape (n_reference,)
        Weights of the rows: of unequal ones as many events are taken of each as it has its share.
    quantiles : tuple of float
        Which ones.

    References
    ----------
    Grosso et al. (2024), arXiv:2408.12296, for quantiles of the distances as widths.
    """
    if shares.min() == shares.max():
        some = columns[:: max(1, len(columns) // SAMPLED_EVENTS)]
    else:
        places = (np.arange(SAMPLED_EVENTS) + 0.5) / SAMPLED_EVENTS * shares.sum()
        some = columns[np.minimum(np.searchsorted(np.cumsum(shares), places, "right"), len(columns) - 1)]
    distances = pdist(some)
    distances = distances[distances > 0.0]
    return tuple(map(float, np.quantile(distances, quantiles))) if len(distances) else (1.0,) * len(quantiles)


class Score:
    """The statistic of one kernel, prepared for a reference.

    Parameters
    ----------
    columns : ndarray, shape (n_reference, k)
        Coordinates for kernels.
    shares : ndarray, shape (n_reference,)
        Weights that sum to 1.
    centers : ndarray, shape (m, k)
        Kernel centres, likewise.
    width : float
        Kernel sigma.
    penalty : float
        Falkon's lambda.
    n_reference : float
        Events of the reference.
    """

    def __init__(
        self,
        columns: FloatArray,
        shares: FloatArray,
        centers: FloatArray,
        *,
        width: float,
        penalty: float,
        n_reference: float,
    ) -> None:
        self.width = width
        self.penalty = penalty
        self._centers, whitening = _independent(centers, width)
        phi = self._kernel(columns) @ whitening
        moments, axes = np.linalg.eigh(phi.T @ (shares[:, None] * phi))
        self.moments = np.maximum(moments, 0.0)
        self._transform = whitening @ axes
        self.mean: FloatArray = (shares @ phi) @ axes
        self.n_reference = n_reference

    def sums(self, columns: FloatArray, counts: FloatArray) -> FloatArray:
        """Sum the functions over the events of a window, whose rows stand for so many."""
        values: FloatArray = (counts @ self._kernel(columns)) @ self._transform
        return values

    def functions(self, columns: FloatArray) -> FloatArray:
        """Evaluate the functions at events, shape (n_events, r)."""
        values: FloatArray = self._kernel(columns) @ self._transform
        return values

    def _kernel(self, columns: FloatArray) -> FloatArray:
        kernel: FloatArray = gaussian_kernel(torch.from_numpy(columns), self._centers, self.width).numpy()
        return kernel

    def at(self, n_expected: float) -> SizedScore:
        """Prepare for windows of a size."""
        ridge = self.penalty * (self.n_reference + n_expected)
        found = weigh_functions(self.moments, self.mean, ridge, n_expected, self.n_reference)
        return SizedScore(self, n_expected * self.mean, *found)


def weigh_functions(
    moments: FloatArray, means: FloatArray, ridge: float, n: float, n_other: float
) -> tuple[FloatArray, float, float]:
    """Give the diagonal of A^-1, and mean and variance of T in healthy windows for Gaussian sums.

    Parameters
    ----------
    moments, means : ndarray, shape (r,)
        Mean squares and means of the functions.
    ridge : float
        Penalty in units of the sums.
    n, n_other : float
        Events of the window, and of what it is compared with.
    """
    inverse = 1.0 / (n * moments + ridge)
    spread = n * (1.0 + n / n_other)
    a, b = moments * inverse, means**2 * inverse
    mean = spread * float((a - b).sum())
    squares = spread**2 * float((a**2 - 2.0 * a * b).sum() + b.sum() ** 2)
    return inverse, mean, 2.0 * squares


@dataclass(frozen=True, slots=True)
class SizedScore:
    """The statistic of one kernel for windows of one size.

    Parameters
    ----------
    score : Score
        The kernel.
    expected : ndarray, shape (r,)
        Sums of the functions that are expected.
    inverse : ndarray, shape (r,)
        Diagonal of A^-1.
    mean, variance : float
        Of T in healthy windows, for Gaussian sums.
    """

    score: Score
    expected: FloatArray
    inverse: FloatArray
    mean: float
    variance: float

    def statistic(self, columns: FloatArray, counts: FloatArray) -> float:
        """Give T of a window, whose rows stand for so many events."""
        return float(self.inverse @ (self.score.sums(columns, counts) - self.expected) ** 2)


def log_chi_squared(statistics: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Give the logarithm of about the probability of T or more: of a scaled chi-squared distribution.

    It has the mean and the variance given (Satterthwaite). It makes settings comparable; it is no p-value.
    """
    half_freedom = mean**2 / variance
    x = statistics * mean / variance
    p = special.gammaincc(half_freedom, x)
    far = (half_freedom - 1.0) * np.log(x) - x - special.gammaln(half_freedom)
    with np.errstate(divide="ignore"):
        log_p: FloatArray = np.where(p > 1e-290, np.log(p), far)
    return log_p


def _independent(centers: FloatArray, width: float) -> tuple[torch.Tensor, FloatArray]:
    """Choose centres that are not redundant (pivoted Cholesky); also what makes their kernels orthonormal."""
    every = torch.from_numpy(centers)
    factor, order, rank, _ = lapack.dpstrf(
        gaussian_kernel(every, every, width).numpy(), tol=TOLERANCE, lower=1
    )
    whitening = solve_triangular(factor[:rank, :rank], np.eye(rank), lower=True)
    return every[torch.from_numpy(order[:rank] - 1).long()], np.ascontiguousarray(whitening.T)
