"""Test statistics by name, from the entry points of group ``dqm.statistics``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Protocol, cast, runtime_checkable

import numpy as np

from dqm.config import find_plugin
from dqm.errors import BundleError
from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.samples import Sample
from dqm.reference.manifest import WindowKind
from dqm.reference.nuisances import nuisances_for
from dqm.reference.stored_bundle import StoredBundle

__all__ = [
    "CountedStatistic",
    "Outcome",
    "Resizable",
    "Settings",
    "Statistic",
    "StatisticFactory",
    "Stoppable",
    "Thrower",
    "find_statistic",
    "is_lower_bound",
    "prepare_for_split",
    "prepare_statistic",
    "resize",
    "stop_above",
]


class Outcome(Protocol):
    """What a statistic gives for a window."""

    @property
    def t(self) -> float:
        """Value ``tau - delta``; NaN if there is none."""

    @property
    def tau(self) -> float:
        """Value before the nuisance parameters' share is taken off; t itself if there are none."""

    @property
    def delta(self) -> float:
        """Share of the nuisance parameters; 0 if there are none."""

    @property
    def converged(self) -> bool:
        """Whether the value can be used."""

    @property
    def nuisances(self) -> Mapping[str, NuisanceResult]:
        """Fitted nuisance parameters by name."""

    @property
    def n_outside(self) -> int:
        """Events where the reference has none."""


class Statistic(Protocol):
    """A test prepared for one reference; larger values depart further from it."""

    def evaluate(self, data: FloatArray, /, *, auxiliary: Mapping[str, float] | None = None) -> Outcome:
        """Test a window of shape (n_data, d), raw features, with its measured nuisance parameters."""

    def evaluate_many(
        self, windows: Sequence[FloatArray], /, *, auxiliaries: Sequence[Mapping[str, float]] | None = None
    ) -> Sequence[Outcome]:
        """Test several windows."""


class CountedStatistic(Statistic, Protocol):
    """A test of counted rows: each row of a window stands for so many events.

    One that is built from counted rows, not from windows of channels, has a parameter `counts`: the events
    that each row of the reference stands for.
    """

    def evaluate(
        self,
        data: FloatArray,
        /,
        *,
        auxiliary: Mapping[str, float] | None = None,
        weights: FloatArray | None = None,
    ) -> Outcome:
        """Test a window; `weights` has shape (n_data,). A test of channels also takes `masked` ones."""

    def evaluate_many(
        self,
        windows: Sequence[FloatArray],
        /,
        *,
        auxiliaries: Sequence[Mapping[str, float]] | None = None,
        weights: Sequence[FloatArray] | None = None,
    ) -> Sequence[Outcome]:
        """Test several windows."""


@runtime_checkable
class Thrower(Protocol):
    """A test that knows how healthy windows come about: its toys are thrown by it, not drawn from a pool."""

    def throw(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw a healthy window: its rows, shape (n_data, d), and their counts, shape (n_data,)."""


@runtime_checkable
class Resizable(Protocol):
    """A test that other sizes of windows can share."""

    def at(self, n_expected: float) -> Statistic:
        """Give the test for windows of so many expected events."""


@runtime_checkable
class Stoppable(Protocol):
    """A test that can end early where larger values say no more; its outcomes may have `is_lower_bound`."""

    def stopping_above(self, t: float) -> Statistic:
        """Give the test for a user to whom all values above t say the same."""


StatisticFactory = Callable[..., Statistic]
"""``factory(reference, n_expected=..., centers=..., nuisances=..., **settings)``.

A statistic may have a property `prepared`: arrays that its reference alone decides, named in small letters.
The bundle keeps them and hands them back as ``prepared=...``. One that has a parameter `few_windows` is asked
with it for a test that is quick to set up. One that has a method `tune` chooses its settings from the events,
see `dqm.nplm.SeveralTest.tune`.
"""

Settings = dict[str, float | int | str | tuple[float, ...] | tuple[str, ...]]
"""Arguments of a test, as the manifest keeps them."""


def resize(bundle: StoredBundle, test: Statistic, kind: WindowKind, device: str = "cpu") -> Statistic:
    """Give a test for windows of another size; one that cannot be resized is set up anew.

    Parameters
    ----------
    bundle : StoredBundle
        Whose test it is.
    test : Statistic
        Set up for windows of another size, cut alike, with the same parameters free.
    kind : WindowKind
        The windows.
    device : str
        As in `prepare_statistic`.
    """
    if isinstance(test, Resizable):
        return test.at(kind.n_expected)
    return prepare_statistic(bundle, kind, device)


def stop_above(test: Statistic, t: float) -> Statistic:
    """Give a test that may end early where its value is above t; one that cannot is given as it is."""
    return test.stopping_above(t) if isinstance(test, Stoppable) else test


def is_lower_bound(outcome: Outcome) -> bool:
    """Tell whether the value of an outcome is a lower bound, because its test ended early."""
    return bool(getattr(outcome, "is_lower_bound", False))


def find_statistic(name: str) -> StatisticFactory:
    """Load a statistic; raises `BundleError` if none of that name is installed."""
    return cast(StatisticFactory, find_plugin("dqm.statistics", name, error=BundleError))


def prepare_statistic(bundle: StoredBundle, kind: WindowKind, device: str = "cpu") -> Statistic:
    """Set up the bundle's test for windows of one kind, on a device; raises `InputError` if there is none."""
    m = bundle.manifest
    extra: dict[str, object] = {"prepared": bundle.prepared} if m.prepared else {}
    if device != "cpu":
        extra["device"] = device
    return _set_up(bundle, kind, bundle.reference_sample, bundle.centers, extra)


def prepare_for_split(
    bundle: StoredBundle, kind: WindowKind, reference: Sample, centers: FloatArray
) -> Statistic:
    """Set up the bundle's test for another reference and a few windows; raises as `prepare_statistic`."""
    factory = find_statistic(bundle.manifest.statistic)
    knows = "few_windows" in signature(factory).parameters
    return _set_up(bundle, kind, reference, centers, {"few_windows": True} if knows else {})


def _set_up(
    bundle: StoredBundle,
    kind: WindowKind,
    reference: Sample,
    centers: FloatArray,
    extra: Mapping[str, object],
) -> Statistic:
    factory = find_statistic(bundle.manifest.statistic)
    try:
        signature(factory).bind_partial(reference.x, **bundle.manifest.settings)
    except TypeError as error:
        raise BundleError(
            f"its settings are none of the statistic {bundle.manifest.statistic!r} of this version: {error}",
            where=str(bundle.path),
            fix="Build the bundle again",
        ) from error
    counts = {} if reference.counts is None else {"counts": reference.counts}
    return factory(
        reference.x,
        n_expected=kind.n_expected,
        centers=centers,
        nuisances=nuisances_for(bundle, kind),
        **bundle.manifest.settings,
        **counts,
        **extra,
    )
