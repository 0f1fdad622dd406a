"""The kernel test as it was published: one Newton step instead of a full fit, by conjugate gradients.

It serves cross-checks and comparisons. It is slower than `KernelTest`, and its t falls below that of the full
fit, the more the further a window is from the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.kernel import gaussian_kernel
from dqm.nplm.nuisance import Nuisance
from dqm.nplm.samples import Sample, check_sample, choose_centers, normalised_weights, standardisation

__all__ = ["OneStepResult", "OneStepTest"]

JITTER = 1e-13
"""This times the number of centres is added to the diagonal of K_MM before it is factorised, as in Falkon."""

ACCURACY = 1e-7
"""Residual of the linear equations, relative to their right side, at which they count as solved."""

MAX_STEPS = 1000
"""Most conjugate-gradient steps for one window."""


@dataclass(frozen=True)
class OneStepResult:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        Test statistic, dimensionless; NaN if the linear equations were not solved.
    converged : bool
        Whether the equations were solved to `ACCURACY`.
    n_outside : int
        Events of the window outside the range of the reference in at least one feature.
    log_ratio, log_ratio_reference : ndarray, shapes (n_data,), (n_reference,)
        Learned f at the events of the window and of the reference.
    reference_weights : ndarray, shape (n_reference,)
        Weight of each reference event; the sum is N(R_0).
    delta : float
        0: there are no nuisance parameters.
    """

    t: float
    converged: bool
    n_outside: int
    log_ratio: FloatArray = field(repr=False)
    log_ratio_reference: FloatArray = field(repr=False)
    reference_weights: FloatArray = field(repr=False)
    delta: float = 0.0

    @property
    def tau(self) -> float:
        """Equal to `t`: there are no nuisance parameters."""
        return self.t

    @property
    def nuisances(self) -> Mapping[str, NuisanceResult]:
        """Empty: there are no nuisance parameters."""
        return {}


class OneStepTest:
    """New Physics Learning Machine with Gaussian kernels, one Newton step from ``f = 0``.

    It is the step of the weighted cross-entropy. The linear equations for the coefficients of all centres are
    solved by conjugate gradients, preconditioned with two Cholesky factors: that of ``K_MM``, and that of the
    Hessian computed from the centres alone.

    Parameters
    ----------
    reference, n_expected, width, penalty, centers, weights, rng
        As in `KernelTest`.
    loss : {"logistic"}
        Loss that is minimised; no other loss is supported.
    nuisances : sequence
        Must be empty.

    Raises
    ------
    InputError
        As in `KernelTest`; also for another loss, or with nuisance parameters.

    References
    ----------
    Marteau-Ferey, Bach and Rudi (2019), arXiv:1907.01771; Letizia et al. (2022), arXiv:2204.02317.
    """

    takes_nuisances = False
    usual_settings: ClassVar[Mapping[str, object]] = {"width": 2.5, "penalty": 1e-7, "loss": "logistic"}
    """Settings of a bundle if none are given."""

    def __init__(
        self,
        reference: ArrayLike,
        *,
        n_expected: float,
        width: float,
        penalty: float,
        centers: int | ArrayLike,
        weights: ArrayLike | None = None,
        loss: str = "logistic",
        rng: np.random.Generator | None = None,
        nuisances: Sequence[Nuisance] = (),
    ) -> None:
        for name, number in [("n_expected", n_expected), ("width", width), ("penalty", penalty)]:
            if not (np.isfinite(number) and number > 0):
                raise InputError(f"{name} is {number}", fix="Give a finite number above 0")
        if loss != "logistic":
            raise InputError(
                f"a single step is not defined for the loss {loss!r}", fix="Use logistic, or the kernel test"
            )
        if nuisances:
            raise InputError(
                f"a single step takes no nuisance parameters, got {len(nuisances)}",
                fix="Use the kernel test",
            )
        events = check_sample(reference, "reference")
        shares = normalised_weights(weights, len(events))
        self._low = events.min(axis=0)
        self._high = events.max(axis=0)
        self._mean, self._scale = standardisation(events, shares)
        self._n_expected = float(n_expected)
        self._width = float(width)
        self._penalty = float(penalty)
        self._weights = torch.from_numpy(shares * n_expected)
        self._events = self._standardise(events)
        self._centers = self._standardise(choose_centers(centers, Sample(events), rng))
        self._prepare()

    def evaluate(self, data: ArrayLike, *, auxiliary: Mapping[str, float] | None = None) -> OneStepResult:
        """Test one window.

        Parameters
        ----------
        data : array_like, shape (n_data, d)
            Events of the window in raw features, at least one.
        auxiliary : mapping, optional
            Must be empty: there are no nuisance parameters.

        Returns
        -------
        OneStepResult

        Raises
        ------
        InputError
            If `data` is empty, not finite or has another number of features than the reference.
        """
        if auxiliary:
            raise InputError(
                f"unknown nuisance parameters: {', '.join(auxiliary)}",
                fix="Leave them out: this test has no nuisance parameters",
            )
        x = check_sample(data, "window", len(self._mean))
        alpha, converged = self._solve(self._standardise(x))
        f, f_reference = (
            gaussian_kernel(events, self._centers, self._width) @ alpha
            for events in (self._standardise(x), self._events)
        )
        t = -2.0 * float(self._weights @ torch.expm1(f_reference) - f.sum())
        return OneStepResult(
            t=t if converged else math.nan,
            converged=converged,
            n_outside=int(((x < self._low) | (x > self._high)).any(axis=1).sum()),
            log_ratio=f.numpy(),
            log_ratio_reference=f_reference.numpy(),
            reference_weights=self._weights.numpy(),
        )

    def evaluate_many(
        self, windows: Sequence[ArrayLike], *, auxiliaries: Sequence[Mapping[str, float]] | None = None
    ) -> list[OneStepResult]:
        """Test several windows, one by one."""
        return [
            self.evaluate(window, auxiliary=auxiliaries[place] if auxiliaries else None)
            for place, window in enumerate(windows)
        ]

    def _standardise(self, x: FloatArray) -> Tensor:
        return torch.from_numpy((x - self._mean) / self._scale)

    def _prepare(self) -> None:
        """Factorise ``K_MM = L L^t``, and the Hessian of healthy windows in coordinates ``L^t alpha``."""
        m, n_reference = len(self._centers), len(self._events)
        self._kernel = gaussian_kernel(self._centers, self._centers, self._width)
        self._kernel.diagonal().add_(JITTER * m)
        self._root = _factorise(self._kernel)
        # each expected event has curvature 1/2, reference and window together; the centres represent them
        curvature = 0.5 * self._n_expected / (m * (n_reference + self._n_expected))
        hessian = curvature * (self._root.T @ self._root)
        hessian.diagonal().add_(self._penalty)
        self._healthy = _factorise(hessian)
        self._reference_kernel = gaussian_kernel(self._events, self._centers, self._width)

    def _solve(self, x: Tensor) -> tuple[Tensor, bool]:
        """Solve for the coefficients of the centres, shape (m,); also tell whether `ACCURACY` was reached."""
        n = len(self._events) + len(x)
        kernel = torch.cat([self._reference_kernel, gaussian_kernel(x, self._centers, self._width)])
        weights = torch.cat([self._weights, torch.ones(len(x), dtype=torch.float64)])
        signs = torch.cat([-torch.ones(len(self._events)), torch.ones(len(x))])

        def multiply(v: Tensor) -> Tensor:
            alpha = self._to_coefficients(v)
            hessian = kernel.T @ (0.25 * weights * (kernel @ alpha)) / n + self._penalty * (
                self._kernel @ alpha
            )
            return self._to_preconditioned(hessian)

        negative_gradient = kernel.T @ (0.5 * signs * weights) / n
        solution, is_solved = _conjugate_gradients(multiply, self._to_preconditioned(negative_gradient))
        return self._to_coefficients(solution), is_solved

    def _to_preconditioned(self, gradient: Tensor) -> Tensor:
        """Transform a gradient to the coordinates in which the Hessian is close to the identity."""
        for factor in (self._root, self._healthy):
            gradient = torch.linalg.solve_triangular(factor, gradient[:, None], upper=False)[:, 0]
        return gradient

    def _to_coefficients(self, v: Tensor) -> Tensor:
        """Transform from these coordinates to coefficients of the centres."""
        for factor in (self._healthy, self._root):
            v = torch.linalg.solve_triangular(factor.T, v[:, None], upper=True)[:, 0]
        return v


def _factorise(matrix: Tensor) -> Tensor:
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        raise InputError(
            "the kernel matrix of the centres is singular to rounding",
            fix="Take fewer centres, or smaller widths",
        )
    return factor


def _conjugate_gradients(multiply: Callable[[Tensor], Tensor], right: Tensor) -> tuple[Tensor, bool]:
    """Solve ``multiply(x) = right``; also tells whether `ACCURACY` was reached."""
    x = torch.zeros_like(right)
    residual = right
    direction = right
    norm = residual @ residual
    goal = ACCURACY**2 * norm
    for _ in range(MAX_STEPS):
        if norm <= goal:
            return x, True
        product = multiply(direction)
        length = norm / (direction @ product)
        x = x + length * direction
        residual = residual - length * product
        previous = norm
        norm = residual @ residual
        direction = residual + (norm / previous) * direction
    return x, bool(norm <= goal)
