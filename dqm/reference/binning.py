"""Whether the bins of a window are those of its reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray
from dqm.events.finite import is_count

__all__ = ["Binning"]

SAME_CENTER = 1e-3
"""Two centres this close are of one bin, as a share of the smallest distance of the reference's centres."""


class Binning:
    """The bins that windows of a reference may have.

    Parameters
    ----------
    bins : ndarray, shape (n_bins, d)
        Centres of all bins.
    names : sequence of str
        Names of the d features.
    """

    def __init__(self, bins: FloatArray, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._centers = [np.unique(column) for column in bins.T]

    def find_fault(self, x: FloatArray, counts: FloatArray | None) -> str:
        """Say why a window cannot be compared with the reference; empty if it can.

        Parameters
        ----------
        x : ndarray, shape (n_rows, d)
            Centres of the bins of the window.
        counts : ndarray, shape (n_rows,)
            Their contents.

        Returns
        -------
        str
            A content that is not a number of events, or a bin between those of the reference. Bins beyond the
            first and the last are not a fault: there the reference has none.
        """
        if counts is None:
            return ""
        wrong = ~is_count(counts)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            place = ", ".join(f"{n} = {v:g}" for n, v in zip(self._names, x[row], strict=True))
            return f"the bin at {place} has {counts[row]:g} events; contents are whole numbers of 0 or more"
        for name, column, centers in zip(self._names, x[counts > 0].T, self._centers, strict=True):
            strange = column[_is_between(column, centers)]
            if len(strange):
                return (
                    f"the bin at {name} = {strange[0]:g} is none of the reference's: the binning is another. "
                    "Build the reference with the binning of the windows"
                )
        return ""


def _is_between(values: FloatArray, centers: FloatArray) -> NDArray[np.bool_]:
    """Tell which values are between the first and the last centre but are not centres."""
    tolerance = SAME_CENTER * float(np.diff(centers).min(initial=1.0 / SAME_CENTER))
    last = len(centers) - 1
    above = np.clip(np.searchsorted(centers, values), 0, last)
    near = np.minimum(np.abs(values - centers[above]), np.abs(values - centers[np.maximum(above - 1, 0)]))
    return np.asarray((values > centers[0]) & (values < centers[last]) & (near > tolerance))
