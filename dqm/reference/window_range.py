"""Null tables for windows of any size in a range: calibrated at a few sizes, read between them.

The distribution of t changes slowly with the number of expected events. So each of its quantiles is
interpolated linearly in the logarithm of this number. Toys of sizes in the middle between two tables, which
were not used, show how good this is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy  # its `stats` takes half a second to load

from dqm.errors import InputError
from dqm.events import FloatArray, WindowCut
from dqm.reference.calibration import check_kind, describe_table, refuse_failures
from dqm.reference.manifest import WindowKind, WindowRange
from dqm.reference.null import NullTable
from dqm.reference.parallel import ToyWork, run_toys
from dqm.reference.processes import Processes, Workers
from dqm.reference.splits import OriginName, origin_of
from dqm.reference.stored_bundle import AnyBundle
from dqm.reference.toys import NOMINAL, ToySource

__all__ = ["Midpoint", "calibrate_range", "interpolate", "sizes_of"]

STEP = 1.4
"""Largest ratio of two neighbouring sizes: the tests between them start from the nearer one."""

SHARE_OF_TABLES = 2.5
"""Toys in all tables together, in units of the toys of one table."""

SHARE_OF_MIDPOINTS = 0.5
"""Toys in all checks between the tables, in the same units."""

LEVEL = 0.05
"""p-value below which the share of the toys at a midpoint is compared."""


@dataclass(frozen=True, slots=True)
class Midpoint:
    """Check of the interpolation at a size in the middle between two tables.

    Parameters
    ----------
    n_expected : float
        The size, N(R_0).
    n_toys : int
        Toys thrown there.
    ks_p : float
        p-value of the Kolmogorov-Smirnov test of their p-values against a uniform distribution.
    share, share_low, share_high : float
        Share of the toys with p below `LEVEL`, and its 95 % interval; it should contain `LEVEL`.
    """

    n_expected: float
    n_toys: int
    ks_p: float
    share: float
    share_low: float
    share_high: float


def sizes_of(window_range: WindowRange) -> list[float]:
    """Give the sizes at which a range is calibrated: from end to end in equal ratios of at most `STEP`.

    Raises
    ------
    InputError
        If the range is empty or backwards.
    """
    if not window_range.low < window_range.high:
        raise InputError(
            f"a range from {window_range.low:g} to {window_range.high:g} events",
            fix="Give the smaller number first, as in --window 100:500",
        )
    ratio = window_range.high / window_range.low
    n = max(2, math.ceil(math.log(ratio) / math.log(STEP)) + 1)
    sizes = [float(size) for size in np.geomspace(window_range.low, window_range.high, n)]
    if window_range.cut is WindowCut.COUNT:
        return sorted({float(round(size)) for size in sizes})
    return sizes


def calibrate_range(
    bundle: AnyBundle,
    n_toys: int,
    *,
    window_range: WindowRange,
    seed: int,
    origin: OriginName = "auto",
    workers: Workers | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[AnyBundle, list[Midpoint]]:
    """Throw toys at several sizes and add their null tables to the bundle; goes on after an interruption.

    Parameters
    ----------
    bundle : StoredBundle
        Bundle to calibrate; its directory is written to.
    n_toys : int
        Toys that one table would have, at least 100; the range takes three times as many in all.
    window_range : WindowRange
        Sizes of windows.
    seed : int
        Seed of the toys.
    origin : {"auto", "pool", "splits"}
        What toys are made of, as in `calibrate`; the largest windows decide for all.
    workers : Workers, optional
        Who tests them; by default a process for each core.
    progress : callable
        Told the toys done and the total.

    Returns
    -------
    bundle : StoredBundle
        With the new tables.
    midpoints : list of Midpoint
        How good the interpolation is.

    Raises
    ------
    InputError
        If the range is empty or backwards, or the bundle has too few events for its largest windows.
    BundleError, WorkerError
        As in `calibrate`.
    """
    sizes = sizes_of(window_range)
    middles = [math.sqrt(low * high) for low, high in pairwise(sizes)]
    if window_range.cut is WindowCut.COUNT:
        middles = sorted({float(round(n)) for n in middles} - set(sizes))
    n_each = max(100, math.ceil(SHARE_OF_TABLES * n_toys / len(sizes)))
    per_split = origin_of(bundle, window_range.high, origin).per_split
    n_middle = max(50, math.ceil(SHARE_OF_MIDPOINTS * n_toys / max(1, len(middles))))

    def works_at(ns: list[float], seed: int) -> list[ToyWork]:
        kinds = [WindowKind(cut=window_range.cut, n_expected=n, free=window_range.free) for n in ns]
        for kind in kinds:
            check_kind(bundle, kind)
            ToySource(bundle, kind)  # refuses a pool that is too small
        return [ToyWork.of(bundle, kind, NOMINAL, seed, per_split) for kind in kinds]

    works = works_at(sizes, seed)
    checks = works_at(middles, seed + 1)
    n_in_tables = n_each * len(works)
    total = n_in_tables + n_middle * len(checks)
    workers = workers or Processes(None)
    found = run_toys(works, n_each, workers, lambda done, _: progress(done, total))
    seen: list[FloatArray] = []
    if checks:
        seen = run_toys(checks, n_middle, workers, lambda done, _: progress(n_in_tables + done, total))
    for work, toys in zip([*works, *checks], [*found, *seen], strict=True):
        refuse_failures(bundle, work, toys)
    tables = [
        (
            describe_table(bundle, work.kind, toys, seed=seed, per_split=work.per_split),
            toys,
        )
        for work, toys in zip(works, found, strict=True)
    ]
    calibrated = bundle.add_range(window_range, tables)
    known = [(work.kind.n_expected, NullTable(toys[:, 0])) for work, toys in zip(works, found, strict=True)]
    midpoints = [
        _check(work.kind.n_expected, toys[:, 0], known) for work, toys in zip(checks, seen, strict=True)
    ]
    for work in (*works, *checks):
        work.clear()
    return calibrated, midpoints


def interpolate(sizes: list[float], n_expected: float) -> tuple[int, float]:
    """Find the place of a size among the calibrated ones.

    Parameters
    ----------
    sizes : list of float
        Calibrated sizes, ascending, at least two.
    n_expected : float
        Size of a window; one beyond the ends counts as the end.

    Returns
    -------
    place : int
        Index of the calibrated size below it; at most the last but one.
    share : float
        Share of the way to the next, in the logarithm: 0 to 1.
    """
    place = min(max(int(np.searchsorted(sizes, n_expected, side="right")) - 1, 0), len(sizes) - 2)
    share = math.log(n_expected / sizes[place]) / math.log(sizes[place + 1] / sizes[place])
    return place, min(max(share, 0.0), 1.0)


def _check(n_expected: float, t: FloatArray, known: list[tuple[float, NullTable]]) -> Midpoint:
    place, share = interpolate([n for n, _ in known], n_expected)
    table = NullTable.between(known[place][1], known[place + 1][1], share)
    p = np.array([table.p_value(value).p for value in t])
    below = int((p < LEVEL).sum())
    interval = scipy.stats.binomtest(below, len(t)).proportion_ci(0.95)
    return Midpoint(
        n_expected=n_expected,
        n_toys=len(t),
        ks_p=float(scipy.stats.kstest(p, "uniform").pvalue),
        share=below / len(t),
        share_low=float(interval.low),
        share_high=float(interval.high),
    )
