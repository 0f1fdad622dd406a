"""Check that t does not depend on what may change: toys at shifted parameters against the null table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy import stats

from dqm.errors import BundleError
from dqm.events import FloatArray
from dqm.reference.manifest import NullTableEntry, WindowKind
from dqm.reference.null import NullTable
from dqm.reference.parallel import ToyWork, run_toys
from dqm.reference.processes import Processes, Workers
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.toys import NOMINAL, ToySource, Truth

__all__ = ["DEPENDENT", "SIGNIFICANT", "Validation", "ValidationPoint", "find_null_entry", "validate"]

DEPENDENT = 0.01
"""Probability that a test that is independent of its nuisance parameters fails its validation."""

SIGNIFICANT = 0.01
"""p below which a healthy toy counts as a false alarm."""


@dataclass(frozen=True, slots=True, eq=False)
class ValidationPoint:
    """Toys at one truth.

    Parameters
    ----------
    name : str
        Nuisance parameter away from 0; empty for none.
    nu : float
        Its true value.
    source : str
        Where the events came from: ``pool``, ``rate``, ``transformed``, ``sample`` or ``reweighted``. The
        last is made with the learned log ratio itself: it tests the fit, not what was learned.
    t, tau : ndarray, shape (n_toys,)
        Their statistics.
    ks_t, ks_tau : float
        Kolmogorov-Smirnov p-values of both against the null table.
    share : float
        Share of toys with p below 0.01: false alarms.
    share_low, share_high : float
        Its 95 % interval (Clopper-Pearson).
    """

    name: str
    nu: float
    source: str
    t: FloatArray
    tau: FloatArray
    ks_t: float
    ks_tau: float
    share: float
    share_low: float
    share_high: float


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """All points of a validation.

    Parameters
    ----------
    kind : WindowKind
        Windows tested.
    null_t, null_tau : ndarray, shape (n,)
        The null table.
    points : tuple of ValidationPoint
        Points tested.
    """

    kind: WindowKind
    null_t: FloatArray
    null_tau: FloatArray
    points: tuple[ValidationPoint, ...]

    @property
    def limit(self) -> float:
        """Smallest Kolmogorov-Smirnov p of t that is accepted, `DEPENDENT` shared between the points."""
        return DEPENDENT / len(self.points)

    @property
    def failed(self) -> tuple[ValidationPoint, ...]:
        """Points where t depends on the nuisance parameter."""
        return tuple(point for point in self.points if not point.ks_t >= self.limit)


def validate(
    bundle: StoredBundle,
    n_toys: int,
    *,
    kind: WindowKind,
    seed: int,
    sigmas: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0),
    samples: Mapping[tuple[str, float], FloatArray] | None = None,
    n_processes: int | None = None,
    workers: Workers | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Validation:
    """Throw toys at shifted nuisance parameters and compare t with the null table.

    Parameters
    ----------
    bundle : StoredBundle
        Calibrated for `kind`; unfinished work is kept in its directory.
    n_toys : int
        Toys at each point.
    kind : WindowKind
        Windows to test.
    seed : int
        Seed of the first point's toys; the others follow, and the null table's is left out.
    sigmas : tuple of float
        True values in units of each parameter's sigma.
    samples : mapping of (str, float) to ndarray, optional
        Events taken at a value of a parameter: points of their own.
    n_processes : int, optional
        Parallel processes; the cores of the machine by default.
    workers : Workers, optional
        Who does it instead of such processes.
    progress : callable
        Told the toys done and the total.

    Returns
    -------
    Validation
        The first point is at 0.

    Raises
    ------
    BundleError
        If there is no null table for such windows.
    InputError
        If a sample is too small.
    WorkerError
        If the workers are lost; what they finished is kept.
    """
    entry = find_null_entry(bundle, kind)
    null = bundle.toys(entry)
    table = NullTable(null[:, 0])
    # toys of the null table itself would not be independent
    seeds = (candidate for candidate in count(seed) if candidate != entry.seed)
    truths = [NOMINAL, *_shifts(bundle, kind, sigmas)]
    truths += [Truth(name, nu, sample) for (name, nu), sample in (samples or {}).items()]
    for truth in truths:
        ToySource(bundle, kind, truth)  # refuses what is impossible before anything is thrown
    works = [ToyWork.of(bundle, kind, truth, next(seeds), entry.per_split) for truth in truths]
    found = run_toys(works, n_toys, workers or Processes(n_processes), progress)
    points = tuple(
        _compare(bundle, work.truth, toys, null, table) for work, toys in zip(works, found, strict=True)
    )
    for work in works:
        work.clear()
    return Validation(kind, null[:, 0], null[:, 1], points)


def find_null_entry(bundle: StoredBundle, kind: WindowKind) -> NullTableEntry:
    """Find the null table of windows; raises `BundleError` if there is none."""
    entry = bundle.null_entry(kind)
    if entry is None:
        raise BundleError(
            f"no null table for windows of {kind}",
            where=str(bundle.path),
            fix="Run 'dqm reference calibrate' first",
        )
    return entry


def _shifts(bundle: StoredBundle, kind: WindowKind, sigmas: tuple[float, ...]) -> list[Truth]:
    """Points of all parameters on which these windows depend; unmeasured ones have no sigma as a unit."""
    return [
        Truth(entry.name, sigma * entry.sigma)
        for entry in bundle.manifest.nuisances
        if entry.sigma is not None and entry.concerns(kind.cut)
        for sigma in sigmas
    ]


def _compare(
    bundle: StoredBundle, truth: Truth, toys: FloatArray, null: FloatArray, table: NullTable
) -> ValidationPoint:
    t, tau = toys[:, 0], toys[:, 1]
    n_failed = int(np.isnan(t).sum())
    if n_failed:
        raise BundleError(
            f"the fit of {n_failed} of {len(t)} toys did not converge at {truth.name or 'nu'} = {truth.nu:g}",
            where=str(bundle.path),
            fix="Build the bundle with a larger penalty",
        )
    alarms = sum(table.p_value(value).p < SIGNIFICANT for value in t)
    interval = stats.binomtest(alarms, len(t)).proportion_ci(0.95)
    return ValidationPoint(
        name=truth.name,
        nu=truth.nu,
        source=_source(bundle, truth),
        t=t,
        tau=tau,
        ks_t=float(stats.ks_2samp(t, null[:, 0]).pvalue),
        ks_tau=float(stats.ks_2samp(tau, null[:, 1]).pvalue),
        share=alarms / len(t),
        share_low=float(interval.low),
        share_high=float(interval.high),
    )


def _source(bundle: StoredBundle, truth: Truth) -> str:
    entry = bundle.manifest.nuisance(truth.name)
    if entry is None:
        return "pool"
    if entry.kind == "normalisation":
        return "rate"
    if truth.sample is not None:
        return "sample"
    return "transformed" if entry.transform else "reweighted"
