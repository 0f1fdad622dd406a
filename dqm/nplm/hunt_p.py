"""p of each window of a hunt and p of the whole hunt, from permutations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqm.events import FloatArray
from dqm.nplm.hunt_layout import IndexArray

__all__ = ["HuntP", "hunt_p"]

TAIL_QUANTILES = (0.98, 0.998)
"""Beyond the first, p of a window follows an exponential through both."""


@dataclass(frozen=True, slots=True, eq=False)
class HuntP:
    """What permutations say.

    Parameters
    ----------
    p : float
        p of the whole hunt: ``(1 + k)/(1 + n)`` with k of n permutations of which some window, with some
        share, is as extreme.
    local : ndarray, shape (n_windows, n_shares)
        p of one window and one share alone, as if nobody had looked elsewhere.
    of_window : ndarray, shape (n_windows,)
        As `p`, for the smallest p of each window: how often a whole permuted hunt has such a window.
    place : tuple of int
        Number of the window with the smallest p, and of the share.
    """

    p: float
    local: FloatArray
    of_window: FloatArray
    place: tuple[int, int]


def hunt_p(observed: FloatArray, permuted: FloatArray, levels: IndexArray) -> HuntP:
    """Compare a hunt with permutations.

    Windows of one level and share are alike, so they share their distribution: that of all of them in all
    scans, the observed one included. Where it has too few values it is continued by an exponential, which
    falls more slowly than a Gaussian. The smallest p of each scan is a statistic like any other, so `HuntP.p`
    is exact whatever the distributions are.

    Parameters
    ----------
    observed : ndarray, shape (n_windows, n_shares)
        `HuntCounts.z`.
    permuted : ndarray, shape (n, n_windows, n_shares)
        Of permutations.
    levels : ndarray, shape (n_windows,)
        Level of each window.

    References
    ----------
    Westfall and Young (1993); Phipson and Smyth (2010), doi:10.2202/1544-6115.1585.
    """
    z = np.concatenate([observed[None], permuted])
    log_p = np.empty_like(z)
    for level in np.unique(levels):
        for share in range(z.shape[2]):
            alike = levels == level
            log_p[:, alike, share] = _log_p(z[:, alike, share])
    smallest = log_p.min(axis=(1, 2))
    of_window = (1 + (smallest[1:, None] <= log_p[0].min(axis=1)).sum(axis=0)) / len(z)
    place = np.unravel_index(np.argmin(log_p[0]), log_p[0].shape)
    return HuntP(
        p=float(of_window.min()),
        local=np.exp(log_p[0]),
        of_window=of_window,
        place=(int(place[0]), int(place[1])),
    )


def _log_p(z: FloatArray) -> FloatArray:
    """Give the logarithm of the share of values that are as large, for each of them."""
    ordered = np.sort(z.ravel())
    share = (len(ordered) - np.searchsorted(ordered, z, "left")) / len(ordered)
    near, far = np.quantile(ordered, TAIL_QUANTILES)
    (begin, end) = np.log1p(-np.array(TAIL_QUANTILES))
    slope = (end - begin) / max(far - near, 1e-12)
    found: FloatArray = np.where(z > near, begin + slope * (z - near), np.log(share))
    return found
