"""A statistic that is set up for a reference, built in or a plugin: complete and checked.

A plugin may leave out what `statistic_interface` allows; it is added here. Errors of a plugin, and values
that cannot be used, become a `PluginError` that names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dqm.config import check_members, plugin_errors
from dqm.errors import PluginError, format_count
from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.samples import Sample
from dqm.reference.statistic_interface import (
    BatchStatistic,
    DrawnStatistic,
    Outcome,
    PreparedArrays,
    Resizable,
    Statistic,
    Stoppable,
    Thrower,
)

__all__ = ["CompletedOutcome", "LearnedRatio", "PreparedStatistic", "is_lower_bound", "is_number"]

_MEMBERS = ("t", "tau", "delta", "converged", "nuisances", "n_outside")


@dataclass(frozen=True, slots=True)
class CompletedOutcome:
    """Outcome of a statistic that gives a number, or an object without some members.

    Parameters
    ----------
    t, tau, delta, converged, nuisances, n_outside
        As in `Outcome`.
    own : object
        What the statistic gave.
    """

    t: float
    tau: float
    delta: float
    converged: bool
    nuisances: Mapping[str, NuisanceResult]
    n_outside: int
    own: object = field(repr=False, compare=False)


@runtime_checkable
class LearnedRatio(Protocol):
    """What an outcome has if its statistic learns a density ratio; without it there is no explanation."""

    @property
    def reference_weights(self) -> FloatArray:
        """Events each reference event stands for, at the fitted nuisance parameters."""

    @property
    def log_ratio_reference(self) -> FloatArray:
        """Learned log ratio f at the reference events."""


def is_lower_bound(outcome: Outcome) -> bool:
    """Tell whether the value of an outcome is a lower bound, because its test ended early."""
    return bool(getattr(outcome, "is_lower_bound", False))


@dataclass(frozen=True, slots=True, eq=False)
class PreparedStatistic:
    """A statistic set up for one reference, complete and checked.

    Parameters
    ----------
    label : str
        Name in messages.
    own : Statistic
        The object of the plugin.
    low, high : ndarray, shape (d,)
        Range of the reference.
    """

    label: str
    own: Statistic
    low: FloatArray
    high: FloatArray

    def evaluate(
        self,
        data: FloatArray,
        /,
        *,
        auxiliary: Mapping[str, float] | None = None,
        weights: FloatArray | None = None,
        masked: Sequence[int] = (),
    ) -> Outcome:
        """Test a window.

        Parameters
        ----------
        data : ndarray, shape (n_data, d)
            Raw features.
        auxiliary : mapping, optional
            Measured nuisance parameters.
        weights : ndarray, shape (n_data,), optional
            Events that each row stands for.
        masked : sequence of int
            Channels that count for nothing, of a test of channels.

        Raises
        ------
        InputError
            If the window cannot be tested.
        PluginError
            If the statistic raises, or gives what is not an outcome.
        """
        given: dict[str, Any] = {"auxiliary": auxiliary, "weights": weights, "masked": masked}
        needed = {name: value for name, value in given.items() if value is not None and len(value)}
        with plugin_errors(self.label):
            found = self.own.evaluate(data, **needed)
        return self._complete(found, data, weights)

    def evaluate_many(
        self,
        windows: Sequence[FloatArray],
        /,
        *,
        auxiliaries: Sequence[Mapping[str, float]] | None = None,
        weights: Sequence[FloatArray] | None = None,
    ) -> list[Outcome]:
        """Test several windows; raises as `evaluate`."""
        if not isinstance(self.own, BatchStatistic):
            return [
                self.evaluate(
                    window,
                    auxiliary=auxiliaries[place] if auxiliaries else None,
                    weights=weights[place] if weights else None,
                )
                for place, window in enumerate(windows)
            ]
        is_measured = auxiliaries is not None and any(auxiliaries)
        given: dict[str, Any] = {"auxiliaries": auxiliaries if is_measured else None, "weights": weights}
        needed = {name: value for name, value in given.items() if value is not None}
        with plugin_errors(self.label):
            found = list(self.own.evaluate_many(windows, **needed))
        return self._complete_all("evaluate_many", found, windows, weights)

    def evaluate_drawn(
        self,
        pool: FloatArray,
        rows: Sequence[NDArray[np.int64]],
        /,
        *,
        weights: Sequence[FloatArray] | None = None,
    ) -> list[Outcome]:
        """Test windows without measurements whose events are drawn from a pool.

        Parameters
        ----------
        pool : ndarray, shape (n_pool, d)
            Raw features.
        rows : sequence of ndarray of int, each of shape (n_data,)
            Places of the events of each window.
        weights : sequence of ndarray, each of shape (n_data,), optional
            Events that each row stands for.

        Raises
        ------
        PluginError
            As `evaluate`.
        """
        windows = [pool[one] for one in rows]
        if not isinstance(self.own, DrawnStatistic):
            return self.evaluate_many(windows, weights=weights)
        needed = {} if weights is None else {"weights": weights}
        with plugin_errors(self.label):
            found = list(self.own.evaluate_drawn(pool, rows, **needed))
        return self._complete_all("evaluate_drawn", found, windows, weights)

    def learned_ratio(self, outcome: object, n_reference: int) -> LearnedRatio | None:
        """Give the density ratio that an outcome has learned.

        Parameters
        ----------
        outcome : object
            What `evaluate` gave, or a part of it.
        n_reference : int
            Rows of the reference.

        Returns
        -------
        LearnedRatio or None
            None if the statistic learns no density ratio.

        Raises
        ------
        PluginError
            If its arrays do not have one finite number for each row of the reference.
        """
        own = outcome.own if isinstance(outcome, CompletedOutcome) else outcome
        with plugin_errors(self.label):
            if not isinstance(own, LearnedRatio):
                return None
            found = {
                "reference_weights": own.reference_weights,
                "log_ratio_reference": own.log_ratio_reference,
            }
        for name, values in found.items():
            if np.shape(values) != (n_reference,) or not np.isfinite(values).all():
                raise PluginError(
                    f"{self.label} gave {name!r} of shape {np.shape(values)}",
                    fix=f"It must have shape ({n_reference},), one finite number for each reference event",
                )
        return own

    @property
    def prepared(self) -> dict[str, NDArray[Any]]:
        """Arrays that the bundle keeps; none by default."""
        if not isinstance(self.own, PreparedArrays):
            return {}
        with plugin_errors(self.label):
            arrays = dict(self.own.prepared)
        for name, values in arrays.items():
            if not (isinstance(values, np.ndarray) and name.isidentifier() and name.islower()):
                raise PluginError(
                    f"{self.label} has {name!r} of type {type(values).__name__} in 'prepared'",
                    fix="It must map names in small letters to arrays of numpy",
                )
        return arrays

    @property
    def thrower(self) -> Thrower | None:
        """The object that throws the toys, if the statistic does so itself."""
        return self.own if isinstance(self.own, Thrower) else None

    def at(self, n_expected: float) -> PreparedStatistic | None:
        """Give the same for windows of another size; None if it must be made anew."""
        if not isinstance(self.own, Resizable):
            return None
        with plugin_errors(self.label):
            return self._with(self.own.at(n_expected))

    def stopping_above(self, t: float) -> PreparedStatistic:
        """Give the same, which may end early where its value is above t; itself if it cannot."""
        if not isinstance(self.own, Stoppable):
            return self
        with plugin_errors(self.label):
            return self._with(self.own.stopping_above(t))

    def _with(self, own: Statistic) -> PreparedStatistic:
        check_members(self.label, own, Statistic)
        return replace(self, own=own)

    def _complete_all(
        self,
        member: str,
        found: Sequence[object],
        windows: Sequence[FloatArray],
        weights: Sequence[FloatArray] | None,
    ) -> list[Outcome]:
        if len(found) != len(windows):
            raise PluginError(
                f"{self.label} gave {format_count(len(found), 'outcome')} for "
                f"{format_count(len(windows), 'window')} in {member!r}",
                fix="It must give one for each",
            )
        of_windows = weights if weights else [None] * len(windows)
        return [
            self._complete(one, window, counts)
            for one, window, counts in zip(found, windows, of_windows, strict=True)
        ]

    def _complete(self, found: object, data: FloatArray, weights: FloatArray | None) -> Outcome:
        """Check what a statistic gave for a window, and add what it left out."""
        t = found if is_number(found) else getattr(found, "t", None)
        if not is_number(t):
            what = f"an object of type {type(found).__name__}" if t is None else f"t = {t!r}"
            raise PluginError(
                f"{self.label} gave {what} for a window", fix="It must give a number, or an object with 't'"
            )
        converged = bool(getattr(found, "converged", True))
        if converged and not math.isfinite(t):
            raise PluginError(
                f"{self.label} gave t = {t} for a window of {format_count(len(data), 'row')}",
                fix="It must give a finite number, or converged = False",
            )
        if all(hasattr(found, name) for name in _MEMBERS):
            return found  # type: ignore[return-value]
        return CompletedOutcome(
            t=float(t),
            tau=float(getattr(found, "tau", t)),
            delta=float(getattr(found, "delta", 0.0)),
            converged=converged,
            nuisances=getattr(found, "nuisances", {}),
            n_outside=self._count_outside(found, data, weights),
            own=found,
        )

    def _count_outside(self, found: object, data: FloatArray, weights: FloatArray | None) -> int:
        if hasattr(found, "n_outside"):
            return int(found.n_outside)
        return Sample(data, weights).count_outside(self.low, self.high)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a plugin gave a number; a truth value does not count."""
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_)
