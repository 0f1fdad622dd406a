"""Penalised fit of the log density ratio of many windows at once, by a damped, inexact Newton method.

The log ratio at an event is ``f + log r = phi a + nu L + nu Q nu / 2``: kernels with coefficients a, nuisance
parameters nu. Each Newton direction solves ``H s = -g`` by conjugate gradients, preconditioned with the
Hessian of a healthy window at ``f = 0``, which is diagonal in a (coordinates of `dqm.nplm.basis`) and
bordered by nu. Where that is slow (few coordinates, or a window far from the reference) the Hessian is formed and
factorised instead. Windows of one call share the reference, so their products with it are one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from dqm.nplm.loss import LOSSES, LossName, Slopes

__all__ = ["Events", "Fit", "Problem", "covariance", "minimise", "without_kernels"]

DENSE_BELOW = 128
"""Coordinates below which forming the Hessian is cheaper than iterating on it."""

CG_STEPS = 40
"""Conjugate-gradient steps after which the Hessian is formed after all."""

FORCING = 0.1
"""Accuracy of an early Newton direction; it tightens as the gradient vanishes."""


@dataclass(frozen=True, slots=True)
class Events:
    """Events as the fit sees them; the reference has no window axis, data have one in front.

    Parameters
    ----------
    phi : Tensor, shape (n, r) or (b, n, r)
        Basis functions.
    linear : Tensor, shape (n, k) or (b, n, k)
        First-order coefficients L of log r, one for each nuisance parameter.
    quadratic : Tensor, shape (n, k, k) or (b, n, k, k)
        Second-order coefficients Q of log r, symmetric.
    weights : Tensor, shape (n,) or (b, n)
        Weight of each event; 0 for padding.
    """

    phi: Tensor
    linear: Tensor
    quadratic: Tensor
    weights: Tensor

    def anomaly(self, a: Tensor) -> Tensor:
        """Give f, shape (b, n), at coordinates (b, r)."""
        return _apply(self.phi, a)

    def log_ratio(self, a: Tensor, nu: Tensor) -> Tensor:
        """Give ``f + log r``, shape (b, n), at coordinates (b, r) and nuisances (b, k)."""
        f = self.anomaly(a)
        return f if nu.shape[1] == 0 else f + _apply(0.5 * (self.linear + self.jacobian(nu)), nu)

    def jacobian(self, nu: Tensor) -> Tensor:
        """Differentiate log r with respect to nu; shape (b, n, k)."""
        slope = _apply(self.quadratic.flatten(-3, -2), nu)
        return self.linear + slope.reshape(len(nu), *self.linear.shape[-2:])


def _apply(columns: Tensor, v: Tensor) -> Tensor:
    """Multiply columns (n, m) or (b, n, m) with coefficients (b, m)."""
    return v @ columns.T if columns.dim() == 2 else torch.bmm(columns, v[:, :, None])[:, :, 0]


def _project(columns: Tensor, u: Tensor) -> Tensor:
    """Sum columns over events with weights (b, n)."""
    return u @ columns if columns.dim() == 2 else torch.bmm(u[:, None, :], columns)[:, 0, :]


@dataclass(frozen=True, slots=True)
class Problem:
    """Windows against their reference.

    Parameters
    ----------
    reference : Events
        Reference; its weights sum to N(R_0).
    data : Events
        Events of b windows, padded to the same number.
    loss : {"logistic", "likelihood"}
        Loss of the events.
    second_moment : Tensor, shape (r,)
        Weighted second moments of the basis over the reference.
    ridge : Tensor, shape (b,)
        Factor of ``|a|^2 / 2``.
    precision : Tensor, shape (k,)
        ``1 / sigma_nu^2``; 0 for a free nuisance parameter.
    measured : Tensor, shape (b, k)
        Auxiliary measurements of the nuisance parameters.
    """

    reference: Events
    data: Events
    loss: LossName
    second_moment: Tensor
    ridge: Tensor
    precision: Tensor
    measured: Tensor

    def take(self, chosen: Tensor) -> Problem:
        """Give the problem of some of the windows."""
        d = self.data
        data = Events(d.phi[chosen], d.linear[chosen], d.quadratic[chosen], d.weights[chosen])
        return replace(self, data=data, ridge=self.ridge[chosen], measured=self.measured[chosen])

    @property
    def tension_weight(self) -> Tensor:
        """Curvature of the auxiliary term: in the logistic loss an event counts half, and so must that."""
        return LOSSES[self.loss].healthy_curvature * self.precision


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
        system = _System(problem, here)
        gradient = system.gradient()
        step = _solve(system, -gradient)
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


def without_kernels(problem: Problem) -> Problem:
    """Give the same windows with the nuisance parameters alone, f = 0."""

    def bare(events: Events) -> Events:
        return replace(events, phi=events.phi[..., :0])

    return replace(
        problem,
        reference=bare(problem.reference),
        data=bare(problem.data),
        second_moment=problem.second_moment[:0],
    )


def covariance(problem: Problem, fit: Fit) -> Tensor:
    """Invert the Hessian at a minimum: covariance of the nuisance parameters, shape (b, k, k)."""
    system = _System(problem, fit)
    b, k = fit.nu.shape
    columns = []
    for i in range(k):
        unit = torch.zeros(b, fit.a.shape[1] + k, dtype=fit.a.dtype)
        unit[:, fit.a.shape[1] + i] = 1.0
        columns.append(_solve(system, unit, forcing=1e-3)[:, fit.a.shape[1] :])
    inverse = torch.stack(columns, 2) if columns else torch.zeros(b, 0, 0, dtype=fit.a.dtype)
    return LOSSES[problem.loss].healthy_curvature * inverse


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


class _System:
    """Gradient and Hessian at a point; coordinates are (a, nu) side by side, shape (b, r + k).

    The second derivative of log r is left out of the Hessian, which keeps it positive; its part vanishes
    where f can follow it, since the slopes are then orthogonal to it.
    """

    def __init__(self, problem: Problem, point: Fit) -> None:
        loss = LOSSES[problem.loss]
        self.problem, self.point, self._c = problem, point, loss.healthy_curvature
        self.slopes: Slopes = loss.slopes(
            point.reference, point.data, problem.reference.weights, problem.data.weights
        )
        self.jacobians = problem.reference.jacobian(point.nu), problem.data.jacobian(point.nu)
        self._diagonal = self._c * problem.second_moment + problem.ridge[:, None]
        weighted = self._c * problem.reference.weights[:, None] * problem.reference.linear
        self._border = problem.reference.phi.T @ weighted
        corner = problem.reference.linear.T @ weighted + torch.diag(self._c * problem.precision)
        self._schur = corner - self._border.T @ (self._border / self._diagonal[:, :, None])

    def gradient(self) -> Tensor:
        """Differentiate the objective."""
        p, at = self.problem, self.point
        tension = self._c * p.precision * (at.nu - p.measured)
        penalty = torch.cat([p.ridge[:, None] * at.a, tension], 1)
        image = self._pull(p.reference, self.jacobians[0], self.slopes.reference)
        return image + self._pull(p.data, self.jacobians[1], self.slopes.data) + penalty

    def times(self, v: Tensor) -> Tensor:
        """Multiply the Hessian with one vector a window."""
        p, r = self.problem, self.point.a.shape[1]
        slopes, jacobians = self.slopes, self.jacobians
        pushed = slopes.reference_curvature * self._push(p.reference, jacobians[0], v)
        image = self._pull(p.reference, jacobians[0], pushed)
        if slopes.data_curvature is not None:
            pushed = slopes.data_curvature * self._push(p.data, jacobians[1], v)
            image += self._pull(p.data, jacobians[1], pushed)
        image[:, :r] += p.ridge[:, None] * v[:, :r]
        image[:, r:] += self._c * p.precision * v[:, r:]
        return image

    def precondition(self, v: Tensor) -> Tensor:
        """Solve with the Hessian of a healthy window at f = 0: diagonal in a, bordered by nu."""
        r = self.point.a.shape[1]
        head = v[:, :r] / self._diagonal
        if v.shape[1] == r:
            return head
        tail = torch.linalg.solve(self._schur, v[:, r:] - head @ self._border)
        return torch.cat([head - (tail @ self._border.T) / self._diagonal, tail], 1)

    def dense(self, row: int) -> Tensor:
        """Form the Hessian of one window."""
        p = self.problem
        reference = torch.cat([p.reference.phi, self.jacobians[0][row]], 1)
        hessian = reference.T @ (self.slopes.reference_curvature[row][:, None] * reference)
        if self.slopes.data_curvature is not None:
            data = torch.cat([p.data.phi[row], self.jacobians[1][row]], 1)
            hessian.addmm_(data.T, self.slopes.data_curvature[row][:, None] * data)
        r = self.point.a.shape[1]
        hessian.diagonal()[:r] += p.ridge[row]
        hessian.diagonal()[r:] += self._c * p.precision
        return hessian

    def _push(self, events: Events, jacobian: Tensor, v: Tensor) -> Tensor:
        r = self.point.a.shape[1]
        moved = _apply(events.phi, v[:, :r])
        return moved if v.shape[1] == r else moved + _apply(jacobian, v[:, r:])

    def _pull(self, events: Events, jacobian: Tensor, u: Tensor) -> Tensor:
        return torch.cat([_project(events.phi, u), _project(jacobian, u)], 1)


def _solve(system: _System, right: Tensor, forcing: float = FORCING) -> Tensor:
    """Solve ``H x = right`` for each window to the forcing accuracy."""
    b, size = right.shape
    if size > DENSE_BELOW:
        x, solved = _conjugate_gradients(system, right, forcing)
    else:
        x, solved = torch.zeros_like(right), torch.zeros(b, dtype=torch.bool)
    for row in torch.nonzero(~solved)[:, 0].tolist():
        factor = torch.linalg.cholesky(system.dense(row))
        x[row] = torch.cholesky_solve(right[row][:, None], factor)[:, 0]
    return x


def _conjugate_gradients(system: _System, right: Tensor, forcing: float) -> tuple[Tensor, Tensor]:
    """Iterate at most `CG_STEPS` times; also tells which windows reached the accuracy."""
    x, residual = torch.zeros_like(right), right
    direction = preconditioned = system.precondition(right)
    norm = (residual * preconditioned).sum(1)
    goal = norm * torch.minimum(norm.sqrt(), torch.tensor(forcing, dtype=norm.dtype)) ** 2
    solved = norm <= 0.0
    for _ in range(CG_STEPS):
        image = system.times(direction)
        length = torch.where(solved, 0.0, norm / (direction * image).sum(1))
        x = x + length[:, None] * direction
        residual = residual - length[:, None] * image
        preconditioned = system.precondition(residual)
        previous, norm = norm, (residual * preconditioned).sum(1)
        solved = solved | (norm <= goal)
        if solved.all():
            break
        direction = preconditioned + (norm / previous)[:, None] * direction
    return x, solved
