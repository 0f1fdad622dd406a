"""Windows of one run of one stream as sums: adding a window needs none of those before it.

A summary outlives the verdicts that it was made of. A histogram of Z is kept as well, for quantiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import TypeVar

import numpy as np

from dqm.alarm.onset import LARGEST_Z
from dqm.events import Quality, Verdict

__all__ = ["RunStatistics", "means", "summarise_run"]

QUANTILES = (0.16, 0.5, 0.84)

BIN_WIDTH = 0.1
"""Width of a bin of Z: a quantile is known to half of it."""

N_BINS = round(2 * LARGEST_Z / BIN_WIDTH)

MOST_NAMES = 64
"""Most nuisance parameters, conditions or features of a run; further names are left out."""

EXACT_NUMBERS = 100
"""Numbers of dead or noisy channels up to this one are counted as they are, larger ones to two digits."""

_Key = TypeVar("_Key")

Sums = dict[str, tuple[int, float]]
"""How many numbers were summed, and their sum, by name."""


@dataclass(slots=True)
class RunStatistics:
    """The windows of one run of one stream, added one by one.

    Parameters
    ----------
    stream, run, run_type
        Which one.
    first_at : float
        When its first verdict was given, Unix seconds.
    begin, end : float or None
        Times of its first and last window, Unix seconds; None if no window has a time.
    counts : mapping of Quality to int
        Windows of each quality.
    n_z : int
        Windows that are not Null and have a Z.
    sum_z, sum_zz : float
        Sum of their Z and of its square, each Z between -5 and 5.
    bins : mapping of int to int
        Windows by their Z: bin k goes from ``-5 + 0.1 k`` to ``-5 + 0.1 (k + 1)``.
    n_timed : int
        Events of windows whose live time is known.
    live_seconds : float
        That time, s.
    nuisances, conditions, features : mapping of str to (int, float)
        Sums of the fitted nuisance parameters, of the conditions that are numbers, and of the shares that
        features have in the departure of windows that were explained.
    dead, noisy : mapping of int to int
        Windows by their number of dead and of noisy channels; empty if the test is not one of channels.
    """

    stream: str
    run: int
    run_type: str
    first_at: float
    begin: float | None = None
    end: float | None = None
    counts: dict[Quality, int] = field(default_factory=dict)
    n_z: int = 0
    sum_z: float = 0.0
    sum_zz: float = 0.0
    bins: dict[int, int] = field(default_factory=dict)
    n_timed: int = 0
    live_seconds: float = 0.0
    nuisances: Sums = field(default_factory=dict)
    conditions: Sums = field(default_factory=dict)
    features: Sums = field(default_factory=dict)
    dead: dict[int, int] = field(default_factory=dict)
    noisy: dict[int, int] = field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Add a window of this run, in any order."""
        window = verdict.window
        result = verdict.result
        _count(self.counts, verdict.quality)
        for time in (window.start, window.end):
            if time is not None:
                self.begin = time if self.begin is None else min(self.begin, time)
                self.end = time if self.end is None else max(self.end, time)
        if verdict.quality is not Quality.NULL and result.z is not None and result.z == result.z:
            self._add_z(min(max(result.z, -LARGEST_Z), LARGEST_Z))
        if result.rate is not None and result.rate.live_seconds:
            self.n_timed += result.n_data
            self.live_seconds += result.rate.live_seconds
        _sum(self.nuisances, ((name, one.reference.value) for name, one in result.nuisances.items()))
        _sum(self.conditions, window.conditions.items())
        if verdict.explanation is not None:
            _sum(self.features, verdict.explanation.ranking)
        if result.channels is not None:
            _count(self.dead, _coarse(result.channels.n_dead))
            _count(self.noisy, _coarse(result.channels.n_noisy))

    def _add_z(self, z: float) -> None:
        self.n_z += 1
        self.sum_z += z
        self.sum_zz += z * z
        _count(self.bins, min(int((z + LARGEST_Z) / BIN_WIDTH), N_BINS - 1))

    @property
    def n_windows(self) -> int:
        """Windows that have a verdict, those that are Null included."""
        return sum(self.counts.values())

    @property
    def n_null(self) -> int:
        """Windows of which nothing is known."""
        return self.counts.get(Quality.NULL, 0)

    @property
    def n_judged(self) -> int:
        """Windows that are not Null."""
        return self.n_windows - self.n_null

    @property
    def n_bad(self) -> int:
        """Windows that are Bad."""
        return self.counts.get(Quality.BAD, 0)

    @property
    def bad_share(self) -> float | None:
        """Share of Bad windows among those that are not Null; None if there are none."""
        return self.n_bad / self.n_judged if self.n_judged else None

    @property
    def mean_z(self) -> float | None:
        """Mean of Z; None if no window has one."""
        return self.sum_z / self.n_z if self.n_z else None

    @property
    def z_quantiles(self) -> tuple[float, ...]:
        """Z below which 16, 50 and 84 % of the windows are, to 0.05; empty if none has one."""
        if not self.n_z:
            return ()
        numbers = sorted(self.bins)
        ends = np.cumsum([self.bins[number] for number in numbers])
        ranks = np.multiply(QUANTILES, ends[-1] - 1)
        centres = BIN_WIDTH * (np.array(numbers) + 0.5) - LARGEST_Z
        low, high = (
            centres[np.searchsorted(ends, rank, "right")] for rank in (np.floor(ranks), np.ceil(ranks))
        )
        return tuple(map(float, low + (ranks % 1.0) * (high - low)))

    @property
    def rate_hz(self) -> float | None:
        """Events a second of live time; None where nobody says the time."""
        return self.n_timed / self.live_seconds if self.live_seconds > 0.0 else None

    @property
    def n_dead(self) -> int | None:
        """Median number of dead channels; None if the test is not one of channels."""
        return _median(self.dead)

    @property
    def n_noisy(self) -> int | None:
        """Median number of noisy channels."""
        return _median(self.noisy)

    @property
    def named_values(self) -> dict[str, float]:
        """Means of what comes with windows, by name: nuisance parameters, conditions, channels, features."""
        channels = {"dead channels": self.n_dead, "noisy channels": self.n_noisy}
        shares = {f"share of {name}": value for name, value in means(self.features).items()}
        known = {name: float(value) for name, value in channels.items() if value is not None}
        return means(self.nuisances) | means(self.conditions) | known | shares


def means(sums: Sums) -> dict[str, float]:
    """Give the mean of what was summed, by name."""
    return {name: total / n for name, (n, total) in sums.items()}


def summarise_run(verdicts: Iterable[Verdict]) -> RunStatistics:
    """Summarise windows of one run of one stream.

    Parameters
    ----------
    verdicts : iterable of Verdict
        At least one, all of one run, the first one first.
    """
    first, *others = verdicts
    summary = RunStatistics(first.window.stream, first.window.run, first.window.run_type, first.judged_at)
    for verdict in (first, *others):
        summary.add(verdict)
    return summary


def _sum(sums: Sums, values: Iterable[tuple[str, object]]) -> None:
    """Add what is a number."""
    for name, value in values:
        if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value):
            continue
        if name in sums:
            n, total = sums[name]
            sums[name] = n + 1, total + value
        elif len(sums) < MOST_NAMES:
            sums[name] = 1, float(value)


def _count(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] = counts.get(key, 0) + 1


def _coarse(number: int) -> int:
    """Keep two digits of a large number, so that there are never many different ones."""
    return number if number <= EXACT_NUMBERS else int(float(f"{number:.1e}"))


def _median(counts: Mapping[int, int]) -> int | None:
    """Give the lower median."""
    left = (sum(counts.values()) + 1) // 2
    for number in sorted(counts):
        left -= counts[number]
        if left <= 0:
            return number
    return None
