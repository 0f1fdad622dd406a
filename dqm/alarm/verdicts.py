"""From the result of a window's test to the verdict on the window."""

from __future__ import annotations

from dataclasses import replace

from dqm.alarm.quality import QualityLimits, grade, warn
from dqm.events import Explanation, RateResult, TestResult, Verdict, Window, WindowHeader

__all__ = ["give_verdict", "untested_verdict", "without_masked"]


def give_verdict(
    window: Window,
    result: TestResult,
    limits: QualityLimits,
    *,
    bundle: str,
    seconds: float,
    now: float,
    explanation: Explanation | None = None,
) -> Verdict:
    """Grade a tested window.

    Parameters
    ----------
    window : Window
        As it was admitted.
    result : TestResult
        What its test gave.
    limits : QualityLimits
        What p-values mean in its stream.
    bundle : str
        Identifier of the reference that it was tested against.
    seconds : float
        Wall time of the test.
    now : float
        Unix seconds.
    explanation : Explanation, optional
        Where the window departs from the reference.

    Returns
    -------
    Verdict
        Quality, reason and warnings follow from `grade` and `warn`.
    """
    quality, reason = grade(result, window.n_lost, limits)
    return Verdict(
        window=WindowHeader(
            stream=window.stream,
            run=window.run,
            seq=window.seq,
            run_type=window.run_type,
            origin=window.origin,
            start=window.start,
            end=window.end,
            n_lost=window.n_lost,
            conditions=window.conditions,
            is_late=window.is_late,
            digest=window.digest,
        ),
        quality=quality,
        reason=reason,
        result=result,
        bundle=bundle,
        seconds=seconds,
        judged_at=now,
        warnings=warn(result, limits),
        explanation=explanation,
    )


def without_masked(result: TestResult, counted: Window) -> TestResult:
    """Give a result with the numbers of events of its window without the channels that count for nothing."""
    expected = result.n_expected if counted.n_expected is None else counted.n_expected
    return replace(result, n_data=counted.n_events, n_expected=expected)


def untested_verdict(
    window: Window,
    reason: str,
    limits: QualityLimits,
    *,
    rate: RateResult | None,
    bundle: str,
    now: float,
) -> Verdict:
    """Give the verdict on a window whose shape was not tested: ``Null`` if its number of events is healthy.

    Parameters
    ----------
    window : Window
        As it was admitted.
    reason : str
        Why it was not tested, for the shift crew.
    limits : QualityLimits
        Of its stream.
    rate : RateResult or None
        Test of its number of events.
    bundle : str
        Identifier of the reference that it would have been tested against; empty if there is none for it.
    now : float
        Unix seconds.
    """
    n_data = window.n_events
    n_expected = float(n_data) if window.n_expected is None else window.n_expected
    result = TestResult(n_data, n_expected, reason=reason, rate=rate)
    return give_verdict(window, result, limits, bundle=bundle, seconds=0.0, now=now)
