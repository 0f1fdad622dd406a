"""The single kernel test, which bundles with nuisance parameters have."""

from __future__ import annotations

from dqm.errors import InputError
from dqm.reference.statistic_plugin import find_statistic
from dqm.reference.stored_bundle import AnyBundle

__all__ = ["USUAL_WIDTH", "take_single_test"]

USUAL_WIDTH = 2.5
"""Kernel width of a single test, see `KernelTest.usual_settings`."""

REPLACED = "several"
"""The statistic that a bundle has if nobody chose one; one that was chosen is not replaced."""


def take_single_test(bundle: AnyBundle) -> AnyBundle:
    """Give a bundle the single kernel test if its own takes no nuisance parameters.

    Parameters
    ----------
    bundle : StoredBundle
        Its directory is written to.

    Returns
    -------
    StoredBundle
        The same bundle if its test takes them. Otherwise its null tables are gone: they are of another test.

    Raises
    ------
    InputError
        If its own test was chosen and takes none.
    BundleError
        If the directory cannot be written, or the test is not installed.
    """
    m = bundle.manifest
    plugin = find_statistic(m.statistic)
    if plugin.takes_nuisances:
        return bundle
    if m.statistic != REPLACED:
        raise InputError(
            f"{plugin.label} takes no nuisance parameters",
            where=str(bundle.path),
            fix="Build the bundle with --statistic kernel",
        )
    settings = find_statistic("kernel").choose_settings({})
    test = find_statistic("kernel").make(
        bundle.reference,
        settings,
        n_expected=m.n_expected,
        centers=bundle.centers,
        counts=bundle.reference_sample.counts,
    )
    return bundle.change_test("kernel", settings, test.prepared)
