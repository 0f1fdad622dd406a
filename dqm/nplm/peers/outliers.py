"""Scores of single events, learned from the reference alone: isolation forest and autoencoder.

A window is tested by the distribution of its scores: t is -2 log p of their Kolmogorov-Smirnov test against
those of the reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.peers.standardised import PACKAGES, Standardised, log_ks_p, need_sklearn

__all__ = ["AutoencoderTest", "IsolationForestTest"]


class IsolationForestTest:
    """Number of random cuts that isolate an event, by scikit-learn.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    trees : int
        Number of trees.
    seed : int
        Of the forest.

    References
    ----------
    Liu, Ting and Zhou (2008), doi:10.1109/ICDM.2008.17.
    """

    packages: ClassVar[Mapping[str, str]] = PACKAGES

    def __init__(self, reference: ArrayLike, *, trees: int = 100, seed: int = 1) -> None:
        need_sklearn("isolation-forest")
        from sklearn.ensemble import IsolationForest

        self._units = Standardised(reference)
        self._forest: Any = IsolationForest(n_estimators=int(trees), random_state=int(seed))
        self._forest.fit(self._units.reference)
        self._scores: FloatArray = self._forest.score_samples(self._units.reference)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        scores: FloatArray = self._forest.score_samples(self._units.window(data))
        return -2.0 * log_ks_p(scores, self._scores)


class AutoencoderTest:
    """Distance of an event from its reconstruction by a small network with a bottleneck, by scikit-learn.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features, two or more.
    neurons : int
        Of the layers at both sides of the bottleneck, which has half as many neurons as there are features.
    steps : int
        Most steps of the fit (L-BFGS).
    seed : int
        Of the first weights.
    """

    packages: ClassVar[Mapping[str, str]] = PACKAGES

    def __init__(self, reference: ArrayLike, *, neurons: int = 10, steps: int = 300, seed: int = 1) -> None:
        need_sklearn("autoencoder")
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        self._units = Standardised(reference)
        n_features = self._units.reference.shape[1]
        if n_features < 2:
            raise InputError("an autoencoder of 1 feature has no bottleneck", fix="Choose another statistic")
        self._network: Any = MLPRegressor(
            hidden_layer_sizes=(int(neurons), n_features // 2, int(neurons)),
            activation="tanh",
            solver="lbfgs",
            max_iter=int(steps),
            random_state=int(seed),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is meant to end early
            self._network.fit(self._units.reference, self._units.reference)
        self._errors = self._error(self._units.reference)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        return -2.0 * log_ks_p(self._error(self._units.window(data)), self._errors)

    def _error(self, x: FloatArray) -> FloatArray:
        made: FloatArray = self._network.predict(x)
        return np.asarray(((x - made) ** 2).sum(axis=1))
