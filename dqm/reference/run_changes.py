"""Where in time a run changes: stretches of it in which a feature is distributed as nowhere else.

Windows of a part of the run are compared with a reference of all other parts. If half of the run is of
another kind, every part is equally unlike the others, and none of them is to be named. So the parts are
compared directly here: each stretch of them with the rest, by each feature alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from dqm.errors import InputError
from dqm.events import FloatArray

__all__ = ["RunChange", "find_change"]

MEAN_DISTANCE = math.sqrt(math.pi / 2.0) * math.log(2.0)
"""Mean Kolmogorov-Smirnov distance by chance, times the root of the number of events: mean of the Kolmogorov
distribution."""


@dataclass(frozen=True, slots=True)
class RunChange:
    """The stretch of a run that differs most from the rest, and the feature that shows it.

    Parameters
    ----------
    first, last : int
        Its parts, from 0, both included.
    n_parts : int
        Parts of the run.
    feature : str
        Name of the feature.
    distance : float
        Kolmogorov-Smirnov distance of stretch and rest, 0 to 1.
    chance : float
        Probability of such a distance in a steady run, for any stretch and feature.
    """

    first: int
    last: int
    n_parts: int
    feature: str
    distance: float
    chance: float

    def __str__(self) -> str:
        """Say it in a part of a sentence."""
        return f"{self.feature} differs most between {self._parts} of {self.n_parts} and the rest"

    @property
    def place(self) -> str:
        """Where to look: the time of a step, or the stretch."""
        if self.first == 0:
            return f"the time between part {self.last + 1} and part {self.last + 2} of {self.n_parts}"
        return f"{self._parts} of {self.n_parts}"

    @property
    def _parts(self) -> str:
        if self.first == self.last:
            return f"part {self.first + 1}"
        return f"parts {self.first + 1} to {self.last + 1}"

    def in_window(self, n_events: float) -> float:
        """Give the distance in units of that which a window of `n_events` has by chance, on average."""
        return self.distance * math.sqrt(n_events) / MEAN_DISTANCE


def find_change(parts: Sequence[FloatArray], features: Sequence[str]) -> RunChange:
    """Compare each stretch of consecutive parts with the rest, and give the most significant one.

    Parameters
    ----------
    parts : sequence of ndarray, shape (n_events, d)
        Parts of a run in the order of time, two or more.
    features : sequence of str
        Names of the columns.

    Returns
    -------
    RunChange
        Its `chance` counts all stretches and features (Bonferroni); values that repeat make it larger.

    Raises
    ------
    InputError
        If there are fewer than two parts.

    References
    ----------
    The asymptotic distribution of the distance: Smirnov (1948), doi:10.1214/aoms/1177730256.
    """
    n_parts = len(parts)
    if n_parts < 2:
        raise InputError(f"{n_parts} part of a run cannot change", fix="Give two or more")
    # a stretch at the end of the run and one at its start are the same split: the latter stand for both
    stretches = [(i, j) for i in range(n_parts) for j in range(i, n_parts - 1)]
    found = [
        _compare(parts, feature, first, last) for feature in range(len(features)) for first, last in stretches
    ]
    distances, weights = np.array(found).T
    scaled = distances * weights
    best = int(scaled.argmax())
    feature, place = divmod(best, len(stretches))
    first, last = stretches[place]
    chance = min(1.0, len(found) * float(special.kolmogorov(scaled[best])))
    return RunChange(first, last, n_parts, features[feature], float(distances[best]), chance)


def _compare(parts: Sequence[FloatArray], feature: int, first: int, last: int) -> tuple[float, float]:
    """Give the distance of a stretch and the rest, and the root of the events that it counts for."""
    inside = np.concatenate([part[:, feature] for part in parts[first : last + 1]])
    rest = np.concatenate([part[:, feature] for part in (*parts[:first], *parts[last + 1 :])])
    distance = float(stats.ks_2samp(inside, rest, method="asymp").statistic)
    return distance, math.sqrt(len(inside) * len(rest) / (len(inside) + len(rest)))
