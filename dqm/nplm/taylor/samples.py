"""Samples at shifted conditions, and the checks before they are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.samples import check_sample

__all__ = ["ShiftedSample", "check_events", "check_points"]

MIN_EVENTS = 100
"""Fewest events in a sample; fewer cannot determine a ratio."""


@dataclass(frozen=True, slots=True)
class ShiftedSample:
    """Events at one value of the nuisance parameter: measured, simulated or transformed from the reference.

    Parameters
    ----------
    nu : float
        Value of the parameter, in its own unit; not 0.
    x : array_like, shape (n, d)
        Raw features.
    weights : array_like, shape (n,), optional
        Event weights of any sum, not negative; all equal by default.
    yield_ratio : float
        Events expected at nu over events expected at 0, ``N(R_nu) / N(R_0)`` > 0; 1 if the parameter changes
        the shape alone.
    """

    nu: float
    x: ArrayLike
    weights: ArrayLike | None = None
    yield_ratio: float = 1.0


def check_points(shifted: Sequence[ShiftedSample]) -> FloatArray:
    """Check the values of nu and the yields of samples.

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
            fix="Give samples on both sides of 0, in pairs, to separate linear from quadratic terms",
        )
    if len(np.unique(nu)) < len(nu):
        raise InputError(
            f"points repeat: nu = {nu.tolist()}", where=where, fix="Combine samples of the same nu"
        )
    return nu


def check_events(
    values: ArrayLike, what: str, n_features: int | None = None, least: int = MIN_EVENTS
) -> FloatArray:
    """Check events and return them as float64.

    Parameters
    ----------
    values : array_like, shape (n, d)
        Raw features.
    what : str
        Name of the events in messages.
    n_features : int, optional
        Number of features required.
    least : int
        Fewest events.

    Returns
    -------
    ndarray, shape (n, d)

    Raises
    ------
    InputError
        If a value is not finite, there are too few events, or the number of features is wrong.
    """
    x = check_sample(values, what, n_features)
    if len(x) < least:
        raise InputError(f"the {what} has {format_count(len(x), 'event')}", fix=f"Give at least {least}")
    return x
