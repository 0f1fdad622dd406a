"""The symmetrised test of two samples with small networks in place of kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dqm.events import FloatArray
from dqm.nplm.neural.fit import NetworkFit, NetworkProblem, Rows, minimise
from dqm.nplm.neural.network import BATCH_BYTES, PRECISION, Perceptron
from dqm.nplm.samples import Sample, reference_shares, standardisation
from dqm.nplm.two_sample_test import Divisions

__all__ = ["NetworkSetting", "NeuralTwoSampleTest"]

LAYERS = (4,)
STARTS = 2
TOLERANCE = 1e-2
"""Tolerance of the fits. All divisions are fitted alike, so p is exact also where another step would gain."""

MAX_STEPS = 100
"""Most steps of a fit."""


@dataclass(frozen=True, slots=True)
class NetworkSetting:
    """A network.

    Parameters
    ----------
    layers : tuple of int
        Neurons of its hidden layers.
    test : {"network"}
        What it is.
    """

    layers: tuple[int, ...]
    test: str = "network"


class NeuralTwoSampleTest(Divisions):
    """A network for each of two samples, fitted on their common density, for many ways to divide the events.

    Weights are not clipped: no event lies where the common density is 0 (Bressler, Savoray and Zurgil 2024,
    arXiv:2401.09530). Features and first weights do not depend on the division, so that p from permutations
    is exact.

    Parameters
    ----------
    sample, n_first, seed
        As in `TwoSampleTest`; the seed also chooses the first weights.

    Attributes
    ----------
    settings : tuple of NetworkSetting
        The only network.
    """

    def __init__(self, sample: Sample, n_first: int, seed: int) -> None:
        super().__init__(sample, n_first, seed)
        shares = reference_shares(sample, None)
        mean, scale = standardisation(sample.x, shares)
        self._x = torch.from_numpy((sample.x - mean) / scale)
        self._counts = torch.from_numpy(sample.weights)
        self._network = Perceptron(sample.x.shape[1], LAYERS)
        self.settings = (NetworkSetting(LAYERS),)
        generator = torch.Generator().manual_seed(seed)
        self._first = self._network.draw(STARTS, self._x, generator, torch.from_numpy(shares))

    @torch.inference_mode()
    def statistics(self, first: FloatArray) -> FloatArray:
        """Give ``t_{A+B}(A)`` and ``t_{A+B}(B)``, shape (n, 1, 2); as `TwoSampleTest.statistics`."""
        both = self._both(first)
        size = max(1, BATCH_BYTES // (8 * STARTS * len(self._x) * self._network.n_parameters))
        t = [_statistic(self._fit(both[k : k + size])) for k in range(0, len(both), size)]
        found: FloatArray = torch.cat(t).view(2, -1).T[:, None].numpy()
        return found

    @torch.inference_mode()
    def log_ratio(self, first: FloatArray, place: int) -> FloatArray:  # noqa: ARG002
        """Give the learned log density ratio of A to B at all rows; `first`: (n_rows,)."""
        fit = self._fit(self._both(first[None]))
        f, g = self._network.evaluate(fit.points, self._x)
        values: FloatArray = (f - g).numpy()
        return values

    def _both(self, first: FloatArray) -> Tensor:
        """Events of each row in A of all divisions, then in B."""
        in_first = torch.from_numpy(np.asarray(first, dtype=np.float64))
        return torch.cat([in_first, self._counts - in_first])

    def _fit(self, seen: Tensor) -> NetworkFit:
        """Fit samples on the common density, the best of all starts."""
        n = len(seen)
        expected = self._counts * (seen.sum(1, keepdim=True) / self._counts.sum())
        places = torch.arange(n).repeat_interleave(STARTS)
        problem = NetworkProblem(
            network=self._network,
            rows=(Rows(self._x, expected=expected[places], seen=seen[places]),),
            bounds=self._network.bounds(torch.inf),
            measured=torch.empty(n * STARTS, 0, dtype=PRECISION),
            precision=torch.empty(0, dtype=PRECISION),
        )
        first = self._first.repeat(n, 1)
        fit = minimise(problem, first, tolerance=TOLERANCE, max_steps=MAX_STEPS)
        return replace(fit, converged=fit.loss.isfinite()).best_of(STARTS)


def _statistic(fit: NetworkFit) -> Tensor:
    return torch.where(fit.converged, -2.0 * fit.loss, torch.nan)
