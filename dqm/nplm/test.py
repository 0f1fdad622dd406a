"""The kernel test: how much better a learned density ratio describes a window than the reference does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.basis import build_basis
from dqm.nplm.fit import Fit, Problem, minimise
from dqm.nplm.loss import LOSSES, LossName

__all__ = ["KernelResult", "KernelTest"]

REDUNDANCY = 1e-3
"""Kernel variance that may be lost with redundant centres, in units of the penalty lambda."""


@dataclass(frozen=True, slots=True)
class KernelResult:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        Test statistic; NaN if the fit did not converge.
    log_ratio : ndarray, shape (n_data,)
        Fitted f(x), log of the window's density over the reference's, at the window's events.
    log_ratio_reference : ndarray, shape (n_reference,)
        The same at the reference events.
    converged : bool
        Whether t is settled to `KernelTest`'s tolerance.
    iterations : int
        Newton steps taken.
    """

    t: float
    log_ratio: FloatArray
    log_ratio_reference: FloatArray
    converged: bool
    iterations: int


class KernelTest:
    """New Physics Learning Machine with Gaussian kernels, fitted to convergence.

    Everything that depends on the reference alone is computed here, once; `evaluate` then costs one window.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Reference events in raw features, at least two; they alone define the standardisation.
    n_expected : float
        Events expected in a healthy window, N(R_0) > 0.
    width : float
        Kernel sigma in standard deviations of the reference, > 0.
    penalty : float
        Falkon's lambda, > 0: the objective is ``mean loss + lambda/2 alpha^T K_MM alpha``, the mean over
        reference and data events together.
    centers : int or array_like, shape (m, d)
        Nystroem centres: how many to draw from the reference without replacement, or the centres themselves
        in raw features.
    weights : array_like, shape (n_reference,), optional
        Weights of the reference events, not negative; rescaled to sum to `n_expected`. All equal by default.
    loss : {"logistic", "likelihood"}
        Loss that is minimised; t is the same functional of f for both.
    rng : numpy.random.Generator, optional
        Draws the centres; required if `centers` is a number below n_reference.
    tolerance : float
        Largest change of t in the last Newton step, relative to ``max(1, |t|)``.
    max_iterations : int
        Newton steps after which a fit is given up.

    Raises
    ------
    InputError
        If an array has the wrong shape, is not finite, has a constant feature or fewer distinct events than
        centres are asked for, or if a number is out of range.

    Notes
    -----
    With wide kernels ``K_MM`` is numerically singular: most centres are redundant. A pivoted Cholesky
    factorisation orders them by what they add, and the last ones are left out while the kernel variance lost
    at every reference event is below 1e-3 lambda. That moves t by less than 1e-3 of itself, most where
    events lie outside all centres (measured in ``tests/nplm``).

    References
    ----------
    Letizia et al. (2022), arXiv:2204.02317; Grosso et al. (2023), arXiv:2303.05413.
    """

    def __init__(
        self,
        reference: ArrayLike,
        n_expected: float,
        width: float,
        penalty: float,
        centers: int | ArrayLike,
        weights: ArrayLike | None = None,
        loss: LossName = "logistic",
        rng: np.random.Generator | None = None,
        tolerance: float = 1e-5,
        max_iterations: int = 200,
    ) -> None:
        for name, number in [
            ("n_expected", n_expected),
            ("width", width),
            ("penalty", penalty),
            ("tolerance", tolerance),
        ]:
            if not (np.isfinite(number) and number > 0):
                raise InputError(f"{name} is {number}", fix="Give a finite number above 0")
        if loss not in LOSSES:
            raise InputError(f"unknown loss {loss!r}", fix=f"Choose one of {', '.join(LOSSES)}")
        events = _sample(reference, "reference")
        self.n_expected = float(n_expected)
        self.n_features = events.shape[1]
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self._penalty = float(penalty)
        self._loss: LossName = loss
        shares = _shares(weights, len(events))
        mean, scale = _standardisation(events, shares)
        self._weights = torch.from_numpy(shares * self.n_expected)
        self._basis, self._phi, self._second_moment = build_basis(
            torch.from_numpy(events),
            self._weights,
            torch.from_numpy(_choose_centers(centers, events, rng)),
            torch.from_numpy(mean),
            torch.from_numpy(scale),
            width=float(width),
            tolerance=REDUNDANCY * penalty,
        )

    @property
    def n_independent(self) -> int:
        """Centres kept as independent, r."""
        return self._phi.shape[1]

    def evaluate(self, data: ArrayLike) -> KernelResult:
        """Test one window.

        Parameters
        ----------
        data : array_like, shape (n_data, d)
            Events of the window in raw features, at least one.

        Returns
        -------
        KernelResult
            With ``t`` NaN and ``converged`` False if the fit was given up.

        Raises
        ------
        InputError
            If `data` is empty, not finite or has another number of features than the reference.
        """
        events = _sample(data, "window")
        if events.shape[1] != self.n_features:
            raise InputError(
                f"the window has {events.shape[1]} features, the reference {self.n_features}",
                fix="Give the same features in the same order as the reference",
            )
        fit = self._fit(self._basis(torch.from_numpy(events)))
        return KernelResult(
            t=fit.t if fit.converged else float("nan"),
            log_ratio=fit.f_data.numpy(),
            log_ratio_reference=fit.f_reference.numpy(),
            converged=fit.converged,
            iterations=fit.iterations,
        )

    def _fit(self, phi_data: Tensor) -> Fit:
        ridge = self._penalty * (len(self._phi) + len(phi_data))
        problem = Problem(
            phi_reference=self._phi,
            phi_data=phi_data,
            weights=self._weights,
            second_moment=self._second_moment,
            penalty=torch.full_like(self._second_moment, ridge),
        )
        return minimise(
            problem, LOSSES[self._loss], tolerance=self.tolerance, max_iterations=self.max_iterations
        )


def _sample(values: ArrayLike, what: str) -> FloatArray:
    """Check a sample and give it as a contiguous float64 array."""
    try:
        x = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the {what} is not an array of numbers: {error}") from error
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"the {what} has shape {x.shape}", fix="Give an array of shape (events, features)")
    if len(x) == 0:
        raise InputError(f"the {what} has no events", fix="Give at least one event")
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"the {what} has {int(bad.sum())} values that are not finite, the first is {x[row, column]} "
            f"in event {row}, feature {column}",
            fix="Remove such events before the test",
        )
    return x


def _shares(weights: ArrayLike | None, n_events: int) -> FloatArray:
    """Give the weights normalised to unit sum."""
    if weights is None:
        return np.full(n_events, 1.0 / n_events)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n_events,):
        raise InputError(
            f"weights have shape {w.shape}", fix=f"Give one for each of the {n_events} reference events"
        )
    if not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise InputError("weights are negative, not finite or all zero", fix="Give weights of 0 or more")
    shares: FloatArray = w / w.sum()
    return shares


def _standardisation(events: FloatArray, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean = shares @ events
    scale = np.sqrt(shares @ (events - mean) ** 2)
    constant = np.flatnonzero(scale <= 1e-12 * np.maximum(1.0, np.abs(mean)))
    if len(constant):
        raise InputError(
            f"feature {constant[0]} is constant in the reference ({mean[constant[0]]:g})",
            fix="Leave it out: a constant cannot be standardised and carries no information",
        )
    return mean, scale


def _choose_centers(
    centers: int | ArrayLike, events: FloatArray, rng: np.random.Generator | None
) -> FloatArray:
    if not isinstance(centers, int | np.integer):
        chosen = _sample(centers, "array of centres")
        if chosen.shape[1] != events.shape[1]:
            raise InputError(f"the centres have {chosen.shape[1]} features, the reference {events.shape[1]}")
        return chosen
    distinct = len(np.unique(events, axis=0))
    if not 1 <= centers <= distinct:
        raise InputError(
            f"{centers} centres asked for, the reference has {distinct} distinct events",
            fix=f"Ask for between 1 and {distinct}",
        )
    if centers == len(events):
        return events
    if rng is None:
        raise InputError(
            "no random generator given to draw the centres", fix="Pass rng=numpy.random.default_rng(seed)"
        )
    return events[np.sort(rng.choice(len(events), size=int(centers), replace=False))]
