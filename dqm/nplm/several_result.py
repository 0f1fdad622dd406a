"""Outcome of the test of several kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dqm.events import FloatArray, NuisanceResult
from dqm.nplm.samples import Sample
from dqm.nplm.setting import Setting

if TYPE_CHECKING:
    from dqm.nplm.result import KernelResult
    from dqm.nplm.several import SeveralTest

__all__ = ["SeveralResult"]


@dataclass(frozen=True)
class SeveralResult:
    """Outcome of one window.

    Parameters
    ----------
    t : float
        Combined statistic: -2 log of the smallest p of the settings, of their product, or of their mean.
        These p are approximate; the p-value of t follows from toys. NaN if the fit of the nuisance parameters
        did not converge.
    log_p : ndarray, shape (n_settings,)
        Logarithm of the approximate p of each setting.
    n_outside : int
        As in `KernelResult`.
    delta : float
        Twice the log likelihood ratio of the nuisance parameters alone to the nominal reference; 0 without.
    nuisances : mapping of str to NuisanceResult
        Fitted nuisance parameters by name. Their values with an anomaly are those after one step, together
        with the kernel with the smallest p, or with the first kernel if a plain test has the smallest p.
    converged : bool
        Whether the fit of the nuisance parameters converged. One step of a kernel always ends.
    """

    t: float
    log_p: FloatArray
    n_outside: int
    _test: SeveralTest
    _sample: Sample
    delta: float = 0.0
    nuisances: Mapping[str, NuisanceResult] = field(default_factory=dict)
    converged: bool = True

    @property
    def tau(self) -> float:
        """``t + delta``: the departure from the nominal reference, the nuisance parameters' part included."""
        return self.t + self.delta

    @property
    def place(self) -> int:
        """Number of the setting with the smallest p."""
        return int(self.log_p.argmin())

    @property
    def seen_by(self) -> Setting:
        """The setting with the smallest p."""
        return self._test.settings[self.place]

    def describe_value(self) -> str:
        """Say which value departs, if the window departs in the share of a value; empty otherwise."""
        setting = self.seen_by
        if setting.feature is None or setting.test != "share":
            return ""
        return self._test.describe_value(self._sample.x[:, setting.feature], setting.feature, self._nu)

    def fitted_with(self, place: int) -> KernelResult:
        """Fit the window to convergence with one of the settings; that of `place` is the one for maps.

        The reference is that of the nuisance parameters fitted without an anomaly, which stay there.
        """
        found = self._test.fit(self._sample, place, self._nu)
        return replace(found, tau=found.t + self.delta, delta=self.delta, nuisances=self.nuisances)

    @property
    def _nu(self) -> tuple[float, ...]:
        return tuple(one.reference.value for one in self.nuisances.values())
