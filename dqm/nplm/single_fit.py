"""Fit of one window without nuisance parameters on a CPU: the steps of `dqm.nplm.fit`, without tensors.

A window alone needs a dozen products of the basis with a vector, and a few factorisations. In `dqm.nplm.fit`
these take half of the time: the rest is dispatch, masks and copies of small tensors, which many windows at
once share. Here the same steps are calls of BLAS and LAPACK and some array operations between them.

Steps, limits and criteria are those of `dqm.nplm.fit`, and so is t, within rounding. The quasi-Newton
correction is the two-loop recursion, which is faster for one window than the compact form. A window that has
not converged by then gets the Newton steps of `dqm.nplm.fit`.

With a large reference the quasi-Newton steps are taken with its cells (`dqm.nplm.cells`) first. If they
converge, and the sums over cells are good enough, all events are never read. If the sums are not good enough,
value and gradient of all events are computed there: with the likelihood loss they correct the cells, and a
few steps more lead to the minimum. If these change the statistic by too much, and with the logistic loss, one
or two steps with all events follow. If the cells do not lead to a minimum, the window is far from the
reference, and their result is dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dqm.events import FloatArray
from dqm.nplm.cells import CELL_ERROR, LARGEST_CELL_ERROR, Cells
from dqm.nplm.fit import (
    FAR,
    MAX_HALVINGS,
    MAX_NODE_STEPS,
    MAX_PAIRS,
    MAX_QUASI_NEWTON_HALVINGS,
    MAX_QUASI_NEWTON_STEPS,
    MIN_SENSITIVITY,
    NODE_TOLERANCE,
    ROUNDING,
    SHORT_STEP,
    USUAL_NODE_STEPS,
    USUAL_QUASI_NEWTON_STEPS,
    Fit,
    Nodes,
    newton,
)
from dqm.nplm.problem import FitPoint, FitProblem
from dqm.nplm.single_problem import (
    CellObjective,
    CorrectedCells,
    LowMemoryInverse,
    NodeInverse,
    SingleObjective,
    SinglePoint,
)

__all__ = ["minimise_single"]

LARGEST_CORRECTION = 4e-3
"""Largest change of the statistic after cells were corrected at one point, as a share of it. The error that
is left grows with its square; it has been 1.4e-4 where the change was 2.6e-3."""


@dataclass(slots=True)
class _State:
    """How far the fit of the window has come; as `Fit`.

    `at_zero` is the objective at f = 0, `sensitivity` that of `dqm.nplm.fit` in the step before.
    """

    point: SinglePoint
    at_zero: float
    converged: bool = False
    iterations: int = 0
    bound: float = -math.inf
    sensitivity: float = math.inf


def minimise_single(
    problem: FitProblem, nodes: Nodes, *, tolerance: float, max_iterations: int, cells: Cells | None = None
) -> Fit:
    """Minimise the objective of one window; parameters and result as of `dqm.nplm.fit.minimise`.

    Parameters
    ----------
    problem : FitProblem
        One window without nuisance parameters, on the CPU.
    nodes : Nodes
        Replace the reference in the first steps.
    tolerance, max_iterations : float, int
        See there.
    cells : Cells, optional
        Of the reference, if it is large.

    Returns
    -------
    Fit
        Its Hessian is that of a healthy window.
    """
    whole = SingleObjective(problem, problem.reference)
    with np.errstate(over="ignore", invalid="ignore"):  # a step that is too long is halved
        state, inverse = _fit_nodes(problem, whole, nodes)
        if state.bound == -math.inf:
            state = _fit_events(problem, whole, state, inverse, tolerance, cells)
    fit = Fit(
        _as_tensors(state.point),
        nodes.hessian,
        converged=torch.tensor([state.converged]),
        iterations=torch.tensor([state.iterations]),
        bound=torch.tensor([state.bound], dtype=torch.float64),
    )
    if not fit.is_settled.all():
        newton(problem, fit, tolerance, max_iterations)
    return fit


def _as_tensors(point: SinglePoint) -> FitPoint:
    def row(values: FloatArray) -> Tensor:
        return torch.from_numpy(values)[None]

    return FitPoint(
        row(point.a),
        torch.zeros(1, 0, dtype=torch.float64),
        row(point.reference),
        row(point.data),
        torch.tensor([point.objective], dtype=torch.float64),
        torch.tensor([point.statistic], dtype=torch.float64),
    )


def _size(statistic: float) -> float:
    return min(max(abs(statistic), 1.0), 1e3)


def _find_step(
    objective: SingleObjective, here: SinglePoint, step: FloatArray, descent: float, halvings: int
) -> tuple[SinglePoint, float]:
    """Halve the step until the objective decreases enough; return its end and the share that was taken."""
    noise = ROUNDING[torch.float32] * (abs(here.objective) + objective.n_expected)
    length = 1.0
    for _ in range(halvings + 1):
        there = objective.at(here.a + length * step)
        if there.objective <= here.objective + 1e-4 * length * descent + noise:
            return there, length
        length *= 0.5
    return here, 0.0


def _fit_nodes(problem: FitProblem, whole: SingleObjective, nodes: Nodes) -> tuple[_State, NodeInverse]:
    """Fit with the nodes as reference."""
    coarse = SingleObjective(problem, nodes.events)
    enough = float(problem.enough[0])
    m = nodes.hessian.m
    can_tell = problem.loss.bounds_statistic and math.isfinite(enough)
    first = nodes.hessian.spread(problem)
    # the second moments are those of a healthy window, the ridge is that of this one
    curvature = problem.loss.healthy_curvature * problem.second_moment[m:].numpy()
    inverse = NodeInverse(np.asfortranarray(first.factor[0].numpy()), first.rest[0].numpy())
    best = here = coarse.at(np.zeros(len(problem.second_moment)))
    bound = -math.inf
    at_zero = here.objective
    for n_steps in range(1, MAX_NODE_STEPS + 1):
        slope = coarse.gradient(here)
        step = -inverse.solve(slope)
        descent = float(slope @ step)
        here, length = _find_step(coarse, here, step, descent, MAX_HALVINGS)
        is_late = n_steps >= USUAL_NODE_STEPS
        if can_tell and (length <= SHORT_STEP or is_late):
            point = whole.at(here.a)
            found = whole.lower_bound(point, 0.0)
            if found > bound:
                best, bound = point, found
            if bound > enough * (1.0 if is_late else FAR):
                return _State(best, at_zero, bound=bound), inverse
        if not (-descent > NODE_TOLERANCE * _size(here.statistic) and length > 0.0):
            break
        if n_steps < MAX_NODE_STEPS:
            inverse = NodeInverse(coarse.leading_factor(here, m), curvature + coarse.ridge)
    return _State(here, at_zero), inverse


def _begin(objective: SingleObjective, nodes: _State) -> _State:
    """Evaluate the point found with the nodes; if f = 0 is better, return to it."""
    point = objective.at(nodes.point.a)
    if not point.objective <= nodes.at_zero:
        point = objective.at(np.zeros_like(point.a))
    return _State(point, nodes.at_zero)


def _fit_events(
    problem: FitProblem,
    whole: SingleObjective,
    nodes: _State,
    inverse: NodeInverse,
    tolerance: float,
    cells: Cells | None,
) -> _State:
    """Continue from the nodes, with the cells and, where needed, with all events."""
    corrected = LowMemoryInverse(inverse, MAX_PAIRS)
    state = None if cells is None else _fit_cells(problem, whole, nodes, corrected, tolerance, cells)
    if state is None:
        corrected = LowMemoryInverse(inverse, MAX_PAIRS)
        state = _begin(whole, nodes)
    if not state.converged:
        _quasi_newton(whole, state, corrected, float(problem.enough[0]), tolerance)
    return state


def _fit_cells(
    problem: FitProblem,
    whole: SingleObjective,
    nodes: _State,
    inverse: LowMemoryInverse,
    tolerance: float,
    cells: Cells,
) -> _State | None:
    """Fit with the cells as reference; None if that does not converge.

    The result has not converged, and its point is of all events, where the cells are not good enough.
    """
    objective = CellObjective(problem, cells)
    state = _begin(objective, nodes)
    _quasi_newton(objective, state, inverse, math.inf, tolerance)
    if not state.converged:
        return None
    error = objective.error(state.point) / _size(state.point.statistic)
    if error <= CELL_ERROR:
        return state
    state.converged = False
    state.point = whole.at(state.point.a)
    if not state.point.objective <= state.at_zero:
        return None
    if problem.loss.linear_in_data and error <= LARGEST_CELL_ERROR:
        corrected = CorrectedCells(problem, cells, state.point, whole.gradient(state.point))
        _correct(whole, corrected, state, inverse, tolerance)
    return state


def _correct(
    whole: SingleObjective,
    objective: CorrectedCells,
    state: _State,
    inverse: LowMemoryInverse,
    tolerance: float,
) -> None:
    """Go on with cells that are corrected at the point of the state."""
    exact = state.point
    state.point = objective.at(exact.a)
    _quasi_newton(objective, state, inverse, math.inf, tolerance)
    if not state.converged:  # where rounding hides what is left to gain, no step is long enough
        slope = objective.gradient(state.point)
        predicted = math.sqrt(max(float(slope @ inverse.solve(slope)), 0.0))
        error = max(state.sensitivity, MIN_SENSITIVITY) * predicted
        state.converged = error <= tolerance * _size(state.point.statistic)
    change = abs(state.point.statistic - exact.statistic)
    state.converged = state.converged and change <= LARGEST_CORRECTION * _size(exact.statistic)
    if not state.converged:
        there = whole.at(state.point.a)
        state.point = there if there.objective <= exact.objective else exact


def _quasi_newton(
    whole: SingleObjective, state: _State, inverse: LowMemoryInverse, enough: float, tolerance: float
) -> None:
    sensitivity = state.sensitivity
    n_before = state.iterations
    here = state.point
    slope = whole.gradient(here)
    for iteration in range(1, MAX_QUASI_NEWTON_STEPS + 1):
        step = -inverse.solve(slope)
        descent = float(slope @ step)
        there, length = _find_step(whole, here, step, descent, MAX_QUASI_NEWTON_HALVINGS)
        predicted = math.sqrt(max(-descent, 0.0))
        change = abs(there.statistic - here.statistic)
        allowed = tolerance * _size(there.statistic)
        error = max(sensitivity, MIN_SENSITIVITY) * predicted
        state.point = there
        state.iterations = n_before + iteration
        state.converged = length == 1.0 and change <= allowed and error <= allowed
        if state.converged or length == 0.0:
            state.sensitivity = sensitivity
            return
        sensitivity = change / predicted if predicted else math.inf
        error = max(max(sensitivity, MIN_SENSITIVITY) * predicted, allowed)
        is_late = iteration >= USUAL_QUASI_NEWTON_STEPS
        if length <= SHORT_STEP or is_late:
            bound = whole.lower_bound(there, error)
            if bound > enough * (1.0 if is_late else FAR):
                state.bound = bound
                return
        new_slope = whole.gradient(there)
        inverse.update(there.a - here.a, new_slope - slope)
        here = there
        slope = new_slope
