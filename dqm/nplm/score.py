"""The statistic of a kernel: one Newton step from f = 0.

One Newton step lowers twice the penalised likelihood by ``T = g^T A^-1 g``. There g is the gradient (the sums
of the functions at the window's events, less those expected) and A the Hessian of a healthy window. Both
losses have the same T, up to a constant: the loss is not a setting here. The functions are orthonormal for
the penalty and uncorrelated in the reference, so A is diagonal, and T costs the kernels at the window's
events and little more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import special
from scipy.linalg import blas, lapack, solve_triangular
from scipy.spatial.distance import pdist

from dqm.errors import InputError, format_count
from dqm.events import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BriefScore",
    "Score",
    "SizedScore",
    "log_chi_squared",
    "pack_scores",
    "quantiles_of_distances",
    "unpack_scores",
    "weigh_functions",
]

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
        Coordinates for kernels. No kernel of ticks and categories is narrower than the smallest step.
    shares : ndarray, shape (n_reference,)
        Weights of the rows: if they are unequal, events are taken in proportion to them.
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
        self.n_reference = n_reference
        self._centers, factor = _independent(centers, width)
        self._take_moments(self.kernel(columns), shares, factor)

    @property
    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """What was computed: centres (m, k), transform (m, r), moments (r,) and means (r,)."""
        return self._centers.numpy(), self._transform, self.moments, self.mean

    @classmethod
    def from_arrays(
        cls, arrays: Sequence[FloatArray], *, width: float, penalty: float, n_reference: float
    ) -> Score:
        """Take `arrays` of an equal score, so that nothing is computed again."""
        score = object.__new__(cls)
        score.width = width
        score.penalty = penalty
        score.n_reference = n_reference
        centers, score._transform, score.moments, score.mean = arrays
        score._centers = _tensor(np.array(centers))  # torch wants memory that may be written
        return score

    def sums(self, columns: FloatArray, counts: FloatArray) -> FloatArray:
        """Sum the functions over the events of a window; shape (r,).

        `columns` has shape (n, k), and each of its rows stands for `counts` events, shape (n,).
        """
        return self.transform(counts @ self.kernel(columns))

    def transform(self, kernels: FloatArray) -> FloatArray:
        """Turn sums of kernels, shape (..., m), into those of the functions, shape (..., r)."""
        values: FloatArray = kernels @ self._transform
        return values

    def functions(self, columns: FloatArray) -> FloatArray:
        """Evaluate the functions at events, shape (n_events, r)."""
        return self.transform(self.kernel(columns))

    def kernel(self, columns: FloatArray) -> FloatArray:
        """Evaluate the kernels at events, shape (n, m)."""
        return _kernel(_tensor(columns), self._centers, self.width)

    def _take_moments(self, kernel: FloatArray, shares: FloatArray, factor: FloatArray) -> None:
        """Learn the functions from the kernels at the reference, and from those at the centres, factorised.

        They are orthonormal for the penalty, and the principal axes of the reference.
        """
        whitening = np.ascontiguousarray(solve_triangular(factor, np.eye(len(factor)), lower=True).T)
        phi = kernel @ whitening
        moments, axes = np.linalg.eigh(phi.T @ (shares[:, None] * phi))
        self.moments: FloatArray = np.maximum(moments, 0.0)
        self._transform: FloatArray = whitening @ axes
        self.mean: FloatArray = (shares @ phi) @ axes

    def at(self, n_expected: float) -> SizedScore:
        """Prepare for windows of a size."""
        ridge = self.penalty * (self.n_reference + n_expected)
        inverse, mean, variance = weigh_functions(
            self.moments, self.mean, ridge, n_expected, self.n_reference
        )
        return SizedScore(self, n_expected * self.mean, _Diagonal(inverse), mean, variance)


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
    a = moments * inverse
    b = means**2 * inverse
    mean = spread * float((a - b).sum())
    squares = spread**2 * float((a**2 - 2.0 * a * b).sum() + b.sum() ** 2)
    return inverse, mean, 2.0 * squares


class BriefScore(Score):
    """The same for one size and a few windows: no principal axes, but a factorisation for each size.

    Its numbers are those of `Score`, within rounding, in 0.6 of the time.
    """

    def _take_moments(self, kernel: FloatArray, shares: FloatArray, factor: FloatArray) -> None:
        inverse, _ = lapack.dtrtri(factor, lower=1)
        self._transform = np.tril(inverse).T
        phi = kernel @ self._transform
        self.mean = shares @ phi
        self._gram = blas.dsyrk(1.0, (phi * np.sqrt(shares)[:, None]).T, lower=1)

    def at(self, n_expected: float) -> SizedScore:
        """Prepare for windows of a size."""
        ridge = self.penalty * (self.n_reference + n_expected)
        hessian = n_expected * self._gram
        hessian[np.diag_indices_from(hessian)] += ridge
        factor, _ = lapack.dpotrf(hessian, lower=1, overwrite_a=1)
        inverse, _ = lapack.dpotri(factor, lower=1)  # its lower triangle; the upper one is 0
        diagonal = inverse.diagonal()
        squares_of_inverse = 2.0 * float((inverse**2).sum()) - float(diagonal @ diagonal)
        # H^-1 G = (1 - ridge H^-1) / n: the moments of T need no product of matrices
        trace = (len(inverse) - ridge * float(diagonal.sum())) / n_expected
        trace_of_square = len(inverse) - 2.0 * ridge * float(diagonal.sum()) + ridge**2 * squares_of_inverse
        solved = lapack.dpotrs(factor, self.mean, lower=1)[0]
        b = float(self.mean @ solved)
        bent = (b - ridge * float(solved @ solved)) / n_expected
        spread = n_expected * (1.0 + n_expected / self.n_reference)
        squares = spread**2 * (trace_of_square / n_expected**2 - 2.0 * bent + b**2)
        return SizedScore(self, n_expected * self.mean, _Factor(factor), spread * (trace - b), 2.0 * squares)


class _Inverse(Protocol):
    """The inverse of A."""

    def squares(self, g: FloatArray) -> FloatArray:
        """Give ``g^T A^-1 g`` of gradients, shape (..., r)."""


@dataclass(frozen=True, slots=True)
class _Diagonal:
    inverse: FloatArray

    def squares(self, g: FloatArray) -> FloatArray:
        found: FloatArray = g**2 @ self.inverse
        return found


@dataclass(frozen=True, slots=True)
class _Factor:
    lower: FloatArray

    def squares(self, g: FloatArray) -> FloatArray:
        solved = solve_triangular(self.lower, g.T, lower=True, check_finite=False)
        found: FloatArray = (solved**2).sum(axis=0)
        return found


@dataclass(frozen=True, slots=True)
class SizedScore:
    """The statistic of one kernel for windows of one size.

    Parameters
    ----------
    score : Score
        The kernel.
    expected : ndarray, shape (r,)
        Sums of the functions that are expected.
    inverse : _Inverse
        Of A.
    mean, variance : float
        Of T in healthy windows, for Gaussian sums.
    """

    score: Score
    expected: FloatArray
    inverse: _Inverse
    mean: float
    variance: float

    def of_sums(self, sums: FloatArray) -> FloatArray:
        """Give T of windows whose functions have these sums, shape (..., r)."""
        return self.inverse.squares(sums - self.expected)


def pack_scores(scores: Sequence[Score]) -> dict[str, FloatArray]:
    """Put what scores have computed into two arrays; give none if one of them is a `Score` of another kind.

    Returns
    -------
    dict
        ``scores``: the numbers of `Score.arrays` of all scores, one after the other. ``sizes``, shape
        (n_scores, 3): numbers m of centres, k of coordinates, and r of functions of each.
    """
    if any(type(score) is not Score for score in scores):
        return {}
    found = [score.arrays for score in scores]
    sizes = [(*centers.shape, len(moments)) for centers, _, moments, _ in found]
    return {
        "scores": np.concatenate([values.ravel() for arrays in found for values in arrays]),
        "sizes": np.array(sizes, dtype=float),
    }


def unpack_scores(
    packed: Mapping[str, FloatArray], kernels: Sequence[tuple[float, float]], n_reference: float
) -> list[Score]:
    """Make scores of what `pack_scores` gave.

    Parameters
    ----------
    packed : mapping
        Its arrays.
    kernels : sequence of (float, float)
        Width and penalty of each score.
    n_reference : float
        Events of the reference.

    Raises
    ------
    InputError
        If these are other numbers of scores.
    """
    numbers = packed["scores"]
    sizes = packed["sizes"].astype(int).tolist()
    if len(sizes) != len(kernels):
        raise InputError(
            f"{format_count(len(sizes), 'kernel')} prepared, and {len(kernels)} to prepare",
            fix="Build the bundle again",
        )
    scores = []
    begin = 0
    for (width, penalty), (m, k, r) in zip(kernels, sizes, strict=True):
        arrays = []
        for shape in ((m, k), (m, r), (r,), (r,)):
            end = begin + math.prod(shape)
            arrays.append(numbers[begin:end].reshape(shape))
            begin = end
        scores.append(Score.from_arrays(arrays, width=width, penalty=penalty, n_reference=n_reference))
    return scores


def log_chi_squared(statistics: FloatArray, mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Give the logarithm of about the probability of T or more: of a scaled chi-squared distribution.

    It has the mean and the variance given (Satterthwaite). It makes settings comparable; it is not a p-value.
    """
    half_freedom = mean**2 / variance
    x = statistics * mean / variance
    p = special.gammaincc(half_freedom, x)
    far = (half_freedom - 1.0) * np.log(x) - x - special.gammaln(half_freedom)
    with np.errstate(divide="ignore"):
        log_p: FloatArray = np.where(p > 1e-290, np.log(p), far)
    return log_p


def _independent(centers: FloatArray, width: float) -> tuple[Tensor, FloatArray]:
    """Choose centres that are not redundant (pivoted Cholesky); also the factor of their kernels."""
    every = _tensor(centers)
    factor, order, rank, _ = lapack.dpstrf(_kernel(every, every, width), tol=TOLERANCE, lower=1)
    return _tensor(centers[order[:rank] - 1]), factor[:rank, :rank]


def _tensor(columns: FloatArray) -> Tensor:
    """Share the memory of an array with torch; loaded here, because the class alone does not need it."""
    import torch

    return torch.from_numpy(columns)


def _kernel(columns: Tensor, centers: Tensor, width: float) -> FloatArray:
    from dqm.nplm.kernel import gaussian_kernel

    kernel: FloatArray = gaussian_kernel(columns, centers, width).numpy()
    return kernel
