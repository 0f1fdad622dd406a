"""How far to go along a direction."""

from __future__ import annotations

import torch
from torch import Tensor

from dqm.nplm.problem import FitPoint, FitProblem, evaluate

__all__ = ["find_step"]

HALVINGS = 30
NOISE = {torch.float64: 1e-13, torch.float32: 1e-9}
"""Relative rounding of the objective by precision of the basis: below it rounding decides, not the step."""


def find_step(
    p: FitProblem, here: FitPoint, step: Tensor, descent: Tensor, halvings: int = HALVINGS
) -> tuple[FitPoint, Tensor]:
    """Halve each window's step until its objective falls enough.

    Parameters
    ----------
    p : FitProblem
        Windows and reference.
    here : FitPoint
        Where to start.
    step : Tensor, shape (b, r + k)
        Directions of descent.
    descent : Tensor, shape (b,)
        Derivative of the objective along them, negative.
    halvings : int
        How often to try.

    Returns
    -------
    there : FitPoint
        Where the step ends.
    length : Tensor, shape (b,)
        Lengths taken, 1 at most; 0 says that none helps.
    """
    r = here.a.shape[1]
    noise = NOISE[p.reference.phi.dtype] * (here.objective.abs() + p.n_expected)
    length = torch.ones_like(descent)
    there = _move(p, here, step, r)
    for _ in range(halvings):
        falls = there.objective <= here.objective + 1e-4 * length * descent + noise
        if falls.all():
            return there, length
        length = torch.where(falls, length, 0.5 * length)
        there = _move(p, here, length[:, None] * step, r)
    falls = there.objective <= here.objective + 1e-4 * length * descent + noise
    length = torch.where(falls, length, 0.0)
    return _move(p, here, length[:, None] * step, r), length


def _move(p: FitProblem, here: FitPoint, step: Tensor, r: int) -> FitPoint:
    if step.shape[1] == r:
        return evaluate(p, here.a + step, here.nu)
    return evaluate(p, here.a + step[:, :r], here.nu + step[:, r:])
