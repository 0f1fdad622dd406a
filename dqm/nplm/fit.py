"""Penalised fit of the log density ratio of many windows at once, by a damped, inexact Newton method."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from dqm.nplm.loss import LOSSES
from dqm.nplm.problem import Problem
from dqm.nplm.system import System, solve

__all__ = ["Fit", "covariance", "minimise"]


@dataclass
class Fit:
    """Minima found, or the last points reached; one row a window.

    Parameters
    ----------
    a, nu : Tensor, shapes (b, r), (b, k)
        Coordinates of f, nuisance parameters.
    reference, data : Tensor, shapes (b, n_reference), (b, n_data)
        ``f + log r`` at the events.
    objective : Tensor, shape (b,)
        Value of what is minimised.
    statistic : Tensor, shape (b,)
        ``-2 L`` of eq. 25 (d'Agnolo et al. 2022) at this point: tau, or Delta if there is no basis function.
    converged : Tensor, shape (b,), bool
        Whether the statistic has settled to the tolerance asked for.
    iterations : Tensor, shape (b,), int64
        Newton steps taken.
    """

    a: Tensor
    nu: Tensor
    reference: Tensor
    data: Tensor
    objective: Tensor
    statistic: Tensor
    converged: Tensor
    iterations: Tensor

    def take(self, chosen: Tensor) -> Fit:
        """Give the rows that `chosen` selects."""
        return Fit(*(getattr(self, name)[chosen] for name in _ROWS))

    def put(self, rows: Tensor, other: Fit) -> None:
        """Replace some rows by those of another fit."""
        for name in _ROWS:
            getattr(self, name)[rows] = getattr(other, name)


_ROWS = tuple(field.name for field in fields(Fit))


def minimise(problem: Problem, *, tolerance: float, max_iterations: int) -> Fit:
    """Minimise ``sum loss + ridge |a|^2 / 2 + c sum_i ((nu_i - measured_i) / sigma_i)^2 / 2``.

    Here c is the loss's own curvature at 0, so that data and auxiliary measurements keep their proportion.

    Parameters
    ----------
    problem : Problem
        Windows and reference.
    tolerance : float
        A window has converged when an undamped Newton step changes its statistic by at most
        ``tolerance * max(1, |statistic|)``; what is left is then smaller by another factor of ten or more.
    max_iterations : int
        Newton steps allowed.

    Returns
    -------
    Fit
        With ``converged`` False where the steps ran out or none would help.
    """
    rows = torch.arange(len(problem.ridge))
    a = torch.zeros(len(rows), len(problem.second_moment), dtype=problem.ridge.dtype)
    here = _evaluate(problem, a, problem.measured)
    result = here.take(rows)
    for iteration in range(1, max_iterations + 1):
        system = System(problem, here.a, here.nu, here.reference, here.data)
        gradient = system.gradient()
        step = solve(system, -gradient)
        there, length = _line_search(problem, here, step, (gradient * step).sum(1))
        change = (there.statistic - here.statistic).abs()
        there.converged = (length == 1.0) & (change <= tolerance * there.statistic.abs().clamp(min=1.0))
        there.iterations = torch.full_like(rows, iteration)
        result.put(rows, there)
        going_on = ~there.converged & (length > 0.0)
        if not going_on.any():
            break
        if going_on.all():
            here = there
        else:
            rows, problem, here = rows[going_on], problem.take(going_on), there.take(going_on)
    return result


def covariance(problem: Problem, fit: Fit) -> Tensor:
    """Invert the Hessian at a minimum: covariance of the nuisance parameters, shape (b, k, k)."""
    b, k = fit.nu.shape
    if k == 0:
        return torch.zeros(b, 0, 0, dtype=fit.nu.dtype)
    system = System(problem, fit.a, fit.nu, fit.reference, fit.data)
    r = fit.a.shape[1]
    columns = []
    for i in range(k):
        unit = torch.zeros(b, r + k, dtype=fit.nu.dtype)
        unit[:, r + i] = 1.0
        columns.append(solve(system, unit, forcing=1e-3)[:, r:])
    return LOSSES[problem.loss].healthy_curvature * torch.stack(columns, 2)


def _evaluate(p: Problem, a: Tensor, nu: Tensor) -> Fit:
    """Evaluate loss, penalties and statistic at a point."""
    reference, data = p.reference.log_ratio(a, nu), p.data.log_ratio(a, nu)
    weights = p.reference.weights, p.data.weights
    tension = (p.precision * (nu - p.measured) ** 2).sum(1)
    untouched = (p.precision * p.measured**2).sum(1)
    loss = LOSSES[p.loss]
    objective = loss.value(reference, data, *weights) + 0.5 * p.ridge * (a * a).sum(1)
    return Fit(
        a,
        nu,
        reference,
        data,
        objective=objective + 0.5 * loss.healthy_curvature * tension,
        statistic=-2.0 * LOSSES["likelihood"].value(reference, data, *weights) - tension + untouched,
        converged=torch.zeros(len(a), dtype=torch.bool),
        iterations=torch.zeros(len(a), dtype=torch.int64),
    )


def _line_search(p: Problem, here: Fit, step: Tensor, descent: Tensor) -> tuple[Fit, Tensor]:
    """Halve each window's step until its objective falls enough; a length of 0 says that none helps."""
    r = here.a.shape[1]
    # below this the objective's own rounding decides, not the step
    noise = 1e-13 * (here.objective.abs() + p.reference.weights.sum())
    length = torch.ones_like(descent)
    for _ in range(30):
        move = length[:, None] * step
        there = _evaluate(p, here.a + move[:, :r], here.nu + move[:, r:])
        falls = there.objective <= here.objective + 1e-4 * length * descent + noise
        if falls.all():
            return there, length
        length = torch.where(falls, length, 0.5 * length)
    length = torch.where(falls, length, 0.0)
    move = length[:, None] * step
    return _evaluate(p, here.a + move[:, :r], here.nu + move[:, r:]), length
