"""Fits of many small networks at once, each to its own events, within bounds of the weights.

The loss is a sum over rows: a row is expected w times and seen c times, and with ``F = f + log r`` it adds
``w (e^F - 1) - c F`` (d'Agnolo et al. 2022, eq. 25 and 29), or ``w log(1 + e^F) + c log(1 + e^-F)``.
Reference events have w, events of a window have c, rows of a pool have both.

Networks of some ten weights do not need 100 000 small steps of Adam. The second derivatives of the loss are
nearly those that the expected events give, ``sum w e^F (grad F)(grad F)^T``, a small matrix. A step solves
its equations with a damping that is raised until the loss falls (Levenberg and Marquardt); weights at their
bounds that want to leave are held. It ends when the loss is stable.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from dqm.nplm.neural.network import PRECISION, Perceptron

__all__ = ["Expansion", "LossForm", "NetworkFit", "NetworkProblem", "Rows", "minimise"]

LossForm = Literal["likelihood", "logistic"]

STABLE_STEPS = 10
"""Steps over which the loss must be stable."""

FIRST_DAMPING = 1e-2
"""Damping of the first step."""

LEAST_DAMPING = 1e-9
"""Smallest damping."""

MOST_DAMPING = 1e9
"""Largest damping."""
RAISED = 2.0
"""Factor of the damping after a step that was not taken. It doubles with each further one (Nielsen 1999), so
10 steps that are not taken say that nothing is gained."""

LOWERED = 0.3
"""Factor of the damping after a step that was taken (Nielsen 1999)."""

FLOOR = 1e-6
"""Least curvature that damping takes a weight to have, in units of the mean of all."""


@dataclass(frozen=True, slots=True, eq=False)
class Expansion:
    """log r at rows, ``linear nu + nu quadratic nu / 2``.

    Parameters
    ----------
    linear : Tensor, shape ([b,] n, k)
    quadratic : Tensor, shape ([b,] n, k, k)
        Symmetric.
    """

    linear: Tensor
    quadratic: Tensor

    def take(self, places: Tensor) -> Expansion:
        """Select fits."""
        return Expansion(_take(self.linear, places, 2), _take(self.quadratic, places, 3))

    def __call__(self, nu: Tensor) -> tuple[Tensor, Tensor]:
        """Give log r, shape (b, n), and its derivatives by nu, shape (b, n, k)."""
        bend = (self.quadratic @ nu[:, None, :, None]).squeeze(3)
        return ((self.linear + 0.5 * bend) @ nu.unsqueeze(2)).squeeze(2), self.linear + bend


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of the sums, the same for all fits or (with a leading dimension) one set for each.

    Parameters
    ----------
    x : Tensor, shape ([b,] n, d)
        Events.
    expected, seen : Tensor, shape ([b,] n), or None
        w and c; None for 0 everywhere.
    expansion : Expansion, optional
        Of log r; none without nuisance parameters.
    """

    x: Tensor
    expected: Tensor | None = None
    seen: Tensor | None = None
    expansion: Expansion | None = None

    def take(self, places: Tensor) -> Rows:
        """Select fits."""
        return Rows(
            _take(self.x, places, 2),
            None if self.expected is None else _take(self.expected, places, 1),
            None if self.seen is None else _take(self.seen, places, 1),
            None if self.expansion is None else self.expansion.take(places),
        )


@dataclass(frozen=True, slots=True, eq=False)
class NetworkProblem:
    """Fits of b networks.

    Parameters
    ----------
    network : Perceptron or None
        Their shape; None for f = 0.
    rows : tuple of Rows
        The loss is the sum over all.
    bounds : Tensor, shape (n_weights,)
        Largest absolute value of each weight, > 0; infinite for none.
    ridge : float
        Half of it times the sum of squared weights is added to what is minimised.
    measured : Tensor, shape (b, k)
        Measurements of the nuisance parameters.
    precision : Tensor, shape (k,)
        One over their squared errors; 0 for free ones.
    form : {"likelihood", "logistic"}
        Loss of a row.
    """

    network: Perceptron | None
    rows: tuple[Rows, ...]
    bounds: Tensor
    measured: Tensor
    precision: Tensor
    ridge: float = 0.0
    form: LossForm = "likelihood"

    @property
    def n_weights(self) -> int:
        """Weights of a network."""
        return 0 if self.network is None else self.network.n_parameters

    def take(self, places: Tensor) -> NetworkProblem:
        """Select fits."""
        rows = tuple(one.take(places) for one in self.rows)
        return replace(self, rows=rows, measured=self.measured[places])

    def limit(self, points: Tensor) -> Tensor:
        """Bring weights within their bounds."""
        p = self.n_weights
        return torch.cat([points[:, :p].clamp(-self.bounds, self.bounds), points[:, p:]], dim=1)

    def look(self, points: Tensor) -> _Point:
        """Give loss, gradient and curvature at points, shape (b, n_weights + k)."""
        p = self.n_weights
        nu = points[:, p:]
        pull = nu - self.measured
        loss = 0.5 * ((pull**2 - self.measured**2) * self.precision).sum(1)
        loss = loss + 0.5 * self.ridge * (points[:, :p] ** 2).sum(1)
        slope = torch.cat([self.ridge * points[:, :p], self.precision * pull], dim=1)
        own = torch.cat([points.new_full((p,), self.ridge), self.precision])
        curvature = torch.diag_embed(own.expand(len(points), -1))
        for rows in self.rows:
            parts = self._look_at_data(points, rows) if self._is_linear(rows) else self._look_at(points, rows)
            loss, slope = loss + parts[0], slope + parts[1]
            if len(parts) > 2:
                curvature = curvature + parts[2]
        return _Point(points, loss, slope, curvature)

    def _is_linear(self, rows: Rows) -> bool:
        """Tell whether the loss of rows is linear in F: it has no curvature then."""
        return rows.expected is None and self.form == "likelihood"

    def _look_at_data(self, points: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        p = self.n_weights
        seen = (points.new_zeros(1) if rows.seen is None else rows.seen).expand(len(points), rows.x.shape[-2])
        loss = points.new_zeros(len(points))
        parts = []
        if self.network is not None:
            f, slope = self.network.gradient(points[:, :p], rows.x, -seen)
            loss = loss - (seen * f).sum(1)
            parts.append(slope)
        if rows.expansion is not None:
            log_r, slopes = rows.expansion(points[:, p:])
            loss = loss - (seen * log_r).sum(1)
            parts.append(-(seen.unsqueeze(1) @ slopes).squeeze(1))
        return loss, torch.cat(parts, dim=1)

    def _look_at(self, points: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        p = self.n_weights
        parts = []
        ratio = points.new_zeros((len(points), rows.x.shape[-2]))
        if self.network is not None:
            f, slopes = self.network.jacobian(points[:, :p], rows.x)
            ratio = ratio + f
            parts.append(slopes)
        if rows.expansion is not None:
            log_r, slopes = rows.expansion(points[:, p:])
            ratio = ratio + log_r
            parts.append(slopes.mT)
        jacobian = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        loss, slope, bend = _row_loss(self.form, ratio, rows.expected, rows.seen)
        curvature = (bend.unsqueeze(1) * jacobian) @ jacobian.mT
        return loss.sum(1), (jacobian @ slope.unsqueeze(2)).squeeze(2), curvature


def _row_loss(
    form: LossForm, ratio: Tensor, expected: Tensor | None, seen: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the loss of rows, its derivative by F and the second one."""
    zero = ratio.new_zeros(())
    w, c = (zero if one is None else one for one in (expected, seen))
    if form == "likelihood":
        density = w * ratio.exp()
        return density - w - c * ratio, density - c, density
    high, low = torch.sigmoid(ratio), torch.sigmoid(-ratio)
    loss = w * torch.nn.functional.softplus(ratio) + c * torch.nn.functional.softplus(-ratio)
    return loss, w * high - c * low, (w + c) * high * low


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """Points of fits, with loss, gradient and curvature."""

    at: Tensor
    loss: Tensor
    slope: Tensor
    curvature: Tensor

    def take(self, places: Tensor) -> _Point:
        return _Point(*(getattr(self, one.name)[places] for one in fields(self)))

    def where(self, chosen: Tensor, other: _Point) -> _Point:
        """Take the other where chosen."""
        found = []
        for one in fields(self):
            own, new = getattr(self, one.name), getattr(other, one.name)
            found.append(torch.where(chosen.view(-1, *([1] * (own.ndim - 1))), new, own))
        return _Point(*found)


@dataclass(frozen=True, slots=True, eq=False)
class NetworkFit:
    """Outcome of b fits.

    Parameters
    ----------
    points : Tensor, shape (b, n_weights + k)
        Weights and nuisance parameters.
    loss : Tensor, shape (b,)
        Minimum.
    curvature : Tensor, shape (b, n_weights + k, n_weights + k)
        Second derivatives that the expected events give.
    converged : Tensor of bool, shape (b,)
        Whether the loss is stable.
    n_steps : Tensor of int, shape (b,)
        Steps of each.
    """

    points: Tensor
    loss: Tensor
    curvature: Tensor
    converged: Tensor
    n_steps: Tensor

    def take(self, places: Tensor) -> NetworkFit:
        """Select fits."""
        return NetworkFit(*(getattr(self, one.name)[places] for one in fields(self)))

    def best_of(self, n_starts: int) -> NetworkFit:
        """Give the best stable fit of each `n_starts` in a row; the first if none is stable."""
        loss = torch.where(self.converged, self.loss, torch.inf).view(-1, n_starts)
        return self.take(loss.argmin(dim=1) + torch.arange(len(loss)) * n_starts)

    def errors(self, k: int) -> Tensor:
        """Give the errors of the k nuisance parameters, shape (b, k)."""
        inverse: Tensor = torch.linalg.pinv(self.curvature, hermitian=True)
        return inverse.diagonal(dim1=1, dim2=2)[:, self.points.shape[1] - k :].clamp(min=0.0).sqrt()


def minimise(problem: NetworkProblem, start: Tensor, *, tolerance: float, max_steps: int) -> NetworkFit:
    """Minimise the loss of each fit.

    Parameters
    ----------
    problem : NetworkProblem
        What to fit.
    start : Tensor, shape (b, n_weights + k)
        Where to begin.
    tolerance : float
        Change of ``-2 loss`` within 10 steps, relative to ``max(1, |2 loss|)``, below which it is stable.
    max_steps : int
        Most steps.
    """
    now = problem.look(problem.limit(start.to(PRECISION)))
    n = len(start)
    left = torch.arange(n)
    best = now
    damping = torch.full((n,), FIRST_DAMPING, dtype=PRECISION)
    raised = torch.full_like(damping, RAISED)
    history = now.loss.repeat(STABLE_STEPS, 1)
    converged = torch.zeros(n, dtype=torch.bool)
    n_steps = torch.full((n,), max_steps)
    for step in range(max_steps):
        trial = problem.look(problem.limit(now.at + _step(problem, now, damping)))
        is_better = trial.loss < now.loss
        now = now.where(is_better, trial)
        damping = damping * torch.where(is_better, LOWERED, raised)
        damping = damping.clamp(LEAST_DAMPING, MOST_DAMPING)
        raised = torch.where(is_better, RAISED, 2.0 * raised)
        place = step % STABLE_STEPS
        change = history[place] - now.loss
        history[place] = now.loss
        enough = 0.5 * tolerance * torch.clamp(2.0 * now.loss.abs(), min=1.0)
        is_done = (change <= enough) & (step >= STABLE_STEPS) | (damping >= MOST_DAMPING)
        if bool(is_done.any()):
            best = _put(best, left[is_done], now.take(is_done))
            converged[left[is_done]] = True
            n_steps[left[is_done]] = step + 1
            kept = ~is_done
            left = left[kept]
            now = now.take(kept)
            history = history[:, kept]
            damping, raised = damping[kept], raised[kept]
            if not len(left):
                break
            problem = problem.take(kept)
    best = _put(best, left, now)
    return NetworkFit(best.at, best.loss, best.curvature, converged & best.loss.isfinite(), n_steps)


def _step(problem: NetworkProblem, now: _Point, damping: Tensor) -> Tensor:
    """Solve for the step of each fit."""
    p = problem.n_weights
    is_held = torch.zeros_like(now.slope, dtype=torch.bool)
    at, slope = now.at[:, :p], now.slope[:, :p]
    is_held[:, :p] = (at.abs() >= problem.bounds) & (at * slope < 0.0)
    free = (~is_held).to(PRECISION)
    diagonal = now.curvature.diagonal(dim1=1, dim2=2)
    scale = torch.maximum(diagonal, FLOOR * diagonal.mean(1, keepdim=True)) + torch.finfo(PRECISION).tiny
    matrix = now.curvature * free.unsqueeze(2) * free.unsqueeze(1)
    matrix = matrix + torch.diag_embed(damping.unsqueeze(1) * scale + (1.0 - free) * scale)
    factor, info = torch.linalg.cholesky_ex(matrix)
    step = torch.cholesky_solve((-now.slope * free).unsqueeze(2), factor).squeeze(2)
    return torch.where((info == 0).unsqueeze(1) & step.isfinite(), step, 0.0)


def _put(whole: _Point, places: Tensor, part: _Point) -> _Point:
    """Write some fits into the whole."""
    found = []
    for one in fields(whole):
        values = getattr(whole, one.name).clone()
        values[places] = getattr(part, one.name)
        found.append(values)
    return _Point(*found)


def _take(values: Tensor, places: Tensor, n_axes: int) -> Tensor:
    """Select fits of an array that has one more axis than this, or is shared by all."""
    return values[places] if values.ndim > n_axes else values
