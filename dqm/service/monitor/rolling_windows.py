"""Rolling references of all streams, with the events of their windows: a part of the core, without I/O.

Which windows are in a reference is decided by `dqm.alarm.RollingReference`. Here are their events, and the
rule that makes the reference of a window depend on the order of the verdicts alone: if a stream has one, its
next window is not given to a worker before the last one is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from dqm.alarm import RollingAlarmState, RollingReference
from dqm.events import EvaluationJob, RollingJob, RollingResult, Verdict, Window, WindowHeader
from dqm.service.monitor.messages import RollingSettings
from dqm.stream import Identity, identity_of

__all__ = ["CROWDED", "RollingWindows"]


CROWDED = "many windows wait: they are tested against the bundle alone"
"""Why a window is not compared while more than half of the queue is taken."""


class RollingWindows:
    """What windows are compared with beside their bundles; it starts empty."""

    def __init__(self) -> None:
        self._references: dict[str, RollingReference] = {}
        self._windows: dict[str, dict[tuple[int, int], Window]] = {}
        self._at_workers: dict[str, Identity] = {}

    @property
    def busy(self) -> Collection[str]:
        """Streams whose next window must wait for the verdict on the last one."""
        return self._at_workers.keys()

    def begin(self, job: EvaluationJob, settings: RollingSettings) -> EvaluationJob:
        """Give a job what its window is compared with; its stream is busy until `add`."""
        window = job.window
        self._at_workers[window.stream] = identity_of(window)
        reference = self._references.get(window.stream, RollingReference())
        header = WindowHeader(
            window.stream, window.run, window.seq, run_type=window.run_type, is_late=window.is_late
        )
        past, reason = reference.find_past(header, job.bundle, settings.n_windows)
        if reason:
            return replace(job, rolling=RollingResult(len(past), reason=reason))
        events = self._windows[window.stream]
        return replace(
            job, rolling=RollingJob(tuple(events[number] for number in past), settings.n_permutations)
        )

    def leave_out(self, job: EvaluationJob) -> EvaluationJob:
        """Give a job whose window is not compared, because others wait; its stream is not busy."""
        return replace(job, rolling=RollingResult(0, reason=CROWDED))

    def add(
        self, window: Window, verdict: Verdict, settings: RollingSettings, alarms: RollingAlarmState
    ) -> None:
        """Take in a window whose verdict is stored; `alarms`: after this window."""
        stream = window.stream
        if self._at_workers.get(stream) == identity_of(window):
            del self._at_workers[stream]
        reference = self._references.get(stream, RollingReference())
        after = reference.add(verdict, n_windows=settings.n_windows, least_p=settings.least_p, alarms=alarms)
        known = {**self._windows.get(stream, {}), (window.run, window.seq): window}
        self._references[stream] = after
        self._windows[stream] = {number: known[number] for number in after.held}

    def keep(self, settings: Mapping[str, RollingSettings | None]) -> None:
        """Forget the streams that have no rolling reference any more; all windows at workers have ended."""
        for stream in list(self._references):
            if settings.get(stream) is None:
                del self._references[stream], self._windows[stream]
