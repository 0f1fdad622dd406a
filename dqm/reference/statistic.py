"""The test of a bundle, set up for its windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dqm.events import FloatArray
from dqm.nplm.samples import Sample
from dqm.reference.manifest import WindowKind
from dqm.reference.nuisances import nuisances_for
from dqm.reference.prepared_statistic import PreparedStatistic, is_lower_bound
from dqm.reference.statistic_interface import Outcome, Settings
from dqm.reference.statistic_plugin import find_statistic
from dqm.reference.stored_bundle import StoredBundle

__all__ = [
    "Outcome",
    "PreparedStatistic",
    "Settings",
    "find_statistic",
    "is_lower_bound",
    "prepare_for_splits",
    "prepare_statistic",
    "resize",
]


def resize(
    bundle: StoredBundle, test: PreparedStatistic, kind: WindowKind, device: str = "cpu"
) -> PreparedStatistic:
    """Give a test for windows of another size; one that cannot be resized is set up anew.

    Parameters
    ----------
    bundle : StoredBundle
        Whose test it is.
    test : PreparedStatistic
        Set up for windows of another size, cut alike, with the same parameters free.
    kind : WindowKind
        The windows.
    device : str
        As in `prepare_statistic`.
    """
    resized = test.at(kind.n_expected)
    return prepare_statistic(bundle, kind, device) if resized is None else resized


def prepare_statistic(bundle: StoredBundle, kind: WindowKind, device: str = "cpu") -> PreparedStatistic:
    """Set up the bundle's test for windows of one kind, on a device; raises `InputError` if there is none."""
    extra: dict[str, object] = {"device": device}
    if bundle.manifest.prepared:
        extra["prepared"] = bundle.prepared
    return _preparation(bundle, kind, extra)(bundle.reference_sample, bundle.centers)


def prepare_for_splits(
    bundle: StoredBundle, kind: WindowKind
) -> Callable[[Sample, FloatArray], PreparedStatistic]:
    """Give what sets up the bundle's test for another reference, its centres and a few windows.

    Both raise as `prepare_statistic`. Looking the statistic up takes as long as a quarter of setting it up.
    """
    return _preparation(bundle, kind, {"few_windows": True})


def _preparation(
    bundle: StoredBundle, kind: WindowKind, extra: Mapping[str, object]
) -> Callable[[Sample, FloatArray], PreparedStatistic]:
    settings = bundle.manifest.settings
    plugin = find_statistic(bundle.manifest.statistic)
    plugin.check_settings(settings, str(bundle.path))
    nuisances = nuisances_for(bundle, kind)

    def prepare(reference: Sample, centers: FloatArray) -> PreparedStatistic:
        return plugin.make(
            reference.x,
            settings,
            n_expected=kind.n_expected,
            centers=centers,
            nuisances=nuisances,
            counts=reference.counts,
            **extra,
        )

    return prepare
