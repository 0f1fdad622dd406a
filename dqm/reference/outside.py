"""Events beyond the range of the reference: how many there are by chance, and their p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from dqm.alarm import describe_p
from dqm.events import SMALLEST_P, FloatArray

__all__ = ["SHARE", "Outside", "OutsideTest"]

SHARE = 0.02
"""Share of the false alarms that this test may add to those of the shape: its p is divided by it."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The side of a feature on which most events are beyond the reference.

    Parameters
    ----------
    feature : str
        Name of the feature.
    is_above : bool
        Whether they are above the largest value of the reference, or below its smallest.
    edge : float
        That value.
    n_outside : int
        Events beyond it.
    p : float
        Probability of as many or more on any side of any feature in healthy windows, in (0, 1].
    """

    feature: str
    is_above: bool
    edge: float
    n_outside: int
    p: float

    def __str__(self) -> str:
        """Say it in one line, with its p."""
        return f"{self.place} ({describe_p(self.p)})"

    @property
    def place(self) -> str:
        """Say which events these are."""
        side = "above" if self.is_above else "below"
        events = "1 event has" if self.n_outside == 1 else f"{self.n_outside} events have"
        return f"{events} {self.feature} {side} {self.edge:.6g}, where the reference has none"


class OutsideTest:
    """Test of the number of events beyond a reference.

    If a window and a reference have the same distribution, all orders of their events are equally probable.
    So at least k of the n events of the window are above all N of the reference with the probability ``prod_i
    (n - i) / (N + n - i)``, i from 0 to k - 1, whatever the distribution is; with less if values repeat. All
    sides of all features count (Bonferroni).

    Parameters
    ----------
    reference : ndarray, shape (n_reference, d)
        The reference, raw.
    features : tuple of str
        Names of the columns.
    """

    def __init__(self, reference: FloatArray, features: tuple[str, ...]) -> None:
        self._features = features
        self._n_reference = len(reference)
        self._low, self._high = reference.min(axis=0), reference.max(axis=0)

    def evaluate(self, x: FloatArray) -> Outside:
        """Test a window, raw, shape (n_events, d), of at least one event."""
        counts = np.stack([(x < self._low).sum(axis=0), (x > self._high).sum(axis=0)])
        side, feature = np.unravel_index(int(counts.argmax()), counts.shape)
        k = int(counts[side, feature])
        n = len(x)
        total = len(x) + self._n_reference
        log_p = (special.gammaln([n + 1, total - k + 1]) - special.gammaln([n - k + 1, total + 1])).sum()
        p = float(np.clip(2 * len(self._features) * np.exp(log_p), SMALLEST_P, 1.0))
        edge = (self._high if side else self._low)[feature]
        return Outside(self._features[int(feature)], bool(side), float(edge), k, p)
