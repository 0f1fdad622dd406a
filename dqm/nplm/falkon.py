"""The same single step by the Falkon library, to check one against the other.

The library is not on PyPI; see its authors' page, https://falkonml.github.io/falkon/.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import Tensor

from dqm.errors import InputError
from dqm.nplm.one_step import ACCURACY, JITTER, MAX_STEPS, OneStepTest

__all__ = ["FalkonTest"]


class FalkonTest(OneStepTest):
    """`OneStepTest` solved by ``falkon.LogisticFalkon``, on the CPU in float64.

    Parameters
    ----------
    reference, n_expected, width, penalty, centers, loss, rng, nuisances
        As in `OneStepTest`.
    weights : array_like, optional
        Must be equal: the library weighs all reference events alike.

    Raises
    ------
    InputError
        As in `OneStepTest`; if the library is not installed, or the weights differ.

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
            raise InputError("weights differ", fix="Falkon weighs all reference events alike: leave them out")
        kernel = falkon.kernels.GaussianKernel(self._width)
        options = falkon.FalkonOptions(
            use_cpu=True,
            keops_active="no",
            pc_epsilon_64=JITTER,
            cg_tolerance=ACCURACY,  # here the residual itself; the right side is of the order of 1
        )
        self._model: Any = falkon.LogisticFalkon(
            kernel=kernel,
            penalty_list=[self._penalty],
            iter_list=[MAX_STEPS],
            loss=falkon.gsc_losses.WeightedCrossEntropyLoss(kernel, neg_weight=float(self._weights[0])),
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
        with contextlib.redirect_stdout(io.StringIO()):  # it reports every iteration
            self._model.fit(events, labels)
        alpha = self._model.alpha_[:, 0]
        return alpha, bool(torch.isfinite(alpha).all())
