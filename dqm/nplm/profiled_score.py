"""The statistic of a kernel beside nuisance parameters: one Newton step from f = 0 at their fitted values.

The parameters are fitted alone, with their measurements, which gives nu. There the reference has the weights
``r(x; nu)``. The gradient g is the sums of the functions at the window's events, less those expected by this
reference, and ``T = g^T A^-1 g``, with A the Hessian of a healthy window at nu. The fit has removed from g
what the parameters can explain (the efficient score, Neyman 1959). So the distribution of T does not depend
on the true nu, to first order.

A is diagonal where nu is 0. It is taken as diagonal, with the elements that it has at nu. The reference
fluctuates more, the less equal its weights are. So T is divided by its mean, relative to that at nu = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqm.events import FloatArray
from dqm.nplm.nuisance_fit import NuisancePoint
from dqm.nplm.score import Score

__all__ = ["ProfiledScore", "SizedProfile"]

BLOCK = 256
"""Reference events whose squares are made together: they stay in the cache."""

LEAST_FREEDOM = 1e-5
"""Smallest share of its curvature that a parameter keeps if f can imitate it: above the rounding of
float32."""


@dataclass(frozen=True, slots=True, eq=False)
class SizedProfile:
    """The statistic of one kernel beside nuisance parameters, for windows of one size.

    Parameters
    ----------
    score : ProfiledScore
        The kernel.
    ridge : float
        Penalty in units of the sums.
    share : float
        Events expected, over those of the reference.
    mean, variance : float
        Of T in healthy windows at nu = 0, for Gaussian sums.
    size : float
        Mean at nu = 0 without what the fit removes.
    response : ndarray, shape (k, r)
        Change of the parameters when f is fitted with them, for a gradient: of a Newton step at nu = 0.
    errors : ndarray, shape (k,)
        Errors of the parameters beside f.
    """

    score: ProfiledScore
    ridge: float
    share: float
    mean: float
    variance: float
    size: float
    response: FloatArray
    errors: FloatArray

    def statistic(
        self, columns: FloatArray, counts: FloatArray, point: NuisancePoint
    ) -> tuple[float, FloatArray]:
        """Give T of a window, and the change of the parameters by f; its rows stand for `counts` events each.

        `point` is the fit without f.
        """
        expected, of_window, of_reference = self.score.expect(point, self.share)
        g = self.score.sums(columns, counts) - expected
        inverse = 1.0 / (of_window + self.ridge)
        size = (of_window + of_reference) @ inverse
        return float(g**2 @ inverse * self.size / size), self.response @ g


class ProfiledScore(Score):
    """A kernel whose functions at the reference are kept, because nuisance parameters change its weights.

    They are kept in float32, which is half of the memory: their sums are exact to 1e-6.
    """

    def expect(self, point: NuisancePoint, share: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give the expected sums of the functions, and the variances of window and reference around them.

        Each has shape (r,). `share` is the window's size over the reference's.
        """
        rows = np.stack([point.weights, share * point.weights * point.ratios]).astype(np.float32)
        functions = self._at_reference
        variances = np.zeros((2, functions.shape[1]))
        for begin in range(0, len(functions), BLOCK):
            block = functions[begin : begin + BLOCK]
            variances += rows[:, begin : begin + BLOCK] @ (block * block)
        return (rows[0] @ functions).astype(np.float64), *variances

    def profile(self, nominal: NuisancePoint, precision: FloatArray, *, is_poisson: bool) -> SizedProfile:
        """Prepare for windows of a size.

        Parameters
        ----------
        nominal : NuisancePoint
            The nominal reference, whose weights sum to the events expected.
        precision : ndarray, shape (k,)
            Of the measurements.
        is_poisson : bool
            Whether their number varies.

        Notes
        -----
        The gradient of events and of measurements in nu is s. Where nu is fitted, that in f is
        ``g - C K^-1 s``, with K the second derivative in nu and C the mixed one. Its covariance is
        ``D - U S U^T`` with D diagonal and U the means of the functions and C, so that moments of T take no
        product of matrices.
        """
        n = float(nominal.weights.sum())
        k = nominal.curvature
        ridge = self.penalty * (self.n_reference + n)
        inverse = 1.0 / (n * self.moments + ridge)
        columns = (nominal.weights[:, None] * nominal.jacobian).astype(np.float32)
        mixed = (columns.T @ self._at_reference).astype(np.float64).T
        u = np.column_stack([self.mean, mixed])
        taken = self._covariance_taken(nominal, precision, is_poisson=is_poisson)
        healthy = n * (1.0 + n / self.n_reference) * self.moments * inverse
        small = taken @ (u.T @ (inverse[:, None] * u))
        mixed_square = u.T @ ((healthy * inverse)[:, None] * u)
        mean = healthy.sum() - np.trace(small)
        squares = (healthy**2).sum() - 2.0 * np.trace(taken @ mixed_square) + np.trace(small @ small)
        left = k - mixed.T @ (inverse[:, None] * mixed) + np.diag(LEAST_FREEDOM * k.diagonal())
        beside = np.linalg.pinv(left, hermitian=True)
        return SizedProfile(
            score=self,
            ridge=ridge,
            share=n / self.n_reference,
            mean=float(mean),
            size=float(healthy.sum()),
            variance=2.0 * float(squares),
            response=-beside @ (mixed * inverse[:, None]).T,
            errors=np.sqrt(beside.diagonal()),
        )

    def _take_moments(self, kernel: FloatArray, shares: FloatArray, factor: FloatArray) -> None:
        super()._take_moments(kernel, shares, factor)
        self._at_reference = (kernel @ self._transform).astype(np.float32)

    def _covariance_taken(
        self, nominal: NuisancePoint, precision: FloatArray, *, is_poisson: bool
    ) -> FloatArray:
        """Give S: the part of the covariance that the fit, and a fixed number of events, remove."""
        n = float(nominal.weights.sum())
        spread = n * (1.0 + n / self.n_reference)
        q = np.linalg.pinv(nominal.curvature, hermitian=True)
        j = nominal.weights @ nominal.jacobian / n
        events = (nominal.curvature - np.diag(precision)) / n - np.outer(j, j)
        taken = np.empty((1 + len(j), 1 + len(j)))
        taken[0, 0] = spread
        taken[0, 1:] = -spread * q @ j
        taken[1:, 0] = taken[0, 1:]
        taken[1:, 1:] = 2.0 * spread / n * q - q @ (spread * events + np.diag(precision)) @ q
        if is_poisson:
            direction = np.concatenate([[1.0], -q @ j])
            taken -= n * np.outer(direction, direction)
        return taken
