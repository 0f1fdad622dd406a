"""Classifier two-sample tests: a classifier ranks events of window and reference that it was not trained on.

Window and reference are divided into two halves. A classifier is trained on one half of both and ranks the
events of the other half, and the reverse. t is the mean area under the ROC curve, 0.5 if it cannot separate
them.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.peers.standardised import PACKAGES, Standardised, need_sklearn

__all__ = ["BoostedTreesTest", "NeuralClassifierTest"]


Score = Callable[[FloatArray], FloatArray]
"""Ranks events, shape (n, d): the larger, the more like the window."""


class _ClassifierTest(ABC):
    """Two halves, each ranked by a classifier that learned from the other."""

    def __init__(self, reference: ArrayLike, seed: int) -> None:
        self._units = Standardised(reference)
        self._seed = int(seed)
        order = np.random.default_rng(self._seed).permutation(len(self._units.reference))
        self._halves = np.array_split(self._units.reference[order], 2)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d), n_data >= 2; raises `InputError` if it cannot be tested."""
        x = self._units.window(data)
        if len(x) < 2:
            raise InputError("1 event cannot be divided into two halves", fix="Give larger windows")
        order = np.random.default_rng(self._seed).permutation(len(x))
        windows = np.array_split(x[order], 2)
        areas = [self._area(windows[k], self._halves[k], windows[1 - k], self._halves[1 - k]) for k in (0, 1)]
        return float(np.mean(areas))

    def _area(self, seen: FloatArray, known: FloatArray, unseen: FloatArray, unknown: FloatArray) -> float:
        """Train with the first two, and give the area under the curve of the other two."""
        labels = np.repeat([1, 0], [len(seen), len(known)])
        score = self._fit(np.concatenate([seen, known]), labels)  # no weights: only the order counts
        ranks = rankdata(np.concatenate([score(unseen), score(unknown)]))
        n, m = len(unseen), len(unknown)
        return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))

    @abstractmethod
    def _fit(self, x: FloatArray, labels: NDArray[np.int64]) -> Score:
        """Train with events of the reference (label 0) and of the window (1)."""


class BoostedTreesTest(_ClassifierTest):
    """Classifier two-sample test with boosted trees of scikit-learn.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    trees : int
        Number of trees.
    leaves : int
        Most leaves of a tree.
    seed : int
        Of the halves.

    References
    ----------
    Lopez-Paz and Oquab (2017), arXiv:1610.06545.
    """

    packages: ClassVar[Mapping[str, str]] = PACKAGES

    def __init__(self, reference: ArrayLike, *, trees: int = 30, leaves: int = 8, seed: int = 1) -> None:
        need_sklearn("boosted-trees")
        super().__init__(reference, seed)
        self._trees = int(trees)
        self._leaves = int(leaves)

    def _fit(self, x: FloatArray, labels: NDArray[np.int64]) -> Score:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(
            max_iter=self._trees, max_leaf_nodes=self._leaves, early_stopping=False, random_state=self._seed
        )
        score: Score = model.fit(x, labels).decision_function
        return score


class NeuralClassifierTest(_ClassifierTest):
    """Classifier two-sample test with a small network of scikit-learn.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    neurons : int
        Of its hidden layer.
    decay : float
        Penalty of the squared weights.
    steps : int
        Most steps of the fit (L-BFGS).
    seed : int
        Of the halves and the first weights.

    References
    ----------
    Lopez-Paz and Oquab (2017), arXiv:1610.06545.
    """

    packages: ClassVar[Mapping[str, str]] = PACKAGES

    def __init__(
        self,
        reference: ArrayLike,
        *,
        neurons: int = 8,
        decay: float = 0.1,
        steps: int = 40,
        seed: int = 1,
    ) -> None:
        need_sklearn("neural-classifier")
        super().__init__(reference, seed)
        self._neurons = int(neurons)
        self._decay = float(decay)
        self._steps = int(steps)

    def _fit(self, x: FloatArray, labels: NDArray[np.int64]) -> Score:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        model = MLPClassifier(
            hidden_layer_sizes=(self._neurons,),
            activation="tanh",
            solver="lbfgs",
            alpha=self._decay,
            max_iter=self._steps,
            random_state=self._seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is meant to end early
            model.fit(x, labels)
        return lambda events: model.predict_proba(events)[:, 1]
