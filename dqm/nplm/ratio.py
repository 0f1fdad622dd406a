"""Maps of a window and its reference: events seen, events expected, and the learned density ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from dqm.events import FloatArray, RatioMap

__all__ = ["RatioMaps", "borders", "divergence"]

IndexArray = NDArray[np.int64]

N_BINS = 16
"""Bins of one feature."""

N_PAIR_BINS = 12
"""Bins of each feature of a pair."""

MOST_OWN_BINS = 256
"""Bins that a histogram's own map has; more are merged, so that the page stays quick."""

MOST_OWN_PAIR_BINS = 32
"""The same for each feature of a pair."""

TAIL = 0.005
"""Share of the reference in the first and in the last bin; each also holds all events beyond its edge."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """Bins of one feature and the bin of each reference event, shape (n_reference,)."""

    edges: FloatArray
    reference: IndexArray

    @property
    def n_bins(self) -> int:
        return len(self.edges) - 1

    def place(self, x: FloatArray) -> IndexArray:
        return np.searchsorted(self.edges[1:-1], x, side="right")


class RatioMaps:
    """Bins of a reference, made once, and maps of windows in these bins.

    Bins depend on the reference alone, so maps of different windows can be compared. They have equal widths.
    The first bin and the last bin each hold 0.5 % of the reference and all events beyond. A feature with few
    distinct values has one bin for each value. The bins of a histogram are kept as they are.

    Parameters
    ----------
    reference : ndarray, shape (n_reference, d)
        Reference events in raw features.
    names : sequence of str
        Names of the d features.
    counts : ndarray, shape (n_reference,), optional
        Events that each row of the reference stands for.
    bins : ndarray, shape (n_bins, d), optional
        Centres of the bins of a histogram, if the rows are such.
    special : sequence of sequences of float, optional
        Values of each feature that do not decide on its bins, such as -999 for "not measured".
    """

    def __init__(
        self,
        reference: FloatArray,
        names: Sequence[str],
        *,
        counts: FloatArray | None = None,
        bins: FloatArray | None = None,
        special: Sequence[Sequence[float]] = (),
    ) -> None:
        self.names = tuple(names)
        self._counts = counts
        if bins is None:
            left_out = special or [()] * len(self.names)
            pairs = list(zip(reference.T, left_out, strict=True))
            self._axes = [_axis(column, values, N_BINS) for column, values in pairs]
            self._pair_axes = [_axis(column, values, N_PAIR_BINS) for column, values in pairs]
        else:
            columns = list(zip(reference.T, bins.T, strict=True))
            self._axes = [_own_axis(*pair, MOST_OWN_BINS) for pair in columns]
            self._pair_axes = [_own_axis(*pair, MOST_OWN_PAIR_BINS) for pair in columns]

    def features(
        self,
        x: FloatArray,
        weights: FloatArray,
        log_ratio: FloatArray,
        counts: FloatArray | None = None,
    ) -> tuple[RatioMap, ...]:
        """Make the map of every feature.

        Parameters
        ----------
        x : ndarray, shape (n_data, d)
            Events of the window, raw.
        weights : ndarray, shape (n_reference,)
            Weight of each reference event; the sum is the number of events expected.
        log_ratio : ndarray, shape (n_reference,)
            Learned f at the reference events.
        counts : ndarray, shape (n_data,), optional
            Events that each row of the window stands for.

        Returns
        -------
        tuple of RatioMap
            One for each feature.
        """
        single = [(feature,) for feature in range(len(self.names))]
        return self._map(x, weights, log_ratio, counts, single, self._axes)

    def pairs(
        self,
        x: FloatArray,
        weights: FloatArray,
        log_ratio: FloatArray,
        features: Sequence[str],
        counts: FloatArray | None = None,
    ) -> tuple[RatioMap, ...]:
        """Make the map of every pair among some features; parameters as in `features`."""
        chosen = [feature for feature, name in enumerate(self.names) if name in features]
        return self._map(x, weights, log_ratio, counts, list(combinations(chosen, 2)), self._pair_axes)

    def _map(
        self,
        x: FloatArray,
        weights: FloatArray,
        log_ratio: FloatArray,
        counts: FloatArray | None,
        chosen: Sequence[tuple[int, ...]],
        axes: Sequence[_Axis],
    ) -> tuple[RatioMap, ...]:
        placed = [axis.place(column) for axis, column in zip(axes, x.T, strict=True)]
        fitted = weights * np.exp(log_ratio)
        squared = weights**2 if self._counts is None else weights**2 / self._counts
        seen = np.ones(len(x)) if counts is None else counts
        maps = []
        for features in chosen:
            shape = tuple(axes[feature].n_bins for feature in features)
            data = np.ravel_multi_index([placed[feature] for feature in features], shape)
            cells = np.ravel_multi_index([axes[feature].reference for feature in features], shape)
            maps.append(
                RatioMap(
                    features=tuple(self.names[feature] for feature in features),
                    edges=tuple(axes[feature].edges for feature in features),
                    reference=_sum(cells, weights, shape),
                    reference_error=np.sqrt(_sum(cells, squared, shape)),
                    data=_sum(data, seen, shape),
                    fitted=_sum(cells, fitted, shape),
                )
            )
        return tuple(maps)


def divergence(ratio_map: RatioMap) -> float:
    """Kullback-Leibler divergence of the fitted from the expected shape in one map, times the events fitted.

    It measures how much of the departure these features show by themselves; twice its value compares with t.
    Both shapes are normalised first, so a change of the rate counts for no feature.
    """
    present = ratio_map.reference > 0
    p, q = ratio_map.fitted[present], ratio_map.reference[present]
    return float(p.sum() * rel_entr(p / p.sum(), q / q.sum()).sum())


def _axis(column: FloatArray, special: Sequence[float], n_bins: int) -> _Axis:
    usual = column[~np.isin(column, special)]
    values = np.unique(usual if len(usual) else column)
    if len(values) == 1:
        edges = values[0] + np.array([-0.5, 0.5])
    elif len(values) <= n_bins:
        edges = borders(values)
    else:
        low, high = np.quantile(usual, [TAIL, 1 - TAIL])
        if low == high:
            low, high = values[0], values[-1]
        width = (high - low) / (n_bins - 2)
        edges = low + width * np.arange(-1, n_bins)
    return _Axis(edges, np.searchsorted(edges[1:-1], column, side="right"))


def _own_axis(column: FloatArray, bins: FloatArray, most: int) -> _Axis:
    """Take the bins of a histogram as they are, neighbours merged where there are more than `most`.

    Only their centres are known. Between centres of equal distances the borders are in the middle, as they
    were; of unequal bins they are close to it.
    """
    edges = borders(bins)
    step = -(-(len(edges) - 1) // most)
    edges = np.append(edges[:-1:step], edges[-1])
    return _Axis(edges, np.searchsorted(edges[1:-1], column, side="right"))


def borders(centers: FloatArray) -> FloatArray:
    """Give the borders of bins, ascending, by their distinct centres in any order.

    n centres, at least one, have n + 1 borders; repeated centres count once.
    """
    values = np.unique(centers)
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middle = (values[1:] + values[:-1]) / 2
    first = values[0] - (middle[0] - values[0])
    last = values[-1] + (values[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


def _sum(cells: IndexArray, content: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    return np.bincount(cells, content, math.prod(shape)).astype(np.float64).reshape(shape)
