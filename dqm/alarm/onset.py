"""Since when windows are worse: the change point of their significances, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray

__all__ = ["INTERVAL", "LARGEST_Z", "Onset", "describe_between", "find_doubtful", "find_onset"]

IntArray = NDArray[np.int64]

FEWEST_WINDOWS = 8
"""Windows from which a change is looked for."""

LARGEST_Z = 5.0
"""Significances count between plus and minus this: one extreme window is not a change."""

LEAST_GAIN = 16.0
"""Twice the log likelihood that a change must win. Less than one in a hundred healthy sequences of 20 to 5000
windows wins 13.5."""

INTERVAL = 7.0
"""Loss of it within which the change may lie elsewhere, as a step or as a line. In simulations 93 to 99 % of
the intervals have the truth; a change point is not a usual parameter, for which 3.84 would be enough."""


@dataclass(frozen=True, slots=True)
class Onset:
    """Where a sequence of windows became worse.

    Parameters
    ----------
    place : int
        Position of the first window that is worse, or block of windows.
    low, high : int
        95 % interval of this position.
    shift : float
        Mean Z from then on less that before, > 0; of a growing change at its end.
    is_growing : bool
        Whether a straight line from then on describes it better than a step.
    gain : float
        Twice the log likelihood ratio to no change.
    """

    place: int
    low: int
    high: int
    shift: float
    is_growing: bool
    gain: float


def find_onset(z: FloatArray, counts: IntArray | None = None) -> Onset | None:
    """Find where windows became worse: a step of the mean of Z, or a straight line that begins to rise.

    Parameters
    ----------
    z : ndarray, shape (n,)
        Significances in the order of time, with unit spread around their mean; infinite ones are cut off. An
        element is a window, or the mean of a block of windows.
    counts : ndarray of int, shape (n,), optional
        Windows of each element, 1 or more; default: 1. A change within a block is found at one of its ends.

    Returns
    -------
    Onset or None
        None if there are fewer than 8 windows, or if no change is certain enough.

    References
    ----------
    Hinkley (1970), doi:10.1093/biomet/57.1.1, for the likelihood of a change point.

    Examples
    --------
    >>> import numpy
    >>> rng = numpy.random.default_rng(1)
    >>> found = find_onset(numpy.concatenate([rng.normal(size=50), rng.normal(2.0, size=50)]))
    >>> found.low <= 50 <= found.high
    True
    """
    counts = np.ones(len(z), dtype=np.int64) if counts is None else counts
    if len(z) < 2 or counts.sum() < FEWEST_WINDOWS:
        return None
    of_step, of_line = _both_gains(z, counts)
    is_growing = bool(of_line[0].max() > of_step[0].max())
    gain, slope = of_line if is_growing else of_step
    place = int(gain.argmax()) + 1
    if gain[place - 1] < LEAST_GAIN:
        return None
    low, high = _interval(of_step[0], of_line[0])
    left = float(counts[place:].sum())
    shift = float(slope[place - 1] * (left if is_growing else 1.0))
    return Onset(place, low, high, shift, is_growing, float(gain[place - 1]))


def find_doubtful(z: FloatArray, counts: IntArray) -> tuple[int, int] | None:
    """Tell between which blocks of windows a change may lie, to look at the windows of these.

    Parameters
    ----------
    z, counts : ndarray, shape (n,)
        As of `find_onset`.

    Returns
    -------
    tuple of int, or None
        Positions of the first and the last of these blocks; None if no change can be certain.
    """
    if len(z) < 2:
        return (0, 0) if len(z) else None
    of_step, of_line = _both_gains(z, counts)
    if max(of_step[0].max(), of_line[0].max()) < LEAST_GAIN - INTERVAL:
        return None
    low, high = _interval(of_step[0], of_line[0])
    return low - 1, high  # a change within the block before an end is nearest to that end


def describe_between(
    place: tuple[int, int | None], low: tuple[int, int | None], high: tuple[int, int | None]
) -> str:
    """Say when something began: ``since run 16, between windows 3 and 9``.

    Parameters
    ----------
    place, low, high : tuple of (int, int or None)
        Run and number of the most probable window, and of the ends of its interval; a number is None if only
        the run is known.
    """
    run, _ = place
    first_run, first = low
    last_run, last = high
    if first_run == last_run:
        if first is None or last is None:
            return f"since run {first_run}"
        at = f"at window {first}" if first == last else f"between windows {first} and {last}"
        return f"since run {first_run}, {at}"
    ends = " and ".join(
        f"run {one}" if seq is None else f"window {seq} of run {one}" for one, seq in (low, high)
    )
    return f"since about run {run}, between {ends}"


def _interval(of_step: FloatArray, of_line: FloatArray) -> tuple[int, int]:
    either = np.maximum(of_step, of_line)
    near = np.flatnonzero(either >= either.max() - INTERVAL) + 1
    return int(near[0]), int(near[-1])


def _both_gains(
    z: FloatArray, counts: IntArray
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Fit a step, and a straight line, from each place 1 to n - 1 on: what each wins, and its size.

    A step is a rise of 1 from the place on; a line grows by 1 a window.
    """
    sums = np.clip(z, -LARGEST_Z, LARGEST_Z) * counts
    n = float(counts.sum())
    starts = np.cumsum(counts) - counts
    begins = starts[1:].astype(float)
    left = n - begins
    # sums over the windows from the place on, of the rise h, of h^2, and of h times Z
    sum_z, sum_z_position = (
        np.cumsum(values[::-1])[::-1][1:] for values in (sums, sums * (starts + (counts - 1) / 2))
    )
    mean = sums.sum() / n

    def gain(h: FloatArray, hh: FloatArray, hz: FloatArray) -> tuple[FloatArray, FloatArray]:
        covariance = hz - h * mean
        variance = hh - h**2 / n
        slope = covariance / np.maximum(variance, 1e-12)
        return np.where(slope > 0.0, slope * covariance, 0.0), slope

    step = gain(left, left, sum_z)
    h = left * (left + 1) / 2
    hh = left * (left + 1) * (2 * left + 1) / 6
    return step, gain(h, hh, sum_z_position - (begins - 1) * sum_z)
