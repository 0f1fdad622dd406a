"""A reference that replaces another: made by the same recipe, and compared with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dqm.events import Explanation, FloatArray
from dqm.nplm import KernelTest, RatioMaps
from dqm.reference.build import Recipe
from dqm.reference.certificate import CertificateLine
from dqm.reference.certificate_lines import later_line
from dqm.reference.explanation import rank_features
from dqm.reference.later_runs import LaterRun, evaluate_later
from dqm.reference.manifest import NanRows
from dqm.reference.processes import Workers
from dqm.reference.splits import choose_reference_size
from dqm.reference.statistic_plugin import find_statistic
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.validation import find_null_entry

__all__ = ["Renewal", "compare_with_old", "recipe_like"]

WIDTH = 2.5
"""Kernel width of the fit that draws the maps of all new events."""

PENALTY = 1e-5
"""Penalty of this fit."""

CENTERS = 100
"""Kernel centres of this fit."""

MOST_MAPPED = 20_000
"""Events that it takes."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A new reference compared with the old one.

    Parameters
    ----------
    line : CertificateLine
        Results of the new events in windows of the old bundle; red: they differ.
    maps : Explanation
        Where they differ, all events together.
    """

    line: CertificateLine
    maps: Explanation


def recipe_like(old: StoredBundle, n_events: int, rate_hz: float | None, nan: NanRows | None) -> Recipe:
    """Give the recipe of a bundle, for other events.

    Parameters
    ----------
    old : StoredBundle
        The bundle; its nuisance parameters and templates do not belong to the recipe.
    n_events : int
        The other events. If there are too few for a reference of that size, a smaller one is chosen.
    rate_hz : float or None
        Their rate.
    nan : NanRows or None
        What was dropped of them.

    Raises
    ------
    InputError
        For a bundle of channels.
    """
    old.refuse_counted("recipe for events")
    m = old.manifest
    n_reference = len(old.reference)
    if n_reference + 2 * m.n_expected > n_events * 0.9:
        n_reference = choose_reference_size(n_events, m.n_expected)
    # a setting that the statistic chooses itself is chosen for each run
    own = find_statistic(m.statistic).settings
    settings = {name: value for name, value in m.settings.items() if name in own}
    return Recipe(
        features=m.features,
        kinds=m.kinds_of_features,
        n_reference=n_reference,
        n_expected=m.n_expected,
        centers=min(len(old.centers), n_reference),
        seed=m.seed,
        cut=m.cut,
        statistic=m.statistic,
        rate_hz=rate_hz,
        nan=nan,
        settings=settings,
    )


def compare_with_old(
    old: StoredBundle,
    x: FloatArray,
    name: str,
    *,
    workers: Workers,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Renewal:
    """Compare the events of a new reference with an old bundle.

    Parameters
    ----------
    old : StoredBundle
        Calibrated for the windows it is meant for.
    x : ndarray, shape (n_events, d)
        New events, in the features of the old bundle and the order of time.
    name : str
        What people call them.
    workers : Workers
        Who tests the windows.
    progress : callable
        Told the windows done and the total.

    Raises
    ------
    BundleError
        If the old bundle is not calibrated for windows without measurement of its nuisance parameters.
    InputError
        If the events cannot be tested.
    """
    cut = old.manifest.cut
    measured = [e.name for e in old.manifest.nuisances if e.sigma is not None and e.concerns(cut)]
    kind = old.manifest.kind.model_copy(update={"free": tuple(measured)})  # the measurements were not kept
    entry = find_null_entry(old, kind)
    outcome = evaluate_later(old, LaterRun(name, x), kind=kind, workers=workers, progress=progress)
    return Renewal(later_line(old, entry, outcome), _map(old, x))


def _map(old: StoredBundle, x: FloatArray) -> Explanation:
    """Draw all new events together over the old reference."""
    chosen = x[np.linspace(0, len(x) - 1, min(MOST_MAPPED, len(x))).round().astype(int)]
    reference = old.reference
    test = KernelTest(
        reference,
        n_expected=float(len(chosen)),
        width=WIDTH,
        penalty=PENALTY,
        centers=old.centers[:CENTERS],
        few_windows=True,
    )
    fitted = test.evaluate(chosen)
    maps = RatioMaps(reference, old.manifest.features)
    weights = fitted.reference_weights
    log_ratio = fitted.log_ratio_reference
    features = maps.features(chosen, weights, log_ratio)
    ranking = rank_features(features, np.zeros(len(features)))
    pairs = maps.pairs(chosen, weights, log_ratio, [name for name, _ in ranking[:2]])
    first, share = ranking[0]
    return Explanation(
        features, pairs, ranking, (), text=f"the new events depart mostly in {first} ({100 * share:.0f} %)"
    )
