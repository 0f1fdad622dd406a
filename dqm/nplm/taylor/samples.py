"""Samples at shifted conditions, and what makes them fit to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm.samples import check_sample

__all__ = ["ShiftedSample", "check_events", "check_points"]

MIN_EVENTS = 100
"""Fewer events in a sample say nothing of a ratio."""


@dataclass(frozen=True, slots=True)
class ShiftedSample:
    """Events taken, simulated or transformed from the reference at one value of the nuisance parameter.

    Parameters
    ----------
    nu : float
        Value of the parameter, in its own unit; not 0.
    x : array_like, shape (n, d)
        Raw features.
    weights : array_like, shape (n,), optional
        Event weights of any sum, not negative; all equal by default.
    yield_ratio : float
        Events expected at nu over events expected at 0, ``N(R_nu) / N(R_0)`` > 0; 1 where the parameter
        changes the shape alone.
    """

    nu: float
    x: ArrayLike
    weights: ArrayLike | None = None
    yield_ratio: float = 1.0


def check_points(shifted: Sequence[ShiftedSample]) -> FloatArray:
    """Check the values of nu and the yields.

    Parameters
    ----------
    shifted : sequence of ShiftedSample
        All samples.

    Returns
    -------
    ndarray, shape (k,)
        The values of nu.

    Raises
    ------
    InputError
        If a value is 0, not finite or repeated, a yield is not above 0, or one sign is missing.
    """
    nu = np.array([s.nu for s in shifted], dtype=np.float64)
    where = "learn_taylor"
    for sample in shifted:
        if not np.isfinite(sample.nu) or sample.nu == 0:
            raise InputError(
                f"a shifted sample has nu = {sample.nu}",
                where=where,
                fix="Give a finite value other than 0; events at 0 belong to the reference",
            )
        if not (np.isfinite(sample.yield_ratio) and sample.yield_ratio > 0):
            raise InputError(
                f"the sample at nu = {sample.nu:g} has yield_ratio {sample.yield_ratio}",
                where=where,
                fix="Give N(R_nu) / N(R_0), a finite number above 0",
            )
    if not (nu < 0).any() or not (nu > 0).any():
        raise InputError(
            f"the points are nu = {nu.tolist()}",
            where=where,
            fix="Give samples on both sides of 0, in pairs: one side cannot tell linear from quadratic",
        )
    if len(np.unique(nu)) < len(nu):
        raise InputError(f"points repeat: nu = {nu.tolist()}", where=where, fix="Join samples of the same nu")
    return nu


def check_events(
    values: ArrayLike, what: str, n_features: int | None = None, least: int = MIN_EVENTS
) -> FloatArray:
    """Check events and give them as float64.

    Parameters
    ----------
    values : array_like, shape (n, d)
        Raw features.
    what : str
        Their name in messages.
    n_features : int, optional
        Features they must have.
    least : int
        Fewest events.

    Returns
    -------
    ndarray, shape (n, d)

    Raises
    ------
    InputError
        If they are not finite, too few or have another number of features.
    """
    x = check_sample(values, what)
    if n_features is not None and x.shape[1] != n_features:
        raise InputError(
            f"the {what} has {x.shape[1]} features, the reference {n_features}",
            fix="Give the same features in the same order as the reference",
        )
    if len(x) < least:
        raise InputError(f"the {what} has {len(x)} events", fix=f"Give at least {least}")
    return x
