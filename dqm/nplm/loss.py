"""The two losses of kernel NPLM, as functions of the log density ratio at the events of many windows.

Tensors have one row for each window: ``(b, n)``. Reference events have `weights` of shape
``(n_reference,)``. Events of the windows have weights `present` of shape ``(b, n_data)``: 1, or 0 where a
shorter window was padded.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["LOSSES", "Likelihood", "Logistic", "Loss", "LossName"]

LossName = Literal["logistic", "likelihood"]


class Loss(Protocol):
    """Loss of reference and data events, convex in the log ratio."""

    healthy_curvature: float
    """Second derivative at 0, summed over reference and data, per expected event of a healthy window."""

    linear_in_data: bool
    """Whether the loss depends on the data only by the sum of their log ratios; `data` is then empty."""

    bounds_statistic: bool
    """Whether the minimum of the penalised loss bounds the statistic from below, see `lower_bound`."""

    def value(
        self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor, likelihood: Tensor
    ) -> Tensor:
        """Sum over the events of each window; shape (b,).

        `likelihood` is the extended likelihood, which the statistic needs in any case: the sum of
        ``w (e^f - 1)`` at the reference minus the sum of the log ratios at the data.
        """

    def slopes(
        self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate at each event, without the part that `Totals` holds if `linear_in_data`.

        Both parts have a row for each window: shapes (b, n_reference) and (b, n_data).
        """

    def curvatures(
        self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate twice at each event; shapes (b, n_reference) and (b, n_data)."""


class Logistic:
    """Weighted cross-entropy: ``w log(1 + e^f)`` at the reference, ``log(1 + e^-f)`` at the data.

    References
    ----------
    Letizia et al. (2022), arXiv:2204.02317, section 3.
    """

    healthy_curvature = 0.5
    linear_in_data = False
    bounds_statistic = False

    def value(
        self,
        reference: Tensor,
        data: Tensor,
        weights: Tensor,
        present: Tensor,
        likelihood: Tensor,  # noqa: ARG002 - only the other loss needs it
    ) -> Tensor:
        """Sum over the events of each window; shape (b,)."""
        return softplus(reference) @ weights + (present * softplus(-data)).sum(1)

    def slopes(
        self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate at each event; shapes (b, n_reference) and (b, n_data)."""
        return weights * torch.sigmoid(reference), -present * torch.sigmoid(-data)

    def curvatures(
        self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate twice at each event; shapes (b, n_reference) and (b, n_data)."""
        s, u = torch.sigmoid(reference), torch.sigmoid(data)
        return weights * s * (1.0 - s), present * u * (1.0 - u)


class Likelihood:
    """Extended likelihood: ``w (e^f - 1)`` at the reference, ``-f`` at the data.

    References
    ----------
    d'Agnolo et al. (2022), doi:10.1140/epjc/s10052-022-10226-y, eq. 25 without its last term.
    """

    healthy_curvature = 1.0
    linear_in_data = True
    bounds_statistic = True

    def value(
        self,
        reference: Tensor,  # noqa: ARG002 - `likelihood` is the value
        data: Tensor,  # noqa: ARG002
        weights: Tensor,  # noqa: ARG002
        present: Tensor,  # noqa: ARG002
        likelihood: Tensor,
    ) -> Tensor:
        """Sum over the events of each window; shape (b,)."""
        return likelihood

    def slopes(
        self,
        reference: Tensor,
        data: Tensor,
        weights: Tensor,
        present: Tensor,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Differentiate at each reference event: (b, n_reference); `Totals` holds the part of the data."""
        return weights * torch.exp(reference), data

    def curvatures(
        self, reference: Tensor, data: Tensor, weights: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Differentiate twice, shape (b, n_reference); equal to the first derivative."""
        return self.slopes(reference, data, weights, present)


LOSSES: dict[LossName, Loss] = {"logistic": Logistic(), "likelihood": Likelihood()}
