"""Checks of the arrays that users pass: samples, weights, centres."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dqm.errors import InputError, format_count
from dqm.events import FloatArray

__all__ = ["check_sample", "choose_centers", "normalised_weights", "standardisation"]


def check_sample(values: ArrayLike, what: str, n_features: int | None = None) -> FloatArray:
    """Return a sample as a contiguous float64 array; raises `InputError` if it cannot be used.

    Parameters
    ----------
    values : array_like, shape (n, d)
        Raw features, at least one event.
    what : str
        Name of the sample in messages.
    n_features : int, optional
        Features of the reference, which the sample must have.
    """
    try:
        x = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the {what} is not an array of numbers: {error}") from error
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"the {what} has shape {x.shape}", fix="Give an array of shape (events, features)")
    if len(x) == 0:
        raise InputError(f"the {what} has no events", fix="Give at least one event")
    if n_features is not None and x.shape[1] != n_features:
        raise InputError(
            f"the {what} has {format_count(x.shape[1], 'feature')}, the reference has {n_features}",
            fix="Give the same features in the same order as the reference",
        )
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InputError(
            f"the {what} has {format_count(int(bad.sum()), 'value')} not finite: the first is "
            f"{x[row, column]} in event {row}, feature {column}",
            fix="Remove such events before the test",
        )
    return x


def normalised_weights(weights: ArrayLike | None, n_events: int) -> FloatArray:
    """Return weights normalised to a sum of 1, all equal if there are none; raises `InputError`."""
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


def standardisation(
    events: FloatArray, shares: FloatArray, concerned: Sequence[bool] = ()
) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each feature; raises `InputError` if one of those concerned is constant.

    All are concerned by default.
    """
    mean = shares @ events
    scale = np.sqrt(shares @ (events - mean) ** 2)
    is_flat = scale <= 1e-12 * np.maximum(1.0, np.abs(mean))
    constant = np.flatnonzero(is_flat & (np.array(concerned) if len(concerned) else True))
    if len(constant):
        raise InputError(
            f"feature {constant[0]} is constant in the reference ({mean[constant[0]]:g})",
            fix="Leave it out: a constant cannot be standardised and carries no information",
        )
    return mean, scale


def choose_centers(
    centers: int | ArrayLike, events: FloatArray, rng: np.random.Generator | None
) -> FloatArray:
    """Return the centres, drawn if only their number is given; raises `InputError` if not possible."""
    if not isinstance(centers, int | np.integer):
        chosen = check_sample(centers, "array of centres")
        if chosen.shape[1] != events.shape[1]:
            raise InputError(
                f"the centres have {format_count(chosen.shape[1], 'feature')}, "
                f"the reference has {events.shape[1]}"
            )
        return chosen
    distinct = len(np.unique(events, axis=0))
    if not 1 <= centers <= distinct:
        raise InputError(
            f"{format_count(int(centers), 'centre')} requested, but the reference has "
            f"{format_count(distinct, 'distinct event')}",
            fix=f"Give a number from 1 to {distinct}",
        )
    if centers == len(events):
        return events
    if rng is None:
        raise InputError(
            "no random generator given to draw the centres", fix="Pass rng=numpy.random.default_rng(seed)"
        )
    return events[np.sort(rng.choice(len(events), size=int(centers), replace=False))]
