"""Evidence that the windows of one run get worse, with a bound on false alarms however long the run is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from pydantic import ConfigDict
from scipy import special

from dqm.alarm.budget import LARGEST_Z

__all__ = ["BETS", "EProcess", "HealthyZ"]

BETS = (0.5, 1.0, 2.0)
"""Shifts of Z that are bet on, in sigmas: slow faults, and those that a few windows show."""

SOON = 60
"""By this window of a run half of what can be staked on the start of a fault has been."""

CAUTION = 2.0
"""Error of the null table and the reference, in sigmas, up to which a bet is fair."""


def _log_mean(bet: float) -> float:
    """Log of the mean of exp(bet * Z) in healthy windows, with Z cut off as it enters."""
    edge = LARGEST_Z
    inside = math.exp(0.5 * bet**2) * (special.ndtr(edge - bet) - special.ndtr(-edge - bet))
    tails = special.ndtr(-edge) * (math.exp(bet * edge) + math.exp(-bet * edge))
    return math.log(inside + tails)


_LOG_MEANS = tuple(_log_mean(bet) for bet in BETS)


@dataclass(frozen=True, slots=True)
class HealthyZ:
    """What the Z of healthy windows of a stream may be besides independent and standard normal.

    Parameters
    ----------
    offset : float
        Uncertainty of all Z together because the reference is finite, sigmas, >= 0.
    correlation : float
        Of neighbouring windows, 0 to below 1.
    """

    offset: float = 0.0
    correlation: float = 0.0


@dataclass(slots=True)
class EProcess:
    """Wealth of a gambler who bets that the windows of a run have become worse.

    Before each window of the run a part of what is left is staked on "it begins here", on each of `BETS`
    alike. What is staked is multiplied by ``exp(bet * Z) / mean`` from then on, a factor whose mean is 1 in
    healthy windows. So the wealth is a martingale that begins at 1, and in a healthy run it *ever* reaches a
    limit with a probability of at most 1 / limit, however long the run and whenever one looks (Ville).

    It drifts once the wealth reaches the limit and until it is back at 1. The wealth does not grow beyond the
    limit, so that an end is seen.

    Parameters
    ----------
    run : int
        The present run; -1 if there was none.
    windows : int
        Windows of it.
    log_stakes : list of float
        Log of the wealth of each of `BETS`, without what is not staked yet; empty before the first window.
    last_z : float or None
        Z of the window before.
    is_drifting : bool
        Whether it has reached the limit since.

    References
    ----------
    Ville (1939); Vovk, Nouretdinov, Gammerman (2003), "Testing exchangeability on-line", ICML; Shin, Ramdas,
    Rinaldo (2024), arXiv:2203.03532, for a stake on each possible start.
    """

    run: int = -1
    windows: int = 0
    log_stakes: list[float] = field(default_factory=list)
    last_z: float | None = None
    is_drifting: bool = False

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    @property
    def log_wealth(self) -> float:
        """Log of the wealth; 0 before the first window of a run."""
        unstaked = math.log(SOON / (self.windows + SOON))
        return float(np.logaddexp.reduce([*self.log_stakes, unstaked]))

    def add(self, run: int, z: float, *, healthy: HealthyZ, log_limit: float) -> None:
        """Add a window.

        Parameters
        ----------
        run : int
            Its run: another one than before begins anew.
        z : float
            Its significance by the upper end of its p, so that a null table of few toys does not mislead;
            plus and minus infinity are taken as `dqm.alarm.budget.LARGEST_Z`.
        healthy : HealthyZ
            What Z may be in healthy windows.
        log_limit : float
            Log of the wealth that alarms.
        """
        if run != self.run:
            self.run = run
            self.windows = 0
            self.log_stakes = []
            self.last_z = None
            self.is_drifting = False
        z = min(max(z, -LARGEST_Z), LARGEST_Z) - CAUTION * healthy.offset
        fresh = self._without_memory(z, healthy.correlation)
        self.last_z = z
        stake = SOON / ((self.windows + SOON) * (self.windows + 1 + SOON)) / len(BETS)
        before = self.log_stakes or [-math.inf] * len(BETS)
        self.windows += 1
        self.log_stakes = [
            float(np.logaddexp(old, math.log(stake))) + bet * min(max(fresh, -LARGEST_Z), LARGEST_Z) - mean
            for old, bet, mean in zip(before, BETS, _LOG_MEANS, strict=True)
        ]
        excess = self.log_wealth - log_limit
        if excess >= 0.0:
            self.is_drifting = True
            self.log_stakes = [stake - excess for stake in self.log_stakes]
        elif self.log_wealth <= 0.0:
            self.is_drifting = False

    def _without_memory(self, z: float, correlation: float) -> float:
        """Remove the correlation with the window before: what is left is independent."""
        if self.last_z is None or not correlation:
            return z
        return (z - correlation * self.last_z) / math.sqrt(1.0 - correlation**2)
