"""What the borders of runs mean for a stream: whether it is idle, and which windows are of its present run.

After the end of its run a stream is idle: nobody waits for a window. A run that begins forgets what is shown
as present of the run before it, but no evidence for alarms: see `dqm.alarm.stream_history`.
"""

from __future__ import annotations

from enum import StrEnum

from dqm.events import RunRecord, WindowHeader
from dqm.events.finite import format_clock

__all__ = [
    "Activity",
    "belongs_to",
    "describe_run",
    "follow_run",
    "is_idle",
    "is_overdue",
    "resume_wait",
]


RETURN_SECONDS = 30.0
"""Time for senders to connect again, and to send the windows that they kept."""


class Activity(StrEnum):
    """Whether windows of a stream are expected, and come."""

    RUNNING = "Running"
    IDLE = "Idle"
    """Its run has ended."""
    SILENT = "Silent"
    """Windows are expected, and none has come for too long."""


def is_idle(run: RunRecord | None) -> bool:
    """Whether the present run of a stream has ended; False if none is known."""
    return run is not None and run.ended_at is not None


def follow_run(present: RunRecord | None, record: RunRecord) -> RunRecord | None:
    """Give the present run of a stream after a record of one of its runs has changed.

    Parameters
    ----------
    present : RunRecord or None
        Present run before.
    record : RunRecord
        What has changed.

    Returns
    -------
    RunRecord or None
        `record`, if it began last; `present` otherwise.
    """
    return record if record.is_present_after(present) else present


def is_overdue(counts_from: float, now: float, stale_seconds: float) -> bool:
    """Whether no window has come for too long: what is known says nothing of the present."""
    return now - counts_from > stale_seconds


def resume_wait(counts_from: float, absent_from: float, now: float, stale_seconds: float) -> float:
    """Give the moment from which silence counts, after nobody listened for a while.

    It counts from the last window, or from the begin of the run if that was later. Seconds in which nobody
    listened do not count: a daemon that was away for an hour must not call a stream silent whose windows wait
    at their sender. Seconds before do count: otherwise a daemon that is restarted again and again would never
    notice that a stream is silent. Senders get `RETURN_SECONDS` to come back in any case. A stream that was
    silent before stays so until a window comes, because the alarm is stored.

    Parameters
    ----------
    counts_from : float
        The moment before, Unix seconds.
    absent_from : float
        Since when nobody listened: the end of the daemon before, the begin of a pause, or the last moment
        before the clock was put forward, Unix seconds.
    now : float
        Unix seconds.
    stale_seconds : float
        How long the stream may be without a window.
    """
    waited = max(0.0, absent_from - counts_from)
    return now - min(waited, max(0.0, stale_seconds - RETURN_SECONDS))


def belongs_to(window: WindowHeader, run: RunRecord | None) -> bool:
    """Whether a window is of the present run; True if none is known."""
    return run is None or window.run == run.run


def describe_run(run: RunRecord) -> str:
    """Give the last border of a run in words: ``run 591 ended at 12:03 UTC: operator``."""
    if run.ended_at is not None:
        why = f": {run.why}" if run.why else ""
        return f"run {run.run} ended at {format_clock(run.ended_at)}{why}"
    if run.resumed_at is not None:
        return f"run {run.run} ({run.run_type}) went on at {format_clock(run.resumed_at)}"
    if run.began_at is not None:
        return f"run {run.run} ({run.run_type}) began at {format_clock(run.began_at)}"
    return f"run {run.run} ({run.run_type}) began with its first window"
