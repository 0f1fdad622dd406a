"""Kinds of features, and how the tests look at each: smooth numbers, heavy tails, steps, categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqm.errors import InputError
from dqm.events import FloatArray

__all__ = ["KINDS", "FeatureKind", "FeatureView", "ordered_features", "views_of"]

KINDS = {
    "smooth": "numbers that are taken as they are",
    "heavy": "numbers with far values: taken as a logarithm on both sides of the median",
    "steps": "numbers with few values or in steps: each value has a share, too",
    "categories": "names: two values are the same or not, and have no distance",
}
"""Kinds of features."""

MOST_CLASSES = 256
"""Most values of a feature whose shares are tested one by one."""

APART = math.sqrt(2.0)
"""Distance of two categories, and of a special value from all others: as that of two usual events."""


@dataclass(frozen=True, slots=True)
class FeatureKind:
    """What one feature is.

    Parameters
    ----------
    name : str
        One of `KINDS`.
    special : tuple of float
        Values that are a category of their own beside the rest, such as -999 for "not measured".

    Raises
    ------
    InputError
        If there is no such kind, or a special value is not finite or stands beside categories.
    """

    name: str = "smooth"
    special: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise InputError(f"no kind of features {self.name!r}", fix=f"Choose one of {', '.join(KINDS)}")
        if self.special and (self.name == "categories" or not np.isfinite(self.special).all()):
            raise InputError(
                f"special values {self.special} of {self.name}", fix="Give finite values of numbers"
            )

    @classmethod
    def parse(cls, text: str) -> FeatureKind:
        """Read ``KIND`` or ``KIND:VALUE,VALUE``; raises `InputError`."""
        name, _, values = text.partition(":")
        try:
            special = tuple(float(value) for value in values.split(",")) if values else ()
        except ValueError as error:
            raise InputError(f"{values!r} are not numbers", fix="Write for example heavy:-999,0") from error
        return cls(name.strip(), special)

    def __str__(self) -> str:
        """Write what `parse` reads."""
        return self.name + (":" + ",".join(f"{value:.17g}" for value in self.special) if self.special else "")

    @property
    def is_ordered(self) -> bool:
        """Whether its values have an order and distances."""
        return self.name != "categories"

    @property
    def is_plain(self) -> bool:
        """Whether its values are taken as they are, and none is special."""
        return self.name == "smooth" and not self.special

    @property
    def has_classes(self) -> bool:
        """Whether single values have shares that are tested."""
        return self.name in ("steps", "categories") or bool(self.special)


def ordered_features(kinds: Sequence[str], n_features: int) -> list[bool]:
    """Say which features have an order, and so must not be constant in a reference.

    Parameters
    ----------
    kinds : sequence of str
        What each feature is; empty for a test that takes all as they are.
    n_features : int
        How many there are.
    """
    return [FeatureKind.parse(kind).is_ordered for kind in kinds] or [True] * n_features


class FeatureView:
    """Columns in which kernels and plain tests look at one feature, learned from the reference.

    Parameters
    ----------
    kind : FeatureKind
        What it is.
    values : ndarray, shape (n_reference,)
        The feature in the reference, raw.
    shares : ndarray, shape (n_reference,)
        Weights that sum to 1.
    """

    def __init__(self, kind: FeatureKind, values: FloatArray, shares: FloatArray) -> None:
        self.kind = kind
        self.special = np.array(kind.special)
        self.middle, self.half_width = _spread(self.usual(values))
        line = self._straighten(values)
        self._mean = float(shares @ line)
        self._scale = float(np.sqrt(shares @ (line - self._mean) ** 2))
        self.classes = self._find_classes(values)

    def usual(self, values: FloatArray) -> FloatArray:
        """Give the values that are not special."""
        return values[~np.isin(values, self.special)] if len(self.special) else values

    def line(self, values: FloatArray) -> FloatArray:
        """Give the coordinate of each value on a line, shape (n,); special values are in the middle."""
        line = self._straighten(values)
        line -= self._mean
        if self._scale > 0:
            line /= self._scale
        return line

    def columns(self, values: FloatArray) -> FloatArray:
        """Give the coordinates for kernels, shape (n, k); two usual events are `APART` on average."""
        columns = []
        if self.kind.is_ordered and self._scale > 0:
            columns.append(self.line(values))
            columns += [APART * (values == special) for special in self.special]
        elif len(self.classes) > 1:
            columns += [1.0 * (values == value) for value in self.classes]
        return np.column_stack(columns) if columns else np.empty((len(values), 0))

    def codes(self, values: FloatArray) -> NDArray[np.int64]:
        """Give the number of the class of each value; `len(classes)` for all others."""
        order = np.searchsorted(self.classes, values)
        order[order == len(self.classes)] = 0
        return np.where(self.classes[order] == values, order, len(self.classes))

    def _straighten(self, values: FloatArray) -> FloatArray:
        line = np.where(np.isin(values, self.special), self.middle, values) if len(self.special) else values
        line = line - self.middle
        return np.arcsinh(line / self.half_width) if self.kind.name == "heavy" else line

    def _find_classes(self, values: FloatArray) -> FloatArray:
        """Give the values that have shares: all of them, the most frequent of many, or the special ones."""
        if not self.kind.has_classes:
            return np.empty(0)
        if self.kind.name not in ("steps", "categories"):
            return np.sort(self.special)
        found, counts = np.unique(values, return_counts=True)
        return np.sort(found[np.argsort(-counts, kind="stable")[:MOST_CLASSES]])


def _spread(values: FloatArray) -> tuple[float, float]:
    """Give the median and half the width of the middle 68 %, or another measure of spread if that is 0."""
    if not len(values):
        return 0.0, 1.0
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    return float(middle), float(0.5 * (high - low) or values.std() or 1.0)


def views_of(kinds: Sequence[FeatureKind], reference: FloatArray, shares: FloatArray) -> list[FeatureView]:
    """Make the view of each feature.

    Parameters
    ----------
    kinds : sequence of FeatureKind
        One for each feature.
    reference : ndarray, shape (n_reference, d)
        Reference events, raw.
    shares : ndarray, shape (n_reference,)
        Weights that sum to 1.
    """
    return [FeatureView(kind, column, shares) for kind, column in zip(kinds, reference.T, strict=True)]
