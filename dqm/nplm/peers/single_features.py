"""Tests of one feature after the other, with Bonferroni's factor: what many monitors do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.peers.standardised import SMALLEST_P, log_ks_p
from dqm.nplm.samples import check_sample

__all__ = ["ChiSquaredTest", "KolmogorovTest"]


class KolmogorovTest:
    """Kolmogorov-Smirnov test of each feature; t is -2 log of the smallest p times the number of features.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    """

    def __init__(self, reference: ArrayLike) -> None:
        self._columns = np.ascontiguousarray(check_sample(reference, "reference").T)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        x = check_sample(data, "window", len(self._columns))
        found = [log_ks_p(x[:, k], column) for k, column in enumerate(self._columns)]
        return -2.0 * (min(found) + float(np.log(len(found))))


class ChiSquaredTest:
    """Chi-square test of each feature's histogram, in bins with equal numbers of reference events.

    Parameters
    ----------
    reference : array_like, shape (n_reference, d)
        Raw features.
    bins : int
        Bins of a feature, 2 or more; fewer where values repeat.
    """

    def __init__(self, reference: ArrayLike, *, bins: int = 20) -> None:
        if not 2 <= bins <= 10_000:
            raise InputError(f"bins is {bins}", fix="Give 2 to 10000")
        y = check_sample(reference, "reference")
        inner = np.linspace(0.0, 1.0, int(bins) + 1)[1:-1]
        self._edges = [np.unique(np.quantile(column, inner)) for column in y.T]
        self._known = [_count(column, edges) for column, edges in zip(y.T, self._edges, strict=True)]
        self._n_reference = len(y)

    def evaluate(self, data: ArrayLike) -> float:
        """Test a window, shape (n_data, d); raises `InputError` if it cannot be tested."""
        x = check_sample(data, "window", len(self._edges))
        n = len(x)
        m = self._n_reference
        found = []
        for column, edges, known in zip(x.T, self._edges, self._known, strict=True):
            counts = _count(column, edges)
            is_filled = counts + known > 0
            counts, known = counts[is_filled], known[is_filled]
            chi2 = ((np.sqrt(m / n) * counts - np.sqrt(n / m) * known) ** 2 / (counts + known)).sum()
            found.append(special.chdtrc(max(1, len(counts) - 1), chi2))
        return -2.0 * float(np.log(max(min(found), SMALLEST_P) * len(found)))


def _count(values: FloatArray, edges: FloatArray) -> FloatArray:
    places = np.searchsorted(edges, values, "right")
    return np.bincount(places, minlength=len(edges) + 1).astype(np.float64)
