"""Likelihood fit of a window with nuisance parameters alone, without the kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from dqm.events import FloatArray
from dqm.nplm.nuisance import Nuisance, check_nuisances, log_ratio_coefficients, measured_values

__all__ = ["NuisanceFit", "NuisancePoint"]

TOLERANCE = 1e-4
"""The fit ends when a step lowers half of -delta by at most this."""

ROUNDING = 1e-9
"""Changes of half of -delta, and lengths of a step, that are below the rounding error."""

MAX_STEPS = 100
"""Most Newton steps."""


@dataclass(frozen=True, slots=True, eq=False)
class NuisancePoint:
    """The reference as nuisance parameters deform it, and the objective there.

    Parameters
    ----------
    nu : ndarray, shape (k,)
        The parameters.
    delta : float
        Twice the log likelihood ratio to the nominal reference; NaN if the fit did not converge.
    ratios : ndarray, shape (n_reference,)
        r at the reference events.
    weights : ndarray, shape (n_reference,)
        Events that each of them stands for.
    jacobian : ndarray, shape (n_reference, k)
        Derivative of log r at the reference events.
    slope : ndarray, shape (k,)
        Gradient of half of -delta; about 0 where it is fitted.
    curvature : ndarray, shape (k, k)
        Its second derivative, without that of log r.
    """

    nu: FloatArray
    delta: float
    ratios: FloatArray
    weights: FloatArray
    jacobian: FloatArray
    slope: FloatArray
    curvature: FloatArray


class NuisanceFit:
    """Likelihood fit of parameters that change the reference; what depends on it alone is computed once.

    Parameters
    ----------
    reference : ndarray, shape (n_reference, d)
        Reference events, raw.
    n_expected : float
        Events expected, N(R_0).
    nuisances : sequence of Normalisation or Shape
        The parameters, at least one. A finite sigma keeps the fit from diverging where a window has little
        information.
    shares : ndarray, shape (n_reference,), optional
        Weights of the reference events, which sum to 1; all equal by default.
    """

    def __init__(
        self,
        reference: FloatArray,
        n_expected: float,
        nuisances: Sequence[Nuisance],
        shares: FloatArray | None = None,
    ) -> None:
        self._nuisances = check_nuisances(nuisances)
        self._shares = np.full(len(reference), 1.0 / len(reference)) if shares is None else shares
        self.n_expected = n_expected
        self.precision: FloatArray = np.array([nuisance.sigma**-2.0 for nuisance in self._nuisances])
        self._linear, self._quadratic = log_ratio_coefficients(self._nuisances, reference)
        self._has_quadratic = bool(self._quadratic.any())

    def at(self, n_expected: float) -> NuisanceFit:
        """Give the fit of windows of another expected size."""
        other = copy(self)
        other.n_expected = n_expected
        return other

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
        point = self.find(data, np.ones(len(data)), measured_values(self._nuisances, measured))
        names = [nuisance.name for nuisance in self._nuisances]
        return point.delta, dict(zip(names, map(float, point.nu), strict=True))

    def find(self, data: FloatArray, counts: FloatArray, target: FloatArray) -> NuisancePoint:
        """Fit a window, and give the reference at the fitted parameters.

        Parameters
        ----------
        data : ndarray, shape (n_data, d)
            Its events, raw.
        counts : ndarray, shape (n_data,)
            Events that each row stands for.
        target : ndarray, shape (k,)
            Auxiliary measurements.
        """
        linear, quadratic = log_ratio_coefficients(self._nuisances, data)
        sums = counts @ linear, np.tensordot(counts, quadratic, axes=1)
        with np.errstate(over="ignore", invalid="ignore"):  # a step that is too long is halved
            point = self._at(target, sums, target)
            value = -0.5 * point.delta
            for _ in range(MAX_STEPS):
                if not (np.isfinite(point.curvature).all() and np.isfinite(point.slope).all()):
                    break  # the measurement is so far off that r overflows
                # without a measurement, the events may not distinguish a parameter from others
                step = np.linalg.lstsq(point.curvature, point.slope, rcond=None)[0]
                found = self._at(point.nu - step, sums, target)
                while not -0.5 * found.delta <= value + ROUNDING and abs(step).max() > ROUNDING:
                    step /= 2
                    found = self._at(point.nu - step, sums, target)
                decrease = value + 0.5 * found.delta
                point = found
                value = -0.5 * found.delta
                if decrease <= TOLERANCE:
                    return point
        return replace(point, delta=math.nan)

    def weights_at(self, nu: FloatArray) -> FloatArray:
        """Give the events that each reference event stands for at nu, shape (n_reference,)."""
        return self.n_expected * self._shares * self._deform(nu)[0]

    def nominal(self) -> NuisancePoint:
        """Give the nominal reference, with the objective of a window that is as expected."""
        zero = np.zeros(len(self._nuisances))
        weights = self.n_expected * self._shares
        return self._at(zero, (weights @ self._linear, np.tensordot(weights, self._quadratic, 1)), zero)

    def _deform(self, nu: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give r and the Jacobian of its logarithm at nu."""
        jacobian = self._linear + self._quadratic @ nu if self._has_quadratic else self._linear
        return np.exp(0.5 * (self._linear + jacobian) @ nu), jacobian

    def _at(self, nu: FloatArray, sums: tuple[FloatArray, FloatArray], target: FloatArray) -> NuisancePoint:
        """Evaluate the objective of a window; the coefficients have these sums over its events."""
        total_linear, total_quadratic = sums
        ratios, jacobian = self._deform(nu)
        weights = self.n_expected * self._shares * ratios
        pull = self.precision * (nu - target)
        value = weights.sum() - self.n_expected - (total_linear + 0.5 * total_quadratic @ nu) @ nu
        value += 0.5 * (pull @ (nu - target) - self.precision @ target**2)
        slope = jacobian.T @ weights - total_linear - total_quadratic @ nu + pull
        curvature = jacobian.T @ (weights[:, None] * jacobian) + np.diag(self.precision)
        return NuisancePoint(nu, float(-2.0 * value), ratios, weights, jacobian, slope, curvature)
