"""A large reference in cells: sums of e^f over all events from a few numbers for each cell.

The cost of a fit with all events of a large reference is the time to read their functions from memory, a
dozen times. But f changes little between neighbours. So the reference is divided into cells, and a cell keeps
the mean of the functions over its events, their change along its d principal axes, and the third moments of
the events along these. With f the mean and g the changes of the log ratio, and T the third moments,

    sum of w e^f over a cell  =  W exp(f + |g|^2 / 2 + T[g, g, g] / 6)

up to the fourth order of g: the first cumulants of f in the cell. A cell then costs d + 1 rows instead of all
its events. The largest term that is left out, ``|g|^4 / 8``, says for each window whether the sums are good
enough (`dqm.nplm.single_fit`). A reference that needs too many cells has none.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray

__all__ = ["CELL_ERROR", "LARGEST_CELL_ERROR", "Cells", "make_cells"]

LEAST_EVENTS = 20_000
"""Rows of a reference below which cells save nothing."""

FEWEST_CELLS = 1000
"""Cells of the first attempt; each further one has twice as many."""

CELL_ERROR = 2e-4
"""Largest error of the sums over cells that a fit accepts, as a share of the statistic. The estimate has been
too small by a factor of up to 1.7 for healthy windows, and of up to 5 where it was above this limit
(`docs/performance.md`)."""

LARGEST_CELL_ERROR = 2e-3
"""Error of the sums over cells, as a share of the statistic, above which they are not corrected. What is left
of their error is of second order, but its factor is large where f changes much within a cell: it has been
1.2e-3 of the statistic where the estimate was 7e-3."""

READINGS, READINGS_TO_CORRECT = 12, 2
"""How often a fit reads its reference, events or cells; and all events to correct the sums over cells."""

FLAT = 1e-10
"""Share of the largest variance of a cell below which it has no extent along an axis."""

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The cells of a reference.

    Parameters
    ----------
    rows : ndarray, shape (r, d + 1, n_cells), float32
        Mean of each function, and its change along the axes in units of their standard deviations.
    shares : ndarray, shape (n_cells,)
        Weights; they sum to 1.
    thirds : ndarray, shape (n_pairs, d, n_cells)
        Third moments of the events along the axes, for pairs of axes in the order of `pairs_of`; those of
        different axes count twice.
    """

    rows: NDArray[np.float32]
    shares: FloatArray
    thirds: FloatArray

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return plain arrays by name, for `from_arrays`."""
        return {"cells": self.rows, "cellshares": self.shares, "cellthirds": self.thirds}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_functions: int) -> Self | None:
        """Rebuild from the result of `arrays`, among others; None if there are none.

        Raises
        ------
        ValueError
            If they do not fit each other, or a basis of `n_functions` functions.
        """
        if "cells" not in arrays:
            return None
        rows, shares, thirds = (arrays[name] for name in ("cells", "cellshares", "cellthirds"))
        r, n_rows, n_cells = rows.shape
        d = n_rows - 1
        if r != n_functions or shares.shape != (n_cells,) or thirds.shape != (d * (d + 1) // 2, d, n_cells):
            raise ValueError(f"cells of shapes {rows.shape}, {shares.shape} and {thirds.shape}")
        return cls(rows, shares, thirds)


def pairs_of(d: int) -> tuple[Places, Places]:
    """Give the pairs of d axes, as indices of the first and of the second."""
    first, second = np.triu_indices(d)
    return first, second


def make_cells(
    x: FloatArray,
    shares: FloatArray,
    phi: NDArray[np.float32],
    second_moment: FloatArray,
    *,
    n_expected: float,
    ridge: float,
) -> Cells | None:
    """Divide a reference into as many cells as it needs.

    Parameters
    ----------
    x : ndarray, shape (n_reference, d)
        Its events, standardised.
    shares : ndarray, shape (n_reference,)
        Their weights, which sum to 1.
    phi : ndarray, shape (n_reference, r), float32
        Values of the functions.
    second_moment : ndarray, shape (r,)
        Weighted mean squares of the functions.
    n_expected, ridge : float
        Events of a usual window, and the factor of the penalty of its fit.

    Returns
    -------
    Cells or None
        As many as make the cost of a healthy window least; None if that is without cells.
    """
    n, d = x.shape
    if n < LEAST_EVENTS:
        return None
    strength = n_expected * second_moment / (n_expected * second_moment + ridge)
    usual_t = float(strength.sum())
    # a healthy window's coefficients are as random as its events
    variance = strength / (n_expected * second_moment + ridge)
    division = _Division(x, shares)
    best, least = None, float(READINGS * n)
    n_cells = FEWEST_CELLS
    while READINGS * n_cells * (d + 1) < least:
        cells = _summarise(x, shares, phi, division.split(n_cells))
        along = np.einsum("rkc,r->c", cells.rows[:, 1:] ** 2, variance)
        error = 2.0 * n_expected * float(cells.shares @ along**2) / 8.0 / usual_t
        cost = READINGS * n_cells * (d + 1) + _readings_of_all(error) * n
        if cost < least:
            best, least = cells, cost
        n_cells *= 2
    return best


def _readings_of_all(error: float) -> float:
    """Expect how often a healthy window reads all events, if errors are distributed exponentially."""
    if error == 0.0:
        return 0.0
    corrected, fitted = (math.exp(-limit / error) for limit in (CELL_ERROR, LARGEST_CELL_ERROR))
    return READINGS_TO_CORRECT * corrected + READINGS * fitted


class _Division:
    """Repeatedly splits the cell with the largest share of the error along its longest axis.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Events.
    shares : ndarray, shape (n,)
        Weights.
    """

    def __init__(self, x: FloatArray, shares: FloatArray) -> None:
        self._x = x
        self._shares = shares
        self._count = 0
        self._left: list[tuple[float, int, Places]] = []
        self._done: list[Places] = []
        self._add(np.arange(len(x)))

    def split(self, n_cells: int) -> list[Places]:
        """Split until there are `n_cells` cells; give the events of each."""
        while self._left and len(self._left) + len(self._done) < n_cells:
            _, _, cell = heapq.heappop(self._left)
            mean, covariance = _moments(self._x[cell], self._shares[cell])
            axis = np.linalg.eigh(covariance)[1][:, -1]
            is_below = (self._x[cell] - mean) @ axis < 0.0
            if is_below.all() or not is_below.any():
                self._done.append(cell)
            else:
                self._add(cell[is_below])
                self._add(cell[~is_below])
        return self._done + [cell for _, _, cell in self._left]

    def _add(self, cell: Places) -> None:
        weight = float(self._shares[cell].sum())
        if len(cell) == 1 or weight == 0.0:
            self._done.append(cell)
            return
        _, covariance = _moments(self._x[cell], self._shares[cell])
        self._count += 1  # no two entries are equal: arrays cannot be compared
        heapq.heappush(self._left, (-weight * float(np.trace(covariance)) ** 1.5, self._count, cell))


def _moments(x: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    total = weights.sum()
    mean = weights @ x / total
    centred = x - mean
    covariance: FloatArray = (weights[:, None] * centred).T @ centred / total
    return mean, covariance


def _summarise(x: FloatArray, shares: FloatArray, phi: NDArray[np.float32], places: list[Places]) -> Cells:
    d = x.shape[1]
    r = phi.shape[1]
    n_cells = len(places)
    rows = np.zeros((d + 1, n_cells, r), np.float32)
    thirds = np.zeros((n_cells, d * (d + 1) // 2, d))
    total = np.zeros(n_cells)
    first, second = pairs_of(d)
    multiplicity = np.where(first == second, 1.0, 2.0)
    for number, cell in enumerate(places):
        weights = shares[cell]
        total[number] = weights.sum()
        if total[number] == 0.0:
            continue
        weights = weights / total[number]
        mean, covariance = _moments(x[cell], weights)
        variances, axes = np.linalg.eigh(covariance)
        has_extent = variances > max(FLAT * variances[-1], np.finfo(float).tiny)
        scale = np.where(has_extent, np.sqrt(np.where(has_extent, variances, 1.0)), np.inf)
        along = (x[cell] - mean) @ (axes / scale)
        values = phi[cell].astype(np.float64)
        rows[0, number] = weights @ values
        weighted = weights[:, None] * along
        rows[1:, number] = weighted.T @ (values - rows[0, number])
        thirds[number] = multiplicity[:, None] * ((along[:, first] * along[:, second]).T @ weighted)
    return Cells(
        np.ascontiguousarray(rows.transpose(2, 0, 1)), total, np.ascontiguousarray(thirds.transpose(1, 2, 0))
    )
