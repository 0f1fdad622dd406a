"""Test statistics by name, from the entry points of group ``dqm.statistics``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Protocol, cast

from dqm.errors import BundleError
from dqm.events import FloatArray

__all__ = ["Outcome", "Statistic", "StatisticFactory", "find_statistic"]


class Outcome(Protocol):
    """What a statistic gives for a window."""

    @property
    def t(self) -> float:
        """Value; NaN if there is none."""

    @property
    def converged(self) -> bool:
        """Whether the value can be used."""


class Statistic(Protocol):
    """A test prepared for one reference; larger values depart further from it."""

    def evaluate(self, data: FloatArray, /) -> Outcome:
        """Test a window of shape (n_data, d), raw features."""

    def evaluate_many(self, windows: Sequence[FloatArray], /) -> Sequence[Outcome]:
        """Test several windows."""


StatisticFactory = Callable[..., Statistic]
"""``factory(reference, n_expected, centers=..., **settings)``."""


def find_statistic(name: str) -> StatisticFactory:
    """Load a statistic.

    Raises
    ------
    BundleError
        If none of that name is installed; the message lists those that are.
    """
    found = {point.name: point for point in entry_points(group="dqm.statistics")}
    if name not in found:
        raise BundleError(
            f"unknown statistic {name!r}", fix=f"Installed are: {', '.join(sorted(found)) or 'none'}"
        )
    return cast(StatisticFactory, found[name].load())
