"""Null tables: how healthy windows come out of the test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dqm.errors import BundleError, InputError
from dqm.events import FloatArray, WindowCut
from dqm.reference.manifest import NullTableEntry, WindowKind
from dqm.reference.null import pool_offset
from dqm.reference.parallel import ToyWork, run_toys
from dqm.reference.processes import Processes, Workers
from dqm.reference.stored_bundle import AnyBundle, StoredBundle, array_file
from dqm.reference.toys import NOMINAL, ToySource

__all__ = ["calibrate", "pool_remark"]

LARGEST_OFFSET = 0.15
"""Uncertainty of p-values, in sigmas, that a finite pool may cause without a remark."""


def calibrate(
    bundle: AnyBundle,
    n_toys: int,
    *,
    kind: WindowKind,
    seed: int,
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
        If the pool is too small for such windows or the numbers are out of range.
    BundleError
        If the fit of a toy does not converge, or the directory cannot be written.
    WorkerError
        If the workers are lost; what they finished is kept.
    """
    if n_toys < 100:
        raise InputError(f"{n_toys} toys asked for", fix="A null table takes 100 or more")
    check_kind(bundle, kind)
    ToySource(bundle, kind)  # refuses a pool that is too small
    known = bundle.null_entry(kind)
    is_same = known is not None and known.seed == seed and known.kind.n_expected == kind.n_expected
    work = ToyWork(bundle.path, bundle.manifest.definition, kind, NOMINAL, seed)
    (toys,) = run_toys(
        [work],
        n_toys,
        workers or Processes(n_processes),
        progress,
        known=bundle.toys(known) if known is not None and is_same else None,
    )
    refuse_failures(bundle, kind, toys)
    entry = NullTableEntry(kind=kind, seed=seed, toys=array_file("null", toys))
    calibrated = bundle.add_null_table(entry, toys)
    work.clear()
    return calibrated


def pool_remark(bundle: StoredBundle, kind: WindowKind) -> str:
    """Say how uncertain p-values are because all toys share one pool; empty if that does not matter."""
    if bundle.manifest.counts is not None:  # its toys come from no pool
        return ""
    offset = pool_offset(kind.n_expected, len(bundle.pool), len(bundle.reference))
    if offset <= LARGEST_OFFSET:
        return ""
    return (
        f"a pool of {len(bundle.pool)} events leaves p-values uncertain by about "
        f"{offset:.2f} sigma, however many toys are thrown. Build the bundle from more events"
    )


def refuse_failures(bundle: StoredBundle, kind: WindowKind, toys: FloatArray) -> None:
    """Refuse toys whose fits did not converge; raises `BundleError`."""
    failed = np.flatnonzero(~np.isfinite(toys[:, 0]))
    if len(failed):
        raise BundleError(
            f"the fit of {len(failed)} of {len(toys)} toys of {kind.n_expected:g} events did not converge "
            f"(first: toy {failed[0]})",
            where=str(bundle.path),
            fix="Build the bundle with a larger penalty",
        )


def check_kind(bundle: StoredBundle, kind: WindowKind) -> None:
    """Refuse windows that make no sense; raises `InputError`."""
    if not 10 <= kind.n_expected < 1e9:
        raise InputError(f"windows of {kind.n_expected:g} events", fix="A window takes 10 events or more")
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
