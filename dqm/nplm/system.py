"""The linear system of a Newton step, for many windows at once.

Directions solve ``H s = -g`` by conjugate gradients, preconditioned with the Hessian of a healthy window at
``f = 0``, which is diagonal in a (coordinates of `dqm.nplm.basis`) and bordered by nu. Where that is slow
(few coordinates, or a window far from the reference) the Hessian is formed and factorised instead. Windows
share the reference, so their products with it are one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dqm.nplm.loss import LOSSES, Slopes
from dqm.nplm.problem import Events, Problem, apply, project

__all__ = ["System", "solve"]

DENSE_BELOW = 128
"""Coordinates below which forming the Hessian is cheaper than iterating on it."""

CG_STEPS = 40
"""Conjugate-gradient steps after which the Hessian is formed after all."""

FORCING = 0.1
"""Accuracy of an early Newton direction; it tightens as the gradient vanishes."""


class System:
    """Gradient and Hessian at a point; coordinates are (a, nu) side by side, shape (b, r + k).

    Of the second derivative of log r only the positive part is kept, so that the Hessian stays positive. It
    matters where f can mimic a parameter that nothing else holds: that valley is flat but for it.

    Parameters
    ----------
    problem : Problem
        Windows and reference.
    a, nu : Tensor, shapes (b, r), (b, k)
        The point.
    reference, data : Tensor, shapes (b, n_reference), (b, n_data)
        ``f + log r`` at the events there.
    """

    def __init__(self, problem: Problem, a: Tensor, nu: Tensor, reference: Tensor, data: Tensor) -> None:
        loss = LOSSES[problem.loss]
        self.problem, self.a, self.nu, self._c = problem, a, nu, loss.healthy_curvature
        weights = problem.reference.weights, problem.data.weights
        self.slopes: Slopes = loss.slopes(reference, data, *weights)
        self.jacobians = problem.reference.jacobian(nu), problem.data.jacobian(nu)
        self._bend = self._curvature_of_log_ratio()
        self._diagonal = self._c * problem.second_moment + problem.ridge[:, None]
        weighted = self._c * problem.reference.weights[:, None] * problem.reference.linear
        self._border = problem.reference.phi.T @ weighted
        corner = problem.reference.linear.T @ weighted + torch.diag(self._c * problem.precision)
        self._schur = corner - self._border.T @ (self._border / self._diagonal[:, :, None])

    def gradient(self) -> Tensor:
        """Differentiate the objective."""
        p = self.problem
        tension = self._c * p.precision * (self.nu - p.measured)
        penalty = torch.cat([p.ridge[:, None] * self.a, tension], 1)
        image = self._pull(p.reference, self.jacobians[0], self.slopes.reference)
        return image + self._pull(p.data, self.jacobians[1], self.slopes.data) + penalty

    def times(self, v: Tensor) -> Tensor:
        """Multiply the Hessian with one vector a window."""
        p, r = self.problem, self.a.shape[1]
        slopes, jacobians = self.slopes, self.jacobians
        pushed = slopes.reference_curvature * self._push(p.reference, jacobians[0], v)
        image = self._pull(p.reference, jacobians[0], pushed)
        if slopes.data_curvature is not None:
            pushed = slopes.data_curvature * self._push(p.data, jacobians[1], v)
            image += self._pull(p.data, jacobians[1], pushed)
        image[:, :r] += p.ridge[:, None] * v[:, :r]
        image[:, r:] += self._c * p.precision * v[:, r:] + apply(self._bend, v[:, r:])
        return image

    def precondition(self, v: Tensor) -> Tensor:
        """Solve with the Hessian of a healthy window at f = 0: diagonal in a, bordered by nu."""
        r = self.a.shape[1]
        head = v[:, :r] / self._diagonal
        if v.shape[1] == r:
            return head
        tail = torch.linalg.solve(self._schur, v[:, r:] - head @ self._border)
        return torch.cat([head - (tail @ self._border.T) / self._diagonal, tail], 1)

    def dense(self, row: int) -> Tensor:
        """Form the Hessian of one window."""
        p = self.problem
        reference = _beside(p.reference.phi, self.jacobians[0][row])
        hessian = reference.T @ (self.slopes.reference_curvature[row][:, None] * reference)
        if self.slopes.data_curvature is not None:
            data = _beside(p.data.phi[row], self.jacobians[1][row])
            hessian.addmm_(data.T, self.slopes.data_curvature[row][:, None] * data)
        r = self.a.shape[1]
        hessian.diagonal()[:r] += p.ridge[row]
        hessian.diagonal()[r:] += self._c * p.precision
        hessian[r:, r:] += self._bend[row]
        return hessian

    def _curvature_of_log_ratio(self) -> Tensor:
        """Give the positive part of the second derivatives of log r, summed with the slopes; (b, k, k)."""
        b, k = self.nu.shape
        if k == 0:
            return self.nu.new_zeros(b, 0, 0)
        p, slopes = self.problem, self.slopes
        total = project(p.reference.quadratic.flatten(-2), slopes.reference)
        total = total + project(p.data.quadratic.flatten(-2), slopes.data)
        values, vectors = torch.linalg.eigh(total.view(b, k, k))
        positive: Tensor = vectors @ (values.clamp(min=0.0)[:, :, None] * vectors.mT)
        return positive

    def _push(self, events: Events, jacobian: Tensor, v: Tensor) -> Tensor:
        r = self.a.shape[1]
        moved = apply(events.phi, v[:, :r])
        return moved if v.shape[1] == r else moved + apply(jacobian, v[:, r:])

    def _pull(self, events: Events, jacobian: Tensor, u: Tensor) -> Tensor:
        return torch.cat([project(events.phi, u), project(jacobian, u)], 1)


def _beside(phi: Tensor, jacobian: Tensor) -> Tensor:
    return torch.cat([phi, jacobian], 1) if jacobian.shape[1] else phi


def solve(system: System, right: Tensor, forcing: float = FORCING) -> Tensor:
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


def _conjugate_gradients(system: System, right: Tensor, forcing: float) -> tuple[Tensor, Tensor]:
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
