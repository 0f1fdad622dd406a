"""Penalised fit of the log density ratio by a damped, inexact Newton method.

Each Newton direction solves ``H s = -g`` by conjugate gradients, preconditioned with the Hessian of a healthy
window at ``f = 0``, which is diagonal in the coordinates of `dqm.nplm.basis`. Where that is slow (few
coordinates, or a window far from the reference) the Hessian is formed and factorised instead. Both lead to
the same minimum: the objective is strictly convex.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqm.nplm.loss import Loss, Slopes, statistic

__all__ = ["Fit", "Problem", "minimise"]

DENSE_BELOW = 128
"""Coordinates below which forming the Hessian is cheaper than iterating on it."""

CG_STEPS = 40
"""Conjugate-gradient steps after which the Hessian is formed after all."""

FORCING = 0.1
"""Accuracy of an early Newton direction; it tightens as the gradient vanishes."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One window against its reference.

    Parameters
    ----------
    phi_reference : Tensor, shape (n_reference, r)
        Basis functions at the reference.
    phi_data : Tensor, shape (n_data, r)
        Basis functions at the events of the window.
    weights : Tensor, shape (n_reference,)
        Reference weights, summing to N(R_0).
    second_moment : Tensor, shape (r,)
        Weighted second moments of the basis over the reference.
    penalty : Tensor, shape (r,)
        Curvature of the penalty ``sum_j penalty_j a_j^2 / 2``, positive.
    """

    phi_reference: Tensor
    phi_data: Tensor
    weights: Tensor
    second_moment: Tensor
    penalty: Tensor


@dataclass(frozen=True, slots=True)
class Fit:
    """Minimum found, or the last point reached.

    Parameters
    ----------
    coefficients : Tensor, shape (r,)
        Coordinates a of ``f = phi a``.
    f_reference, f_data : Tensor, shapes (n_reference,), (n_data,)
        Log density ratio at the events.
    t : float
        Test statistic at this point.
    converged : bool
        Whether t has settled to the tolerance asked for.
    iterations : int
        Newton steps taken.
    """

    coefficients: Tensor
    f_reference: Tensor
    f_data: Tensor
    t: float
    converged: bool
    iterations: int


def minimise(
    problem: Problem, loss: Loss, *, tolerance: float, max_iterations: int, start: Tensor | None = None
) -> Fit:
    """Minimise ``sum loss + sum_j penalty_j a_j^2 / 2`` over the coordinates a.

    Parameters
    ----------
    problem : Problem
        Window and reference.
    loss : Loss
        Loss of the events.
    tolerance : float
        The fit has converged when an undamped Newton step changes t by at most ``tolerance * max(1, |t|)``;
        what is left is then smaller by another factor of ten or more.
    max_iterations : int
        Newton steps allowed.
    start : Tensor, shape (r,), optional
        Where to begin; zero by default.

    Returns
    -------
    Fit
        With ``converged`` False if the steps ran out.
    """
    p = problem
    a = torch.zeros_like(p.penalty) if start is None else start
    here = _evaluate(p, loss, a, p.phi_reference @ a, p.phi_data @ a)
    for iteration in range(1, max_iterations + 1):
        slopes = loss.slopes(here.f_reference, here.f_data, p.weights)
        gradient = slopes.reference @ p.phi_reference + slopes.data @ p.phi_data + p.penalty * here.a
        step = _newton_step(p, loss, slopes, gradient)
        there, length = _line_search(p, loss, here, step, float(gradient @ step))
        settled = abs(there.t - here.t) <= tolerance * max(1.0, abs(there.t))
        here = there
        if settled or length == 0.0:
            return here.as_fit(converged=settled and length == 1.0, iterations=iteration)
    return here.as_fit(converged=False, iterations=max_iterations)


@dataclass(frozen=True, slots=True)
class _Point:
    """A trial of the minimisation."""

    a: Tensor
    f_reference: Tensor
    f_data: Tensor
    objective: float
    t: float

    def as_fit(self, *, converged: bool, iterations: int) -> Fit:
        return Fit(self.a, self.f_reference, self.f_data, self.t, converged, iterations)


def _evaluate(p: Problem, loss: Loss, a: Tensor, f_reference: Tensor, f_data: Tensor) -> _Point:
    penalty = 0.5 * float(p.penalty @ (a * a))
    objective = loss.value(f_reference, f_data, p.weights) + penalty
    return _Point(a, f_reference, f_data, objective, statistic(f_reference, f_data, p.weights))


def _line_search(p: Problem, loss: Loss, here: _Point, step: Tensor, descent: float) -> tuple[_Point, float]:
    """Halve the step until the objective falls enough; a length of 0 says that no step helps."""
    move_reference, move_data = p.phi_reference @ step, p.phi_data @ step
    # below this the objective's own rounding decides, not the step
    noise = 1e-13 * (abs(here.objective) + float(p.weights.sum()))
    length = 1.0
    while length > 1e-9:
        there = _evaluate(
            p,
            loss,
            here.a + length * step,
            here.f_reference + length * move_reference,
            here.f_data + length * move_data,
        )
        if there.objective <= here.objective + 1e-4 * length * descent + noise:
            return there, length
        length /= 2.0
    return here, 0.0


def _newton_step(p: Problem, loss: Loss, slopes: Slopes, gradient: Tensor) -> Tensor:
    if len(gradient) > DENSE_BELOW:
        step = _conjugate_gradients(p, loss, slopes, gradient)
        if step is not None:
            return step
    hessian = p.phi_reference.T @ (slopes.reference_curvature[:, None] * p.phi_reference)
    hessian.addmm_(p.phi_data.T, slopes.data_curvature[:, None] * p.phi_data)
    hessian.diagonal().add_(p.penalty)
    return torch.cholesky_solve(-gradient[:, None], torch.linalg.cholesky(hessian))[:, 0]


def _conjugate_gradients(p: Problem, loss: Loss, slopes: Slopes, gradient: Tensor) -> Tensor | None:
    """Newton direction to the forcing accuracy, or None if that takes more than `CG_STEPS`."""
    inverse = 1.0 / (loss.healthy_curvature * p.second_moment + p.penalty)
    residual = -gradient
    step = torch.zeros_like(gradient)
    direction = preconditioned = inverse * residual
    norm = float(residual @ preconditioned)
    goal = norm * min(FORCING, norm**0.5) ** 2
    for _ in range(CG_STEPS):
        image = (slopes.reference_curvature * (p.phi_reference @ direction)) @ p.phi_reference
        image += (slopes.data_curvature * (p.phi_data @ direction)) @ p.phi_data
        image += p.penalty * direction
        length = norm / float(direction @ image)
        step = step + length * direction
        residual = residual - length * image
        preconditioned = inverse * residual
        previous, norm = norm, float(residual @ preconditioned)
        if norm <= goal:
            return step
        direction = preconditioned + (norm / previous) * direction
    return None
