"""From hits to straight segments: one hit in each of four layers, fitted for every choice of sides.

A muon crosses layer i at ``x_i = a + b z_i``, at distance ``d_i`` from the wire, on its side ``s_i`` = -1 or
+1. If the time of the passage is not known, the distances are known up to a common ``d_0 = v t0``. Then

    a + b z_i + s_i d_0 = w_i + s_i v T_i        (i = 1..4)

has three unknowns and four equations. The matrix is the same for all candidates with the same sides, so
residuals and unknowns of all candidates are matrix products. If t0 is known, the column of d_0 is dropped and
two residuals remain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from dqm.events import FloatArray
from dqm_collectors.chamber.geometry import (
    CELL_WIDTH_MM,
    DRIFT_VELOCITY_MM_PER_NS,
    LAYER_Z_MM,
    MAX_DRIFT_TIME_NS,
    N_LAYERS,
    IntArray,
)

__all__ = ["FEATURES", "Hits", "Segments", "Selection", "find_segments", "group_hits"]

FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta", "n_hits")
"""Columns of `Segments.features`: drift times (ns), angle to the vertical (degrees), hits in the event."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Hits on wires, in any order.

    Parameters
    ----------
    event : ndarray of int64, shape (n_hits,)
        Number of the group of the hit, from 0; segments are searched within a group.
    layer : ndarray of int64, shape (n_hits,)
        Layer from 1.
    wire_mm : ndarray, shape (n_hits,)
        Position of the wire across the chamber.
    time_ns : ndarray, shape (n_hits,)
        Time of the hit: since the muon's passage if t0 is known, otherwise since any moment.
    """

    event: IntArray
    layer: IntArray
    wire_mm: FloatArray
    time_ns: FloatArray


@dataclass(frozen=True, slots=True)
class Selection:
    """What counts as a segment.

    Parameters
    ----------
    max_residual_mm : float
        Largest residual per degree of freedom.
    t0_known : bool
        Whether hit times are relative to the muon's passage.
    velocity_mm_per_ns : float
        Drift velocity in the fit.
    max_drift_ns, margin_ns : float
        Drift times must lie within ``[-margin_ns, max_drift_ns + margin_ns]``.
    max_event_hits : int
        Groups with more hits are noise bursts; they are not searched.
    """

    max_residual_mm: float = 1.0
    t0_known: bool = False
    velocity_mm_per_ns: float = DRIFT_VELOCITY_MM_PER_NS
    max_drift_ns: float = MAX_DRIFT_TIME_NS
    margin_ns: float = 15.0
    max_event_hits: int = 100


@dataclass(frozen=True, slots=True)
class Segments:
    """Segments, in the order of their events.

    Parameters
    ----------
    hits : ndarray of int64, shape (n_segments, 4)
        Index of the hit in each layer.
    event : ndarray of int64, shape (n_segments,)
        Group of the hits.
    t0_ns : ndarray, shape (n_segments,)
        Time of the muon's passage, on the clock of the hits.
    residual_mm : ndarray, shape (n_segments,)
        Residual per degree of freedom of the fit.
    features : ndarray, shape (n_segments, 6)
        Columns `FEATURES`.
    """

    hits: IntArray
    event: IntArray
    t0_ns: FloatArray
    residual_mm: FloatArray
    features: FloatArray


def group_hits(chamber: IntArray, counts: IntArray, gap_counts: float) -> tuple[IntArray, IntArray]:
    """Group hits of one chamber that follow each other without a gap in time.

    Parameters
    ----------
    chamber : ndarray of int64, shape (n_hits,)
        Chamber of each hit, 0 to 32767.
    counts : ndarray of int64, shape (n_hits,)
        Time of each hit in TDC counts; hits may come in any order.
    gap_counts : float
        Time without hits that ends a group, TDC counts.

    Returns
    -------
    group : ndarray of int64, shape (n_hits,)
        Group of each hit, from 0, in order of chamber and time.
    since : ndarray of int64, shape (n_hits,)
        Counts since the first hit of the group; small and exact for runs of any length.
    """
    order = np.lexsort((counts, chamber.astype(np.int16)))  # numbers of 16 bits are sorted fastest
    chamber, time = chamber[order], counts[order]
    starts = np.ones(len(order), dtype=np.bool_)
    starts[1:] = chamber[1:] != chamber[:-1]
    starts[1:] |= np.diff(time) > gap_counts
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(starts) - 1
    return group, counts - time[starts][group]


def find_segments(hits: Hits, selection: Selection) -> Segments:
    """Find straight segments in groups of hits.

    Every combination of one hit per layer in neighbouring cells is fitted for every choice of sides. The
    combination with the smallest residual that passes the selection is accepted, and its hits are removed.
    This is repeated until no combination is left.

    Parameters
    ----------
    hits : Hits
        Grouped hits.
    selection : Selection
        What counts as a segment.

    Returns
    -------
    Segments
    """
    sizes = np.bincount(hits.event)
    combos = _combine(hits, selection, sizes)
    wire = hits.wire_mm[combos]
    start = hits.time_ns[combos].min(axis=1) if not selection.t0_known else np.zeros(len(combos))
    time = hits.time_ns[combos] - start[:, None]
    t0, slope, residual = _fit(wire, time, selection)
    good = np.flatnonzero(residual < selection.max_residual_mm)
    keep = good[_pick(combos[good], hits.event[combos[good, 0]], residual[good], len(hits.event))]
    event = hits.event[combos[keep, 0]]
    features = np.column_stack(
        [time[keep] - t0[keep, None], np.degrees(np.arctan(slope[keep])), sizes[event]],
    )
    return Segments(combos[keep], event, start[keep] + t0[keep], residual[keep], features)


def _combine(hits: Hits, selection: Selection, sizes: IntArray) -> IntArray:
    """Combine hits: one per layer, same event, neighbouring cells, times within one drift time."""
    column = np.rint(hits.wire_mm / (CELL_WIDTH_MM / 2)).astype(np.int64)
    column -= column.min(initial=0) - 1
    cell = hits.event * (column.max(initial=0) + 2) + column
    usable = sizes[hits.event] <= selection.max_event_hits
    span = selection.max_drift_ns + 2 * selection.margin_ns
    rows = np.flatnonzero(usable & (hits.layer == 1))[:, None]
    for layer in range(2, N_LAYERS + 1):
        there = np.flatnonzero(usable & (hits.layer == layer))
        there = there[np.argsort(cell[there], kind="stable")]
        first = np.searchsorted(cell[there], cell[rows[:, -1]] - 1, side="left")
        counts = np.searchsorted(cell[there], cell[rows[:, -1]] + 1, side="right") - first
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        partner = there[np.repeat(first, counts) + within]
        rows = np.column_stack([np.repeat(rows, counts, axis=0), partner])
        rows = rows[np.ptp(hits.time_ns[rows], axis=1) <= span]
    return rows


def _fit(
    wire: FloatArray, time: FloatArray, selection: Selection
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Fit rows of four hits; return t0 (ns), slope and residual (mm; inf if no choice of sides fits).

    Sums over the four layers are written out: the result of a matrix product may depend on its other rows in
    the last bit, and a window that is read again must come out the same.
    """
    velocity = selection.velocity_mm_per_ns
    earliest, latest = time.min(axis=1), time.max(axis=1)
    wires = wire.T.copy()
    times = velocity * time.T
    best = np.full(len(wire), np.inf)
    t0 = np.zeros(len(wire))
    slope = np.zeros(len(wire))
    for sides in product((-1.0, 1.0), repeat=N_LAYERS):
        if not selection.t0_known and abs(sum(sides)) == N_LAYERS:
            continue  # all on one side: a shift in time is equivalent to a shift in space
        null, solve = _solution(sides, t0_known=selection.t0_known)
        y = wires + np.array(sides)[:, None] * times
        residual = np.sqrt(sum(_weigh(y, row) ** 2 for row in null) / len(null))
        start = np.zeros(len(wire)) if selection.t0_known else _weigh(y, solve[2]) / velocity
        physical = earliest - start >= -selection.margin_ns
        physical &= latest - start <= selection.max_drift_ns + selection.margin_ns
        better = np.flatnonzero(physical & (residual < best))
        best[better] = residual[better]
        t0[better] = start[better]
        slope[better] = _weigh(y[:, better], solve[1])
    return t0, slope, best


@cache
def _solution(sides: tuple[float, ...], *, t0_known: bool) -> tuple[FloatArray, FloatArray]:
    """Give, for a choice of sides, the weights of the layers in the residuals and in the unknowns."""
    columns = [np.ones(N_LAYERS), LAYER_Z_MM] + ([] if t0_known else [np.array(sides)])
    matrix = np.column_stack(columns)
    q, _ = np.linalg.qr(matrix, mode="complete")
    return q[:, len(columns) :].T, np.linalg.pinv(matrix)


def _weigh(y: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted sum over layers, shape (n_rows,), the same for a row whatever the other rows are."""
    return np.asarray(y[0] * weights[0] + y[1] * weights[1] + y[2] * weights[2] + y[3] * weights[3])


def _pick(combos: IntArray, event: IntArray, residual: FloatArray, n_hits: int) -> IntArray:
    """Choose rows by smallest residual within each event, so that each hit is used at most once."""
    order = np.lexsort((residual, event))
    used = np.zeros(n_hits, dtype=np.bool_)
    chosen = []
    while order.size:
        best = order[np.r_[True, np.diff(event[order]) != 0]]
        used[combos[best]] = True
        chosen.append(best)
        order = order[~used[combos[order]].any(axis=1)]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
