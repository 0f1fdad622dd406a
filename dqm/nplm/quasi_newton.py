"""What the last steps say about the Hessian, on top of a hessian that approximates it."""

from __future__ import annotations

import torch
from torch import Tensor

from dqm.nplm.hessian import Hessian

__all__ = ["Memory"]

PAIRS = 10
"""Steps remembered."""


class Memory:
    """Steps and changes of the gradient, from which the hessian is corrected: L-BFGS for many windows.

    Parameters
    ----------
    hessian : Hessian
        What is assumed before anything is seen.

    References
    ----------
    Byrd, Nocedal and Schnabel (1994), doi:10.1007/BF01582063, theorem 2.2: the compact form, which takes few
    operations however many windows there are.
    """

    def __init__(self, hessian: Hessian) -> None:
        self._hessian = hessian
        # with m steps: (b, m, r + k) twice, steps and hessian^-1 times the changes; (b, m, m) twice
        self._steps, self._solved, self._upper, self._inner = (torch.empty(0) for _ in range(4))
        self._changes = torch.empty(0)

    def remember(self, step: Tensor, change: Tensor) -> None:
        """Take in a step and the change of the gradient, both (b, r + k); useless ones are left out."""
        product = (step * change).sum(1)
        useful = product > 1e-12 * step.norm(dim=1) * change.norm(dim=1)
        step, change = (torch.where(useful[:, None], part, 0.0)[:, None] for part in (step, change))
        solved = self._hessian.solve(change[:, 0])[:, None]
        if self._steps.numel():
            last = slice(1 - PAIRS, None)
            step, change, solved = (
                torch.cat([known[:, last], new], 1)
                for known, new in ((self._steps, step), (self._changes, change), (self._solved, solved))
            )
        self._steps, self._changes, self._solved = step, change, solved
        self._upper = (step @ change.mT).triu()
        self._inner = change @ solved.mT
        # a pair left out has a row of zeros: 1 on the diagonal keeps the triangle regular
        diagonal = self._upper.diagonal(dim1=1, dim2=2)
        diagonal.copy_(torch.where(diagonal > 0.0, diagonal, 1.0))
        self._inner.diagonal(dim1=1, dim2=2).add_(diagonal)

    def solve(self, v: Tensor) -> Tensor:
        """Guess the inverse Hessian times v, shape (b, r + k)."""
        first = self._hessian.solve(v)
        if not self._steps.numel():
            return first
        column = v[:, :, None]
        u = torch.linalg.solve_triangular(self._upper, self._steps @ column, upper=True)
        right = self._inner @ u - self._solved @ column
        w = torch.linalg.solve_triangular(self._upper.mT, right, upper=False)
        correction: Tensor = self._steps.mT @ w - self._solved.mT @ u
        return first + correction[:, :, 0]

    def take(self, chosen: Tensor) -> None:
        """Forget all but some of the windows."""
        self._hessian = self._hessian.take(chosen)
        for name in ("_steps", "_changes", "_solved", "_upper", "_inner"):
            setattr(self, name, getattr(self, name)[chosen])
