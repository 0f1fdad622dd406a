"""The two losses of kernel NPLM, as functions of the log density ratio at the events of many windows.

Tensors have one row a window: ``(b, n)``. Reference events weigh `weights` of shape ``(n_reference,)``,
events of the windows `present` of shape ``(b, n_data)``, which is 0 where a shorter window was padded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["LOSSES", "Likelihood", "Logistic", "Loss", "LossName", "Slopes"]

LossName = Literal["logistic", "likelihood"]


@dataclass(frozen=True, slots=True)
class Slopes:
    """First and second derivatives of a loss with respect to the log ratio, event by event."""

    reference: Tensor
    data: Tensor
    reference_curvature: Tensor
    data_curvature: Tensor | None
    """None where the loss is linear at the data."""


class Loss(Protocol):
    """Loss of reference and data events; convex in the log ratio."""

    healthy_curvature: float
    """Second derivative at 0, summed over reference and data, per expected event of a healthy window."""

    def value(self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        """Sum over the events of each window; shape (b,)."""

    def slopes(self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor) -> Slopes:
        """Differentiate at all events."""


class Logistic:
    """Weighted cross-entropy: ``w log(1 + e^f)`` at the reference, ``log(1 + e^-f)`` at the data.

    References
    ----------
    Letizia et al. (2022), arXiv:2204.02317, section 3.
    """

    healthy_curvature = 0.5

    def value(self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        """Sum over the events of each window; shape (b,)."""
        return softplus(reference) @ weights + (present * softplus(-data)).sum(1)

    def slopes(self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor) -> Slopes:
        """Differentiate at all events."""
        s, u = torch.sigmoid(reference), present * torch.sigmoid(-data)
        return Slopes(weights * s, -u, weights * s * (1.0 - s), u * torch.sigmoid(data))


class Likelihood:
    """Extended likelihood: ``w (e^f - 1)`` at the reference, ``-f`` at the data.

    References
    ----------
    d'Agnolo et al. (2022), doi:10.1140/epjc/s10052-022-10226-y, eq. 25 without its last term.
    """

    healthy_curvature = 1.0

    def value(self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor) -> Tensor:
        """Sum over the events of each window; shape (b,)."""
        return torch.expm1(reference) @ weights - (present * data).sum(1)

    def slopes(
        self,
        reference: Tensor,
        data: Tensor,  # noqa: ARG002 - the loss is linear in it
        weights: Tensor,
        present: Tensor,
    ) -> Slopes:
        """Differentiate at all events."""
        density = weights * torch.exp(reference)
        return Slopes(density, -present, density, None)


LOSSES: dict[LossName, Loss] = {"logistic": Logistic(), "likelihood": Likelihood()}
