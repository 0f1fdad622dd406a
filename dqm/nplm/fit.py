"""Penalised fit of the log density ratio of many windows at once.

The fit has three stages.

1. Newton steps in which a few weighted events, the nodes, replace the reference. They come close to the
   minimum, at a cost that does not depend on the size of the reference.
2. Quasi-Newton steps (L-BFGS) with all events. They start from the last Hessian of stage 1.
3. Newton steps with all events in float64, only for windows that stage 2 does not bring to convergence.

A window far from the reference needs hundreds of steps of all kinds. If its statistic is certain to exceed
`FitProblem.enough`, its fit ends at the point that shows this. Other windows take the same steps as without
this rule.

A window's result does not depend on the other windows of its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqm.nplm.hessian import Hessian
from dqm.nplm.problem import Events, FitPoint, FitProblem, evaluate, gradient, lower_bound

__all__ = ["Fit", "Nodes", "minimise", "newton"]

MAX_NODE_STEPS = 30
"""Most Newton steps with the nodes."""

NODE_TOLERANCE = 3e-3
"""The steps with the nodes end when the decrease predicted for one is below this share of the statistic."""

MAX_QUASI_NEWTON_STEPS = 15
"""Most quasi-Newton steps; a window that needs more is far from the reference and gets Newton steps."""

SHORT_STEP = 0.25
"""A step cut to this share or less is the first sign of a window far from the reference."""

FAR = 4.0
"""In the first steps a fit ends only if its bound is above `FitProblem.enough` times this: the fits of
usual faults converge soon, and their results are useful."""

USUAL_NODE_STEPS = 12
"""Steps with the nodes after which any bound above `FitProblem.enough` ends a fit."""

USUAL_QUASI_NEWTON_STEPS = 8
"""The same for quasi-Newton steps; the fits of usual faults have converged by then."""

MIN_SENSITIVITY = 2.0
"""Smallest value assumed for the change of the statistic over the root of a step's predicted decrease."""

MAX_HALVINGS = 30
"""Most halvings of a Newton step."""

MAX_QUASI_NEWTON_HALVINGS = 5
"""Most halvings of a quasi-Newton step. With rounding in float32 none may succeed, and all windows wait."""

ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-9}
"""Relative rounding error of the objective, by precision of the basis; smaller changes have no meaning."""

MAX_PAIRS = 10
"""Steps that the quasi-Newton correction uses."""

COMPACTION_SHARE = 0.75
"""When at most this share of the windows is still being fitted, the others are removed from the tensors."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """A few weighted events that replace the reference in the first steps, see `dqm.nplm.prepared`.

    Parameters
    ----------
    events : Events
        The events.
    hessian : Hessian
        Hessian of a healthy window, one row: the first approximation.
    """

    events: Events
    hessian: Hessian


@dataclass(slots=True)
class Fit:
    """Result of a fit; one row for each window.

    Parameters
    ----------
    point : FitPoint
        Minimum, or the last point reached.
    hessian : Hessian
        Approximate Hessian at that point.
    converged : Tensor, shape (b,), bool
        Whether the statistic converged to the requested tolerance.
    iterations : Tensor, shape (b,), int64
        Steps with all events.
    bound : Tensor, shape (b,)
        Lower bound of the statistic if the fit ended because this is above `FitProblem.enough`; else minus
        infinity.
    """

    point: FitPoint
    hessian: Hessian
    converged: Tensor
    iterations: Tensor
    bound: Tensor

    @property
    def is_settled(self) -> Tensor:
        """Whether the fit of each window is over, shape (b,)."""
        return self.converged | (self.bound > -torch.inf)


def minimise(
    problem: FitProblem, nodes: Nodes, start: Tensor, *, tolerance: float, max_iterations: int
) -> Fit:
    """Minimise the objective of each window; `FitPoint` defines it.

    Parameters
    ----------
    problem : FitProblem
        Windows and reference.
    nodes : Nodes
        Replace the reference in the first steps.
    start : Tensor, shape (b, k)
        Nuisance parameters to start from, with f = 0.
    tolerance : float
        A window has converged when a full step changes its statistic by at most `tolerance` times the
        statistic (limited to 1 to 1000), and a step of that length cannot have changed it by more.
    max_iterations : int
        Most Newton steps for windows that do not converge with quasi-Newton steps.

    Returns
    -------
    Fit
        `converged` is False where the number of steps was reached, where no step lowers the objective, or
        where `bound` is above `FitProblem.enough`.
    """
    begin, near, hessian, bound = _fit_nodes(problem, nodes, start)
    fit = Fit(
        _evaluate_all_events(problem, begin, near),
        hessian,
        converged=torch.zeros_like(bound, dtype=torch.bool),
        iterations=torch.zeros_like(bound, dtype=torch.int64),
        bound=bound,
    )
    if not fit.is_settled.all():
        _quasi_newton(problem, fit, tolerance)
    if not fit.is_settled.all():
        newton(problem, fit, tolerance, max_iterations)
    return fit


def _fit_nodes(
    problem: FitProblem, nodes: Nodes, start: Tensor
) -> tuple[FitPoint, FitPoint, Hessian, Tensor]:
    """Fit with the nodes as reference.

    Return the first point, the last point and its Hessian, and the `Fit.bound` of each window.
    """
    coarse = problem.on(nodes.events)
    rows = torch.arange(len(start), device=start.device)
    begin = evaluate(coarse, start.new_zeros(len(start), len(coarse.second_moment)), start)
    end = begin
    hessian = nodes.hessian.spread(coarse)
    bound_search = _BoundSearch(problem, start)
    found = torch.full_like(problem.enough, -torch.inf)
    here = begin
    here_hessian = hessian
    for n_steps in range(1, MAX_NODE_STEPS + 1):
        slope = gradient(coarse, here)
        step = -here_hessian.solve(slope)
        descent = (slope * step).sum(1)
        here, length = _find_step(coarse, here, step, descent)
        if len(rows) == len(start):
            end = here
            hessian = here_hessian
        else:
            end.put(rows, here)
            hessian.put(rows, here_hessian)
        beyond = bound_search.look(rows, here, length, n_steps)
        ended = rows[beyond]
        found[ended], end.a[ended], end.nu[ended] = (
            value[ended] for value in (bound_search.bound, bound_search.a, bound_search.nu)
        )
        active = (-descent > NODE_TOLERANCE * _size(here)) & (length > 0.0) & ~beyond
        n_active = int(active.sum())
        if n_active == 0:
            break
        if n_active < len(rows):
            rows = rows[active]
            coarse = coarse.take(active)
            here = here.take(active)
        here_hessian = Hessian.at(coarse, here, nodes.hessian.m)
    return begin, end, hessian, found


class _BoundSearch:
    """Finds, during the steps with the nodes, windows that are certain to be beyond `FitProblem.enough`.

    All events are needed for this: for a window far from the nodes, their value is not a bound. The steps may
    also lead away from it, so the best point is kept.

    Parameters
    ----------
    problem : FitProblem
        Windows and reference.
    start : Tensor, shape (b, k)
        Nuisance parameters to start from.
    """

    def __init__(self, problem: FitProblem, start: Tensor) -> None:
        self._problem = problem
        self._can_tell = problem.enough.isfinite() & problem.loss.bounds_statistic
        self.bound = torch.full_like(problem.enough, -torch.inf)
        self.a = start.new_zeros(len(start), len(problem.second_moment))
        self.nu = start.clone()

    def look(self, rows: Tensor, here: FitPoint, length: Tensor, n_steps: int) -> Tensor:
        """Tell which of the windows `rows` are beyond; where steps are neither short nor many, none is."""
        is_late = n_steps >= USUAL_NODE_STEPS
        suspect = ((length <= SHORT_STEP) | is_late) & self._can_tell[rows]
        if not suspect.any():
            return suspect
        chosen = rows[suspect]
        some = self._problem.take(chosen)
        point = evaluate(some, here.a[suspect], here.nu[suspect])
        bound = lower_bound(some, point, 0.0)
        better = bound > self.bound[chosen]
        chosen = chosen[better]
        self.bound[chosen] = bound[better]
        self.a[chosen] = point.a[better]
        self.nu[chosen] = point.nu[better]
        return self.bound[rows] > self._problem.enough[rows] * (1.0 if is_late else FAR)


def _evaluate_all_events(problem: FitProblem, start: FitPoint, near: FitPoint) -> FitPoint:
    """Evaluate the points found with the nodes with all events; where f = 0 is better, return to it."""
    here = evaluate(problem, near.a, near.nu)
    worse = ~(here.objective <= start.objective)
    if worse.any():
        here.put(worse, evaluate(problem.take(worse), start.a[worse], start.nu[worse]))
    return here


def _size(here: FitPoint) -> Tensor:
    # far from the minimum the statistic may have any value; a small share of it would mean nothing
    return here.statistic.abs().clamp(min=1.0, max=1e3)


def _has_converged(
    here: FitPoint, there: FitPoint, predicted: Tensor, sensitivity: Tensor, tolerance: float
) -> Tensor:
    """Tell whether a step was small, by the change it made and by the change a step of its length may make.

    The statistic changes in proportion to the distance from the minimum, the objective to its square. So the
    change of the statistic is estimated as `sensitivity` times the root of the predicted decrease of the
    objective; `sensitivity` is that ratio in the step before. The measured change alone is not enough: it may
    be small by chance.
    """
    change = (there.statistic - here.statistic).abs()
    length = predicted.sqrt()
    allowed = tolerance * _size(there)
    return (change <= allowed) & (sensitivity.clamp(min=MIN_SENSITIVITY) * length <= allowed)


def _bound_beyond(
    p: FitProblem,
    there: FitPoint,
    predicted: Tensor,
    sensitivity: Tensor,
    tolerance: float,
    factor: float = 1.0,
) -> Tensor:
    """Give the lower bound of each statistic if it is beyond `FitProblem.enough`, else minus infinity."""
    error = sensitivity.clamp(min=MIN_SENSITIVITY) * predicted.sqrt()  # as in `_has_converged`
    bound = lower_bound(p, there, error.maximum(tolerance * _size(there)))
    return bound.where(bound > factor * p.enough, -torch.inf)


def _quasi_newton(problem: FitProblem, fit: Fit, tolerance: float) -> None:
    rows = torch.arange(len(fit.converged), device=fit.converged.device)
    active = ~fit.is_settled
    sensitivity = torch.full_like(fit.point.statistic, torch.inf)
    hessian = _LimitedMemoryHessian(fit.hessian)
    here = fit.point
    slope = gradient(problem, here)
    for iteration in range(1, MAX_QUASI_NEWTON_STEPS + 1):
        step = -hessian.solve(slope)
        descent = (slope * step).sum(1)
        there, length = _find_step(problem, here, step, descent, MAX_QUASI_NEWTON_HALVINGS)
        converged = active & (length == 1.0)
        converged &= _has_converged(here, there, -descent, sensitivity, tolerance)
        sensitivity = (there.statistic - here.statistic).abs() / (-descent).sqrt()
        is_late = iteration >= USUAL_QUASI_NEWTON_STEPS
        bound = _bound_beyond(problem, there, -descent, sensitivity, tolerance, 1.0 if is_late else FAR)
        suspect = (length <= SHORT_STEP) | is_late
        bound = bound.where(active & ~converged & suspect, -torch.inf)
        ends = (length == 0.0) | (iteration == MAX_QUASI_NEWTON_STEPS) | (bound > -torch.inf)
        # the result of a window is stored when it is done: later steps are taken for other windows only
        done = converged | (active & ends)
        if done.all() and len(rows) == len(fit.converged):
            fit.point = there
            fit.converged = converged
            fit.bound = bound
            fit.iterations = fit.iterations + iteration
            break
        if done.any():
            fit.point.put(rows[done], there.take(done))
            fit.iterations[rows[done]] = iteration
            fit.converged[rows[converged]] = True
            fit.bound[rows[done]] = bound[done]
            active = active & ~done
        n_active = int(active.sum())
        if n_active == 0:
            break
        new_slope = gradient(problem, there)
        hessian.update(torch.cat([there.a - here.a, there.nu - here.nu], 1), new_slope - slope)
        here = there
        slope = new_slope
        if n_active <= COMPACTION_SHARE * len(rows):
            rows = rows[active]
            problem = problem.take(active)
            here = here.take(active)
            slope = slope[active]
            sensitivity = sensitivity[active]
            hessian.take(active)
            active = active[active]


def newton(problem: FitProblem, fit: Fit, tolerance: float, max_iterations: int) -> None:
    """Compute the full Hessian in float64 at each step; windows far from the reference need it."""
    rows = torch.nonzero(~fit.is_settled)[:, 0]
    problem = problem.take(rows).in_double_precision()
    # with the likelihood, remote functions have no curvature but that of the penalty
    m = (problem.reference if problem.loss.linear_in_data else problem.data).phi.shape[-1]
    here = evaluate(problem, fit.point.a[rows], fit.point.nu[rows])
    for _ in range(max_iterations):
        slope = gradient(problem, here)
        step = -Hessian.at(problem, here, m).solve(slope)
        descent = (slope * step).sum(1)
        there, length = _find_step(problem, here, step, descent)
        converged = length == 1.0
        unknown = torch.ones_like(descent)
        converged &= _has_converged(here, there, -descent, unknown, tolerance)
        bound = _bound_beyond(problem, there, -descent, unknown, tolerance)
        bound = bound.where(~converged, -torch.inf)
        fit.point.put(rows, there)
        fit.converged[rows] = converged
        fit.bound[rows] = bound
        fit.iterations[rows] += 1
        active = ~converged & (length > 0.0) & (bound == -torch.inf)
        if not active.any():
            break
        rows = rows[active]
        problem = problem.take(active)
        here = there.take(active)


def _find_step(
    p: FitProblem, here: FitPoint, step: Tensor, descent: Tensor, max_halvings: int = MAX_HALVINGS
) -> tuple[FitPoint, Tensor]:
    """Halve each window's step until its objective decreases enough.

    Parameters
    ----------
    p : FitProblem
        Windows and reference.
    here : FitPoint
        Start of the step.
    step : Tensor, shape (b, r + k)
        Directions of descent.
    descent : Tensor, shape (b,)
        Derivative of the objective along `step`, negative.
    max_halvings : int
        Most halvings.

    Returns
    -------
    there : FitPoint
        End of the step.
    length : Tensor, shape (b,)
        Share of `step` that was taken, at most 1; 0 if no step lowers the objective.
    """
    r = here.a.shape[1]
    noise = ROUNDING[p.reference.phi.dtype] * (here.objective.abs() + p.n_expected)
    length = torch.ones_like(descent)
    there = _move(p, here, step, r)
    for _ in range(max_halvings):
        falls = there.objective <= here.objective + 1e-4 * length * descent + noise
        if falls.all():
            return there, length
        length = torch.where(falls, length, 0.5 * length)
        there = _move(p, here, length[:, None] * step, r)
    falls = there.objective <= here.objective + 1e-4 * length * descent + noise
    length = torch.where(falls, length, 0.0)
    return _move(p, here, length[:, None] * step, r), length


def _move(p: FitProblem, here: FitPoint, step: Tensor, r: int) -> FitPoint:
    if step.shape[1] == r:
        return evaluate(p, here.a + step, here.nu)
    return evaluate(p, here.a + step[:, :r], here.nu + step[:, r:])


class _LimitedMemoryHessian:
    """Hessian corrected by the last steps and the changes of the gradient: L-BFGS for many windows at once.

    Parameters
    ----------
    hessian : Hessian
        Approximation before the first step.

    References
    ----------
    Byrd, Nocedal and Schnabel (1994), doi:10.1007/BF01582063, theorem 2.2: the compact form, whose number of
    operations does not depend on the number of windows.
    """

    def __init__(self, hessian: Hessian) -> None:
        self._hessian = hessian
        self._steps = torch.empty(0)  # (b, m, r + k) after m steps
        self._changes = torch.empty(0)  # (b, m, r + k), of the gradient
        self._solved = torch.empty(0)  # (b, m, r + k), hessian^-1 times the changes
        self._upper = torch.empty(0)  # (b, m, m)
        self._inner = torch.empty(0)  # (b, m, m)

    def update(self, step: Tensor, change: Tensor) -> None:
        """Add a step and the change of the gradient, both (b, r + k).

        Pairs without positive curvature are ignored.
        """
        product = (step * change).sum(1)
        useful = product > 1e-12 * step.norm(dim=1) * change.norm(dim=1)
        step, change = (torch.where(useful[:, None], part, 0.0)[:, None] for part in (step, change))
        solved = self._hessian.solve(change[:, 0])[:, None]
        if self._steps.numel():
            last = slice(1 - MAX_PAIRS, None)
            step, change, solved = (
                torch.cat([known[:, last], new], 1)
                for known, new in ((self._steps, step), (self._changes, change), (self._solved, solved))
            )
        self._steps = step
        self._changes = change
        self._solved = solved
        self._upper = (step @ change.mT).triu()
        self._inner = change @ solved.mT
        # an ignored pair has a row of zeros; 1 on the diagonal keeps the triangular matrix invertible
        diagonal = self._upper.diagonal(dim1=1, dim2=2)
        diagonal.copy_(torch.where(diagonal > 0.0, diagonal, 1.0))
        self._inner.diagonal(dim1=1, dim2=2).add_(diagonal)

    def solve(self, v: Tensor) -> Tensor:
        """Multiply the approximate inverse Hessian with v, shape (b, r + k)."""
        first = self._hessian.solve(v)
        if not self._steps.numel():
            return first
        column = v[:, :, None]
        u = torch.linalg.solve_triangular(self._upper, self._steps @ column, upper=True)
        right = self._inner @ u - self._solved @ column
        w = torch.linalg.solve_triangular(self._upper.mT, right, upper=False)
        correction: Tensor = self._steps.mT @ w - self._solved.mT @ u
        return first + correction[:, :, 0]

    def take(self, chosen: Tensor) -> None:
        """Keep the chosen windows only."""
        self._hessian = self._hessian.take(chosen)
        for name in ("_steps", "_changes", "_solved", "_upper", "_inner"):
            setattr(self, name, getattr(self, name)[chosen])
