"""Training samples of the models of log r, and the loss that they minimise."""

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
"""Called with the steps done and the total."""


@dataclass(frozen=True, slots=True)
class Training:
    """Standardised samples.

    Parameters
    ----------
    reference : Tensor, shape (n_reference, d)
        Events at nu = 0: the sample S_1 of eq. 17 at every point.
    weights : Tensor, shape (n_reference,)
        Weights of `reference`; their sum is 1.
    shifted : tuple of Tensor, shapes (n_i, d)
        Events at each of k points: the samples S_0 of eq. 17.
    shifted_weights : tuple of Tensor, shapes (n_i,)
        Weights of `shifted`; each sum is N(R_nu) / N(R_0).
    monomials : Tensor, shape (k, order)
        ``u, u^2 / 2`` at each point; u is nu in units of its largest absolute value.
    """

    reference: Tensor
    weights: Tensor
    shifted: tuple[Tensor, ...]
    shifted_weights: tuple[Tensor, ...]
    monomials: Tensor


class Coefficients(Protocol):
    """Coefficient functions of log r, for standardised events and nu in units of its largest value."""

    def __call__(self, z: Tensor) -> Tensor:
        """Evaluate the coefficients at standardised events of shape (n, d); shape (n, order)."""

    def arrays(self) -> dict[str, FloatArray]:
        """Return the arrays that define the functions, by name."""

    def settings(self) -> dict[str, Setting]:
        """Return what `from_arrays` needs besides the arrays, including the name of the method."""


class Learner(Protocol):
    """A method that learns coefficient functions."""

    def learn(self, training: Training, rng: np.random.Generator, progress: Progress | None) -> Coefficients:
        """Minimise the loss over the functions of this method."""


def quadratic_loss(log_r: Tensor, *, shifted: bool) -> Tensor:
    """Loss of single events, eq. 17 with the classifier of eq. 15.

    Parameters
    ----------
    log_r : Tensor
        Log ratio ``log r(x; nu)``, nu being that of the sample the event belongs to.
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
