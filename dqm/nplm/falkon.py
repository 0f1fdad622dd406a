"""The single Newton step of `dqm.nplm.one_step` computed by the Falkon library, for cross-checks.

The library is not on PyPI; see its authors' page, https://falkonml.github.io/falkon/.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import Tensor

from dqm.errors import InputError
from dqm.nplm.one_step import JITTER, MAX_STEPS, OneStepTest

__all__ = ["FalkonTest"]

TOLERANCE = 1e-5
"""Absolute residual at which the library stops; in the published configuration the right side is about 0.2.

With penalties of 1e-8, rounding can keep the residual above 1e-7. Published codes stop at 3e-4.
"""


class FalkonTest(OneStepTest):
    """`OneStepTest` solved by ``falkon.LogisticFalkon``, on the CPU in float64.

    Parameters
    ----------
    reference, n_expected, width, penalty, centers, loss, rng, nuisances
        As in `OneStepTest`.
    weights : array_like, optional
        Must all be equal: the library gives all reference events the same weight.

    Raises
    ------
    InputError
        As in `OneStepTest`; also if the library is not installed, or if the weights differ.

    References
    ----------
    Meanti et al. (2020), arXiv:2006.10350.
    """

    def _prepare(self) -> None:
        try:
            import falkon
        except ImportError as error:
            raise InputError(
                "the Falkon library is not installed",
                fix="See https://falkonml.github.io/falkon/, or use the statistic one-step",
            ) from error
        if not torch.allclose(self._weights, self._weights[0]):
            raise InputError(
                "weights differ", fix="Falkon gives all events the same weight: leave the weights out"
            )
        kernel = falkon.kernels.GaussianKernel(self._width)
        options = falkon.FalkonOptions(
            use_cpu=True,
            keops_active="no",
            pc_epsilon_64=JITTER,
            cg_tolerance=TOLERANCE,
        )

        class CountingLoss(falkon.gsc_losses.WeightedCrossEntropyLoss):  # type: ignore[misc]
            """Counts products with the Hessian, because the library does not say whether it converged."""

            n_products = 0

            def knmp_hess(self, *args: Any, **options: Any) -> Any:
                self.n_products += 1
                return super().knmp_hess(*args, **options)

        self._model: Any = falkon.LogisticFalkon(
            kernel=kernel,
            penalty_list=[self._penalty],
            iter_list=[MAX_STEPS],
            loss=CountingLoss(kernel, neg_weight=float(self._weights[0])),
            M=len(self._centers),
            center_selection=falkon.center_selection.FixedSelector(
                self._centers, torch.zeros(len(self._centers), 1, dtype=torch.float64)
            ),
            error_every=None,
            options=options,
        )

    def _solve(self, x: Tensor) -> tuple[Tensor, bool]:
        events = torch.cat([self._events, x])
        labels = torch.zeros(len(events), 1, dtype=torch.float64)
        labels[len(self._events) :] = 1.0
        self._model.loss.n_products = 0
        with contextlib.redirect_stdout(io.StringIO()):  # the library prints every iteration
            self._model.fit(events, labels)
        alpha = self._model.alpha_[:, 0]
        is_solved = self._model.loss.n_products < MAX_STEPS  # one product for each step, and a few more
        return alpha, is_solved and bool(torch.isfinite(alpha).all())
