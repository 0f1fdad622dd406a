"""A statistic that is set up for a reference, built in or a plugin: complete and checked.

A plugin may leave out what `statistic_interface` allows; it is added here. Errors of a plugin, and values
that cannot be used, become a `PluginError` that names it. So does a window that it changes in place: its
events are also counted, explained and kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dqm.config import check_members, place_of, plugin_errors
from dqm.errors import PluginError, format_count
from dqm.events import FloatArray
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
from dqm.reference.statistic_outcome import LearnedRatio, complete_outcome, read_ratio

__all__ = ["LEAVE_ALONE", "PreparedStatistic", "fingerprint", "is_lower_bound"]

LEAVE_ALONE = "Let it work on a copy: dqm goes on with these arrays"
"""What to do about a statistic that changes an array in place."""


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
    nuisances : tuple of str
        Nuisance parameters that it was given.
    """

    label: str
    own: Statistic
    low: FloatArray
    high: FloatArray
    nuisances: tuple[str, ...] = ()

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
            If the statistic raises, changes the window, or gives what is not an outcome.
        """
        given: dict[str, Any] = {"auxiliary": auxiliary, "weights": weights, "masked": masked}
        needed = {name: value for name, value in given.items() if value is not None and len(value)}
        before = fingerprint([data])
        with plugin_errors(self.label):
            found = self.own.evaluate(data, **needed)
        self._refuse_change("evaluate", "the window", before, [data])
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
        before = fingerprint(windows)
        with plugin_errors(self.label):
            found = _listed(self.own.evaluate_many(windows, **needed))
        self._refuse_change("evaluate_many", "a window", before, windows)
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
        before = fingerprint([pool])
        with plugin_errors(self.label):
            found = _listed(self.own.evaluate_drawn(pool, rows, **needed))
        self._refuse_change("evaluate_drawn", "the pool", before, [pool])
        return self._complete_all("evaluate_drawn", found, windows, weights)

    def learned_ratio(self, outcome: object, n_reference: int) -> LearnedRatio | None:
        """Give the density ratio that an outcome has learned, as `read_ratio`."""
        return read_ratio(self.label, outcome, n_reference)

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
    def throws_toys(self) -> bool:
        """Whether the statistic throws its toys itself."""
        return isinstance(self.own, Thrower)

    def throw(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw a healthy window, as `Thrower`; raises `PluginError` if it gives something else."""
        thrower = cast(Thrower, self.own)
        with plugin_errors(self.label):
            found = thrower.throw(rng)
        parts = found if isinstance(found, tuple) else ()
        shapes = [one.shape for one in parts if isinstance(one, np.ndarray)]
        if [len(shape) for shape in shapes] != [2, 1] or shapes[0][0] != shapes[1][0]:
            raise PluginError(
                f"{self.label} gave {found!r:.80} in 'throw'{place_of(thrower.throw)}",
                fix="It must give rows of shape (n_data, d), and their counts, of shape (n_data,)",
            )
        return found

    def at(self, n_expected: float) -> PreparedStatistic | None:
        """Give the same for windows of another size; None if it must be made anew."""
        if not isinstance(self.own, Resizable):
            return None
        with plugin_errors(self.label):
            return self._with("at", self.own.at(n_expected))

    def stopping_above(self, t: float) -> PreparedStatistic:
        """Give the same, which may end early where its value is above t; itself if it cannot."""
        if not isinstance(self.own, Stoppable):
            return self
        with plugin_errors(self.label):
            return self._with("stopping_above", self.own.stopping_above(t))

    def _with(self, member: str, own: Statistic) -> PreparedStatistic:
        check_members(f"what {member!r} of {self.label} gave, {own!r:.80},", own, Statistic)
        return replace(self, own=own)

    def _complete_all(
        self,
        member: str,
        found: object,
        windows: Sequence[FloatArray],
        weights: Sequence[FloatArray] | None,
    ) -> list[Outcome]:
        n_windows = format_count(len(windows), "window")
        if not isinstance(found, list):
            gave = f"an object of type {type(found).__name__}"
        elif len(found) != len(windows):
            gave = format_count(len(found), "outcome")
        else:
            of_windows = weights if weights else [None] * len(windows)
            return [
                self._complete(one, window, counts)
                for one, window, counts in zip(found, windows, of_windows, strict=True)
            ]
        raise PluginError(
            f"{self.label} gave {gave} for {n_windows} in {member!r}{place_of(getattr(self.own, member))}",
            fix="It must give one for each",
        )

    def _complete(self, found: object, data: FloatArray, weights: FloatArray | None) -> Outcome:
        return complete_outcome(
            self.label,
            found,
            n_rows=len(data),
            nuisances=self.nuisances,
            count_outside=lambda: Sample(data, weights).count_outside(self.low, self.high),
        )

    def _refuse_change(self, member: str, what: str, before: int, arrays: Iterable[FloatArray]) -> None:
        if fingerprint(arrays) != before:
            raise PluginError(
                f"{self.label} changed {what} in place in {member!r}{place_of(getattr(self.own, member))}",
                fix=LEAVE_ALONE,
            )


def fingerprint(arrays: Iterable[FloatArray]) -> int:
    """Give a number that is another one if a value in the arrays is."""
    found = 0
    for values in arrays:
        found = zlib.crc32(np.ascontiguousarray(values).data, found)
    return found


def _listed(found: object) -> object:
    """List what a plugin gave for several windows, if this can be listed; a generator runs here."""
    return list(found) if isinstance(found, Iterable) else found
