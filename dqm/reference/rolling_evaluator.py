"""Test of a window against the last good windows of its stream, beside the test against the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dqm.alarm import describe_too_few
from dqm.alarm.rolling_reference import MOST_EVENTS
from dqm.errors import InputError
from dqm.events import FloatArray, RollingResult, Window
from dqm.nplm import FeatureKind, RollingTest
from dqm.reference.manifest import WindowKind
from dqm.reference.nuisances import nuisances_for
from dqm.reference.null import NullTable, PValue
from dqm.reference.stored_bundle import StoredBundle

__all__ = ["RollingEvaluator"]

SEED = 18
"""Seed of the permutations, with run and number of the window: a repeated test gives the same p."""


class RollingEvaluator:
    """Tests windows against those before them, with the kernels of a bundle.

    Parameters
    ----------
    bundle : StoredBundle
        Bundle of the stream. Its reference determines the kernels, and its nuisance parameters are changes
        that do not count.
    n_permutations : int
        At least 100.

    Raises
    ------
    InputError
        If the bundle is not of single events.
    """

    def __init__(self, bundle: StoredBundle, n_permutations: int) -> None:
        manifest = bundle.manifest
        if manifest.is_of_channels or manifest.counts is not None:
            raise InputError(
                "a rolling reference needs single events, and this bundle is of counted rows",
                where=str(bundle.path),
                fix="Leave the rolling reference of this stream out",
            )
        self._features = manifest.features
        self._n_permutations = n_permutations
        kinds = manifest.kinds_of_features or dict.fromkeys(self._features, "smooth")
        self._test = RollingTest(
            bundle.reference,
            bundle.centers,
            kinds=[FeatureKind.parse(kind) for kind in kinds.values()],
            nuisances=nuisances_for(bundle, WindowKind(cut=manifest.cut, n_expected=manifest.n_expected)),
        )

    def evaluate(self, window: Window, past: Sequence[Window], *, min_events: int = 1) -> RollingResult:
        """Test a window.

        Parameters
        ----------
        window : Window
            The window.
        past : sequence of Window
            What it is compared with, oldest first; at least one.
        min_events : int
            A window with fewer events is not tested.

        Returns
        -------
        RollingResult
            With a reason instead of p if the window cannot be tested.
        """
        first, last = ((one.run, one.seq) for one in (past[0], past[-1]))
        found = RollingResult(len(past), first, last)
        try:
            p = self._find_p(window, past, min_events)
        except InputError as error:
            return replace(found, reason=str(error))
        return replace(found, p=p.p, p_low=p.low, p_high=p.high, p_method=p.method, z=p.z)

    def _find_p(self, window: Window, past: Sequence[Window], min_events: int) -> PValue:
        x = self._select(window)
        before = [self._select(one) for one in past]
        if len(x) < min_events:
            raise InputError(describe_too_few(len(x), min_events))
        n_events = len(x) + sum(map(len, before))
        if n_events > MOST_EVENTS:
            raise InputError(
                f"{n_events} events in the window and those before it, at most {MOST_EVENTS}",
                fix="Take fewer windows",
            )
        rng = np.random.default_rng([SEED, window.run, window.seq])
        tested = self._test.evaluate(before, x, n_permutations=self._n_permutations, rng=rng)
        return NullTable(tested.permuted).p_value(tested.t)

    def _select(self, window: Window) -> FloatArray:
        """Take the features of the bundle, of events without NaN."""
        missing = [name for name in self._features if name not in window.names]
        if missing:
            raise InputError(f"the window has no feature {', '.join(missing)}")
        x = window.x[:, [window.names.index(name) for name in self._features]]
        finite: FloatArray = x[np.isfinite(x).all(axis=1)]
        return finite
