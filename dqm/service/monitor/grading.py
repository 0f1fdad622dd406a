"""From what a worker has given, or not given, to the verdict on a window: a part of the core, without state.

The number of events of every window is tested here, whatever becomes of the test of its shape.
"""

from __future__ import annotations

from dataclasses import replace

from dqm.alarm.verdicts import give_verdict, untested_verdict, without_masked
from dqm.events import EvaluationJob, RateResult, RollingJob, RollingResult, Verdict, Window
from dqm.service.monitor.job_runner import NOT_TESTED
from dqm.service.monitor.messages import Evaluated, StreamReference, StreamSettings

__all__ = ["grade_evaluated", "grade_untested", "without_additions"]


def grade_evaluated(event: Evaluated, stream: StreamSettings) -> Verdict:
    """Give the verdict on a window that was at a worker.

    Parameters
    ----------
    event : Evaluated
        What the worker has given.
    stream : StreamSettings
        Of its stream, as they are now.
    """
    window = event.window
    report = event.report
    reference = stream.find_reference(window)
    if report is None:
        reason = _name_statistic(event.failure, reference)
        return grade_untested(window, reason, stream, unix_time=event.unix_time, masked=event.masked)
    counted, rate = _test_number(window, reference, event.masked)
    result = replace(report.result, rate=rate)
    if event.masked:
        result = without_masked(result, counted)
    return give_verdict(
        window,
        result,
        stream.limits,
        bundle=report.bundle,
        seconds=report.seconds,
        now=event.unix_time,
        explanation=report.explanation,
    )


def grade_untested(
    window: Window,
    reason: str,
    stream: StreamSettings,
    *,
    unix_time: float,
    masked: tuple[int, ...] = (),
) -> Verdict:
    """Give the verdict on a window whose shape was not tested.

    Parameters
    ----------
    window : Window
        As it was admitted.
    reason : str
        Why it was not tested.
    stream : StreamSettings
        Of its stream, as they are now.
    unix_time : float
        Unix seconds.
    masked : tuple of int
        Channels that count for nothing.
    """
    reference = stream.find_reference(window)
    counted, rate = _test_number(window, reference, masked)
    bundle = "" if reference is None else reference.bundle
    return untested_verdict(counted, reason, stream.limits, rate=rate, bundle=bundle, now=unix_time)


def without_additions(job: EvaluationJob, failure: str) -> EvaluationJob | None:
    """Give a job that a worker was lost with, without its rolling test and its maps: one may be the cause.

    None if it had neither: then it was the test.
    """
    without = replace(job, no_maps=failure.removeprefix(NOT_TESTED))
    if isinstance(job.rolling, RollingJob):
        return replace(without, rolling=RollingResult(len(job.rolling.past), reason=failure))
    return None if job.no_maps else without


def _name_statistic(failure: str, reference: StreamReference | None) -> str:
    """Give the reason why there is no result, with the test: a plugin may hang or end its worker."""
    name = reference.statistic if reference else ""
    is_named = not name or repr(name) in failure
    return failure if is_named else f"{failure} (statistic {name!r})"


def _test_number(
    window: Window, reference: StreamReference | None, masked: tuple[int, ...]
) -> tuple[Window, RateResult | None]:
    """Test the number of events; also gives the window without the channels that count for nothing."""
    if reference is None:
        return window, None
    counted = reference.without(window, masked)
    return counted, reference.rate.evaluate(counted)
