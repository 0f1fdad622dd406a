"""Test of files against a bundle, without collector and daemon, optionally in parallel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from dqm.alarm import KnownChannels, QualityLimits
from dqm.alarm.verdicts import give_verdict, untested_verdict, without_masked
from dqm.errors import FileError, PluginError
from dqm.events import EvaluationJob, EventBatch, Measurement, Origin, Verdict, Window
from dqm.reference import ReadingPolicy, Workers, known_channels, open_bundle
from dqm.service.evaluation import WindowEvaluator
from dqm.service.offline.feature_files import Reading, open_histogram, read_features
from dqm.stream import CountCutter, Cutter, RunLabel, WholeCutter

__all__ = ["ComparisonTask", "compare", "cut_file"]

WINDOWS_AT_ONCE = 25
EVENTS_AT_ONCE = 50_000
"""Largest unit of work in windows and in events; it ends at the limit that is reached first."""


@dataclass(frozen=True, slots=True)
class ComparisonTask:
    """Task of `Workers`: evaluate windows and grade them; one with which a plugin fails is ``Null``.

    Parameters
    ----------
    bundle : Path
        Calibrated bundle.
    identifier : str
        Identifier that the bundle must have.
    limits : QualityLimits
        Limits of the p-value for each quality.
    policy : ReadingPolicy
        What to do without a usable measurement of a nuisance parameter.
    masked : tuple of int
        Channels that count for nothing, of a bundle of channels.
    """

    bundle: Path
    identifier: str
    limits: QualityLimits
    policy: ReadingPolicy
    masked: tuple[int, ...] = ()

    def prepare(self, path: Path) -> Callable[[Sequence[Window]], list[Verdict]]:
        """Open the bundle; raises `BundleError` if it has another identifier."""
        bundle = open_bundle(path)
        bundle.check_identifier(self.identifier)
        evaluator = WindowEvaluator(bundle, self.policy)
        channels = known_channels(bundle) if self.masked else None
        return lambda windows: [self._judge(evaluator, channels, window) for window in windows]

    def _judge(self, evaluator: WindowEvaluator, channels: KnownChannels | None, window: Window) -> Verdict:
        limits = self.limits
        job = EvaluationJob(window, self.identifier, limits.medium_p, limits.min_events, masked=self.masked)
        try:
            report = evaluator.evaluate(job)
        except PluginError as error:  # of this window; the daemon goes on as well
            reason = f"the test failed: {error}"
            return untested_verdict(
                window, reason, limits, rate=None, bundle=self.identifier, now=time.time()
            )
        result = report.result
        if channels is not None:
            result = without_masked(result, channels.without(window, self.masked))
        return give_verdict(
            window,
            result,
            self.limits,
            bundle=report.bundle,
            seconds=report.seconds,
            now=time.time(),
            explanation=report.explanation,
        )


def cut_file(
    path: Path,
    features: Sequence[str],
    *,
    run: int,
    n_window: int | None,
    chamber: str | None = None,
    auxiliary: tuple[Measurement, ...] = (),
    counts: str | None = None,
    histogram: str | None = None,
    reading: Reading | None = None,
) -> Iterator[Window]:
    """Cut the events of a file into windows.

    Parameters
    ----------
    path : Path
        CSV or Parquet file.
    features : sequence of str
        Columns to use.
    run : int
        Run number of the windows.
    n_window : int or None
        Events in each window; None: all events of a chamber are one window.
    chamber : str, optional
        Only this chamber.
    auxiliary : tuple of Measurement
        Measured nuisance parameters of all windows; their times are ignored.
    counts : str, optional
        Column that says how many events each row stands for: then all rows of a chamber are one window.
    histogram : str, optional
        The file is a ROOT file, and this is a histogram in it.
    reading : Reading, optional
        How the file is read.

    Yields
    ------
    Window
        Chamber by chamber, in the order of the file; events after the last full window are dropped.

    Raises
    ------
    FileError
        If the file cannot be read, or has too few events for one window.
    """
    chambers: dict[str, list[EventBatch]] = {}
    if histogram is None:
        columns = features if counts is None else (*features, counts)
        found = read_features(path, columns, chamber, reading=reading)
    else:
        found = _read_histogram(path, features, counts, histogram)
    for batch in found:
        chambers.setdefault(batch.chamber, []).append(batch)
    n_windows = 0
    label = RunLabel(run, origin=Origin.REPLAYED)
    for batches in chambers.values():
        cutter: Cutter
        if counts is None:
            cutter = CountCutter(n_window or sum(len(batch.x) for batch in batches) or 1, label)
        else:
            rows = np.concatenate([batch.x for batch in batches])
            batches = [replace(batches[0], x=rows, times=None, start=None, end=None, counts=counts)]
            cutter = WholeCutter(label, n_events=1)
        for window in chain.from_iterable(map(cutter.push, batches)):
            n_windows += 1
            readings = tuple(replace(m, time=window.end or 0.0) for m in auxiliary)
            yield replace(window, auxiliary=readings)
    if n_windows == 0:
        raise FileError(
            f"fewer events than a window of {n_window}" if n_window else "no events",
            where=str(path),
            fix="Give a larger file or a smaller --window",
        )


def _read_histogram(
    path: Path, features: Sequence[str], counts: str | None, histogram: str
) -> Iterator[EventBatch]:
    batch = open_histogram(path, histogram, features)
    yield replace(batch, names=(*batch.names[:-1], counts or batch.counts))


def compare(task: ComparisonTask, windows: Iterable[Window], workers: Workers) -> Iterator[Verdict]:
    """Test windows in parallel.

    Parameters
    ----------
    task : ComparisonTask
        Bundle, limits and policy.
    windows : iterable of Window
        Windows to test; read as needed.
    workers : Workers
        Processes or cluster that do the work.

    Yields
    ------
    Verdict
        In the order of the windows.

    Raises
    ------
    WorkerError
        If the workers are lost.
    """
    waiting: dict[int, list[Verdict]] = {}  # results that came before an earlier one
    next_index = 0
    for index, verdicts in workers.run(task, _split(windows)):
        waiting[index] = verdicts
        while next_index in waiting:
            yield from waiting.pop(next_index)
            next_index += 1


def _split(windows: Iterable[Window]) -> Iterator[list[Window]]:
    """Yield lists of windows, each one unit of work."""
    part: list[Window] = []
    for window in windows:
        part.append(window)
        if len(part) == WINDOWS_AT_ONCE or sum(len(w.x) for w in part) >= EVENTS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part
