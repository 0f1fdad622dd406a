"""The test of a bundle, set up for its windows."""

from __future__ import annotations

from collections.abc import Mapping

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
    "prepare_for_split",
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
    return _set_up(bundle, kind, bundle.reference_sample, bundle.centers, extra)


def prepare_for_split(
    bundle: StoredBundle, kind: WindowKind, reference: Sample, centers: FloatArray
) -> PreparedStatistic:
    """Set up the bundle's test for another reference and a few windows; raises as `prepare_statistic`."""
    return _set_up(bundle, kind, reference, centers, {"few_windows": True})


def _set_up(
    bundle: StoredBundle,
    kind: WindowKind,
    reference: Sample,
    centers: FloatArray,
    extra: Mapping[str, object],
) -> PreparedStatistic:
    plugin = find_statistic(bundle.manifest.statistic)
    plugin.check_settings(bundle.manifest.settings, str(bundle.path))
    return plugin.make(
        reference.x,
        bundle.manifest.settings,
        n_expected=kind.n_expected,
        centers=centers,
        nuisances=nuisances_for(bundle, kind),
        counts=reference.counts,
        **extra,
    )
