"""What is fitted: many windows against one reference, as tensors.

The log ratio at an event is ``f + log r = phi a + nu L + nu Q nu / 2``: kernels with coefficients a, nuisance
parameters nu.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, bmm

from dqm.nplm.loss import LOSSES, LossName

__all__ = ["Events", "Problem", "apply", "project"]


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
        return apply(self.phi, a)

    def log_ratio(self, a: Tensor, nu: Tensor) -> Tensor:
        """Give ``f + log r``, shape (b, n), at coordinates (b, r) and nuisances (b, k)."""
        f = self.anomaly(a)
        return f if nu.shape[1] == 0 else f + apply(0.5 * (self.linear + self.jacobian(nu)), nu)

    def jacobian(self, nu: Tensor) -> Tensor:
        """Differentiate log r with respect to nu; shape (b, n, k)."""
        slope = apply(self.quadratic.flatten(-3, -2), nu)
        return self.linear + slope.reshape(len(nu), *self.linear.shape[-2:])


def apply(columns: Tensor, v: Tensor) -> Tensor:
    """Multiply columns (n, m) or (b, n, m) with coefficients (b, m)."""
    return v @ columns.T if columns.dim() == 2 else bmm(columns, v[:, :, None])[:, :, 0]


def project(columns: Tensor, u: Tensor) -> Tensor:
    """Sum columns over events with weights (b, n)."""
    return u @ columns if columns.dim() == 2 else bmm(u[:, None, :], columns)[:, 0, :]


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

    def without_kernels(self) -> Problem:
        """Give the same windows with the nuisance parameters alone, f = 0."""

        def bare(events: Events) -> Events:
            return replace(events, phi=events.phi[..., :0])

        return replace(
            self, reference=bare(self.reference), data=bare(self.data), second_moment=self.second_moment[:0]
        )
