"""L-BFGS for many windows at once, started from the Hessian of healthy windows.

In those coordinates the objective of a window near the reference is almost round, and a few gradients, two
passes over the events each, settle it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dqm.nplm.newton import HealthyHessian

__all__ = ["Memory"]

PAIRS = 8
"""Steps remembered."""


@dataclass(slots=True)
class Memory:
    """Steps and changes of the gradient, from which the inverse Hessian is guessed.

    Parameters
    ----------
    healthy : HealthyHessian
        What is assumed before anything is seen.
    """

    healthy: HealthyHessian
    _pairs: deque[tuple[Tensor, Tensor, Tensor]] = field(default_factory=lambda: deque(maxlen=PAIRS))

    def remember(self, step: Tensor, change: Tensor) -> None:
        """Take in a step and the change of the gradient, both (b, r + k); useless ones weigh nothing."""
        product = (step * change).sum(1)
        useful = product > 1e-12 * step.norm(dim=1) * change.norm(dim=1)
        inverse = torch.where(useful, 1.0 / torch.where(useful, product, 1.0), 0.0)
        self._pairs.append((step, change, inverse))

    def solve(self, v: Tensor) -> Tensor:
        """Guess the inverse Hessian times v, shape (b, r + k).

        References
        ----------
        Nocedal and Wright (2006), Numerical Optimization, algorithm 7.4.
        """
        weights = []
        for step, change, inverse in reversed(self._pairs):
            weight = inverse * (step * v).sum(1)
            v = torch.addcmul(v, weight[:, None], change, value=-1.0)
            weights.append(weight)
        v = self.healthy.solve(v)
        for (step, change, inverse), weight in zip(self._pairs, reversed(weights), strict=True):
            v = torch.addcmul(v, (weight - inverse * (change * v).sum(1))[:, None], step)
        return v

    def take(self, chosen: Tensor) -> None:
        """Forget all but some of the windows."""
        self.healthy = self.healthy.take(chosen)
        for _ in range(len(self._pairs)):
            self._pairs.append(tuple(part[chosen] for part in self._pairs.popleft()))  # type: ignore[arg-type]
