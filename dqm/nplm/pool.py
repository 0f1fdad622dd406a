"""Two samples together, and the fits of both for many ways to divide their events.

A permutation of the events between two samples A and B changes neither the pool A + B nor its kernels, only
which events are summed for A. So everything that takes long is computed once, and the fits of many
permutations are steps in common matrix products.

With the likelihood loss on the density of the pool, a fit depends on its sample only through the mean of the
basis functions in it. For a sample of n of the pool's N events it minimises, in units of n, ``mean(e^f - 1 -
f) - (mean of phi in the sample - mean of phi in the pool) a + ridge/2 |a|^2`` over ``f = phi a``; the first
mean is that over the pool. Newton steps do it, whose equations are solved by conjugate gradients; the Hessian
where all is well, which is diagonal, is their preconditioner.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dqm.events import FloatArray
from dqm.nplm.prepared import PRECISION, PreparedReference
from dqm.nplm.samples import Sample, reference_shares

__all__ = ["Pool"]

MAX_STEPS = 40
"""Most Newton steps of a fit."""

MAX_PRODUCTS = 40
"""Most products with the Hessian in a Newton step."""

FORCING = 0.05
"""Relative residual at which the equations of a Newton step are solved well enough."""

MAX_HALVINGS = 20
"""Most halvings of a step."""

ROUNDING = 1e-6
"""Relative rounding of the objective, whose sums are of numbers in float32."""

TINY = torch.finfo(PRECISION).tiny


@dataclass(frozen=True, slots=True)
class _Fits:
    """Fits of many samples on the pool, one row each: coordinates, mean losses, and whether they are done."""

    a: Tensor
    loss: Tensor
    converged: Tensor


class Pool:
    """Kernels of two samples together.

    Parameters
    ----------
    phi : Tensor, shape (n_rows, r), float32
        Basis at the rows.
    moment : Tensor, shape (r,)
        Mean squares of the functions, which are (nearly) uncorrelated.
    counts : ndarray, shape (n_rows,)
        Events that each row stands for.
    penalty : float
        Falkon's lambda, > 0.
    tolerance : float
        Largest change of t in the last step, relative to ``max(1, |t|)``.
    """

    def __init__(
        self, phi: Tensor, moment: Tensor, counts: FloatArray, *, penalty: float, tolerance: float = 5e-4
    ) -> None:
        self._phi = phi
        self._moment = moment.to(PRECISION)
        self._counts = torch.from_numpy(counts)
        self.n_events = float(counts.sum())
        self._shares = (self._counts / self.n_events).to(PRECISION)
        self._mean = self._phi.to(torch.float64).T @ (self._counts / self.n_events)
        self._penalty = penalty
        self._tolerance = tolerance

    @classmethod
    def of(
        cls,
        sample: Sample,
        centers: FloatArray,
        *,
        width: float,
        penalty: float,
        tolerance: float = 5e-4,
        is_standard: bool = False,
    ) -> Pool:
        """Set up from the events of both samples.

        Parameters
        ----------
        sample : Sample
            All rows, raw; they alone define the standardisation.
        centers : ndarray, shape (m, d)
            Nystroem centres, chosen without a look at the division.
        width, penalty, tolerance, is_standard
            As in `KernelTest`.

        Raises
        ------
        InputError
            If a feature is constant.
        """
        ready = PreparedReference.compute(
            sample.x,
            reference_shares(sample, None),
            centers,
            width,
            penalty,
            "likelihood",
            n_events=sample.n_events,
            few_windows=True,
            is_standard=is_standard,
        )
        return cls(ready.phi, ready.second_moment, sample.weights, penalty=penalty, tolerance=tolerance)

    @property
    def n_functions(self) -> int:
        """Number of basis functions, r."""
        return len(self._moment)

    @torch.inference_mode()
    def statistics(self, first: ArrayLike) -> FloatArray:
        """Give ``t_{A+B}(A)`` and ``t_{A+B}(B)`` of divisions.

        Parameters
        ----------
        first : array_like, shape (b, n_rows)
            Events of each row that are in A; the rest is B.

        Returns
        -------
        ndarray, shape (b, 2)
            Their sum is t; NaN where a fit did not converge.
        """
        sizes, fits = self._fit_both(torch.from_numpy(np.asarray(first, dtype=np.float64)))
        t = torch.where(fits.converged, -2.0 * sizes * fits.loss, math.nan)
        found: FloatArray = t.reshape(2, -1).T.numpy()
        return found

    @torch.inference_mode()
    def log_ratio(self, first: FloatArray) -> FloatArray:
        """Give the learned log density ratio of A to B, ``f - g``, at the rows; `first`: (n_rows,)."""
        _, fits = self._fit_both(torch.from_numpy(first[None]))
        f, g = (fits.a @ self._phi.T).to(torch.float64)
        values: FloatArray = (f - g).numpy()
        return values

    def _fit_both(self, first: Tensor) -> tuple[Tensor, _Fits]:
        """Fit A of all divisions, then B; also give the sizes of these samples."""
        sizes = torch.cat([first.sum(1), self.n_events - first.sum(1)])
        sums = (first.to(PRECISION) @ self._phi).to(torch.float64)
        pull = torch.cat([sums, self.n_events * self._mean - sums]) / sizes[:, None] - self._mean
        return sizes, self._fit(pull.to(PRECISION), sizes)

    def _fit(self, pull: Tensor, sizes: Tensor) -> _Fits:
        """Fit samples from the differences between their means and those of the pool."""
        ridge = (self._penalty * (self.n_events + sizes) / sizes).to(PRECISION)
        a = torch.zeros_like(pull)
        loss = torch.zeros(len(pull), dtype=torch.float64)
        converged = torch.zeros(len(pull), dtype=torch.bool)
        left = torch.arange(len(pull))
        f = torch.zeros((len(pull), len(self._phi)), dtype=PRECISION)
        for _ in range(MAX_STEPS):
            problem = pull[left], ridge[left]
            before = loss[left]
            step, decrease = self._newton_step(a[left], f, *problem)
            a[left], f, loss[left], share = self._search(a[left], f, before, step, *problem)
            change, t = (2.0 * sizes[left] * x.abs() for x in (loss[left] - before, loss[left]))
            enough = self._tolerance * t.clamp(min=1.0)
            # where rounding lets no step succeed, what the step would have gained decides
            is_done = torch.where(
                share == 1.0, change <= enough, 2.0 * sizes[left] * decrease <= 0.1 * enough
            )
            is_better = share > 0.0
            converged[left[is_done]] = True
            kept = is_better & ~is_done
            left, f = left[kept], f[kept]
            if not len(left):
                break
        return _Fits(a, loss, converged & loss.isfinite())

    def _newton_step(self, a: Tensor, f: Tensor, pull: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """Solve for the step of each sample by itself; also give the decrease of the objective to expect."""
        weights = self._shares * torch.exp(f)
        slope = residual = pull - (self._shares * torch.expm1(f)) @ self._phi - ridge[:, None] * a
        inverse = 1.0 / (self._moment + ridge[:, None])
        step = torch.zeros_like(a)
        direction = preconditioned = inverse * residual
        norm = (residual * preconditioned).sum(1)
        goal = FORCING**2 * norm
        for _ in range(MAX_PRODUCTS):
            is_open = norm > goal
            if not bool(is_open.any()):
                break
            product = (weights * (direction @ self._phi.T)) @ self._phi + ridge[:, None] * direction
            length = torch.where(is_open, norm / (direction * product).sum(1).clamp(min=TINY), 0.0)
            step = step + length[:, None] * direction
            residual = residual - length[:, None] * product
            preconditioned = inverse * residual
            previous = norm
            norm = torch.where(is_open, (residual * preconditioned).sum(1), norm)
            direction = preconditioned + (norm / previous.clamp(min=TINY))[:, None] * direction
        return step, (slope * step).sum(1).to(torch.float64)

    def _search(
        self, a: Tensor, f: Tensor, loss: Tensor, step: Tensor, pull: Tensor, ridge: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take as much of each step as lowers the objective; also give that share, 0 if none does."""
        objective = loss + self._penalty_of(a, ridge)
        slope = step @ self._phi.T
        share = torch.ones(len(a), dtype=PRECISION)
        for _ in range(MAX_HALVINGS):
            a_new, f_new = a + share[:, None] * step, f + share[:, None] * slope
            loss_new = self._loss(a_new, f_new, pull)
            new = loss_new + self._penalty_of(a_new, ridge)
            is_better = new <= objective + ROUNDING * objective.abs()
            if bool(is_better.all()):
                break
            share = torch.where(is_better, share, 0.5 * share)
        taken = is_better[:, None]
        return (
            torch.where(taken, a_new, a),
            torch.where(taken, f_new, f),
            torch.where(is_better, loss_new, loss),
            torch.where(is_better, share, 0.0),
        )

    def _loss(self, a: Tensor, f: Tensor, pull: Tensor) -> Tensor:
        return ((torch.expm1(f) - f) @ self._shares).to(torch.float64) - (pull * a).sum(1).to(torch.float64)

    @staticmethod
    def _penalty_of(a: Tensor, ridge: Tensor) -> Tensor:
        return (0.5 * ridge * (a * a).sum(1)).to(torch.float64)
