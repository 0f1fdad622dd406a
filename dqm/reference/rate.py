"""How many events the windows of a stream should have, and the test whether a window has them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scipy import special

from dqm.events import SMALLEST_P, RateResult, Window, WindowCut
from dqm.nplm import count_p_value, duration_p_value
from dqm.reference.constraints import ReadingPolicy, read_value
from dqm.reference.manifest import Manifest, NuisanceEntry

__all__ = ["RateTest"]

UNMEASURED_UNCERTAINTY = 0.3
"""Uncertainty of a rate whose measurement is missing; a chamber that stops is still seen."""

LARGEST_SHIFT = 5.0
"""A measured logarithm of the rate beyond this, a factor of 150, counts as missing."""


@dataclass(frozen=True, slots=True)
class RateTest:
    """Test of the number of events in the windows of a stream.

    It needs no null table and takes microseconds. So every window has it, even if it is too small for the
    test of the shape, if no null table covers it, or if it is given up.

    Parameters
    ----------
    hz : float or None
        Rate of events in a healthy detector, Hz; for windows cut by count, which do not have an expected
        number.
    uncertainty : float
        Relative one-sigma uncertainty of the expected number, >= 0.
    normalisation : NuisanceEntry or None
        Nuisance parameter of the rate: its measurement changes the expected number, and its error is the
        uncertainty. A free one may have any value, so the number is not tested.
    policy : ReadingPolicy
        When a measurement is too old.
    """

    hz: float | None = None
    uncertainty: float = 0.0
    normalisation: NuisanceEntry | None = None
    policy: ReadingPolicy = field(default_factory=ReadingPolicy)

    @classmethod
    def from_manifest(
        cls,
        manifest: Manifest,
        *,
        uncertainty: float,
        hz: float | None = None,
        policy: ReadingPolicy | None = None,
    ) -> RateTest:
        """Make the test of a bundle.

        Parameters
        ----------
        manifest : Manifest
            With the rate of the reference's run, and the nuisance parameter of the rate, if there are any.
        uncertainty : float
            Relative uncertainty of the expected number, without such a parameter.
        hz : float, optional
            Instead of the rate of the reference's run, Hz.
        policy : ReadingPolicy, optional
            When a measurement is too old.
        """
        if (
            manifest.is_of_channels
        ):  # hits come in groups, and the reference says by how much their number varies
            varies = manifest.settings.get("illumination", 0.0)
            uncertainty = max(uncertainty, varies if isinstance(varies, float | int) else 0.0)
        entries = [entry for entry in manifest.nuisances if entry.kind == "normalisation"]
        return cls(
            hz=manifest.rate_hz if hz is None else hz,
            uncertainty=uncertainty,
            normalisation=entries[0] if entries else None,
            policy=policy or ReadingPolicy(),
        )

    @property
    def typical_uncertainty(self) -> float:
        """Relative uncertainty of the expected number when all is measured."""
        entry = self.normalisation
        return self.uncertainty if entry is None or entry.sigma is None else entry.sigma

    @property
    def is_free(self) -> bool:
        """Whether the rate is a free nuisance parameter."""
        return self.normalisation is not None and self.normalisation.sigma is None

    def tests(self, cut: WindowCut) -> bool:
        """Tell whether windows that are cut like this are tested."""
        return not self.is_free and (cut is WindowCut.TIME or self.hz is not None)

    def evaluate(self, window: Window) -> RateResult | None:
        """Test a window.

        Parameters
        ----------
        window : Window
            Cut by time, with the expected number; or by count, with the live time.

        Returns
        -------
        RateResult or None
            None if it is not known how many events are expected, or if the detector was not live.
        """
        expected = self._nominal(window)
        if not expected or not self.tests(window.cut):
            return None
        uncertainty = self.typical_uncertainty
        if self.normalisation is not None:
            value, _ = read_value(self.normalisation, window, self.policy)
            if value is None or abs(value) > LARGEST_SHIFT:
                uncertainty = UNMEASURED_UNCERTAINTY
            else:
                expected *= math.exp(value)
        test = count_p_value if window.cut is WindowCut.TIME else duration_p_value
        p, side = test(window.n_events, expected, uncertainty)
        p = max(p, SMALLEST_P)
        return RateResult(
            cut=window.cut,
            n_expected=expected,
            uncertainty=uncertainty,
            live_seconds=window.live_seconds,
            p=p,
            z=side * abs(float(special.ndtri(0.5 * p))),
        )

    def _nominal(self, window: Window) -> float | None:
        """Give the number expected at the nominal rate."""
        if window.cut is WindowCut.TIME:
            return window.n_expected
        if self.hz is None or window.live_seconds is None or window.n_events == 0:
            return None
        return self.hz * window.live_seconds
