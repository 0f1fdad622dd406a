"""Penalised fit of the log density ratio of many windows at once.

Newton steps on a few nodes that stand for the reference come close, at a cost that does not depend on its
size. A few quasi-Newton steps on all events do the rest, starting from the last Hessian of the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqm.nplm.hessian import Hessian
from dqm.nplm.problem import Events, FitPoint, FitProblem, evaluate, gradient
from dqm.nplm.quasi_newton import Memory
from dqm.nplm.search import find_step

__all__ = ["Fit", "Nodes", "minimise"]

NODE_STEPS, NEAR = 30, 3e-3
"""Newton steps on the nodes at most; they end when one promises less than this share of the statistic."""

QUASI_NEWTON_STEPS = 15
"""Steps after which a window is taken to be far from the reference, where Newton's own take over."""

LEVER = 2.0
"""Least change of the statistic expected of a step, over the root of the fall that it promises."""

HASTY = 5
"""Halvings of a quasi-Newton step: in float32 rounding may let none succeed, and all windows wait for it."""

COMPRESS = 0.75
"""When no more than this share of the windows is going on, the others are set aside."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """A few events that stand for the reference, see `dqm.nplm.nodes`, and the first guess of the Hessian.

    Parameters
    ----------
    events : Events
        The events.
    hessian : Hessian
        That of a healthy window, one row.
    """

    events: Events
    hessian: Hessian


@dataclass(slots=True)
class Fit:
    """Minima found, or the last points reached; one row a window.

    Parameters
    ----------
    point : FitPoint
        Where.
    hessian : Hessian
        Approximate Hessian there.
    converged : Tensor, shape (b,), bool
        Whether the statistic has settled to the tolerance asked for.
    iterations : Tensor, shape (b,), int64
        Steps over all events.
    """

    point: FitPoint
    hessian: Hessian
    converged: Tensor
    iterations: Tensor


def minimise(
    problem: FitProblem, nodes: Nodes, start: Tensor, *, tolerance: float, max_iterations: int
) -> Fit:
    """Minimise the objective of each window, see `FitPoint`.

    Parameters
    ----------
    problem : FitProblem
        Windows and reference.
    nodes : Nodes
        What stands for the reference.
    start : Tensor, shape (b, k)
        Nuisance parameters to start from, with f = 0.
    tolerance : float
        A window has converged when an undamped step changes its statistic by at most `tolerance` of itself
        (taken as 1 to 1000) and was too short to have changed it by more.
    max_iterations : int
        Newton steps allowed to windows that quasi-Newton steps do not settle.

    Returns
    -------
    Fit
        With ``converged`` False where the steps ran out or none would help.
    """
    b = len(problem.ridge)
    begin, near, hessian = _approach(problem.on(nodes.events), start, nodes.hessian)
    fit = Fit(
        _return(problem, begin, near),
        hessian,
        torch.zeros(b, dtype=torch.bool, device=start.device),
        torch.zeros(b, dtype=torch.int64, device=start.device),
    )
    _quasi_newton(problem, fit, tolerance)
    if not fit.converged.all():
        _newton(problem, fit, tolerance, max_iterations)
    return fit


def _approach(coarse: FitProblem, start: Tensor, healthy: Hessian) -> tuple[FitPoint, FitPoint, Hessian]:
    """Come close to the minima, with the nodes for a reference; gives start, end and the Hessians there."""
    rows = torch.arange(len(start), device=start.device)
    begin = evaluate(coarse, start.new_zeros(len(start), len(coarse.second_moment)), start)
    end, hessian = begin, healthy.take(torch.zeros_like(rows))
    here, here_metric = begin, hessian
    for _ in range(NODE_STEPS):
        slope = gradient(coarse, here)
        step = -here_metric.solve(slope)
        descent = (slope * step).sum(1)
        here, length = find_step(coarse, here, step, descent)
        if len(rows) == len(start):
            end, hessian = here, here_metric
        else:
            end.put(rows, here)
            hessian.put(rows, here_metric)
        going_on = (-descent > NEAR * _size(here)) & (length > 0.0)
        n_going = int(going_on.sum())
        if n_going == 0:
            break
        if n_going < len(rows):
            rows, coarse, here = rows[going_on], coarse.take(going_on), here.take(going_on)
        here_metric = Hessian.at(coarse, here, healthy.m)
    return begin, end, hessian


def _return(problem: FitProblem, start: FitPoint, near: FitPoint) -> FitPoint:
    """Evaluate points found on the nodes; what all events find worse than f = 0 starts there again."""
    here = evaluate(problem, near.a, near.nu)
    worse = ~(here.objective <= start.objective)
    if worse.any():
        here.put(worse, evaluate(problem.take(worse), start.a[worse], start.nu[worse]))
    return here


def _size(here: FitPoint) -> Tensor:
    # far from its minimum a statistic may be of any size, and a small share of it mean nothing
    return here.statistic.abs().clamp(min=1.0, max=1e3)


def _settled(here: FitPoint, there: FitPoint, promised: Tensor, lever: Tensor, tolerance: float) -> Tensor:
    """Tell whether a step was small: by what it did, and by what one of its length may do.

    The statistic feels a distance from the minimum as such, the objective its square; `lever` is what the
    step before changed the statistic by, over the root of what it promised. One small change may be by
    chance.
    """
    change, length = (there.statistic - here.statistic).abs(), promised.sqrt()
    allowed = tolerance * _size(there)
    return (change <= allowed) & (lever.clamp(min=LEVER) * length <= allowed)


def _quasi_newton(problem: FitProblem, fit: Fit, tolerance: float) -> None:
    rows = torch.arange(len(fit.converged), device=fit.converged.device)
    going_on = torch.ones_like(fit.converged)
    lever = torch.full_like(fit.point.statistic, torch.inf)
    memory, here = Memory(fit.hessian), fit.point
    slope = gradient(problem, here)
    for iteration in range(1, QUASI_NEWTON_STEPS + 1):
        step = -memory.solve(slope)
        descent = (slope * step).sum(1)
        there, length = find_step(problem, here, step, descent, HASTY)
        settled = going_on & (length == 1.0) & _settled(here, there, -descent, lever, tolerance)
        lever = (there.statistic - here.statistic).abs() / (-descent).sqrt()
        # a window is left as it was when it settled: its outcome must not depend on its company
        leaving = settled | (going_on & ((length == 0.0) | (iteration == QUASI_NEWTON_STEPS)))
        if leaving.all() and len(rows) == len(fit.converged):
            fit.point, fit.converged, fit.iterations = there, settled, fit.iterations + iteration
            break
        if leaving.any():
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
            lever, going_on = lever[going_on], going_on[going_on]


def _newton(problem: FitProblem, fit: Fit, tolerance: float, max_iterations: int) -> None:
    """Form the whole Hessian at each step, in float64: far from the reference nothing less helps."""
    rows = torch.nonzero(~fit.converged)[:, 0]
    problem = problem.take(rows).in_double_precision()
    here = evaluate(problem, fit.point.a[rows], fit.point.nu[rows])
    for _ in range(max_iterations):
        slope = gradient(problem, here)
        step = -Hessian.at(problem, here, len(problem.second_moment)).solve(slope)
        descent = (slope * step).sum(1)
        there, length = find_step(problem, here, step, descent)
        done = (length == 1.0) & _settled(here, there, -descent, torch.ones_like(descent), tolerance)
        fit.point.put(rows, there)
        fit.converged[rows] = done
        fit.iterations[rows] += 1
        going_on = ~done & (length > 0.0)
        if not going_on.any():
            break
        rows, problem, here = rows[going_on], problem.take(going_on), there.take(going_on)
