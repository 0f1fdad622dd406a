"""The fit problem of one window without nuisance parameters, as arrays on the CPU (`dqm.nplm.single_fit`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas, lapack
from scipy.special import expit

from dqm.events import FloatArray
from dqm.nplm.cells import Cells, pairs_of
from dqm.nplm.hessian import cholesky
from dqm.nplm.problem import CAUTION, CAUTIOUS_SHARE, Events, FitProblem

__all__ = [
    "CellObjective",
    "CorrectedCells",
    "LowMemoryInverse",
    "NodeInverse",
    "SingleObjective",
    "SinglePoint",
]

Basis = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SinglePoint:
    """Coordinates of f, and the values there; as `FitPoint`, of one window.

    Parameters
    ----------
    a : ndarray, shape (r,)
        Coordinates of f.
    reference, data : ndarray, shapes (n_reference,), (n_data,)
        f at the events.
    objective, statistic : float
        Penalised loss, and ``-2 L``.
    """

    a: FloatArray
    reference: FloatArray
    data: FloatArray
    objective: float
    statistic: float


class SingleObjective:
    """Objective of one window, its gradient and its Hessian in the leading functions.

    Parameters
    ----------
    p : FitProblem
        One window, no nuisance parameters.
    events : Events
        Reference, or the nodes that replace it.
    """

    def __init__(self, p: FitProblem, events: Events) -> None:
        self._by_function: Basis = events.phi.T.numpy()
        self._weights: FloatArray = events.weights.numpy()
        self._by_event: Basis = p.data.phi[0].numpy()
        self._counts: FloatArray = p.data.weights[0].numpy()
        self._totals: FloatArray = p.totals.phi[0].numpy()
        self._is_likelihood = p.loss.linear_in_data
        self._bounds = p.loss.bounds_statistic
        self.ridge = float(p.ridge[0])
        self.n_expected = p.n_expected

    def at(self, a: FloatArray) -> SinglePoint:
        """Evaluate."""
        a32 = a.astype(np.float32)
        reference = (a32[: len(self._by_function)] @ self._by_function).astype(np.float64)
        likelihood = float(np.expm1(reference) @ self._weights - self._totals @ a)
        loss = 0.0 if self._is_likelihood else float(np.logaddexp(0.0, reference) @ self._weights)
        return self._point(a, reference, likelihood, loss)

    def gradient(self, at: SinglePoint) -> FloatArray:
        """Differentiate."""
        w = self._weights
        slopes = w * np.exp(at.reference) if self._is_likelihood else w * expit(at.reference)
        return self._slope(at, self._by_function @ slopes.astype(np.float32))

    def _point(self, a: FloatArray, reference: FloatArray, likelihood: float, loss: float) -> SinglePoint:
        """Complete what was summed over the reference: `loss` if it is not the likelihood."""
        data = (self._by_event @ a.astype(np.float32)[: self._by_event.shape[1]]).astype(np.float64)
        loss = likelihood if self._is_likelihood else loss + float(np.logaddexp(0.0, -data) @ self._counts)
        return SinglePoint(a, reference, data, loss + 0.5 * self.ridge * float(a @ a), -2.0 * likelihood)

    def _slope(self, at: SinglePoint, of_reference: Basis) -> FloatArray:
        """Complete the gradient of the sums over the reference."""
        image = self.ridge * at.a
        image[: len(of_reference)] += of_reference
        if self._is_likelihood:
            image -= self._totals
        else:
            pulls = (self._counts * expit(-at.data)).astype(np.float32)
            image[: self._by_event.shape[1]] -= pulls @ self._by_event
        return image

    def leading_factor(self, at: SinglePoint, m: int) -> FloatArray:
        """Cholesky factor of the Hessian in the m leading functions, shape (m, m)."""
        if not m:
            return np.empty((0, 0))
        w = self._weights
        s = expit(at.reference)
        curvature = w * np.exp(at.reference) if self._is_likelihood else w * s * (1.0 - s)
        columns = self._by_function[:m] * np.sqrt(curvature).astype(np.float32)
        gram = blas.ssyrk(1.0, columns.T, trans=1, lower=1)
        if not self._is_likelihood:
            u = expit(at.data)
            root = np.sqrt(self._counts * u * (1.0 - u)).astype(np.float32)
            seen = self._by_event[:, :m] * root[:, None]
            gram = blas.ssyrk(1.0, seen.T, beta=1.0, c=gram, lower=1)
        dense = gram.astype(np.float64)
        dense[np.diag_indices(m)] += self.ridge
        factor, info = lapack.dpotrf(dense, lower=1)
        if info == 0:
            return np.asarray(factor)
        return np.asfortranarray(cholesky(torch.from_numpy(np.ascontiguousarray(dense))[None])[0].numpy())

    def lower_bound(self, at: SinglePoint, error: float) -> float:
        """Bound the statistic at the minimum from below; see `dqm.nplm.problem.lower_bound`."""
        if self._bounds:
            return at.statistic - self.ridge * float(at.a @ at.a)
        return CAUTIOUS_SHARE * (at.statistic - CAUTION * error)


class CellObjective(SingleObjective):
    """The same with the cells of a large reference in place of its events, see `dqm.nplm.cells`.

    Parameters
    ----------
    p : FitProblem
        One window, no nuisance parameters.
    cells : Cells
        Of its reference.
    """

    def __init__(self, p: FitProblem, cells: Cells) -> None:
        super().__init__(p, p.reference)
        self._shape = cells.rows.shape[1:]
        self._by_function = cells.rows.reshape(len(cells.rows), -1)
        self._weights = cells.shares * p.n_expected
        self._thirds = cells.thirds
        self._pairs = pairs_of(self._shape[0] - 1)

    def at(self, a: FloatArray) -> SinglePoint:
        """Evaluate; the values at the reference are f, g and ``T[g, g, .]``, shape (2 d + 1, n_cells)."""
        f = (a.astype(np.float32)[: len(self._by_function)] @ self._by_function).astype(np.float64)
        f = f.reshape(self._shape)
        first, second = self._pairs
        third = np.einsum("pc,pkc->kc", f[1:][first] * f[1:][second], self._thirds)
        values = np.concatenate([f, third])
        squares, cubes = self._moments(values)
        likelihood = float(np.expm1(f[0] + squares / 2.0 + cubes / 6.0) @ self._weights - self._totals @ a)
        loss = 0.0
        if not self._is_likelihood:
            s = expit(f[0])
            second = s * (1.0 - s)
            bent = second * (squares / 2.0 + (1.0 - 2.0 * s) * cubes / 6.0)
            loss = float((np.logaddexp(0.0, f[0]) + bent) @ self._weights)
        return self._point(a, values, likelihood, loss)

    def gradient(self, at: SinglePoint) -> FloatArray:
        """Differentiate."""
        f, third = np.split(at.reference, self._shape[:1])
        squares, cubes = self._moments(at.reference)
        slopes = np.empty(self._shape)
        if self._is_likelihood:
            slopes[0] = self._weights * np.exp(f[0] + squares / 2.0 + cubes / 6.0)
            slopes[1:] = slopes[0] * (f[1:] + third / 2.0)
        else:
            s = expit(f[0])
            second = s * (1.0 - s)
            asymmetry = second * (1.0 - 2.0 * s)
            fourth = second * (1.0 - 6.0 * second)
            slopes[0] = self._weights * (s + asymmetry * squares / 2.0 + fourth * cubes / 6.0)
            slopes[1:] = self._weights * (second * f[1:] + asymmetry * third / 2.0)
        return self._slope(at, self._by_function @ slopes.astype(np.float32).ravel())

    def error(self, at: SinglePoint) -> float:
        """Estimate the error of the statistic: twice the largest term that the sums leave out."""
        squares, cubes = self._moments(at.reference)
        # a cube below 0 must not hide a cell in which f is far from its mean
        heights = np.exp(at.reference[0] + squares / 2.0 + np.maximum(cubes, 0.0) / 6.0)
        return float(self._weights @ (heights * squares**2)) / 4.0

    def _moments(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give ``|g|^2`` and ``T[g, g, g]`` of each cell."""
        f, third = np.split(values, self._shape[:1])
        squares: FloatArray = (f[1:] ** 2).sum(axis=0)
        cubes: FloatArray = (third * f[1:]).sum(axis=0)
        return squares, cubes


class CorrectedCells(CellObjective):
    """Cells with the value and the gradient of all events at one point, of the likelihood loss.

    What is left of their error is of second order in the distance from there.

    Parameters
    ----------
    p, cells : FitProblem, Cells
        As of `CellObjective`.
    point : SinglePoint
        Of all events.
    slope : ndarray, shape (r,)
        Gradient of all events there.
    """

    def __init__(self, p: FitProblem, cells: Cells, point: SinglePoint, slope: FloatArray) -> None:
        super().__init__(p, cells)
        of_cells = super().at(point.a)
        self._from = point.a
        self._height = point.objective - of_cells.objective
        self._tilt: FloatArray = slope - super().gradient(of_cells)

    def at(self, a: FloatArray) -> SinglePoint:
        """Evaluate, see `CellObjective`."""
        of_cells = super().at(a)
        shift = self._height + float(self._tilt @ (a - self._from))
        return replace(
            of_cells, objective=of_cells.objective + shift, statistic=of_cells.statistic - 2.0 * shift
        )

    def gradient(self, at: SinglePoint) -> FloatArray:
        """Differentiate."""
        return super().gradient(at) + self._tilt


class NodeInverse:
    """Inverse of an approximate Hessian: dense in the leading functions, diagonal in the others."""

    def __init__(self, factor: FloatArray, rest: FloatArray) -> None:
        self.factor = factor
        self.rest = rest

    def solve(self, v: FloatArray) -> FloatArray:
        """Multiply with v, shape (r,)."""
        m = len(self.factor)
        x = np.empty_like(v)
        if m:
            x[:m] = lapack.dpotrs(self.factor, v[:m], lower=1)[0]
        x[m:] = v[m:] / self.rest
        return x


class LowMemoryInverse:
    """The same, corrected by the last steps and the changes of the gradient (L-BFGS, two-loop recursion).

    References
    ----------
    Nocedal (1980), doi:10.1090/S0025-5718-1980-0572855-7.
    """

    def __init__(self, start: NodeInverse, max_pairs: int) -> None:
        self._start = start
        self._max_pairs = max_pairs
        self._pairs: list[tuple[FloatArray, FloatArray, float]] = []

    def update(self, step: FloatArray, change: FloatArray) -> None:
        """Add a step and the change of the gradient; pairs without positive curvature are ignored."""
        product = float(step @ change)
        if product > 1e-12 * math.sqrt(float(step @ step) * float(change @ change)):
            self._pairs = [*self._pairs, (step, change, product)][-self._max_pairs :]

    def solve(self, v: FloatArray) -> FloatArray:
        """Multiply with v, shape (r,)."""
        x = v.copy()
        shares = []
        for step, change, product in reversed(self._pairs):
            share = float(step @ x) / product
            shares.append(share)
            x -= share * change
        x = self._start.solve(x)
        for (step, change, product), share in zip(self._pairs, reversed(shares), strict=True):
            x += (share - float(change @ x) / product) * step
        return x
