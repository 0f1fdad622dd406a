"""Plain tests of one feature: the largest distance of the distributions, and the shares of single values.

Their p are the textbook values for a reference of finite size; they are approximate if values repeat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from dqm.errors import InputError, format_count
from dqm.events import FloatArray
from dqm.nplm.feature_kind import FeatureView

__all__ = ["OrderTest", "PlainScale", "SettingTest", "SharesTest"]

SettingTest = Literal["kernel", "order", "share", "shares", "pulls"]

SMALLEST = 1e-290
"""p whose logarithm is taken from float64; smaller ones have an asymptotic formula, or this value."""

TUNED_P = 0.05
"""Share of healthy windows that have a smaller p by each plain test, once it is corrected."""


@dataclass(frozen=True, slots=True, eq=False)
class PlainScale:
    """Makes the log p of plain tests comparable with those of kernels; p is too large where values repeat.

    The small p are multiplied by a factor. A p of 1 stays 1, and between these the factor grows with log p:
    a test that says nothing about most windows must not have the smallest p of all. For the same reason no
    factor is smaller than the p that 5 % of healthy windows have: of a constant feature, all have 1.

    Parameters
    ----------
    shift : ndarray, shape (n,)
        What is added to each log p at the quantile and below it.
    quantile : ndarray, shape (n,), or None
        Quantile `TUNED_P` of each log p in healthy windows; None: the shift is added everywhere.
    """

    shift: FloatArray
    quantile: FloatArray | None

    @classmethod
    def measure(cls, healthy: FloatArray) -> PlainScale:
        """Learn it from the log p of healthy windows, shape (n_windows, n)."""
        quantile = np.quantile(healthy, TUNED_P, axis=0)
        return cls(np.maximum(math.log(TUNED_P) - quantile, quantile), quantile)

    @classmethod
    def check(
        cls, n: int, shift: Sequence[float] | None, quantile: Sequence[float] | None = None
    ) -> PlainScale:
        """Take the settings of n plain tests; raises `InputError` if they are not n finite numbers."""
        return cls(
            np.zeros(n) if shift is None else _check("plain_shift", n, shift),
            None if quantile is None else _check("plain_quantile", n, quantile),
        )

    @property
    def settings(self) -> dict[str, tuple[float, ...]]:
        """What `check` takes, by the names of the test's arguments."""
        given = {"plain_shift": self.shift, "plain_quantile": self.quantile}
        return {name: tuple(values.tolist()) for name, values in given.items() if values is not None}

    def correct(self, log_p: FloatArray) -> FloatArray:
        """Correct the log p of a window, shape (n,)."""
        if self.quantile is None:
            return log_p + self.shift
        part = np.ones_like(log_p)
        np.divide(log_p, self.quantile, out=part, where=self.quantile < 0.0)
        corrected: FloatArray = log_p + self.shift * np.clip(part, 0.0, 1.0)
        return corrected


def _check(name: str, n: int, given: Sequence[float]) -> FloatArray:
    values = np.asarray(given, dtype=float)
    if values.shape != (n,) or not np.isfinite(values).all():
        raise InputError(
            f"{name} has shape {values.shape} for {format_count(n, 'plain test')}",
            fix="Give a finite number for each, as SeveralTest.tune does",
        )
    return values


class OrderTest:
    """Kolmogorov-Smirnov test of one feature; ties are allowed and make it cautious.

    Parameters
    ----------
    view : FeatureView
        The feature, whose special values are left out.
    values : ndarray, shape (n_reference,)
        The feature in the reference, raw.
    shares : ndarray, shape (n_reference,)
        Weights that sum to 1.
    """

    tests: tuple[SettingTest, ...] = ("order",)
    """Name of each p, as in `Setting`."""

    def __init__(self, view: FeatureView, values: FloatArray, shares: FloatArray) -> None:
        self._view = view
        usual = np.flatnonzero(~np.isin(values, view.special))
        self._rows = usual[np.argsort(values[usual], kind="stable")]
        self._values = values[self._rows]
        self._weigh(shares)

    def weighed(self, shares: FloatArray) -> OrderTest:
        """Give the same test for a reference with other weights, which sum to 1."""
        other = copy(self)
        other._weigh(shares)
        return other

    def _weigh(self, shares: FloatArray) -> None:
        weights = shares[self._rows]
        self._below = np.concatenate([[0.0], np.cumsum(weights) / weights.sum()]) if len(weights) else None
        self._n_reference = weights.sum() ** 2 / (weights**2).sum() if len(weights) else 0.0

    def log_p(self, values: FloatArray) -> float:
        """Give the logarithm of p of the feature in a window, shape (n_data,)."""
        x = np.sort(self._view.usual(values))
        if not len(x) or self._below is None:
            return 0.0
        n = len(x)
        above = np.searchsorted(x, x, "right") / n - self._below[np.searchsorted(self._values, x, "right")]
        below = self._below[np.searchsorted(self._values, x, "left")] - np.searchsorted(x, x, "left") / n
        root = np.sqrt(n * self._n_reference / (n + self._n_reference))
        # Stephens' correction for small samples
        distance = (root + 0.12 + 0.11 / root) * max(float(above.max()), float(below.max()))
        p = float(special.kolmogorov(distance))
        return float(np.log(p)) if p > SMALLEST else float(np.log(2.0) - 2.0 * distance**2)


class SharesTest:
    """Tests of the shares of single values: the one that departs most, and all together.

    Parameters
    ----------
    view : FeatureView
        The feature; values outside its classes are one more class.
    values, shares : ndarray, shape (n_reference,)
        As in `OrderTest`.
    """

    tests: tuple[SettingTest, ...] = ("share", "shares")
    """Name of each p, as in `Setting`."""

    def __init__(self, view: FeatureView, values: FloatArray, shares: FloatArray) -> None:
        self._view = view
        self._n_classes = len(view.classes) + 1
        self._codes = view.codes(values)
        self._weigh(shares)

    def weighed(self, shares: FloatArray) -> SharesTest:
        """Give the same test for a reference with other weights, which sum to 1."""
        other = copy(self)
        other._weigh(shares)
        return other

    def _weigh(self, shares: FloatArray) -> None:
        self._n_reference = float(1.0 / (shares**2).sum())
        weights = shares * self._n_reference
        self._known = np.bincount(self._codes, weights=weights, minlength=self._n_classes)

    def log_p(self, values: FloatArray) -> tuple[float, float]:
        """Give the logarithms of p of the class that departs most, and of all classes together.

        Given the number m of events of a class in window and reference together, that in the window is
        hypergeometric: m of N + n events, of which n are in the window. Two binomial distributions have
        longer tails, and the shorter of these is taken: one is close for rare classes, the other for a large
        reference. In the chi-squared test of all classes, those that are expected less than once count as
        one.

        References
        ----------
        Hoeffding (1963), doi:10.1080/01621459.1963.10500830, section 6, for these bounds.
        """
        counts = self._count(values)
        both = counts + self._known
        n_free = max(1, int((both > 0).sum()) - 1)  # shares sum to 1: two classes are one question
        p = 2.0 * n_free * self._tails(counts).min()
        return float(np.log(max(min(p, 1.0), SMALLEST))), self._all(counts, len(values), both)

    def describe(self, values: FloatArray) -> str:
        """Say which value departs most in a window: its events, and those expected."""
        counts = self._count(values)
        worst = int(self._tails(counts).argmin())
        expected = self._known[worst] * len(values) / self._n_reference
        known = worst < len(self._view.classes)
        value = f"the value {self._view.classes[worst]:g}" if known else "other values"
        return f"{value} in {counts[worst]:.0f} of {len(values)} events, where {expected:.3g} are expected"

    def _count(self, values: FloatArray) -> FloatArray:
        return np.bincount(self._view.codes(values), minlength=self._n_classes).astype(np.float64)

    def _tails(self, counts: FloatArray) -> FloatArray:
        """Give the smaller of the tail probabilities of each class."""
        n = counts.sum()
        both = counts + self._known
        total = n + self._n_reference
        upper = np.minimum(_upper(counts, both, n / total), _upper(counts, float(n), both / total))
        others = n - counts
        rest = total - both
        lower = np.minimum(_upper(others, rest, n / total), _upper(others, float(n), rest / total))
        smaller: FloatArray = np.minimum(upper, lower)
        return smaller

    def _all(self, counts: FloatArray, n: int, both: FloatArray) -> float:
        n_reference = self._n_reference
        is_rare = both * n < n + n_reference
        cells = np.append(counts[~is_rare], counts[is_rare].sum())
        known = np.append(self._known[~is_rare], self._known[is_rare].sum())
        filled = cells + known > 0
        cells, known = cells[filled], known[filled]
        if len(cells) < 2:
            return 0.0
        ratio = np.sqrt(n_reference / n)
        chi2 = float(((ratio * cells - known / ratio) ** 2 / (cells + known)).sum())
        return float(np.log(max(special.chdtrc(len(cells) - 1, chi2), SMALLEST)))


def _upper(k: FloatArray, n: FloatArray | float, share: FloatArray | float) -> FloatArray:
    """Probability of k or more of n, each with a probability."""
    # sums of weights may be off by rounding
    p = special.betainc(np.maximum(k, 1.0), np.maximum(n - k, 0.0) + 1.0, np.clip(share, 0.0, 1.0))
    found: FloatArray = np.where(k > 0, p, 1.0)
    return found
