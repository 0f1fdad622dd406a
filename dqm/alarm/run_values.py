"""Rate, nuisance parameters and conditions of a run against those of the runs before it.

Each of them has usual runs of its own. Another high voltage must not end the comparison of Z, and a run whose
Z differs may have the usual rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from scipy import special

from dqm.alarm.run_summary import RunStatistics

__all__ = [
    "DIFFERENT",
    "FEWEST_WINDOWS",
    "MOST_BEFORE",
    "Mean",
    "ValueHistories",
    "ValueHistory",
    "find_usual",
]

MOST_BEFORE = 10
"""Runs before one that it is compared with, without those that differ themselves."""

FEWEST_WINDOWS = 5
"""Windows of a run without which it is not compared."""

DIFFERENT = 1e-3
"""A run is marked by what is so improbable if it is like those before."""

FEWEST_RUNS = 8
"""Fewest earlier runs with which a value of a run is compared. A value that differs in this number of runs,
one after the other, is the usual one from then on: a new voltage is reported, and then is usual."""

LEAST_SPREAD = 1e-4
"""Spread of a value, relative to it, below which its last digits are not trusted: readings have steps."""


class Mean(NamedTuple):
    """Mean of a value over the windows of a run.

    Parameters
    ----------
    value : float
        Mean.
    weight : float
        What it was taken over, windows or events, > 0: its variance is at most inverse to that.
    """

    value: float
    weight: float


class _Value(NamedTuple):
    name: str
    label: str
    mean: Mean


@dataclass(slots=True)
class ValueHistory:
    """Runs of a value: the last ones that are usual, and those since then that differ."""

    usual: list[Mean] = field(default_factory=list)
    differing: list[Mean] = field(default_factory=list)

    def add(self, mean: Mean, p: float) -> float | None:
        """Add the next run; give the usual value if that of the run differs."""
        usual = find_usual(mean, self.usual, p)
        if usual is None:
            self.usual = [*self.usual, mean][-MOST_BEFORE:]
            self.differing = []
            return None
        self.differing.append(mean)
        if len(self.differing) == FEWEST_RUNS:
            self.usual = self.differing
            self.differing = []
        return usual


class ValueHistories:
    """What was usual until now, of one stream."""

    def __init__(self) -> None:
        self._histories: dict[str, ValueHistory] = {}

    def add(self, run: RunStatistics) -> list[tuple[str, str]]:
        """Add the next run; give name and description of each value that differs from the runs before.

        All values together mark one of 1000 healthy runs by chance, if they scatter from run to run as a
        Gaussian does.
        """
        values = list(_values(run))
        found = []
        for name, label, mean in values:
            usual = self._histories.setdefault(label, ValueHistory()).add(mean, DIFFERENT / len(values))
            if usual is not None:
                found.append((name, f"{label} {mean.value:.5g}, before {usual:.5g}"))
        return found


def find_usual(mean: Mean, before: Sequence[Mean], p: float) -> float | None:
    """Give the usual value if that of a run is too far from it.

    The spread is that of the runs before without the influence of the lowest and the highest of them, so that
    one strange run hides nothing. A shorter run may be further away.

    Parameters
    ----------
    mean : Mean
        Of the run.
    before : sequence of Mean
        Of the runs before it.
    p : float
        Probability that a run like them is too far, above 0 and at most 0.1.

    Returns
    -------
    float or None
        Mean of the runs before, without the lowest and the highest. None if the run does not differ from it,
        or if there are fewer than 8.

    References
    ----------
    Tukey and McLaughlin (1963), Sankhya A 25, 331, for trimmed mean and Winsorized variance. They take a t
    distribution with one degree of freedom more; for a single further value simulations say this one.
    """
    n = len(before)
    if n < FEWEST_RUNS:
        return None
    kept = sorted([one.value for one in before])[1:-1]
    if kept[0] <= mean.value <= kept[-1]:
        return None  # what is among them is within the limit of any such p
    usual = sum(kept) / len(kept)
    winsorized = (kept[0], *kept, kept[-1])
    centre = sum(winsorized) / n
    variance = sum((value - centre) ** 2 for value in winsorized) / (len(kept) - 1)
    variance = max(variance, (LEAST_SPREAD * usual) ** 2)
    shorter = max(1.0, sum(one.weight for one in before) / n / mean.weight)
    limit = _t_limit(len(kept) - 2, p) * (variance * (shorter + 1.0 / len(kept))) ** 0.5
    return usual if abs(mean.value - usual) > limit else None


@lru_cache(maxsize=1024)
def _t_limit(degrees: int, p: float) -> float:
    return float(-special.stdtrit(degrees, 0.5 * p))


def _values(run: RunStatistics) -> Iterator[_Value]:
    """Give what can be compared, conditions last: they may explain the rest."""
    if run.rate_hz is not None and run.n_timed and run.n_judged >= FEWEST_WINDOWS:
        yield _Value("rate", "events/s", Mean(run.rate_hz, run.n_timed))
    for label, sums in (("", run.nuisances), ("condition differs: ", run.conditions)):
        for name, (n, total) in sorted(sums.items()):
            if n >= FEWEST_WINDOWS:
                yield _Value(name, label + name, Mean(total / n, n))
