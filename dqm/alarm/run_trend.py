"""What the windows of whole runs show, and which runs differ from those before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy  # its `stats` takes a second to load, and the daemon seldom asks for it

from dqm.alarm.onset import LARGEST_Z, Onset, find_onset
from dqm.events import FloatArray, Quality, Verdict

__all__ = ["RunStatistics", "StreamTrend", "follow_runs", "summarise_run"]

QUANTILES = (0.16, 0.5, 0.84)

MOST_BEFORE = 10
"""Runs before one that it is compared with, without those that are marked themselves."""

FEWEST_WINDOWS = 5
"""Windows of a run, and of those before, without which it is not compared."""

DIFFERENT = 1e-3
"""A run is marked if a mean Z or a share of Bad windows so far from those before is so improbable."""


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """The windows of one run of one stream.

    Parameters
    ----------
    stream, run, run_type
        Which one.
    begin, end : float or None
        Times of its first and last window, Unix seconds; None if no window has a time.
    n_windows : int
        Windows that were judged, those that are Null included.
    counts : mapping of Quality to int
        Windows of each quality.
    z : ndarray, shape (n,)
        Significances of those that have one, between -5 and 5, in the order of their numbers.
    seqs : ndarray, shape (n,)
        Their numbers.
    rate_hz : float or None
        Events a second of live time; None where nobody says the time.
    nuisances, conditions : dict of str to float
        Mean of the fitted nuisance parameters, and of the conditions that are numbers.
    n_dead, n_noisy : int or None
        Median number of dead and of noisy channels; None if the test is not one of channels.
    marks : tuple of str
        How the run differs from those before, in words.
    """

    stream: str
    run: int
    run_type: str
    begin: float | None
    end: float | None
    n_windows: int
    counts: dict[Quality, int]
    z: FloatArray
    seqs: FloatArray
    rate_hz: float | None
    nuisances: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    n_dead: int | None = None
    n_noisy: int | None = None
    marks: tuple[str, ...] = ()

    @property
    def n_judged(self) -> int:
        """Windows that are not Null."""
        return self.n_windows - self.n_null

    @property
    def n_bad(self) -> int:
        """Windows that are Bad."""
        return self.counts.get(Quality.BAD, 0)

    @property
    def n_null(self) -> int:
        """Windows of which nothing is known."""
        return self.counts.get(Quality.NULL, 0)

    @property
    def named_values(self) -> dict[str, float]:
        """What comes with the windows, by name: nuisance parameters, conditions, numbers of channels."""
        channels = {"dead channels": self.n_dead, "noisy channels": self.n_noisy}
        return (
            self.nuisances
            | self.conditions
            | {name: float(value) for name, value in channels.items() if value is not None}
        )

    @property
    def bad_share(self) -> float | None:
        """Share of Bad windows among those that are not Null; None if there are none."""
        return self.n_bad / self.n_judged if self.n_judged else None

    @property
    def z_quantiles(self) -> tuple[float, ...]:
        """Z below which 16, 50 and 84 % of the windows are; empty if none has one."""
        return tuple(map(float, np.quantile(self.z, QUANTILES))) if len(self.z) else ()


@dataclass(frozen=True, slots=True)
class StreamTrend:
    """The runs of one stream, in their order.

    Parameters
    ----------
    stream : str
        Its name.
    runs : tuple of RunStatistics
        With their marks.
    onset : Onset or None
        Since when its windows are worse, by their position among all windows with a Z.
    """

    stream: str
    runs: tuple[RunStatistics, ...]
    onset: Onset | None

    def place(self, position: int) -> tuple[int, int]:
        """Give run and number of the window at a position among those with a Z."""
        ends = np.cumsum([len(run.z) for run in self.runs])
        number = int(np.searchsorted(ends, position, "right"))
        run = self.runs[number]
        return run.run, int(run.seqs[position - (ends[number] - len(run.z))])

    def describe_onset(self) -> str:
        """Say since when windows are worse: ``since run 16, between windows 3 and 9``; empty if never."""
        if self.onset is None:
            return ""
        run, _ = self.place(self.onset.place)
        (first_run, first), (last_run, last) = self.place(self.onset.low), self.place(self.onset.high)
        if first_run == last_run:
            between = f"at window {first}" if first == last else f"between windows {first} and {last}"
            since = f"since run {first_run}, {between}"
        else:
            ends = f"between window {first} of run {first_run} and window {last} of run {last_run}"
            since = f"since about run {run}, {ends}"
        how = "rising to" if self.onset.is_growing else "by"
        return f"{since}: Z is higher, {how} {self.onset.shift:.1f}"


def summarise_run(verdicts: Sequence[Verdict]) -> RunStatistics:
    """Summarise the windows of one run of one stream.

    Parameters
    ----------
    verdicts : sequence of Verdict
        At least one, all of one run.
    """
    ordered = sorted(verdicts, key=lambda verdict: verdict.window.seq)
    first = ordered[0].window
    with_z = [one for one in ordered if one.result.z is not None and one.quality is not Quality.NULL]
    times = [time for one in ordered for time in (one.window.start, one.window.end) if time is not None]
    live = [one.result for one in ordered if one.result.rate and one.result.rate.live_seconds]
    seconds = sum(one.rate.live_seconds or 0.0 for one in live if one.rate)
    channels = [one.result.channels for one in ordered if one.result.channels]
    return RunStatistics(
        stream=first.stream,
        run=first.run,
        run_type=first.run_type,
        begin=min(times, default=None),
        end=max(times, default=None),
        n_windows=len(ordered),
        counts={quality: sum(one.quality is quality for one in ordered) for quality in Quality},
        z=np.clip(np.array([one.result.z for one in with_z], dtype=float), -LARGEST_Z, LARGEST_Z),
        seqs=np.array([one.window.seq for one in with_z], dtype=float),
        rate_hz=sum(one.n_data for one in live) / seconds if seconds else None,
        nuisances=_means({n: v.reference.value for n, v in one.result.nuisances.items()} for one in ordered),
        conditions=_means(one.window.conditions for one in ordered),
        n_dead=int(np.median([one.n_dead for one in channels])) if channels else None,
        n_noisy=int(np.median([one.n_noisy for one in channels])) if channels else None,
    )


def follow_runs(summaries: Iterable[RunStatistics]) -> list[StreamTrend]:
    """Put the runs of each stream in their order, mark those that differ, and find since when it is worse."""
    streams: dict[str, list[RunStatistics]] = {}
    for summary in summaries:
        streams.setdefault(summary.stream, []).append(summary)
    found = []
    for stream, runs in sorted(streams.items()):
        ordered = sorted(runs, key=lambda run: (run.begin is None, run.begin or 0.0, run.run))
        marked: list[RunStatistics] = []
        usual: list[RunStatistics] = []  # runs that differ are no measure for the next ones
        for run in ordered:
            marked.append(replace(run, marks=_marks(run, usual[-MOST_BEFORE:])))
            if not marked[-1].marks:
                usual.append(run)
        z = np.concatenate([run.z for run in ordered])
        found.append(StreamTrend(stream, tuple(marked), find_onset(z)))
    return found


def _marks(run: RunStatistics, before: Sequence[RunStatistics]) -> tuple[str, ...]:
    """Say how a run differs from those before."""
    marks = []
    z = np.concatenate([np.empty(0), *(one.z for one in before)])
    if min(len(run.z), len(z)) >= FEWEST_WINDOWS:
        # windows of a run have at least the spread of healthy ones
        error = np.sqrt(sum(max(1.0, values.var(ddof=1)) / len(values) for values in (run.z, z)))
        if 2.0 * scipy.stats.norm.sf(abs(run.z.mean() - z.mean()) / error) < DIFFERENT:
            marks.append(f"mean Z {run.z.mean():.1f}, before {z.mean():.1f}")
    n, n_bad = (sum(getattr(one, name) for one in before) for name in ("n_judged", "n_bad"))
    if min(run.n_judged, n) >= FEWEST_WINDOWS:
        table = [[run.n_bad, run.n_judged - run.n_bad], [n_bad, n - n_bad]]
        if scipy.stats.fisher_exact(table)[1] < DIFFERENT:
            marks.append(f"{100 * run.n_bad / run.n_judged:.0f} % Bad, before {100 * n_bad / n:.0f} %")
    marks += [
        f"{now} {kind} channels, before {was}"
        for kind, now, was in (
            ("dead", run.n_dead, _last(before, "n_dead")),
            ("noisy", run.n_noisy, _last(before, "n_noisy")),
        )
        if now is not None and was is not None and now != was
    ]
    return tuple(marks)


def _last(before: Sequence[RunStatistics], name: str) -> int | None:
    return next((getattr(one, name) for one in reversed(before) if getattr(one, name) is not None), None)


def _means(values: Iterable[object]) -> dict[str, float]:
    """Average what is a number, by name."""
    found: dict[str, list[float]] = {}
    for one in values:
        for name, value in one.items():  # type: ignore[attr-defined]
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(numbers)) for name, numbers in found.items()}
