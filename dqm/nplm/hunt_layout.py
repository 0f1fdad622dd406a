"""Windows of a hunt along a coordinate, and what is expected in them from their sidebands.

The events are sorted by the coordinate and divided into bins with as many events each, on borders where the
value changes. A window is some bins in a row; its sidebands are the bins beside it, twice as many at either
side. At an end of the range both are on the same side.

The expectation in the window is a parabola through the bins of the sidebands, fitted by least squares; at the
ends it is a straight line. Its prediction is a sum over the events of the sidebands, each with a weight that
depends on its bin alone. So the excess of anything in the window, be it the mean of a function or the number
of selected events, is a sum over bins with fixed weights: the contrast of the window. What depends on the
coordinate like this curve within the window and its sidebands has no excess. Only the number of events in
each bin enters as it is: a rate that changes, or a time in which nothing was read out, is not an excess,
either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqm.errors import InputError, format_count
from dqm.events import FloatArray

__all__ = ["BinnedWindow", "HuntLayout", "lay_out"]

IndexArray = NDArray[np.int64]

LEVELS = 4
"""Widths of windows, each half of the one before."""

FEWEST_EVENTS = 100
"""Fewest events of the narrowest window, where all values differ."""

FEWEST_POSITIONS = 5
"""Fewest windows of the widest kind beside each other: a window and its sidebands."""

DEGREE = 2
"""Degree of the polynomial through the sidebands. It is 1 where they have few bins with events, or are on one
side only: a parabola that is continued beyond its bins says very little."""

FEWEST_SIDE_BINS = 3
"""Fewest bins with events in the sidebands: two for a straight line, and one more."""

FEWEST_BESIDE = 50
"""Fewest events in the sidebands: some of each fold."""


@dataclass(frozen=True, slots=True)
class BinnedWindow:
    """A window with its sidebands, in bins.

    Parameters
    ----------
    level : int
        0 for the widest kind.
    begin, end : int
        Bins of window and sidebands, ``[begin, end)``.
    first, last : int
        Those of the window, ``[first, last)``.
    """

    level: int
    begin: int
    first: int
    last: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class HuntLayout:
    """All windows along a coordinate.

    Parameters
    ----------
    edges : ndarray, shape (n_bins + 1,)
        Borders of the bins, as numbers of events in the order of the coordinate.
    windows : tuple of BinnedWindow
        Those that can be tested, the widest first.
    contrasts : ndarray, shape (n_windows, n_bins)
        Weights of the events of each bin: 1 in the window, minus the expectation from the sidebands; 0
        elsewhere.
    """

    edges: IndexArray
    windows: tuple[BinnedWindow, ...]
    contrasts: FloatArray

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.edges[-1])

    @property
    def levels(self) -> IndexArray:
        """Level of each window."""
        return np.array([window.level for window in self.windows])

    @property
    def spread(self) -> FloatArray:
        """Sum of the squared weights of all events, for each window."""
        found: FloatArray = self.contrasts**2 @ np.diff(self.edges)
        return found

    def rows(self, window: BinnedWindow, *, sidebands: bool = False) -> slice:
        """Give the events of a window, with its sidebands or without, in the order of the coordinate."""
        first, last = (window.begin, window.end) if sidebands else (window.first, window.last)
        return slice(int(self.edges[first]), int(self.edges[last]))


def lay_out(coordinate: FloatArray, n_positions: int) -> HuntLayout:
    """Choose the windows.

    Parameters
    ----------
    coordinate : ndarray, shape (n_events,), ascending
        Coordinate of each event.
    n_positions : int
        Windows of the widest kind beside each other, 5 or more. Others begin at half of their width. There
        are windows of a half, a quarter and an eighth of the width, too, if they have 100 events.

    Raises
    ------
    InputError
        If the coordinate is constant or has too few values, or there are too few events or positions.
    """
    n = len(coordinate)
    _refuse(coordinate, n_positions)
    n_levels = 1 + sum(n >= FEWEST_EVENTS * n_positions * 2**k for k in range(1, LEVELS))
    finest = 2 ** (n_levels - 1)
    n_bins = 2 * n_positions * finest
    edges = _snap(coordinate, np.linspace(0, n, n_bins + 1).round().astype(np.int64))
    windows: list[BinnedWindow] = []
    contrasts: list[FloatArray] = []
    seen: set[tuple[int, int]] = set()
    for level in range(n_levels):
        half = finest >> level  # bins of half a window
        for first in range(0, n_bins - 2 * half + 1, half):
            begin = min(max(0, first - 4 * half), n_bins - 10 * half)
            window = BinnedWindow(level, begin, first, first + 2 * half, begin + 10 * half)
            place = int(edges[window.first]), int(edges[window.last])
            contrast = None if place in seen else _contrast(edges, window)
            if contrast is not None:
                seen.add(place)
                windows.append(window)
                contrasts.append(contrast)
    if not windows:
        raise InputError(
            f"the coordinate has {format_count(len(np.unique(coordinate)), 'value')}, too few for a window "
            "with sidebands",
            fix="Hunt along another coordinate",
        )
    return HuntLayout(edges, tuple(windows), np.array(contrasts))


def _refuse(coordinate: FloatArray, n_positions: int) -> None:
    if n_positions < FEWEST_POSITIONS:
        raise InputError(f"{n_positions} positions are too few", fix=f"Give {FEWEST_POSITIONS} or more")
    if coordinate[0] == coordinate[-1]:
        raise InputError(
            f"the coordinate is constant ({coordinate[0]:g})", fix="Hunt along another coordinate"
        )
    if len(coordinate) < FEWEST_EVENTS * n_positions:
        raise InputError(
            f"{format_count(len(coordinate), 'event')} for {n_positions} positions",
            fix=f"Give {FEWEST_EVENTS} events for each position, or fewer positions",
        )


def _snap(coordinate: FloatArray, edges: IndexArray) -> IndexArray:
    """Move borders to the nearest place where the value changes, so that no value is divided."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(coordinate)) + 1, [len(coordinate)]])
    after = np.searchsorted(starts, edges, "left")
    before = np.maximum(after - 1, 0)
    is_before = (edges - starts[before]) < (starts[after] - edges)
    found: IndexArray = np.where(is_before, starts[before], starts[after])
    return found


def _contrast(edges: IndexArray, window: BinnedWindow) -> FloatArray | None:
    """Give the weights of the events of all bins; None if nothing can be expected from the sidebands."""
    counts = np.diff(edges).astype(np.float64)
    places = np.arange(len(counts))
    is_inside = (places >= window.first) & (places < window.last) & (counts > 0)
    is_beside = (places >= window.begin) & (places < window.end) & (counts > 0)
    is_beside &= (places < window.first) | (places >= window.last)
    if not is_inside.any() or is_beside.sum() < FEWEST_SIDE_BINS:
        return None
    if counts[is_beside].sum() < FEWEST_BESIDE:
        return None
    middles = 0.5 * (edges[1:] + edges[:-1])
    has_both_sides = is_beside[: window.first].any() and is_beside[window.last :].any()
    degree = min(DEGREE if has_both_sides else 1, int(is_beside.sum()) - 2)
    line = (middles - middles[is_inside].mean()) / np.ptp(middles[is_beside])
    powers = line[:, None] ** np.arange(degree + 1)
    moments = powers[is_beside].T @ (counts[is_beside, None] * powers[is_beside])
    wanted = counts[is_inside] @ powers[is_inside]
    contrast = np.where(is_inside, 1.0, 0.0)
    contrast[is_beside] = -powers[is_beside] @ np.linalg.solve(moments, wanted)
    return contrast
