"""Checks of what users hand in: samples, weights, centres."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from dqm.errors import InputError
from dqm.events import FloatArray

__all__ = ["check_sample", "choose_centers", "normalised_weights", "standardisation"]


def check_sample(values: ArrayLike, what: str) -> FloatArray:
    """Check a sample and give it as a contiguous float64 array."""
    try:
        x = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the {what} is not an array of numbers: {error}") from error
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"the {what} has shape {x.shape}", fix="Give an array of shape (events, features)")
    if len(x) == 0:
        raise InputError(f"the {what} has no events", fix="Give at least one event")
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"the {what} has {int(bad.sum())} values that are not finite, the first is {x[row, column]} "
            f"in event {row}, feature {column}",
            fix="Remove such events before the test",
        )
    return x


def normalised_weights(weights: ArrayLike | None, n_events: int) -> FloatArray:
    """Give the weights normalised to unit sum."""
    if weights is None:
        return np.full(n_events, 1.0 / n_events)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n_events,):
        raise InputError(
            f"weights have shape {w.shape}", fix=f"Give one for each of the {n_events} reference events"
        )
    if not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise InputError("weights are negative, not finite or all zero", fix="Give weights of 0 or more")
    shares: FloatArray = w / w.sum()
    return shares


def standardisation(events: FloatArray, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give mean and standard deviation of each feature; raises `InputError` if one is constant."""
    mean = shares @ events
    scale = np.sqrt(shares @ (events - mean) ** 2)
    constant = np.flatnonzero(scale <= 1e-12 * np.maximum(1.0, np.abs(mean)))
    if len(constant):
        raise InputError(
            f"feature {constant[0]} is constant in the reference ({mean[constant[0]]:g})",
            fix="Leave it out: a constant cannot be standardised and carries no information",
        )
    return mean, scale


def choose_centers(
    centers: int | ArrayLike, events: FloatArray, rng: np.random.Generator | None
) -> FloatArray:
    """Give the centres, drawn if only their number is given; raises `InputError` if that cannot be done."""
    if not isinstance(centers, int | np.integer):
        chosen = check_sample(centers, "array of centres")
        if chosen.shape[1] != events.shape[1]:
            raise InputError(f"the centres have {chosen.shape[1]} features, the reference {events.shape[1]}")
        return chosen
    distinct = len(np.unique(events, axis=0))
    if not 1 <= centers <= distinct:
        raise InputError(
            f"{centers} centres asked for, the reference has {distinct} distinct events",
            fix=f"Ask for between 1 and {distinct}",
        )
    if centers == len(events):
        return events
    if rng is None:
        raise InputError(
            "no random generator given to draw the centres", fix="Pass rng=numpy.random.default_rng(seed)"
        )
    return events[np.sort(rng.choice(len(events), size=int(centers), replace=False))]
