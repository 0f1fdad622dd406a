"""What the models of log r are trained on, and the loss they minimise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dqm.events import FloatArray

__all__ = [
    "Arrays",
    "Coefficients",
    "Learner",
    "Progress",
    "Setting",
    "Settings",
    "Training",
    "quadratic_loss",
]

Setting = int | float | str
Settings = Mapping[str, Setting]
Arrays = Mapping[str, FloatArray]
Progress = Callable[[int, int], None]
"""Called with steps done and steps in all."""


@dataclass(frozen=True, slots=True)
class Training:
    """Samples in the coordinates of the fit.

    Parameters
    ----------
    reference : Tensor, shape (n_reference, d)
        Events at nu = 0, standardised; they serve as S_1 for every point.
    weights : Tensor, shape (n_reference,)
        Their weights, of unit sum.
    shifted : tuple of Tensor, shapes (n_i, d)
        Events S_0 at each of k points, standardised.
    shifted_weights : tuple of Tensor, shapes (n_i,)
        Their weights; each sum is N(R_nu) / N(R_0).
    monomials : Tensor, shape (k, order)
        ``u, u^2 / 2`` at each point, u being nu in units of the largest absolute value.
    """

    reference: Tensor
    weights: Tensor
    shifted: tuple[Tensor, ...]
    shifted_weights: tuple[Tensor, ...]
    monomials: Tensor


class Coefficients(Protocol):
    """Coefficient functions of log r, for standardised events and nu in units of the largest."""

    def __call__(self, z: Tensor) -> Tensor:
        """Give the coefficients, shape (n, order), at events of shape (n, d)."""

    def arrays(self) -> dict[str, FloatArray]:
        """Give all numbers that define the functions."""

    def settings(self) -> dict[str, Setting]:
        """Give the rest of what `from_arrays` needs, the name of the method among it."""


class Learner(Protocol):
    """A method of learning coefficient functions."""

    def learn(self, training: Training, rng: np.random.Generator, progress: Progress | None) -> Coefficients:
        """Minimise the loss over the functions this method has."""


def quadratic_loss(log_r: Tensor, *, shifted: bool) -> Tensor:
    """Loss of single events, eq. 17 with the classifier of eq. 15.

    Parameters
    ----------
    log_r : Tensor
        Log ratio ``log r(x; nu)`` at the nu of the event's sample.
    shifted : bool
        Whether the events follow R_nu (loss ``c^2``) or R_0 (loss ``(1 - c)^2``), with ``c = 1 / (1 + r)``.

    Returns
    -------
    Tensor
        Values in (0, 1); 1/4 where r = 1.

    References
    ----------
    d'Agnolo et al., EPJC 82, 275 (2022), eq. 15-17.
    """
    return torch.sigmoid(-log_r if shifted else log_r) ** 2
