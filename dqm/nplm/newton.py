"""Newton's method for windows far from the reference, and Hessians.

Steps form the Hessian and factorise it: that far, no preconditioner helps. At a minimum systems are solved by
conjugate gradients, preconditioned with the Hessian of a healthy window at ``f = 0``, which is diagonal in a
(coordinates of `dqm.nplm.basis`) and bordered by nu; windows share the reference, so their products with it
are one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqm.nplm.problem import Point, Problem, apply, gradient, project
from dqm.nplm.search import find_step

__all__ = ["HealthyHessian", "Hessian", "newton_step", "solve"]

CG_STEPS = 40
"""Conjugate-gradient steps after which the Hessian is formed after all."""


@dataclass(frozen=True, slots=True)
class HealthyHessian:
    """Hessian of healthy windows at f = 0: diagonal in a, bordered by nu, and quickly inverted.

    Parameters
    ----------
    diagonal : Tensor, shape (b, r)
        Its entries in a.
    border : Tensor, shape (r, k)
        Those between a and nu.
    schur : Tensor, shape (b, k, k)
        What is left of those in nu once a is eliminated.
    """

    diagonal: Tensor
    border: Tensor
    schur: Tensor

    @classmethod
    def of(cls, problem: Problem) -> HealthyHessian:
        """Take it from the moments of the reference."""
        c = problem.loss.healthy_curvature
        diagonal = c * problem.second_moment + problem.ridge[:, None]
        border = c * problem.mixed_moment
        corner = c * problem.nuisance_moment + torch.diag(problem.tension_curvature)
        return cls(diagonal, border, corner - border.T @ (border / diagonal[:, :, None]))

    def solve(self, v: Tensor) -> Tensor:
        """Give its inverse times v, shape (b, r + k)."""
        r = self.diagonal.shape[1]
        head = v[:, :r] / self.diagonal
        if v.shape[1] == r:
            return head
        tail = torch.linalg.solve(self.schur, v[:, r:] - head @ self.border)
        return torch.cat([head - (tail @ self.border.T) / self.diagonal, tail], 1)

    def take(self, chosen: Tensor) -> HealthyHessian:
        """Give that of some of the windows."""
        return HealthyHessian(self.diagonal[chosen], self.border, self.schur[chosen])


class Hessian:
    """Hessian at a point; coordinates are (a, nu) side by side, shape (b, r + k).

    Of the second derivative of log r only the positive part is kept, so that the Hessian stays positive. It
    matters where f can mimic a parameter that nothing else holds: that valley is flat but for it.

    Parameters
    ----------
    problem : Problem
        Windows and reference.
    at : Point
        The point.
    """

    def __init__(self, problem: Problem, at: Point) -> None:
        self.problem, self._r = problem, at.a.shape[1]
        weights = problem.reference.weights, problem.data.weights
        self._curvatures = problem.loss.curvatures(at.reference, at.data, *weights)
        self._jacobians = problem.reference.jacobian(at.nu), problem.data.jacobian(at.nu)
        self._bend = self._curvature_of_log_ratio(at)

    def times(self, v: Tensor) -> Tensor:
        """Multiply with one vector a window."""
        p, r = self.problem, self._r
        image = torch.cat([p.ridge[:, None] * v[:, :r], p.tension_curvature * v[:, r:]], 1)
        image[:, r:] += apply(self._bend, v[:, r:])
        parts = [(p.reference, self._jacobians[0], self._curvatures[0])]
        if not p.loss.linear_in_data:
            parts.append((p.data, self._jacobians[1], self._curvatures[1]))
        for events, jacobian, curvature in parts:
            pushed = curvature * (apply(events.phi, v[:, :r]) + apply(jacobian, v[:, r:]))
            image += torch.cat([project(events.phi, pushed), project(jacobian, pushed)], 1)
        return image

    def dense(self, row: int) -> Tensor:
        """Form the Hessian of one window."""
        p, r = self.problem, self._r
        reference = _beside(p.reference.phi, self._jacobians[0][row])
        hessian = reference.T @ (self._curvatures[0][row][:, None] * reference)
        if not p.loss.linear_in_data:
            data = _beside(p.data.phi[row], self._jacobians[1][row])
            hessian.addmm_(data.T, self._curvatures[1][row][:, None] * data)
        hessian.diagonal()[:r] += p.ridge[row]
        hessian.diagonal()[r:] += p.tension_curvature
        hessian[r:, r:] += self._bend[row]
        return hessian

    def _curvature_of_log_ratio(self, at: Point) -> Tensor:
        """Give the positive part of the second derivatives of log r, summed with the slopes; (b, k, k)."""
        b, k = at.nu.shape
        if k == 0:
            return at.nu.new_zeros(b, 0, 0)
        p = self.problem
        slopes = p.loss.slopes(at.reference, at.data, p.reference.weights, p.data.weights)
        total = project(p.reference.quadratic.flatten(-2), slopes[0]).view(b, k, k)
        if p.loss.linear_in_data:
            total = total - p.totals.quadratic
        else:
            total = total + project(p.data.quadratic.flatten(-2), slopes[1]).view(b, k, k)
        values, vectors = torch.linalg.eigh(total)
        positive: Tensor = vectors @ (values.clamp(min=0.0)[:, :, None] * vectors.mT)
        return positive


def _beside(phi: Tensor, jacobian: Tensor) -> Tensor:
    return torch.cat([phi.to(jacobian.dtype), jacobian], 1)


def newton_step(problem: Problem, here: Point) -> tuple[Point, Tensor, Tensor]:
    """Move by one damped Newton step; also gives its length and the derivative along it, see `find_step`."""
    slope = gradient(problem, here)
    hessian = Hessian(problem, here)
    step = torch.stack([_solve_dense(hessian.dense(row), -slope[row]) for row in range(len(slope))])
    descent = (slope * step).sum(1)
    return *find_step(problem, here, step, descent), descent


def solve(hessian: Hessian, healthy: HealthyHessian, right: Tensor, accuracy: float) -> Tensor:
    """Solve ``H x = right`` for each window, to a relative accuracy."""
    x, solved = _conjugate_gradients(hessian, healthy, right, accuracy)
    for row in torch.nonzero(~solved)[:, 0].tolist():
        x[row] = _solve_dense(hessian.dense(row), right[row])
    return x


def _solve_dense(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve one system; what is not positive to rounding is made so."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not failed:
        return torch.cholesky_solve(right[:, None], factor)[:, 0]
    values, vectors = torch.linalg.eigh(matrix)
    solution: Tensor = vectors @ ((vectors.T @ right) / values.clamp(min=1e-14 * float(values[-1])))
    return solution


def _conjugate_gradients(
    hessian: Hessian, healthy: HealthyHessian, right: Tensor, accuracy: float
) -> tuple[Tensor, Tensor]:
    """Iterate at most `CG_STEPS` times; also tells which windows reached the accuracy."""
    x, residual = torch.zeros_like(right), right
    direction = preconditioned = healthy.solve(right)
    norm = (residual * preconditioned).sum(1)
    goal = norm * accuracy**2
    solved = norm <= 0.0
    for _ in range(CG_STEPS):
        image = hessian.times(direction)
        length = torch.where(solved, 0.0, norm / (direction * image).sum(1))
        x = x + length[:, None] * direction
        residual = residual - length[:, None] * image
        preconditioned = healthy.solve(residual)
        previous, norm = norm, (residual * preconditioned).sum(1)
        solved = solved | (norm <= goal)
        if solved.all():
            break
        direction = preconditioned + (norm / previous)[:, None] * direction
    return x, solved
