"""The two losses of kernel NPLM, as functions of the log density ratio f."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["LOSSES", "Likelihood", "Logistic", "Loss", "LossName", "Slopes", "statistic"]

LossName = Literal["logistic", "likelihood"]


@dataclass(frozen=True, slots=True)
class Slopes:
    """First and second derivatives of a loss with respect to f, event by event."""

    reference: Tensor
    data: Tensor
    reference_curvature: Tensor
    data_curvature: Tensor


class Loss(Protocol):
    """Loss of reference and data events; convex in f."""

    healthy_curvature: float
    """Second derivative at f = 0 summed over reference and data, per expected event of a healthy window."""

    def value(self, f_reference: Tensor, f_data: Tensor, weights: Tensor) -> float:
        """Sum over all events."""

    def slopes(self, f_reference: Tensor, f_data: Tensor, weights: Tensor) -> Slopes:
        """Differentiate at all events."""


class Logistic:
    """Weighted cross-entropy: ``w log(1 + e^f)`` at the reference, ``log(1 + e^-f)`` at the data.

    References
    ----------
    Letizia et al. (2022), arXiv:2204.02317, section 3.
    """

    healthy_curvature = 0.5

    def value(self, f_reference: Tensor, f_data: Tensor, weights: Tensor) -> float:
        """Sum over all events."""
        return float(weights @ softplus(f_reference) + softplus(-f_data).sum())

    def slopes(self, f_reference: Tensor, f_data: Tensor, weights: Tensor) -> Slopes:
        """Differentiate at all events."""
        s, u = torch.sigmoid(f_reference), torch.sigmoid(-f_data)
        return Slopes(weights * s, -u, weights * s * (1.0 - s), u * (1.0 - u))


class Likelihood:
    """Extended likelihood: ``w (e^f - 1)`` at the reference, ``-f`` at the data.

    References
    ----------
    d'Agnolo et al. (2022), doi:10.1140/epjc/s10052-022-10226-y, eq. 25 without nuisance parameters.
    """

    healthy_curvature = 1.0

    def value(self, f_reference: Tensor, f_data: Tensor, weights: Tensor) -> float:
        """Sum over all events."""
        return float(weights @ torch.expm1(f_reference) - f_data.sum())

    def slopes(self, f_reference: Tensor, f_data: Tensor, weights: Tensor) -> Slopes:
        """Differentiate at all events."""
        density = weights * torch.exp(f_reference)
        return Slopes(density, -torch.ones_like(f_data), density, torch.zeros_like(f_data))


LOSSES: dict[LossName, Loss] = {"logistic": Logistic(), "likelihood": Likelihood()}


def statistic(f_reference: Tensor, f_data: Tensor, weights: Tensor) -> float:
    """Test statistic ``t = -2 [ sum_R w (e^f - 1) - sum_D f ]``: minus twice the likelihood loss.

    References
    ----------
    d'Agnolo and Wulzer (2019), arXiv:1806.02350, eq. 9.
    """
    return -2.0 * LOSSES["likelihood"].value(f_reference, f_data, weights)
