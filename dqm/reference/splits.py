"""The events of toys: the pool with the bundle's own reference, or fresh splits of all events.

A null table must give the distribution of t in healthy windows of the next run. Toys from the pool are tested
against the bundle's own reference. They are right for this reference if the pool is like the truth. If the
pool is small, they share its fluctuation, and no number of toys averages it out (`pool_offset`).

Fresh splits divide all events of the run again into a reference and windows, for every few toys; the test is
prepared for each split. Reference and windows of such a toy are distributed exactly as the bundle's reference
and the windows of the next run are. So the share of healthy windows below any p is right on average over
bundles. A single bundle differs from the average by the fluctuation of its own reference (`split_offset`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import SMALLEST_WINDOW, FloatArray, WindowCut
from dqm.nplm.feature_kind import ordered_features
from dqm.nplm.samples import Sample, merge
from dqm.reference.manifest import Manifest, NullTableEntry
from dqm.reference.null import pool_offset, split_offset
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.toys import largest_window

__all__ = [
    "TOLERATED_OFFSET",
    "OriginName",
    "ToyOrigin",
    "choose_origin",
    "choose_reference_size",
    "most_of_splits",
    "ordered_in",
    "origin_of",
    "refuse_hopeless",
    "refuse_sizes",
    "split_events",
    "uncertainty_of",
]

OriginName = Literal["auto", "pool", "splits"]
"""What toys are made of; "auto" lets `choose_origin` decide."""

TOLERATED_OFFSET = 0.15
"""Uncertainty of p-values, in sigmas, that is accepted without fresh splits or a remark. The share of healthy
windows with p < 0.01 is then 0.0107 on average over bundles."""

LARGEST_OFFSET = 0.5
"""Uncertainty above which no table is made: p = 0.01 could be anything between 0.002 and 0.03."""

WINDOWS_IN_REFERENCE = 10
"""Size of a reference that is chosen from a long run, in windows."""

WINDOWS_PER_SPLIT = 10
"""Most toys of one split. Preparing the test is most of a split's cost; toys of one split are alike, by a
correlation of 0.02 to 0.04 in the tail, so ten say as much as eight from splits of their own."""


MANY_OF_SPLITS = 20_000
"""Toys of fresh splits with which p at a usual threshold owes less to their luck than to the finite run."""


@dataclass(frozen=True, slots=True)
class ToyOrigin:
    """What the toys of a null table are made of.

    Parameters
    ----------
    per_split : int
        Toys of each fresh split; 0 for toys from the pool.
    offset : float
        Uncertainty of their p-values, in sigmas.
    reason : str
        Why, for the user.
    """

    per_split: int
    offset: float
    reason: str


def choose_origin(
    n_expected: float,
    n_reference: int,
    n_pool: int,
    wanted: OriginName = "auto",
    linear_share: float | None = None,
) -> ToyOrigin:
    """Choose what toys are made of.

    Parameters
    ----------
    n_expected : float
        Events expected in a window, the largest of a range.
    n_reference, n_pool : int
        Events of the bundle.
    wanted : {"auto", "pool", "splits"}
        What the user asks for. By default splits are taken if p is more uncertain than `TOLERATED_OFFSET`
        with the pool, and less uncertain with splits.
    linear_share : float, optional
        As in `pool_offset`, measured with toys from the pool.

    Raises
    ------
    InputError
        If p would be uncertain by more than `LARGEST_OFFSET` with either.
    """
    refuse_hopeless(n_expected, n_reference, n_pool)
    from_pool = pool_offset(n_expected, n_pool, n_reference, linear_share)
    from_splits = split_offset(n_expected, n_reference)
    pool = f"{from_pool:.2f} sigma with the pool of {n_pool} events"
    splits = f"{from_splits:.2f} sigma with fresh splits of all {n_reference + n_pool} events"
    if wanted == "pool" or (wanted == "auto" and from_pool <= max(TOLERATED_OFFSET, from_splits)):
        return ToyOrigin(0, from_pool, f"toys are windows from the pool: p uncertain by {pool}, {splits}")
    per_split = max(1, min(WINDOWS_PER_SPLIT, int(n_pool // n_expected)))
    of_split = f"{format_count(per_split, 'toy')} of each fresh split of the run, which has its own reference"
    return ToyOrigin(per_split, from_splits, f"{of_split}: p uncertain by {splits}, {pool}")


def origin_of(
    bundle: StoredBundle, n_expected: float, wanted: OriginName = "auto", linear_share: float | None = None
) -> ToyOrigin:
    """Choose what the toys of a bundle are made of; toys of channels are not drawn from a run.

    Parameters are those of `choose_origin`.

    Raises
    ------
    InputError
        As `choose_origin`, and if an origin is given for toys of channels.
    """
    if not bundle.manifest.is_of_channels:
        m = bundle.manifest
        return choose_origin(n_expected, m.n_reference, m.n_pool, wanted, linear_share)
    if wanted != "auto":
        raise InputError(
            f"toys of channels are not made from {wanted}, but thrown by what was learned of them",
            where=str(bundle.path),
            fix="Leave the origin out",
        )
    return ToyOrigin(0, 0.0, "toys are thrown by what was learned of the channels")


def choose_reference_size(n_events: int, n_expected: float, *, in_bins: bool = False) -> int:
    """Choose how many events of a run become the reference; the rest is the pool.

    Those of `WINDOWS_IN_REFERENCE` windows, if the pool then needs no fresh splits; otherwise half of all.
    With bins of histograms, half: there a larger reference costs nothing.
    """
    if in_bins:
        return max(2, n_events // 2)
    n_reference = round(WINDOWS_IN_REFERENCE * n_expected)
    n_pool = n_events - n_reference
    if n_pool > n_expected and pool_offset(n_expected, n_pool, n_reference) <= TOLERATED_OFFSET:
        return n_reference
    return max(2, n_events // 2)


def refuse_hopeless(n_expected: float, n_reference: int, n_pool: int) -> None:
    """Refuse windows for which no null table can be right; raises `InputError`."""
    best = min(pool_offset(n_expected, n_pool, n_reference), split_offset(n_expected, n_reference))
    if best <= LARGEST_OFFSET:
        return
    n_events = n_reference + n_pool
    raise InputError(
        f"{n_events} events, {n_reference} of them in the reference, are too few for windows of "
        f"{n_expected:g}: p would be uncertain by {best:.1f} sigma",
        fix=f"Take windows of at most {math.floor(largest_window_of(n_reference))} events, "
        f"or a reference of {math.ceil(smallest_reference_for(n_expected))} from a longer run",
    )


def refuse_sizes(
    n_events: int, n_reference: int, n_expected: float, *, cut: WindowCut, is_counted: bool = False
) -> None:
    """Refuse windows that are too large for a run, or a reference that leaves no pool.

    Parameters
    ----------
    n_events, n_reference : int
        Events of the run, and of its reference.
    n_expected : float
        Events expected in a window.
    cut : WindowCut
        What closes the windows.
    is_counted : bool
        Whether the run is one of histograms.

    Raises
    ------
    InputError
        With what is possible.
    """
    advice = "" if is_counted else "; 'dqm reference advise FILE' shows what the run allows"
    needed = 2 * largest_window(cut, n_expected)
    if n_reference >= 2 and n_events - n_reference >= needed:
        try:
            refuse_hopeless(n_expected, n_reference, n_events - n_reference)
        except InputError as error:
            raise InputError(error.what, fix=f"{error.fix}{advice}") from error
        return
    largest = _largest_possible(n_events, cut, in_bins=is_counted)
    smaller = n_events - needed
    windows = "a longer run"
    if largest:
        n_chosen = choose_reference_size(n_events, largest, in_bins=is_counted)
        windows = f"windows of at most {largest}, with a reference of {n_chosen}, or a longer run"
    if smaller < n_reference and smaller >= smallest_reference_for(n_expected):
        windows = f"a reference of at most {smaller}, or {windows}"
    raise InputError(
        f"{n_events} events do not make a reference of {n_reference} and a pool of at least {needed} "
        f"for toys of {n_expected:g}",
        fix=f"Take {windows}{advice}",
    )


def _largest_possible(n_events: int, cut: WindowCut, *, in_bins: bool) -> int:
    """Give the events of the largest windows for which a run is long enough; 0 if there is none."""
    n_expected = n_events // 4
    while n_expected >= SMALLEST_WINDOW:
        n_reference = choose_reference_size(n_events, n_expected, in_bins=in_bins)
        fits = n_events - n_reference >= 2 * largest_window(cut, n_expected)
        if fits and n_expected <= largest_window_of(n_reference):
            return n_expected
        n_expected = min(n_expected - 1, math.floor(0.99 * n_expected))
    return 0


def largest_window_of(n_reference: int) -> float:
    """Events of the largest windows that fresh splits allow: `split_offset` is `LARGEST_OFFSET`."""
    c2 = LARGEST_OFFSET**2
    return float(n_reference * (c2 + (c2 * c2 + c2) ** 0.5))


def smallest_reference_for(n_expected: float) -> float:
    """Events of the smallest reference that fresh splits allow."""
    return n_expected / largest_window_of(1)


def uncertainty_of(manifest: Manifest, entry: NullTableEntry) -> tuple[float, str]:
    """Give the uncertainty of the p-values of a table, in sigmas, and its cause."""
    n = entry.kind.n_expected
    if entry.per_split:
        return split_offset(n, manifest.n_reference), "reference"
    return pool_offset(n, manifest.n_pool, manifest.n_reference, entry.linear_share), "pool"


def most_of_splits(n_ample: int) -> int:
    """Give the toys of fresh splits that are thrown where `n_ample` toys would be, unless they are asked for.

    They take minutes where toys from the pool take seconds. A tenth, at least, still supports the threshold.
    """
    return min(n_ample, max(MANY_OF_SPLITS, n_ample // 10))


def ordered_in(manifest: Manifest) -> list[bool]:
    """Say which features of a bundle have an order, and so must not be constant in any reference.

    Those of a bundle without kinds all have one.
    """
    return ordered_features(tuple(manifest.kinds_of_features.values()), len(manifest.features))


def split_events(bundle: StoredBundle, seed: int, number: int) -> tuple[Sample, FloatArray, Sample]:
    """Split all events of a bundle anew.

    Parameters
    ----------
    bundle : StoredBundle
        Reference and pool together are split, into the same numbers of events.
    seed, number : int
        Seed of the table and number of the split.

    Returns
    -------
    reference : Sample
        As many events as the bundle's.
    centers : ndarray
        Drawn from the reference, as many as the bundle has, or as there are rows.
    pool : Sample
        The other events.
    """
    # a stream apart from those of the toys, whose keys have one number
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, 0)))
    events = merge(bundle.reference_sample, bundle.pool_sample)
    reference, pool = events.split([bundle.manifest.n_reference], rng, ordered_in(bundle.manifest))
    n_centers = min(len(bundle.centers), len(reference.x))
    return reference, reference.choose_rows(n_centers, rng), pool
