"""Samples, of which a row may stand for several events, and checks of the arrays that users pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dqm.errors import InputError, format_count
from dqm.events import FloatArray

__all__ = [
    "Sample",
    "check_sample",
    "check_windows",
    "choose_centers",
    "describe_scale",
    "is_constant",
    "merge",
    "normalised_weights",
    "reference_shares",
    "standardisation",
]

MOST_COUNTED = 10**9
"""Events can be drawn from counted rows with fewer events than this: a limit of numpy."""

MOST_DIVISIONS = 1000
"""Times that events are divided anew, until the reference can be used."""

ROUNDING = 4.0 * float(np.finfo(np.float64).eps)
"""Range of a constant that was computed in float64, as a share of its largest value."""

LARGEST_VALUE = 1e150
"""Largest value of a feature: float64 also holds its square, and a sum of many such squares."""

SMALLEST_RANGE = 1e-150
"""Smallest range of a feature that is not constant: float64 holds its square with all digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of features, each of which is one event or stands for several equal ones.

    Parameters
    ----------
    x : ndarray, shape (n_rows, d)
        Raw features.
    counts : ndarray, shape (n_rows,), or None
        Events that each row stands for; None if each is one event.
    """

    x: FloatArray
    counts: FloatArray | None = None

    @classmethod
    def check(
        cls, values: ArrayLike, counts: ArrayLike | None, what: str, n_features: int | None = None
    ) -> Sample:
        """Make a sample of what a user passes; raises `InputError` if it cannot be used.

        Parameters
        ----------
        values, what, n_features
            As in `check_sample`.
        counts : array_like, shape (n_rows,), optional
            Finite, 0 or more, with a sum above 0.
        """
        x = check_sample(values, what, n_features)
        if counts is None:
            return cls(x)
        c = np.asarray(counts, dtype=np.float64)
        if c.shape != (len(x),):
            raise InputError(
                f"the {what} has {format_count(len(x), 'row')} and counts of shape {c.shape}",
                fix="Give one count for each row",
            )
        bad = ~(np.isfinite(c) & (c >= 0.0))
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                f"row {row} of the {what} stands for {c[row]:g} events", fix="Give finite counts of 0 or more"
            )
        if not c.any():
            raise InputError(f"the {what} has no events: all counts are 0", fix="Give at least one event")
        return cls(x, c)

    @property
    def weights(self) -> FloatArray:
        """Events that each row stands for, shape (n_rows,)."""
        return np.ones(len(self.x)) if self.counts is None else self.counts

    @property
    def n_events(self) -> float:
        """Number of events; a whole number if the counts are."""
        return float(len(self.x)) if self.counts is None else float(self.counts.sum())

    @property
    def filled(self) -> Sample:
        """The same without rows that stand for no event."""
        return self if self.counts is None else self.take(self.counts > 0)

    def take(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64]) -> Sample:
        """Select rows."""
        return Sample(self.x[rows], None if self.counts is None else self.counts[rows])

    def count_outside(self, low: FloatArray, high: FloatArray) -> int:
        """Count the events outside a range in at least one feature."""
        is_outside = ((self.x < low) | (self.x > high)).any(axis=1)
        return int(is_outside.sum() if self.counts is None else round(self.counts[is_outside].sum()))

    def split(
        self, sizes: Sequence[int], rng: np.random.Generator, varied: Sequence[bool] = ()
    ) -> list[Sample]:
        """Divide the events at random into parts; each event is in one of them.

        Parameters
        ----------
        sizes : sequence of int
            Events of each part but the last, which has the rest.
        rng : numpy.random.Generator
            Divides.
        varied : sequence of bool, length d, optional
            Features that must not be constant in the first part, a reference, if they are not constant in all
            events. The events are divided again until it is so, at most `MOST_DIVISIONS` times: a run is
            only monitored with such a reference, and those of its toys are like it. Rows with counts, bins,
            are not looked at.

        Returns
        -------
        list of Sample
            Rows of counted parts are filled. The parts of the counts of a row follow the multivariate
            hypergeometric distribution, as those of the same rows written out do.
        """
        if self.counts is None:
            concerned = (
                np.array(varied, dtype=bool) & ~is_constant(self.x) if len(varied) else np.array(False)
            )
            for _ in range(MOST_DIVISIONS):
                shuffled = self.x[rng.permutation(len(self.x))]
                if not (concerned.any() and (concerned & is_constant(shuffled[: sizes[0]])).any()):
                    break
            return [Sample(part) for part in np.split(shuffled, np.cumsum(sizes))]
        left = self
        parts = []
        for size in sizes:
            drawn = left.draw_counts(size, rng).astype(np.float64)
            left = Sample(self.x, left.weights - drawn)
            parts.append(Sample(self.x, drawn).filled)
        return [*parts, left.filled]

    def draw_counts(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw n events of counted rows, without replacement; give how many of each row, shape (n_rows,)."""
        return rng.multivariate_hypergeometric(self.weights.astype(np.int64), n, method="marginals")

    def choose_rows(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw different rows, shape (n, d), in their order; rows of more events are drawn more often."""
        shares = None if self.counts is None else self.counts / self.counts.sum()
        return self.x[np.sort(rng.choice(len(self.x), size=n, replace=False, p=shares))]


def merge(first: Sample, second: Sample) -> Sample:
    """Put two samples together; equal rows of counted ones become one row, in the order of their values."""
    x = np.concatenate([first.x, second.x])
    if first.counts is None and second.counts is None:
        return Sample(x)
    rows, place = np.unique(x, axis=0, return_inverse=True)
    counts = np.concatenate([first.weights, second.weights])
    total: FloatArray = np.zeros(len(rows))
    np.add.at(total, place.ravel(), counts)
    return Sample(rows, total)


def check_windows(
    windows: Sequence[ArrayLike], weights: Sequence[ArrayLike | None] | None, n_features: int
) -> list[Sample]:
    """Make samples of windows and their counts; raises `InputError` if one cannot be used."""
    counts = [None] * len(windows) if weights is None else weights
    if len(counts) != len(windows):
        raise InputError(
            f"{format_count(len(windows), 'window')}, but weights of {len(counts)}",
            fix="Give one array of weights for each window, or None",
        )
    return [Sample.check(*pair, "window", n_features) for pair in zip(windows, counts, strict=True)]


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
        raise InputError(
            f"the {what} is not an array of numbers: {error}",
            fix="Give numbers in a table: one row for each event, one column for each feature",
        ) from error
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
    """Return weights normalised to a sum of 1, all equal if there are none.

    Parameters
    ----------
    weights : array_like, shape (n_events,), optional
        Finite, 0 or more, with a sum above 0.
    n_events : int
        Number of reference events.

    Returns
    -------
    ndarray, shape (n_events,)
        Their sum is 1.

    Raises
    ------
    InputError
        If the weights are not such.
    """
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


def reference_shares(sample: Sample, weights: ArrayLike | None) -> FloatArray:
    """Return the share of each reference row, by its weight and its count.

    Parameters
    ----------
    sample : Sample
        The reference, with n_rows rows.
    weights : array_like, shape (n_rows,), optional
        Of an event of each row.

    Returns
    -------
    ndarray, shape (n_rows,)
        Their sum is 1.

    Raises
    ------
    InputError
        As `normalised_weights`, and if a row stands for no event.
    """
    shares = normalised_weights(weights, len(sample.x))
    if sample.counts is None:
        return shares
    if not sample.counts.all():
        raise InputError(
            f"row {int(np.argmin(sample.counts))} of the reference stands for no event",
            fix="Leave out rows whose count is 0",
        )
    return normalised_weights(shares * sample.counts, len(shares))


def is_constant(x: FloatArray) -> NDArray[np.bool_]:
    """Tell which features have one value, within the rounding of float64, whatever their unit and offset.

    Parameters
    ----------
    x : ndarray, shape (n_rows, d)
        Raw features of at least one row.

    Returns
    -------
    ndarray of bool, shape (d,)
        True for a constant.
    """
    is_flat: NDArray[np.bool_] = np.ptp(x, axis=0) <= ROUNDING * np.abs(x).max(axis=0)
    return is_flat


def describe_scale(values: FloatArray) -> tuple[str, str]:
    """Say why float64 cannot hold the variance of a feature.

    Parameters
    ----------
    values : ndarray, shape (n_rows,)
        The feature, raw, of at least one row.

    Returns
    -------
    what, limit : str
        What is wrong with its scale, and which is possible; both empty if nothing is wrong.
    """
    largest = float(np.abs(values).max())
    if largest > LARGEST_VALUE:
        what = f"has values up to {largest:.2g}, whose squares float64 cannot hold"
        return what, f"values up to {LARGEST_VALUE:g} can be used"
    spread = float(np.ptp(values))
    if ROUNDING * largest < spread < SMALLEST_RANGE:
        what = f"has values within {spread:.2g}, whose squares float64 cannot hold"
        return what, f"values must differ by {SMALLEST_RANGE:g} or more"
    return "", ""


def standardisation(
    events: FloatArray, shares: FloatArray, concerned: Sequence[bool] = ()
) -> tuple[FloatArray, FloatArray]:
    """Give mean and standard deviation of each feature.

    Parameters
    ----------
    events : ndarray, shape (n_rows, d)
        Raw features of the reference.
    shares : ndarray, shape (n_rows,)
        Weights of its rows, which sum to 1.
    concerned : sequence of bool, length d
        Features that must not be constant; empty: all of them.

    Returns
    -------
    mean, scale : ndarray, shape (d,)
        In the units of the features.

    Raises
    ------
    InputError
        If one of those features is constant, or float64 cannot hold the variance of a feature.
    """
    for number, column in enumerate(events.T):
        what, limit = describe_scale(column)
        if what:
            raise InputError(f"feature {number} {what}", fix=f"Rescale it: {limit}")
    mean = shares @ events
    scale = np.sqrt(shares @ (events - mean) ** 2)
    is_flat = is_constant(events[shares > 0])
    constant = np.flatnonzero(is_flat & (np.array(concerned) if len(concerned) else True))
    if len(constant):
        raise InputError(
            f"feature {constant[0]} is constant in the reference ({mean[constant[0]]:g})",
            fix="Leave it out: a constant cannot be standardised and carries no information",
        )
    return mean, scale


def choose_centers(centers: int | ArrayLike, sample: Sample, rng: np.random.Generator | None) -> FloatArray:
    """Return the centres of the kernels, drawn from the reference if only their number is given.

    Parameters
    ----------
    centers : int or array_like, shape (m, d)
        Number, 1 to the number of distinct events; or the centres, raw features.
    sample : Sample
        The reference, with d features.
    rng : numpy.random.Generator, optional
        Draws them.

    Returns
    -------
    ndarray, shape (m, d)
        Raw features.

    Raises
    ------
    InputError
        If the centres do not fit the reference, or cannot be drawn.
    """
    events = sample.x
    if not isinstance(centers, int | np.integer):
        chosen = check_sample(centers, "array of centres")
        if chosen.shape[1] != events.shape[1]:
            raise InputError(
                f"the centres have {format_count(chosen.shape[1], 'feature')}, "
                f"the reference has {events.shape[1]}",
                fix="Give centres with the features of the reference",
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
    return sample.choose_rows(int(centers), rng)
