"""Likelihood fit of a window with nuisance parameters alone, without the kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dqm.events import FloatArray
from dqm.nplm.nuisance import Nuisance, check_nuisances, log_ratio_coefficients, measured_values

__all__ = ["NuisanceFit"]

TOLERANCE = 1e-4
"""The fit ends when a step lowers half of -delta by at most this."""

ROUNDING = 1e-9
"""Changes of half of -delta, and lengths of a step, that are below the rounding error."""

MAX_STEPS = 100
"""Most Newton steps."""


class NuisanceFit:
    """Likelihood fit of parameters that change the reference; what depends on it alone is computed once.

    Parameters
    ----------
    reference : ndarray, shape (n_reference, d)
        Reference events, raw, of equal weight.
    n_expected : float
        Events expected, N(R_0).
    nuisances : sequence of Normalisation or Shape
        The parameters, at least one, each with a finite sigma: it keeps the fit from diverging.
    """

    def __init__(self, reference: FloatArray, n_expected: float, nuisances: Sequence[Nuisance]) -> None:
        self._nuisances = check_nuisances(nuisances)
        self._n_expected = n_expected
        self._weight = n_expected / len(reference)
        self._precision = np.array([nuisance.sigma**-2.0 for nuisance in self._nuisances])
        self._linear, self._quadratic = log_ratio_coefficients(self._nuisances, reference)
        self._has_quadratic = bool(self._quadratic.any())

    def fit(self, data: FloatArray, measured: Mapping[str, float]) -> tuple[float, dict[str, float]]:
        """Fit a window.

        Parameters
        ----------
        data : ndarray, shape (n_data, d)
            Its events, raw.
        measured : mapping of str to float
            Auxiliary measurement of each parameter.

        Returns
        -------
        delta : float
            Twice the log likelihood ratio to the reference, as in `KernelResult`; NaN if the fit did not
            converge.
        values : dict of str to float
            Fitted parameters.
        """
        names = [nuisance.name for nuisance in self._nuisances]
        target = measured_values(self._nuisances, measured)
        linear, quadratic = log_ratio_coefficients(self._nuisances, data)
        total_linear = linear.sum(axis=0)
        total_quadratic = quadratic.sum(axis=0)

        def loss(nu: FloatArray) -> tuple[float, FloatArray, FloatArray]:
            """Half of -delta, its gradient, and its second derivative without that of log r."""
            jacobian = self._linear + self._quadratic @ nu if self._has_quadratic else self._linear
            weights = self._weight * np.exp(0.5 * (self._linear + jacobian) @ nu)
            pull = self._precision * (nu - target)
            value = weights.sum() - self._n_expected - (total_linear + 0.5 * total_quadratic @ nu) @ nu
            value += 0.5 * (pull @ (nu - target) - self._precision @ target**2)
            slope = jacobian.T @ weights - total_linear - total_quadratic @ nu + pull
            return value, slope, jacobian.T @ (weights[:, None] * jacobian) + np.diag(self._precision)

        nu, (value, slope, curvature) = target, loss(target)
        delta = math.nan
        with np.errstate(over="ignore", invalid="ignore"):  # a step that is too long is halved
            for _ in range(MAX_STEPS):
                step = np.linalg.solve(curvature, slope)
                found = loss(nu - step)
                while not found[0] <= value + ROUNDING and abs(step).max() > ROUNDING:
                    step /= 2
                    found = loss(nu - step)
                decrease = value - found[0]
                nu, (value, slope, curvature) = nu - step, found
                if decrease <= TOLERANCE:
                    delta = -2 * value
                    break
        return delta, dict(zip(names, map(float, nu), strict=True))
