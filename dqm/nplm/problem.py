"""The fit problem as tensors: many windows against one reference.

The log ratio at an event is ``f + log r = phi a + nu L + nu Q nu / 2``, with coefficients a of the basis and
nuisance parameters nu. Basis values may be float32; everything else is float64. Shapes use b windows, n
events, r basis functions and k nuisance parameters.

The last basis functions are remote (`dqm.nplm.basis`): 0 at the reference, whose events have the columns of
the others only. Each window has its own (`dqm.nplm.window_events`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, bmm
from torch.linalg import vecdot
from torch.nn.functional import pad

from dqm.nplm.loss import LOSSES, Loss, LossName

__all__ = [
    "Events",
    "FitPoint",
    "FitProblem",
    "Totals",
    "apply",
    "evaluate",
    "gradient",
    "lower_bound",
    "project",
]

CAUTION = 10.0
"""If there is no certain bound, a bound is below the statistic by the estimated error times this ..."""

CAUTIOUS_SHARE = 0.5
"""... and times this share: the estimate has been wrong by some percent of the statistic."""


def apply(columns: Tensor, v: Tensor) -> Tensor:
    """Multiply columns (n, m) or (b, n, m) with coefficients (b, m); shape (b, n)."""
    u = v.to(columns.dtype)
    if columns.dim() == 3 and len(columns) == 1:
        columns = columns[0]
    product = u @ columns.T if columns.dim() == 2 else bmm(columns, u[:, :, None])[:, :, 0]
    return product.to(v.dtype)


def project(columns: Tensor, u: Tensor) -> Tensor:
    """Sum columns (n, m) or (b, n, m) over the events with weights (b, n); shape (b, m)."""
    v = u.to(columns.dtype)
    if columns.dim() == 3 and len(columns) == 1:
        columns = columns[0]
    total = v @ columns if columns.dim() == 2 else bmm(v[:, None, :], columns)[:, 0, :]
    return total.to(u.dtype)


@dataclass(frozen=True, slots=True)
class Events:
    """Events in the coordinates of the fit; data have a window axis in front, the reference has none.

    Parameters
    ----------
    phi : Tensor, shape (n, r) or (b, n, r)
        Basis functions; those that are left out at the end are 0.
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

    def log_ratio(self, a: Tensor, nu: Tensor) -> Tensor:
        """Compute ``f + log r``, shape (b, n), at coordinates (b, r) and nuisances (b, k)."""
        f = apply(self.phi, a[:, : self.phi.shape[-1]])
        return f if nu.shape[1] == 0 else f + apply(0.5 * (self.linear + self.jacobian(nu)), nu)

    def jacobian(self, nu: Tensor) -> Tensor:
        """Differentiate log r with respect to nu; shape (b, n, k)."""
        slope = apply(self.quadratic.flatten(-3, -2), nu)
        return self.linear + slope.reshape(len(nu), *self.linear.shape[-2:])

    def scaled(self, factor: float) -> Events:
        """Return the same events with all weights multiplied."""
        return replace(self, weights=self.weights * factor)

    def without_kernels(self) -> Events:
        """Return the same events without basis functions: f = 0."""
        return replace(self, phi=self.phi[..., :0])

    def pull(self, nu: Tensor, u: Tensor, r: int) -> Tensor:
        """Sum the derivatives of the log ratio over the events, with weights (b, n); shape (b, r + k)."""
        image = project(self.phi, u)
        if image.shape[1] < r:
            image = pad(image, (0, r - image.shape[1]))
        return image if nu.shape[1] == 0 else torch.cat([image, project(self.jacobian(nu), u)], 1)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of the columns of `Events` over each window: shapes (b, r), (b, k), (b, k, k)."""

    phi: Tensor
    linear: Tensor
    quadratic: Tensor

    def log_ratio(self, a: Tensor, nu: Tensor) -> Tensor:
        """Sum ``f + log r`` over the events of each window; shape (b,)."""
        f: Tensor = vecdot(self.phi, a)
        if nu.shape[1] == 0:
            return f
        bent = (self.quadratic @ nu[:, :, None])[:, :, 0]
        return f + ((self.linear + 0.5 * bent) * nu).sum(1)

    def gradient(self, nu: Tensor) -> Tensor:
        """Differentiate `log_ratio` with respect to (a, nu); shape (b, r + k)."""
        if nu.shape[1] == 0:
            return self.phi
        bent = (self.quadratic @ nu[:, :, None])[:, :, 0]
        return torch.cat([self.phi, self.linear + bent], 1)


@dataclass(frozen=True, slots=True)
class FitProblem:
    """A batch of windows and the reference they are fitted against.

    Parameters
    ----------
    reference : Events
        Reference; its weights sum to N(R_0).
    data : Events
        Events of b windows, padded to the same number; empty if the loss is linear in them.
    totals : Totals
        Sums over the events of each window.
    loss_name : {"logistic", "likelihood"}
        Loss of the events.
    n_expected : float
        Sum of the reference's weights, N(R_0).
    second_moment : Tensor, shape (r,)
        Weighted second moments of the basis over the reference; the mixed moments are 0, and so are those of
        remote functions.
    ridge : Tensor, shape (b,)
        Factor of ``|a|^2 / 2``.
    precision : Tensor, shape (k,)
        ``1 / sigma_nu^2``; 0 for a free nuisance parameter.
    measured : Tensor, shape (b, k)
        Auxiliary measurements of the nuisance parameters.
    enough : Tensor, shape (b,)
        Statistic above which its exact value does not matter, so that the fit may end; may be infinite.
    """

    reference: Events
    data: Events
    totals: Totals
    loss_name: LossName
    n_expected: float
    second_moment: Tensor
    ridge: Tensor
    precision: Tensor
    measured: Tensor
    enough: Tensor

    @property
    def loss(self) -> Loss:
        """Loss of the events."""
        return LOSSES[self.loss_name]

    @property
    def tension_curvature(self) -> Tensor:
        """Curvature of the auxiliary term, shape (k,).

        An event counts half in the logistic loss, so the auxiliary term counts half as well.
        """
        return self.loss.healthy_curvature * self.precision

    def take(self, chosen: Tensor) -> FitProblem:
        """Select windows."""
        return replace(
            self,
            data=Events(*(getattr(self.data, field.name)[chosen] for field in fields(Events))),
            totals=Totals(*(getattr(self.totals, field.name)[chosen] for field in fields(Totals))),
            ridge=self.ridge[chosen],
            measured=self.measured[chosen],
            enough=self.enough[chosen],
        )

    def on(self, nodes: Events) -> FitProblem:
        """Return the same windows with `nodes` in place of the reference."""
        return replace(self, reference=nodes)

    def in_double_precision(self) -> FitProblem:
        """Return the same problem with the basis in float64."""
        reference, data = (
            replace(events, phi=events.phi.to(events.weights.dtype)) for events in (self.reference, self.data)
        )
        return replace(self, reference=reference, data=data)

    def without_kernels(self) -> FitProblem:
        """Return the same windows with f = 0: only the nuisance parameters are fitted, to the end."""
        return replace(
            self,
            enough=torch.full_like(self.enough, torch.inf),
            reference=self.reference.without_kernels(),
            data=self.data.without_kernels(),
            totals=replace(self.totals, phi=self.totals.phi[..., :0]),
            second_moment=self.second_moment[:0],
        )


@dataclass(slots=True)
class FitPoint:
    """Parameters of the fit and the values there; one row for each window.

    Parameters
    ----------
    a, nu : Tensor, shapes (b, r), (b, k)
        Coordinates of f and nuisance parameters.
    reference, data : Tensor, shapes (b, n_reference), (b, n_data)
        ``f + log r`` at the events.
    objective : Tensor, shape (b,)
        ``sum loss + ridge |a|^2 / 2 + c sum_i ((nu_i - measured_i) / sigma_i)^2 / 2``; c is the curvature of
        the loss at 0, so that data and auxiliary measurements keep their relative weight.
    statistic : Tensor, shape (b,)
        ``-2 L`` of eq. 25 (d'Agnolo et al. 2022). At the minimum it is tau, or Delta without basis functions.
    """

    a: Tensor
    nu: Tensor
    reference: Tensor
    data: Tensor
    objective: Tensor
    statistic: Tensor

    def take(self, chosen: Tensor) -> FitPoint:
        """Select windows."""
        return FitPoint(*(getattr(self, field.name)[chosen] for field in fields(FitPoint)))

    def put(self, rows: Tensor, other: FitPoint) -> None:
        """Replace the rows of some windows."""
        for field in fields(FitPoint):
            getattr(self, field.name)[rows] = getattr(other, field.name)


def evaluate(p: FitProblem, a: Tensor, nu: Tensor) -> FitPoint:
    """Evaluate objective and statistic of each window."""
    reference, data = p.reference.log_ratio(a, nu), p.data.log_ratio(a, nu)
    likelihood = torch.expm1(reference) @ p.reference.weights - p.totals.log_ratio(a, nu)
    loss = p.loss.value(reference, data, p.reference.weights, p.data.weights, likelihood)
    objective = loss + 0.5 * p.ridge * vecdot(a, a)
    statistic = -2.0 * likelihood
    if nu.shape[1]:
        tension = vecdot(p.precision * (nu - p.measured), nu - p.measured)
        objective = objective + 0.5 * p.loss.healthy_curvature * tension
        statistic = statistic - tension + vecdot(p.precision * p.measured, p.measured)
    return FitPoint(a, nu, reference, data, objective, statistic)


def lower_bound(p: FitProblem, at: FitPoint, error: Tensor | float) -> Tensor:
    """Bound the statistic at the minimum from below, by what is known at another point.

    Parameters
    ----------
    p : FitProblem
        Windows and reference.
    at : FitPoint
        Any point.
    error : Tensor, shape (b,), or float
        Estimate of how far the statistic is from its value at the minimum; used if the loss is not what
        the statistic is made of.

    Returns
    -------
    Tensor, shape (b,)
        With the likelihood loss, twice the objective is a constant minus the statistic plus the penalty
        ``ridge |a|^2``. At the minimum the penalty is not negative and the objective not larger than here, so
        the statistic less the penalty is a bound. With another loss it is a cautious estimate: half of what
        is left of the statistic after ten times the error.
    """
    if not p.loss.bounds_statistic:
        return CAUTIOUS_SHARE * (at.statistic - CAUTION * error)
    bound: Tensor = at.statistic - p.ridge * vecdot(at.a, at.a)
    return bound


def gradient(p: FitProblem, at: FitPoint) -> Tensor:
    """Differentiate the objective with respect to (a, nu); shape (b, r + k)."""
    on_reference, on_data = p.loss.slopes(at.reference, at.data, p.reference.weights, p.data.weights)
    penalty = p.ridge[:, None] * at.a
    if at.nu.shape[1]:
        penalty = torch.cat([penalty, p.tension_curvature * (at.nu - p.measured)], 1)
    r = at.a.shape[1]
    image = p.reference.pull(at.nu, on_reference, r) + penalty
    if p.loss.linear_in_data:
        return image - p.totals.gradient(at.nu)
    return image + p.data.pull(at.nu, on_data, r)
