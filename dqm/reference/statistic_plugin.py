"""Statistics as plugins: found by name, checked where they are loaded, completed where they leave things out.

What `dqm` uses is a `PreparedStatistic`: it has everything that `statistic_interface` describes. Errors of a
plugin, and values that cannot be used, become a `PluginError` that names it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from dqm.config import accepts, check_call, check_members, find_plugin, label_of, plugin_errors
from dqm.errors import BundleError, InputError, PluginError, format_count
from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.samples import Sample
from dqm.reference.statistic_interface import (
    GIVEN,
    GIVEN_TO_TUNE,
    BatchStatistic,
    DrawnStatistic,
    Outcome,
    PreparedArrays,
    Resizable,
    Settings,
    SettingValue,
    Statistic,
    Stoppable,
    Thrower,
)

__all__ = ["CompletedOutcome", "PreparedStatistic", "StatisticPlugin", "find_statistic", "is_lower_bound"]

GROUP = "dqm.statistics"

_NEVER_SETTINGS = {*GIVEN, "weights", "rng"}
"""Arguments that people give who call a test by hand, too."""


@dataclass(frozen=True, slots=True)
class CompletedOutcome:
    """Outcome of a statistic that gives a number, or leaves some members out.

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
            If the statistic raises, or gives what is no outcome.
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
        """Test windows without measurements that are drawn from a pool.

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
        """What throws the toys, if the statistic does so itself."""
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
        t = found if _is_number(found) else getattr(found, "t", None)
        if not _is_number(t):
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


_REFUSED = {"nuisances": "nuisance parameters", "counts": "rows that stand for several events"}
"""What a statistic must not ignore."""

_MEMBERS = ("t", "tau", "delta", "converged", "nuisances", "n_outside")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_)


@dataclass(frozen=True)
class StatisticPlugin:
    """A statistic that is installed.

    Parameters
    ----------
    name : str
        Its entry point.
    factory : callable
        Its class, which `statistic_interface` describes.
    """

    name: str
    factory: Callable[..., Any]

    @property
    def label(self) -> str:
        """Name in messages."""
        return label_of(GROUP, self.name)

    @property
    def takes_nuisances(self) -> bool:
        """Whether it takes nuisance parameters; by default it does if it has such an argument."""
        return bool(getattr(self.factory, "takes_nuisances", self.takes("nuisances")))

    @property
    def takes_counts(self) -> bool:
        """Whether rows may stand for several events."""
        return self.takes("counts")

    @property
    def is_tunable(self) -> bool:
        """Whether it chooses its settings itself."""
        return hasattr(self.factory, "tune")

    @property
    def takes_kinds(self) -> bool:
        """Whether it asks what each feature is."""
        return self.is_tunable and accepts(self.factory.tune, "kinds")  # type: ignore[attr-defined]

    @property
    def is_quick_with_toys(self) -> bool:
        """Whether it tests windows drawn from a pool together, see `DrawnStatistic`."""
        return hasattr(self.factory, "evaluate_drawn")

    def takes(self, argument: str) -> bool:
        """Tell whether its class takes an argument by name."""
        return accepts(self.factory, argument)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its settings and their values in a bundle if none are given; `inspect.Parameter.empty`: needed.

        A class may have them as ``usual_settings``. By default they are its arguments that are not in
        `GIVEN`.
        """
        declared = getattr(self.factory, "usual_settings", None)
        if isinstance(declared, Mapping):
            return dict(declared)
        parameters = list(inspect.signature(self.factory).parameters.values())[1:]
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return {
            one.name: one.default
            for one in parameters
            if one.kind not in kinds and one.name not in _NEVER_SETTINGS
        }

    def choose_settings(self, given: Mapping[str, object], tuned: Settings | None = None) -> Settings:
        """Take the settings that are given, and the usual values of the others.

        Parameters
        ----------
        given : mapping
            Settings by name.
        tuned : dict, optional
            What `tune` gave.

        Raises
        ------
        InputError
            If it has no such setting, or a value is no number, text or tuple of these, or one is missing.
        """
        for name in given:
            if name not in self.settings:
                known = ", ".join(self.settings) or "none"
                raise InputError(f"{self.label} has no setting {name!r}", fix=f"Its settings are: {known}")
        chosen: Settings = dict(tuned or {})
        for name, usual in self.settings.items():
            if name in chosen:
                continue
            value = given.get(name, usual)
            if value is inspect.Parameter.empty:
                raise InputError(
                    f"{self.label} needs the setting {name!r}, which has no usual value",
                    fix=f"Give it: --set {name}=VALUE",
                )
            plain = _plain(value)
            if plain is not None:
                chosen[name] = plain
            elif name in given:
                raise InputError(
                    f"the setting {name!r} of {self.label} is {value!r}",
                    fix="Give a number, a text, or several of one of these",
                )
        return chosen

    def tune(self, sample: Sample, kinds: Sequence[str], **numbers: object) -> Settings:
        """Let it choose its settings; raises `PluginError` if they cannot be kept."""
        offered: dict[str, object] = {**numbers, "kinds": kinds, "counts": sample.counts}
        if sample.counts is None:
            del offered["counts"]
        tune: Callable[..., object] = self.factory.tune  # type: ignore[attr-defined]
        taken = {name: value for name, value in offered.items() if accepts(tune, name)}
        with plugin_errors(f"'tune' of {self.label}"):
            chosen = tune(sample.x, **taken)
        values = {k: _plain(v) for k, v in chosen.items()} if isinstance(chosen, Mapping) else None
        if values is None or None in values.values() or not all(isinstance(name, str) for name in values):
            raise PluginError(
                f"'tune' of {self.label} gave {chosen!r}"[:300],
                fix="It must give a dict of settings: numbers, texts, or tuples of these by name",
            )
        return values  # type: ignore[return-value]

    def check_settings(self, settings: Mapping[str, object], where: str) -> None:
        """Refuse settings that its class does not take; raises `BundleError`."""
        try:
            inspect.signature(self.factory).bind_partial(None, **settings)
        except TypeError as error:
            raise BundleError(
                f"its settings are none of the statistic {self.name!r} of this version: {error}",
                where=where,
                fix="Build the bundle again",
            ) from error

    def make(
        self, reference: FloatArray, settings: Mapping[str, object], **offered: object
    ) -> PreparedStatistic:
        """Set it up for a reference.

        Parameters
        ----------
        reference : ndarray, shape (n_reference, d)
            Reference events, raw.
        settings : mapping
            As the manifest has them.
        **offered
            Arguments of `GIVEN`; those that it does not take are left out.

        Returns
        -------
        PreparedStatistic

        Raises
        ------
        InputError
            If it does not take nuisance parameters or counts that there are, or refuses what it is given.
        PluginError
            If it raises, or lacks a member.
        """
        for name, what in _REFUSED.items():
            value = offered.get(name)
            if isinstance(value, Sequence | np.ndarray) and len(value) and not self.takes(name):
                raise InputError(f"{self.label} takes no {what}", fix="Choose the statistic kernel")
        taken = {name: value for name, value in offered.items() if value is not None and self.takes(name)}
        with plugin_errors(self.label):
            own = self.factory(reference, **settings, **taken)
        check_members(self.label, own, Statistic)
        for argument, needed in (("nuisances", "auxiliary"), ("counts", "weights")):
            if argument in taken and self.takes(argument) and not accepts(own.evaluate, needed):
                raise PluginError(
                    f"{self.label} takes {argument!r}, but its 'evaluate' has no argument {needed!r}",
                    fix="docs/plugins.md has the interface and complete examples",
                )
        for protocol in (BatchStatistic, DrawnStatistic, Thrower, Resizable, Stoppable):
            check_members(self.label, own, protocol, optional=True)
        return PreparedStatistic(self.label, own, reference.min(axis=0), reference.max(axis=0))


def find_statistic(name: str) -> StatisticPlugin:
    """Load a statistic and check its class.

    Parameters
    ----------
    name : str
        Entry point of the group ``dqm.statistics``.

    Raises
    ------
    BundleError
        If none of that name is installed.
    PluginError
        If it is no class that takes a reference, or its `tune` cannot be called with events.
    """
    plugin = StatisticPlugin(name, find_plugin(GROUP, name, error=BundleError))
    check_call(plugin.label, plugin.factory, "CLASS(reference, ...)", 1, *_needed(plugin.factory))
    if plugin.is_tunable:
        tune = plugin.factory.tune  # type: ignore[attr-defined]
        given = [name for name in _needed(tune) if name in GIVEN_TO_TUNE]
        check_call(f"'tune' of {plugin.label}", tune, "tune(events, ...)", 1, *given)
    return plugin


def _needed(factory: object) -> list[str]:
    """List the arguments by name that it does not do without."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1:]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.kind in by_name and one.default is one.empty]


def _plain(value: object) -> SettingValue | None:
    """Give a value as the manifest keeps it; None if it cannot."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, np.number):
        return _plain(value.item())
    if isinstance(value, tuple | list | np.ndarray):
        parts = tuple(float(one) if _is_number(one) else one for one in value)
        if all(isinstance(one, str) for one in parts) or all(isinstance(one, float) for one in parts):
            return parts
    return None
