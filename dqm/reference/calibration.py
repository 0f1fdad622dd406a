"""Null tables: results of the test on healthy windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dqm.config import label_of
from dqm.errors import BundleError, InputError, PluginError, format_count
from dqm.events import FloatArray, WindowCut
from dqm.reference.manifest import NullTableEntry, WindowKind
from dqm.reference.null import NullTable, measure_linear_share, share_error, split_offset
from dqm.reference.parallel import ToyWork, run_toys
from dqm.reference.processes import Processes, Workers
from dqm.reference.splits import TOLERATED_OFFSET, OriginName, origin_of, uncertainty_of
from dqm.reference.stored_bundle import AnyBundle, StoredBundle, array_file
from dqm.reference.toys import NOMINAL, ToySource

__all__ = ["calibrate", "origin_remark"]

TRIED_TOYS = 2000
"""Toys from the pool with which it is measured how much single events count for."""


def calibrate(
    bundle: AnyBundle,
    n_toys: int,
    *,
    kind: WindowKind,
    seed: int,
    origin: OriginName = "auto",
    most_of_splits: int | None = None,
    n_processes: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> AnyBundle:
    """Throw toys and add their null table to the bundle.

    Finished toys are kept beside the bundle's files until the table is complete: called again after an
    interruption, or for more toys, it goes on where it stopped. The result depends on the seed only.

    Parameters
    ----------
    bundle : StoredBundle
        Bundle to calibrate; its directory is written to.
    n_toys : int
        Toys of the finished table, at least 100.
    kind : WindowKind
        The windows; those cut by count have a whole number of events.
    seed : int
        Seed of the toys.
    origin : {"auto", "pool", "splits"}
        What toys are made of, see `dqm.reference.splits`.
    most_of_splits : int, optional
        Most toys of the finished table if they are of fresh splits.
    n_processes : int, optional
        Parallel processes, one core each; the cores of the machine by default.
    workers : Workers, optional
        Who does it instead of such processes.
    progress : callable
        Told the toys done and the total.

    Returns
    -------
    StoredBundle
        With the new null table.

    Raises
    ------
    InputError
        If the bundle has too few events for such windows or the numbers are out of range.
    BundleError
        If the fit of a toy does not converge, or the directory cannot be written.
    PluginError
        If the statistic fails, has the same t for all toys, or another one for a window tested alone.
    WorkerError
        If the workers are lost; what they finished is kept.
    """
    if n_toys < 100:
        raise InputError(f"{format_count(n_toys, 'toy')} asked for", fix="A null table takes 100 or more")
    check_kind(bundle, kind)
    ToySource(bundle, kind)  # refuses a pool that is too small
    workers = workers or Processes(n_processes)
    per_split = _choose_splits(bundle, kind, n_toys, seed, origin, workers, progress)
    if per_split and most_of_splits is not None:
        n_toys = min(n_toys, most_of_splits)
    known = bundle.null_entry(kind)
    is_same = known is not None and (known.seed, known.kind.n_expected, known.per_split) == (
        seed,
        kind.n_expected,
        per_split,
    )
    work = ToyWork.of(bundle, kind, NOMINAL, seed, per_split)
    (toys,) = run_toys(
        [work],
        n_toys,
        workers,
        progress,
        known=bundle.toys(known) if known is not None and is_same else None,
    )
    refuse_failures(bundle, work, toys)
    entry = describe_table(bundle, kind, toys, seed=seed, per_split=per_split)
    calibrated = bundle.add_null_table(entry, toys)
    work.clear()
    return calibrated


def describe_table(
    bundle: StoredBundle, kind: WindowKind, toys: FloatArray, *, seed: int, per_split: int
) -> NullTableEntry:
    """Describe a null table for the manifest; for toys from the pool, measure the effect of single events."""
    share = None if per_split else _measure_share(bundle, kind, toys, seed)
    return NullTableEntry(
        kind=kind, seed=seed, toys=array_file("null", toys), per_split=per_split, linear_share=share
    )


def _measure_share(bundle: StoredBundle, kind: WindowKind, toys: FloatArray, seed: int) -> float | None:
    """Measure the linear share of toys from the pool; None for histograms, whose rows are many events."""
    if bundle.manifest.counts is not None:
        return None
    source = ToySource(bundle, kind)
    thrown = (source.throw(seed, index).rows for index in range(len(toys)))
    drawn = (rows for rows in thrown if rows is not None)
    return measure_linear_share(toys[:, 0], drawn, bundle.manifest.n_pool)


def _choose_splits(
    bundle: StoredBundle,
    kind: WindowKind,
    n_toys: int,
    seed: int,
    origin: OriginName,
    workers: Workers,
    progress: Callable[[int, int], None],
) -> int:
    """Give the toys of each fresh split, 0 for toys from the pool.

    Where the choice depends on how much single events count for, this is measured with a few toys from the
    pool. They are the first of the table if the pool is taken.
    """
    chosen = origin_of(bundle, kind.n_expected, origin)
    if chosen.per_split or not origin_of(bundle, kind.n_expected, origin, linear_share=1.0).per_split:
        return chosen.per_split
    work = ToyWork.of(bundle, kind, NOMINAL, seed, 0)
    (toys,) = run_toys([work], min(n_toys, TRIED_TOYS), workers, lambda done, _: progress(done, n_toys))
    share = _measure_share(bundle, kind, toys, seed) if np.isfinite(toys[:, 0]).all() else None
    if share is not None:  # all toys of the table may find a larger one
        share += share_error(len(toys), bundle.manifest.n_pool)
        chosen = origin_of(bundle, kind.n_expected, origin, share)
    if chosen.per_split:
        work.clear()
    return chosen.per_split


def origin_remark(bundle: StoredBundle, kind: WindowKind) -> str:
    """Say what limits p-values: a finite run, a tail that does not fit the toys; empty if nothing does."""
    entry = bundle.null_entry(kind)
    if entry is None or bundle.manifest.is_of_channels:  # toys of channels come from no pool
        return ""
    misfit = NullTable(bundle.toys(entry)[:, 0]).misfit
    remark = f"{misfit}: p beyond the table is too small. Throw more toys" if misfit else ""
    offset, source = uncertainty_of(bundle.manifest, entry)
    if offset <= TOLERATED_OFFSET:
        return remark
    n_events = bundle.manifest.n_reference if source == "reference" else bundle.manifest.n_pool
    uncertain = (
        f"a {source} of {n_events} events leaves p-values uncertain by about "
        f"{offset:.2f} sigma, however many toys are thrown. Build the bundle from more events"
    )
    by_splits = split_offset(kind.n_expected, bundle.manifest.n_reference)
    if source == "pool" and by_splits < offset:
        uncertain += f", or calibrate it by fresh splits (--origin splits), which leave {by_splits:.2f}"
    return f"{remark}; {uncertain}" if remark else uncertain


def refuse_failures(bundle: StoredBundle, work: ToyWork, toys: FloatArray) -> None:
    """Refuse toys that make no null table, and forget them.

    Raises
    ------
    BundleError
        If fits did not converge.
    PluginError
        If all have the same t: every window would have p = 1.
    """
    t = toys[:, 0]
    failed = np.flatnonzero(~np.isfinite(t))
    of_toys = f"{len(toys)} toys of {work.kind.n_expected:g} events"
    if len(failed):
        work.clear()
        penalty = "penalty" in bundle.manifest.settings
        raise BundleError(
            f"the fit of {len(failed)} of {of_toys} did not converge (first: toy {failed[0]})",
            where=str(bundle.path),
            fix="Build the bundle with a larger penalty" if penalty else "Choose other settings or features",
        )
    if (t == t[0]).all():
        work.clear()
        label = label_of("dqm.statistics", bundle.manifest.statistic)
        raise PluginError(
            f"{label} gave t = {t[0]:g} for each of {of_toys}: it tells no window from another, so that all "
            "would have p = 1",
            where=str(bundle.path),
            fix="Choose other settings or another statistic",
        )


def check_kind(bundle: StoredBundle, kind: WindowKind) -> None:
    """Refuse windows that make no sense; raises `InputError`."""
    if not 10 <= kind.n_expected < 1e9:
        raise InputError(f"the window size is {kind.n_expected:g}", fix="A window takes 10 events or more")
    if kind.cut is WindowCut.COUNT and kind.n_expected != round(kind.n_expected):
        raise InputError(
            f"windows cut by count cannot hold {kind.n_expected} events", fix="Give a whole number"
        )
    measured = [entry.name for entry in bundle.manifest.nuisances if entry.sigma is not None]
    for name in kind.free:
        if name not in measured:
            raise InputError(
                f"{name!r} cannot be set free",
                fix=f"Measured nuisance parameters are: {', '.join(measured) or 'none'}",
            )
