"""Approximate Hessians of the fit objective for many windows: one dense block, the rest diagonal.

The functions of `dqm.nplm.basis` are ordered by their variance in the reference. The m leading functions and
the nuisance parameters form the dense block. For the other functions the ridge penalty dominates the
curvature, near the minimum and far from it, so their diagonal elements are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dqm.nplm.problem import Events, FitPoint, FitProblem, apply, project

__all__ = ["Hessian", "cholesky", "n_leading", "variances"]

LEADING = 0.3
"""A function is leading if its curvature in a healthy window is above this multiple of the ridge."""

PANEL = 64
"""Columns of the dense block that are computed together; only its lower triangle is used."""

ROUNDING = 1e-13
"""Smallest eigenvalue of the dense block, as a share of the largest, that is above the rounding error."""


@dataclass(frozen=True, slots=True)
class Hessian:
    """Approximate Hessian of the objective at one point of each window.

    It is dense in the m leading functions and the k nuisance parameters, and diagonal in the other functions.

    Parameters
    ----------
    m : int
        Number of leading functions.
    factor : Tensor, shape (b, m + k, m + k)
        Cholesky factor of the dense block.
    rest : Tensor, shape (b, r - m)
        Diagonal elements of the other functions.
    """

    m: int
    factor: Tensor
    rest: Tensor

    @classmethod
    def at(cls, p: FitProblem, here: FitPoint, m: int) -> Hessian:
        """Compute the Hessian at a point.

        Only the positive part of the second derivative of log r is used, so that the Hessian stays positive
        definite. This part matters if f can imitate a nuisance parameter that has no measurement: along that
        direction there is no other curvature.
        """
        b, k = here.nu.shape
        dense = here.a.new_zeros(b, m + k, m + k)
        for events, curvature in _parts(p, here):
            dense += _lower_gram(events, here.nu, curvature, m)
        diagonal = dense.diagonal(dim1=1, dim2=2)
        diagonal[:, :m] += p.ridge[:, None]
        if k:
            diagonal[:, m:] += p.tension_curvature
            dense[:, m:, m:] += _log_r_curvature(p, here)
        rest = p.loss.healthy_curvature * p.second_moment[m:] + p.ridge[:, None]
        return cls(m, cholesky(dense), rest)

    @classmethod
    def healthy(cls, p: FitProblem) -> Hessian:
        """Compute the Hessian of a healthy window, at f = 0 and nu = 0, from the reference alone: one row."""
        c = p.loss.healthy_curvature
        k = len(p.precision)
        m = n_leading(p)
        dense = _lower_gram(p.reference, p.ridge.new_zeros(1, k), c * p.reference.weights[None], m)
        diagonal = dense.diagonal(dim1=1, dim2=2)
        diagonal[:, :m] += p.ridge[:1]
        diagonal[:, m:] += p.tension_curvature
        return cls(m, cholesky(dense), c * p.second_moment[None, m:] + p.ridge[:1])

    def solve(self, v: Tensor) -> Tensor:
        """Multiply the inverse with v, shape (b, r + k)."""
        m = self.m
        end = self.m + self.rest.shape[1]
        right = torch.cat([v[:, :m], v[:, end:]], 1)[:, :, None]
        x = torch.cholesky_solve(right, self.factor)[:, :, 0]
        return torch.cat([x[:, :m], v[:, m:end] / self.rest, x[:, m:]], 1)

    def spread(self, p: FitProblem) -> Hessian:
        """Repeat the one row, that of a healthy window, for the windows and remote functions of a problem."""
        n_remote = len(p.second_moment) - self.m - self.rest.shape[1]
        rows = torch.zeros(len(p.ridge), dtype=torch.int64, device=p.ridge.device)
        rest = torch.cat([self.rest[rows], p.ridge[:, None].expand(-1, n_remote)], 1)
        return Hessian(self.m, self.factor[rows], rest)

    def take(self, chosen: Tensor) -> Hessian:
        """Select windows."""
        return Hessian(self.m, self.factor[chosen], self.rest[chosen])

    def put(self, rows: Tensor, other: Hessian) -> None:
        """Replace the rows of some windows."""
        self.factor[rows] = other.factor
        self.rest[rows] = other.rest


def n_leading(p: FitProblem) -> int:
    """Count the leading functions: those in the dense block."""
    return int((p.loss.healthy_curvature * p.second_moment > LEADING * float(p.ridge.min())).sum())


def variances(p: FitProblem, at: FitPoint, hessian: Hessian) -> Tensor:
    """Estimate the diagonal of the inverse Hessian in nu, shape (b, k), with k products with phi.

    For any x, ``x_i^2 / (x^T H x)`` is at most ``(H^-1)_ii``; both are equal for ``x = H^-1 e_i``. The
    approximate inverse gives x, so the error of the estimate is of second order.
    """
    b, r = at.a.shape
    k = at.nu.shape[1]
    columns = []
    for i in range(k):
        unit = at.nu.new_zeros(b, r + k)
        unit[:, r + i] = 1.0
        x = hessian.solve(unit)
        a, nu = x[:, :r], x[:, r:]
        energy = p.ridge * (a * a).sum(1) + (p.tension_curvature * nu * nu).sum(1)
        energy += (nu * apply(_log_r_curvature(p, at), nu)).sum(1)
        for events, curvature in _parts(p, at):
            pushed = apply(events.phi, a[:, : events.phi.shape[-1]]) + apply(events.jacobian(at.nu), nu)
            energy += (curvature * pushed * pushed).sum(1)
        columns.append(nu[:, i] ** 2 / energy)
    return torch.stack(columns, 1) if columns else at.nu.new_zeros(b, 0)


def _parts(p: FitProblem, at: FitPoint) -> list[tuple[Events, Tensor]]:
    """Events that the Hessian sums over, with the curvature of the loss at each."""
    on_reference, on_data = p.loss.curvatures(at.reference, at.data, p.reference.weights, p.data.weights)
    parts = [(p.reference, on_reference)]
    return parts if p.loss.linear_in_data else [*parts, (p.data, on_data)]


def _lower_gram(events: Events, nu: Tensor, curvature: Tensor, m: int) -> Tensor:
    """Sum the products of m basis functions and of the derivatives of log r; shape (b, m + k, m + k).

    Only the lower triangle is complete.
    """
    columns = events.phi[..., :m]
    if nu.shape[1]:
        jacobian = events.jacobian(nu).to(columns.dtype)
        columns = torch.cat([columns.expand(len(nu), *columns.shape[-2:]), jacobian], 2)
    if len(curvature) == 1 and columns.dim() == 3:
        columns = columns[0]
    weighted = columns.mT * curvature[:, None, :].to(columns.dtype)
    size = columns.shape[-1]
    gram = curvature.new_zeros(len(curvature), size, size)
    for begin in range(0, size, PANEL):
        panel = slice(begin, begin + PANEL)
        gram[:, begin:, panel] = weighted[:, begin:] @ columns[..., panel]
    return gram if size == m + nu.shape[1] else _with_remote(gram, m, nu.shape[1])


def _with_remote(gram: Tensor, m: int, k: int) -> Tensor:
    """Insert rows and columns of 0 for functions that are remote from the events, up to m of them."""
    inner = gram.shape[-1] - k
    wide = gram.new_zeros(len(gram), m + k, m + k)
    wide[:, :inner, :inner] = gram[:, :inner, :inner]
    wide[:, m:, :inner] = gram[:, inner:, :inner]
    wide[:, m:, m:] = gram[:, inner:, inner:]
    return wide


def _log_r_curvature(p: FitProblem, at: FitPoint) -> Tensor:
    """Sum the second derivatives of log r, weighted with the slopes of the loss; positive part, (b, k, k)."""
    b, k = at.nu.shape
    on_reference, on_data = p.loss.slopes(at.reference, at.data, p.reference.weights, p.data.weights)
    total = project(p.reference.quadratic.flatten(-2), on_reference).view(b, k, k)
    if p.loss.linear_in_data:
        total = total - p.totals.quadratic
    else:
        total = total + project(p.data.quadratic.flatten(-2), on_data).view(b, k, k)
    values, vectors = torch.linalg.eigh(total)
    positive: Tensor = vectors @ (values.clamp(min=0.0)[:, :, None] * vectors.mT)
    return positive


def cholesky(matrices: Tensor) -> Tensor:
    """Factorise symmetric matrices, shape (b, n, n), into lower triangles of this shape.

    A matrix that is not positive definite within rounding gets its eigenvalues raised.
    """
    factor, failed = torch.linalg.cholesky_ex(matrices)
    for row in torch.nonzero(failed)[:, 0].tolist():
        values, vectors = torch.linalg.eigh(matrices[row])
        root = values.clamp(min=ROUNDING * float(values[-1])).sqrt()
        factor[row] = torch.linalg.qr(root[:, None] * vectors.T).R.T
    result: Tensor = factor
    return result
