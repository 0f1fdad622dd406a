"""Bursts: many hits of one channel in one window, in changing places, in a healthy run.

Trains of afterpulses, sparks and showers give a channel a burst of hits. The over-dispersion of a channel
does not predict it, because the next burst is in another channel. So bursts are learned from all channels
together: how often a window of a channel has one, and how large they are. Their size beyond the smallest one
found is taken as exponential (peaks over a threshold: Davison and Smith, J. R. Stat. Soc. B 52 (1990) 393).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray
from dqm.nplm.channels.tails import two_sided

__all__ = ["Bursts", "find_bursts"]

BoolArray = NDArray[np.bool_]

BY_CHANCE = 0.01
"""Expected number of bursts found in a whole run that has none."""

RESTLESS_SHARE = 0.1
"""A channel with a larger share of windows with a burst is restless, and says nothing about the others."""


@dataclass(frozen=True, slots=True)
class Bursts:
    """How often and how large.

    Parameters
    ----------
    chance : float
        Probability that a channel has a burst in a window, [0, 1); 0 if the run had none.
    least : float
        Hits of the smallest burst, > 0.
    scale : float
        Mean of the hits beyond it, > 0.
    """

    chance: float = 0.0
    least: float = 1.0
    scale: float = 1.0

    @classmethod
    def from_array(cls, values: FloatArray) -> Self:
        """Take it from the array that a bundle keeps."""
        return cls(*map(float, values))

    @property
    def array(self) -> FloatArray:
        """Its numbers."""
        return np.array([self.chance, self.least, self.scale])

    @classmethod
    def learn(cls, sizes: FloatArray, n_cells: int) -> Self:
        """Learn from the sizes of all bursts in a number of windows of channels."""
        n = len(sizes)
        if not n:
            return cls()
        least = float(sizes.min())
        scale = float((sizes - least).sum()) / (n - 1) if n > 1 else least
        return cls((n + 1.0) / n_cells, least, max(scale, 1.0))

    def tail(self, size: FloatArray) -> FloatArray:
        """Probability of a burst of this size or more in a window of a channel."""
        return np.asarray(self.chance * np.exp(-np.maximum(0.0, size - self.least) / self.scale))

    def throw(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw the bursts of n channels in a window."""
        sizes = self.least + rng.exponential(self.scale, n)
        return np.rint(np.where(rng.random(n) < self.chance, sizes, 0.0))


def find_bursts(hits: FloatArray, fitted: FloatArray, spread: FloatArray) -> BoolArray:
    """Find the windows in which a channel has far more hits than its variation explains.

    Parameters
    ----------
    hits, fitted : ndarray, shape (n_windows, n_channels)
        Hits, and hits expected.
    spread : ndarray, shape (n_channels,)
        Relative variance beyond Poisson.

    Returns
    -------
    ndarray of bool, shape (n_windows, n_channels)
        By chance there is one in `BY_CHANCE` of all runs. None in a restless channel.
    """
    p = two_sided(hits.ravel(), fitted.ravel(), np.broadcast_to(spread, hits.shape).ravel())
    found = (p.reshape(hits.shape) < BY_CHANCE / hits.size) & (hits > fitted)
    n_each = found.sum(axis=0)
    return np.asarray(found & ~((n_each > 2) & (n_each > RESTLESS_SHARE * len(hits))))
