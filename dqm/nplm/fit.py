"""Penalised fit of the log density ratio of many windows at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqm.nplm.newton import HealthyHessian, Hessian, newton_step, solve
from dqm.nplm.problem import Point, Problem, evaluate, gradient
from dqm.nplm.quasi_newton import Memory
from dqm.nplm.search import find_step

__all__ = ["Fit", "covariance", "minimise"]

QUASI_NEWTON_STEPS = 50
"""Steps after which a window is taken to be far from the reference, where Newton's own take over ..."""

PATIENCE, FAR = 10, 5.0
"""... and steps after which it is if the next one is still expected to lower the objective by so much."""

HASTY = 5
"""Halvings of a quasi-Newton step: in float32 rounding may let none succeed, and all windows wait for it."""

COMPRESS = 0.75
"""When no more than this share of the windows is going on, the others are set aside."""


@dataclass(slots=True)
class Fit:
    """Minima found, or the last points reached; one row a window.

    Parameters
    ----------
    point : Point
        Where.
    converged : Tensor, shape (b,), bool
        Whether the statistic has settled to the tolerance asked for.
    iterations : Tensor, shape (b,), int64
        Steps taken.
    """

    point: Point
    converged: Tensor
    iterations: Tensor


def minimise(problem: Problem, start: Tensor, *, tolerance: float, max_iterations: int) -> Fit:
    """Minimise the objective of each window, see `Point`.

    Parameters
    ----------
    problem : Problem
        Windows and reference.
    start : Tensor, shape (b, k)
        Nuisance parameters to start from, with f = 0.
    tolerance : float
        A window has converged when two undamped quasi-Newton steps, or one of Newton's, change its statistic
        by at most `tolerance` of itself (taken as 1 to 1000) and promised to lower the objective by less.
    max_iterations : int
        Newton steps allowed to windows that quasi-Newton steps do not settle.

    Returns
    -------
    Fit
        With ``converged`` False where the steps ran out or none would help.
    """
    b = len(problem.ridge)
    flat = start.new_zeros(b, len(problem.second_moment))
    fit = Fit(
        evaluate(problem, flat, start.clone()),
        torch.zeros(b, dtype=torch.bool, device=start.device),
        torch.zeros(b, dtype=torch.int64, device=start.device),
    )
    if flat.shape[1]:
        _quasi_newton(problem, fit, tolerance)
    if not fit.converged.all():
        _newton(problem, fit, tolerance, max_iterations)
    return fit


def covariance(problem: Problem, fit: Fit) -> Tensor:
    """Invert the Hessian at a minimum: covariance of the nuisance parameters, shape (b, k, k)."""
    b, k = fit.point.nu.shape
    if k == 0:
        return fit.point.nu.new_zeros(b, 0, 0)
    hessian, healthy = Hessian(problem, fit.point), HealthyHessian.of(problem)
    r = fit.point.a.shape[1]
    columns = []
    for i in range(k):
        unit = fit.point.nu.new_zeros(b, r + k)
        unit[:, r + i] = 1.0
        columns.append(solve(hessian, healthy, unit, accuracy=1e-3)[:, r:])
    return problem.loss.healthy_curvature * torch.stack(columns, 2)


def _settled(here: Point, there: Point, expected: Tensor, tolerance: float) -> Tensor:
    # far from its minimum a statistic may be of any size, and a small share of it mean nothing
    allowed = tolerance * there.statistic.abs().clamp(min=1.0, max=1e3)
    return ((there.statistic - here.statistic).abs() <= allowed) & (expected <= allowed)


def _quasi_newton(problem: Problem, fit: Fit, tolerance: float) -> None:
    rows = torch.arange(len(fit.converged), device=fit.converged.device)
    going_on, was_quiet = torch.ones_like(fit.converged), torch.zeros_like(fit.converged)
    memory, here = Memory(HealthyHessian.of(problem)), fit.point.take(rows)
    slope = gradient(problem, here)
    for iteration in range(1, QUASI_NEWTON_STEPS + 1):
        step = -memory.solve(slope)
        descent = (slope * step).sum(1)
        there, length = find_step(problem, here, step, descent, HASTY)
        quiet = (length == 1.0) & _settled(here, there, -descent, tolerance)
        settled = going_on & quiet & was_quiet  # once may be by chance
        was_quiet = quiet
        far = (length == 0.0) | ((-descent > FAR) & (iteration >= PATIENCE))
        # a window is left as it was when it settled: its outcome must not depend on its company
        leaving = going_on & (settled | far | (iteration == QUASI_NEWTON_STEPS))
        fit.point.put(rows[leaving], there.take(leaving))
        fit.iterations[rows[leaving]] = iteration
        fit.converged[rows[settled]] = True
        going_on = going_on & ~leaving
        n_going = int(going_on.sum())
        if n_going == 0:
            break
        new_slope = gradient(problem, there)
        memory.remember(torch.cat([there.a - here.a, there.nu - here.nu], 1), new_slope - slope)
        here, slope = there, new_slope
        if n_going <= COMPRESS * len(rows):
            rows, problem, here = rows[going_on], problem.take(going_on), here.take(going_on)
            slope = slope[going_on]
            memory.take(going_on)
            was_quiet, going_on = was_quiet[going_on], going_on[going_on]


def _newton(problem: Problem, fit: Fit, tolerance: float, max_iterations: int) -> None:
    rows = torch.nonzero(~fit.converged)[:, 0]
    problem = problem.take(rows).in_double_precision()
    here = evaluate(problem, fit.point.a[rows], fit.point.nu[rows])
    for _ in range(max_iterations):
        there, length, descent = newton_step(problem, here)
        done = (length == 1.0) & _settled(here, there, -descent, tolerance)
        fit.point.put(rows, there)
        fit.converged[rows] = done
        fit.iterations[rows] += 1
        going_on = ~done & (length > 0.0)
        if not going_on.any():
            break
        rows, problem, here = rows[going_on], problem.take(going_on), there.take(going_on)
