"""Statistics as plugins: found by name, checked where they are loaded, and set up for a reference.

`dqm` uses a `PreparedStatistic`, which has everything that `statistic_interface` describes. Errors of a
plugin, and values that cannot be used, become a `PluginError` that names it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dqm.config import accepts, check_call, check_members, find_plugin, label_of, place_of, plugin_errors
from dqm.errors import BundleError, InputError, PluginError
from dqm.events import FloatArray
from dqm.nplm.samples import Sample
from dqm.reference.prepared_statistic import LEAVE_ALONE, PreparedStatistic, fingerprint
from dqm.reference.statistic_interface import (
    GIVEN,
    GIVEN_TO_TUNE,
    BatchStatistic,
    DrawnStatistic,
    Resizable,
    Settings,
    SettingValue,
    Statistic,
    Stoppable,
    Thrower,
)
from dqm.reference.statistic_outcome import is_number

__all__ = ["StatisticPlugin", "find_statistic"]

GROUP = "dqm.statistics"

_NEVER_SETTINGS = {*GIVEN, "weights", "rng"}
"""Arguments that people also give who call a test by hand."""

_REFUSED = {"nuisances": "nuisance parameters", "counts": "rows that stand for several events"}
"""Arguments that a statistic must not ignore."""


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
        """Its settings and their usual values in a bundle; `inspect.Parameter.empty`: must be given.

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
            If it has no such setting, or a value is not a number, text or tuple of these, or one is missing.
        PluginError
            If a usual value is none of these and not None.
        """
        for name in given:
            if name not in self.settings:
                others = getattr(self.factory, "given_to_tune", ()) if self.is_tunable else ()
                known = ", ".join([*self.settings, *others]) or "none"
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
            elif value is not None:
                raise PluginError(
                    f"{self.label} has the setting {name!r} with the usual value {value!r:.80}",
                    fix="It must be a number, a text, a tuple of one of these, or None: the bundle keeps it",
                )
        return chosen

    def tune(self, sample: Sample, kinds: Sequence[str], **numbers: object) -> Settings:
        """Let it choose its settings; raises `PluginError` if they cannot be stored."""
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
            If it raises, changes the reference, or lacks a member.
        """
        for name, what in _REFUSED.items():
            value = offered.get(name)
            if isinstance(value, Sequence | np.ndarray) and len(value) and not self.takes(name):
                raise InputError(f"{self.label} takes no {what}", fix="Choose the statistic kernel")
        taken = {name: value for name, value in offered.items() if value is not None and self.takes(name)}
        before = fingerprint([reference])
        with plugin_errors(self.label):
            own = self.factory(reference, **settings, **taken)
        if fingerprint([reference]) != before:
            place = place_of(getattr(self.factory, "__init__", None))
            raise PluginError(f"{self.label} changed the reference in place{place}", fix=LEAVE_ALONE)
        check_members(self.label, own, Statistic)
        for argument, needed in (("nuisances", "auxiliary"), ("counts", "weights")):
            is_taken = self.takes_nuisances if argument == "nuisances" else self.takes_counts
            if is_taken and not accepts(own.evaluate, needed):
                raise PluginError(
                    f"{self.label} takes {argument!r}, but its 'evaluate' has no argument {needed!r}",
                    fix="docs/plugins.md has the interface and complete examples",
                )
        for protocol in (BatchStatistic, DrawnStatistic, Thrower, Resizable, Stoppable):
            check_members(self.label, own, protocol, optional=True)
        names = tuple(one.name for one in taken.get("nuisances", ()))  # type: ignore[attr-defined]
        return PreparedStatistic(self.label, own, reference.min(axis=0), reference.max(axis=0), names)


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
        If it is not a class that takes a reference, or its `tune` cannot be called with events.
    """
    plugin = StatisticPlugin(name, find_plugin(GROUP, name, error=BundleError))
    check_call(plugin.label, plugin.factory, "CLASS(reference, ...)", 1, *_needed(plugin.factory))
    if plugin.is_tunable:
        tune = plugin.factory.tune  # type: ignore[attr-defined]
        given = [name for name in _needed(tune) if name in GIVEN_TO_TUNE]
        check_call(f"'tune' of {plugin.label}", tune, "tune(events, ...)", 1, *given)
    return plugin


def _needed(factory: object) -> list[str]:
    """List the arguments by name that it needs."""
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
        parts = tuple(float(one) if is_number(one) else one for one in value)
        if all(isinstance(one, str) for one in parts) or all(isinstance(one, float) for one in parts):
            return parts
    return None
