"""The single kernel test, which bundles with nuisance parameters have."""

from __future__ import annotations

from dqm.config import find_plugin
from dqm.errors import BundleError
from dqm.nplm import KernelTest, LossName
from dqm.reference.stored_bundle import AnyBundle

__all__ = ["USUAL_LOSS", "USUAL_PENALTY", "USUAL_WIDTH", "take_single_test"]

USUAL_WIDTH, USUAL_PENALTY = 2.5, 1e-7
"""Kernel width in standard deviations, and penalty. With the loss, they are what told faults from gas best on
simulated chambers (``tests/studies/chamber_nuisance.py``)."""

USUAL_LOSS: LossName = "likelihood"


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
    BundleError
        If the directory cannot be written, or the test is not installed.
    """
    m = bundle.manifest
    factory = find_plugin("dqm.statistics", m.statistic, error=BundleError)
    if getattr(factory, "takes_nuisances", True):
        return bundle
    test = KernelTest(
        bundle.reference,
        n_expected=m.n_expected,
        centers=bundle.centers,
        counts=bundle.reference_sample.counts,
        width=USUAL_WIDTH,
        penalty=USUAL_PENALTY,
        loss=USUAL_LOSS,
    )
    settings = {"width": USUAL_WIDTH, "penalty": USUAL_PENALTY, "loss": USUAL_LOSS}
    return bundle.change_test("kernel", settings, test.prepared)
