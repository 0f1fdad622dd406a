"""What a statistic must have, and what it may have: the interface of plugins of group ``dqm.statistics``.

A statistic is a class. It is called with the events of the reference, and by name with those of these
arguments that it takes:

===============  =============================================================================
``n_expected``   events expected in a window, N(R_0)
``centers``      some reference events, shape (m, d), drawn once for the bundle
``nuisances``    nuisance parameters of `dqm.nplm`; without it such a bundle is refused
``counts``       events that each row of the reference stands for; without it, no histograms
``prepared``     arrays that an earlier object had as `prepared`
``few_windows``  True where the object will test few windows only
``device``       "cpu" or "cuda"; without it, the CPU
===============  =============================================================================

All its other arguments are settings. Their names and values are in the bundle, on the page and in reports.
It may have these class attributes:

===================  =========================================================================
``usual_settings``   settings by name, with their values if none are given; by default those
                     of its arguments
``takes_nuisances``  whether it takes nuisance parameters; by default whether it has such an
                     argument
``tune``             class method that chooses the settings from the events: it is given them,
                     and by name those of `GIVEN_TO_TUNE` that it takes, and gives a dict
===================  =========================================================================

An object of the class has `evaluate`, see `Statistic`; everything else may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray, NuisanceResult

__all__ = [
    "GIVEN",
    "GIVEN_TO_TUNE",
    "BatchStatistic",
    "DrawnStatistic",
    "Outcome",
    "PreparedArrays",
    "Resizable",
    "SettingValue",
    "Settings",
    "Statistic",
    "Stoppable",
    "Thrower",
]

GIVEN = ("n_expected", "centers", "nuisances", "counts", "prepared", "few_windows", "device")
"""Arguments that a statistic is given by name if it takes them; they are not settings."""

GIVEN_TO_TUNE = (
    "n_reference",
    "n_expected",
    "n_centers",
    "rng",
    "kinds",
    "counts",
    "is_poisson",
    "given",
    "progress",
)
"""Arguments that ``tune`` is given by name if it takes them, beside the events."""

SettingValue = float | int | str | tuple[float, ...] | tuple[str, ...]

Settings = dict[str, SettingValue]
"""Arguments of a test, as the manifest keeps them."""


class Outcome(Protocol):
    """Result of a statistic for a window: a number, or an object with `t` and some of the other members."""

    @property
    def t(self) -> float:
        """Value ``tau - delta``; NaN if there is none."""

    @property
    def tau(self) -> float:
        """Value before the share of the nuisance parameters is subtracted; by default `t`."""

    @property
    def delta(self) -> float:
        """Share of the nuisance parameters; by default 0."""

    @property
    def converged(self) -> bool:
        """Whether the value can be used; by default True."""

    @property
    def nuisances(self) -> Mapping[str, NuisanceResult]:
        """Fitted nuisance parameters by name; by default none."""

    @property
    def n_outside(self) -> int:
        """Events where the reference has none; by default those outside its range in a feature."""


class Statistic(Protocol):
    """A test prepared for one reference; larger values depart further from it."""

    def evaluate(self, data: FloatArray, /) -> float | Outcome:
        """Test a window of shape (n_data, d), raw features; give t, or an object with t.

        It may take ``auxiliary``, the measured nuisance parameters by name, ``weights``, the events that each
        row stands for, and ``masked``, channels that count for nothing.
        """


@runtime_checkable
class BatchStatistic(Protocol):
    """A test that is quicker with several windows at once; other tests get them one by one."""

    def evaluate_many(self, windows: Sequence[FloatArray], /) -> Sequence[float | Outcome]:
        """Test several windows; give one outcome for each.

        It may take ``auxiliaries`` and ``weights``, one for each window.
        """


@runtime_checkable
class DrawnStatistic(Protocol):
    """A test that is quicker where many windows are drawn from the same events, as toys are."""

    def evaluate_drawn(
        self, pool: FloatArray, rows: Sequence[NDArray[np.int64]], /
    ) -> Sequence[float | Outcome]:
        """Test windows, given as the places of their events in a pool; give one outcome for each.

        It may take ``weights``, one array for each window. It is not asked about windows with measurements.
        """


@runtime_checkable
class Thrower(Protocol):
    """A test that can generate healthy windows: it throws its own toys, which are not drawn from a pool."""

    def throw(self, rng: np.random.Generator, /) -> tuple[FloatArray, FloatArray]:
        """Draw a healthy window: its rows, shape (n_data, d), and their counts, shape (n_data,)."""


@runtime_checkable
class Resizable(Protocol):
    """A test that other sizes of windows can share; other tests are made for each size."""

    def at(self, n_expected: float, /) -> Statistic:
        """Give the test for windows with this number of expected events."""


@runtime_checkable
class Stoppable(Protocol):
    """A test that can end early above a value; its outcomes may have `is_lower_bound`."""

    def stopping_above(self, t: float, /) -> Statistic:
        """Give the test for a user who does not distinguish values above t."""


@runtime_checkable
class PreparedArrays(Protocol):
    """A test with arrays that depend only on its reference; the bundle keeps them."""

    @property
    def prepared(self) -> Mapping[str, NDArray[np.generic]]:
        """Arrays by names in small letters; they come back as the argument ``prepared``."""
