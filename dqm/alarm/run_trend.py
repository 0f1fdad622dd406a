"""Which runs of a stream differ from those before, and since when its windows are worse.

All of it follows from the summaries of the runs. Only the onset of a deterioration asks for more: the
summaries tell between which runs it lies, and the windows of these runs where. So 1000 runs need not be read
window by window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy import special

from dqm.alarm.onset import IntArray, Onset, describe_between, find_doubtful, find_onset
from dqm.alarm.run_summary import RunStatistics
from dqm.alarm.run_values import DIFFERENT, FEWEST_WINDOWS, MOST_BEFORE, ValueHistories
from dqm.errors import format_count
from dqm.events import FloatArray

__all__ = ["MOST_BEFORE", "StreamTrend", "follow_runs", "runs_to_read"]

MOST_TOLD = 5
"""Most differences of one run that are told in words."""

MOST_READ = 10_000
"""Most windows that are read to date an onset. A run with more counts as one block: an onset is then dated to
runs, not to windows."""

WindowsOfRun = Sequence[tuple[int, float]]
"""Number and Z of the windows of a run that have one and are not Null, in the order of their numbers."""


@dataclass(frozen=True)
class StreamTrend:
    """The runs of one stream, in their order.

    Parameters
    ----------
    stream : str
        Its name.
    runs : tuple of RunStatistics
        In the order of time.
    marks : tuple of tuple of str
        How each run differs from those before, in words; empty if it does not.
    differing : mapping of str to set of int
        Runs that differ, by the name of the value in which they do.
    onset : Onset or None
        Since when its windows are worse, by positions in `places`.
    places : tuple of (int, int or None)
        Run, and number of the window; None for a run whose windows were not looked at one by one.
    """

    stream: str
    runs: tuple[RunStatistics, ...]
    marks: tuple[tuple[str, ...], ...] = ()
    differing: Mapping[str, Set[int]] = field(default_factory=dict)
    onset: Onset | None = None
    places: tuple[tuple[int, int | None], ...] = ()

    @property
    def marked_runs(self) -> tuple[tuple[RunStatistics, tuple[str, ...]], ...]:
        """Each run with its marks."""
        return tuple(zip(self.runs, self.marks, strict=True))

    @cached_property
    def named_values(self) -> tuple[dict[str, float], ...]:
        """What comes with the windows of each run, see `RunStatistics.named_values`."""
        return tuple(run.named_values for run in self.runs)

    @cached_property
    def value_names(self) -> list[str]:
        """Names of what comes with the windows: those that mark most runs first, then by the alphabet."""
        names = {name for values in self.named_values for name in values}
        return sorted(names, key=lambda name: (-len(self.differing.get(name, ())), name))

    @property
    def onset_runs(self) -> tuple[int, int] | None:
        """First and last run of the interval in which windows began to be worse; None if they did not."""
        return (
            None if self.onset is None else (self.places[self.onset.low][0], self.places[self.onset.high][0])
        )

    def describe_onset(self) -> str:
        """Say since when windows are worse: ``since run 16, between windows 3 and 9``; empty if never."""
        if self.onset is None:
            return ""
        onset = self.onset
        since = describe_between(*(self.places[place] for place in (onset.place, onset.low, onset.high)))
        how = "rising to" if self.onset.is_growing else "by"
        return f"{since}: Z is higher, {how} {self.onset.shift:.1f}"


def runs_to_read(runs: Sequence[RunStatistics]) -> tuple[int, ...]:
    """Tell of which runs the windows are needed to date an onset.

    Parameters
    ----------
    runs : sequence of RunStatistics
        Of one stream, in any order.

    Returns
    -------
    tuple of int
        Their numbers; they have at most `MOST_READ` windows together.
    """
    ordered = [run for run in _in_order(runs) if run.n_z]
    z, counts = _blocks(ordered)
    if counts.sum() > MOST_READ:
        between = find_doubtful(z, counts)
        if between is None:
            return ()
        places = sorted(  # the ends of the interval matter most
            range(between[0], between[1] + 1), key=lambda place: min(abs(place - end) for end in between)
        )
        ordered = [ordered[place] for place in places]
    ends = np.cumsum([run.n_z for run in ordered])
    return tuple(run.run for run, end in zip(ordered, ends, strict=True) if end <= MOST_READ)


def follow_runs(
    runs: Iterable[RunStatistics],
    windows: Mapping[int, WindowsOfRun],
    earlier: Iterable[RunStatistics] = (),
) -> StreamTrend:
    """Put the runs of a stream in their order, mark those that differ, and find since when it is worse.

    Parameters
    ----------
    runs : iterable of RunStatistics
        At least one, all of one stream.
    windows : mapping of int to sequence of (int, float)
        Windows of the runs that `runs_to_read` names, by run. A run some windows of which are not there any
        more is taken as a whole.
    earlier : iterable of RunStatistics
        Runs before them, that they are compared with too; `MOST_BEFORE` are enough.
    """
    ordered = _in_order(runs)
    differences = _find_differences(_in_order(earlier), ordered)
    differing: dict[str, set[int]] = {}
    for run, found in zip(ordered, differences, strict=True):
        for name, _ in found:
            differing.setdefault(name, set()).add(run.run)
    marks = tuple(_tell([text for _, text in found]) for found in differences)
    places: list[tuple[int, int | None]] = []
    z: list[float] = []
    counts: list[int] = []
    for run in ordered:
        known = windows.get(run.run, ())
        if run.n_z and len(known) == run.n_z:
            places += [(run.run, seq) for seq, _ in known]
            z += [value for _, value in known]
            counts += [1] * run.n_z
        elif run.n_z:
            places.append((run.run, None))
            z.append(run.sum_z / run.n_z)
            counts.append(run.n_z)
    onset = find_onset(np.array(z), np.array(counts, dtype=np.int64))
    return StreamTrend(ordered[0].stream, tuple(ordered), marks, differing, onset, tuple(places))


def _in_order(runs: Iterable[RunStatistics]) -> list[RunStatistics]:
    return sorted(runs, key=lambda run: (run.begin is None, run.begin or run.first_at, run.run))


def _blocks(runs: Sequence[RunStatistics]) -> tuple[FloatArray, IntArray]:
    z = np.array([run.sum_z / run.n_z for run in runs], dtype=float)
    return z, np.array([run.n_z for run in runs], dtype=np.int64)


def _find_differences(
    earlier: Sequence[RunStatistics], runs: Sequence[RunStatistics]
) -> list[list[tuple[str, str]]]:
    """Find in what each run differs from all before it: name and description."""
    found: list[list[tuple[str, str]]] = []
    usual: list[RunStatistics] = []  # runs that differ are not a measure for the next ones
    values = ValueHistories()
    for run in (*earlier, *runs):
        found.append(list(_compare(run, usual[-MOST_BEFORE:])))
        if not found[-1]:
            usual.append(run)
        found[-1] += values.add(run)
    return found[len(earlier) :]


def _tell(texts: Sequence[str]) -> tuple[str, ...]:
    if len(texts) <= MOST_TOLD:
        return tuple(texts)
    return (*texts[: MOST_TOLD - 1], f"{len(texts) - MOST_TOLD + 1} more values differ")


def _compare(run: RunStatistics, before: Sequence[RunStatistics]) -> Iterator[tuple[str, str]]:
    """Say in what the judgement of a run differs from those before: name and description."""
    now, was = ((sum(one.n_z for one in some), sum(one.sum_z for one in some)) for some in ((run,), before))
    if min(now[0], was[0]) >= FEWEST_WINDOWS:
        mean, mean_before = now[1] / now[0], was[1] / was[0]
        # windows of a run have at least the spread of healthy ones
        variances = (_variance([run]) / now[0], _variance(before) / was[0])
        if 2.0 * special.ndtr(-abs(mean - mean_before) / sum(variances) ** 0.5) < DIFFERENT:
            yield "Z", f"mean Z {mean:.1f}, before {mean_before:.1f}"
    n, n_bad = (sum(getattr(one, name) for one in before) for name in ("n_judged", "n_bad"))
    if (
        min(run.n_judged, n) >= FEWEST_WINDOWS
        and fisher_p(run.n_bad, run.n_judged, n_bad, n) < DIFFERENT
    ):  # fmt: skip
        yield "Bad", f"{100 * run.n_bad / run.n_judged:.0f} % Bad, before {100 * n_bad / n:.0f} %"
    for kind in ("dead", "noisy"):
        now_n, was_n = getattr(run, f"n_{kind}"), _last(before, f"n_{kind}")
        if now_n is not None and was_n is not None and now_n != was_n:
            yield f"{kind} channels", f"{format_count(now_n, f'{kind} channel')}, before {was_n}"


def _variance(runs: Sequence[RunStatistics]) -> float:
    """Give the variance of Z of all windows of some runs, at least that of healthy ones."""
    n, total, squares = (sum(getattr(run, name) for run in runs) for name in ("n_z", "sum_z", "sum_zz"))
    return float(max(1.0, (squares - total * total / n) / (n - 1)))


def fisher_p(k: int, n: int, k_before: int, n_before: int) -> float:
    """Give the two-sided p-value of Fisher's exact test that two shares are equal.

    Parameters
    ----------
    k, n, k_before, n_before : int
        Successes and trials, now and before.

    Returns
    -------
    float
        Sum of the probabilities of all tables with the same margins that are no more probable than this one.
    """
    total = k + k_before
    if total == 0:
        return 1.0
    some = np.arange(max(0, total - n_before), min(n, total) + 1)
    rest = total - some
    logs = -special.gammaln(some + 1) - special.gammaln(n - some + 1) - special.gammaln(rest + 1)
    logs -= special.gammaln(n_before - rest + 1)
    p = np.exp(logs - logs.max())
    return float(p[p <= p[k - some[0]] * (1.0 + 1e-7)].sum() / p.sum())


def _last(before: Sequence[RunStatistics], name: str) -> int | None:
    return next((getattr(one, name) for one in reversed(before) if getattr(one, name) is not None), None)
