"""Since when windows are worse: the change point of their significances, with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dqm.events import FloatArray

__all__ = ["Onset", "find_onset"]

FEWEST_WINDOWS = 8
"""Windows from which a change is looked for."""

LARGEST_Z = 5.0
"""Significances count between plus and minus this: one wild window is no change."""

LEAST_GAIN = 16.0
"""Twice the log likelihood that a change must win. Of healthy sequences of 20 to 5000 windows less than one
in a hundred wins 13.5."""

INTERVAL = 7.0
"""Loss of it within which the change may lie elsewhere, as a step or as a line. In simulations 93 to 99 % of
the intervals have the truth; a change point is no usual parameter, for which 3.84 would do."""


@dataclass(frozen=True, slots=True)
class Onset:
    """Where a sequence of windows became worse.

    Parameters
    ----------
    place : int
        Position of the first window that is worse.
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


def find_onset(z: FloatArray) -> Onset | None:
    """Find where windows became worse: a step of the mean of Z, or a straight line that begins to rise.

    Parameters
    ----------
    z : ndarray, shape (n_windows,)
        Significances in the order of time, with unit spread around their mean; infinite ones are cut off.

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
    n = len(z)
    if n < FEWEST_WINDOWS:
        return None
    z = np.clip(z, -LARGEST_Z, LARGEST_Z)
    of_step, of_line = _gains(z, np.zeros(n)), _gains(z, np.arange(n, dtype=float))
    is_growing = bool(of_line[0].max() > of_step[0].max())
    gain, slope = of_line if is_growing else of_step
    place = int(gain.argmax()) + 1
    if gain[place - 1] < LEAST_GAIN:
        return None
    either = np.maximum(of_step[0], of_line[0])
    near = np.flatnonzero(either >= gain[place - 1] - INTERVAL) + 1
    shift = float(slope[place - 1] * (n - place if is_growing else 1.0))
    return Onset(place, int(near[0]), int(near[-1]), shift, is_growing, float(gain[place - 1]))


def _gains(z: FloatArray, position: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit a constant and a rise from each place 1 to n - 1 on: what each wins, and its size.

    The rise is 1 from the place on, or grows by 1 a window if `position` counts windows.
    """
    n = len(z)
    places = np.arange(1, n)
    left = (n - places).astype(float)
    is_line = bool(position.any())
    # sums over the windows from the place on, of the rise h, of h^2, and of h times Z
    sum_z, sum_z_position = (np.cumsum(values[::-1])[::-1][1:] for values in (z, z * position))
    if is_line:
        h = left * (left + 1) / 2
        hh = left * (left + 1) * (2 * left + 1) / 6
        hz = sum_z_position - (places - 1) * sum_z
    else:
        h, hh, hz = left, left, sum_z
    covariance, variance = hz - h * z.mean(), hh - h**2 / n
    slope = covariance / np.maximum(variance, 1e-12)
    return np.where(slope > 0.0, slope * covariance, 0.0), slope
