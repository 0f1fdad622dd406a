"""From a test result to a quality: the decision on a single window."""

from __future__ import annotations

from dataclasses import dataclass

from dqm.events import Quality, TestResult

__all__ = ["QualityLimits", "grade"]


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What p-values mean.

    Parameters
    ----------
    medium_p, bad_p : float
        A window is ``Medium`` below the first and ``Bad`` below the second; ``0 < bad_p < medium_p < 1``.
    min_events : int
        Windows with fewer events are ``Null``.
    """

    medium_p: float
    bad_p: float
    min_events: int


def grade(result: TestResult, n_lost: int, limits: QualityLimits) -> tuple[Quality, str]:
    """Decide on one window.

    Parameters
    ----------
    result : TestResult
        Outcome of its test.
    n_lost : int
        Windows lost just before it.
    limits : QualityLimits
        Thresholds.

    Returns
    -------
    quality : Quality
        ``Null`` whenever the data cannot tell; a healthy p-value does not make a lossy window ``Good``.
    reason : str
        Why, for the shift crew; empty for ``Good``.
    """
    if result.n_data < limits.min_events:
        return (
            Quality.NULL,
            f"{result.n_data} events, fewer than {limits.min_events} (expected {result.n_expected:.0f})",
        )
    if result.p is None:
        return Quality.NULL, result.reason
    losses = f"{n_lost} windows lost before this one" if n_lost else ""
    for quality, limit in [(Quality.BAD, limits.bad_p), (Quality.MEDIUM, limits.medium_p)]:
        if result.p < limit:
            reason = f"differs from the reference: p = {result.p:.2g} (below {limit:g})"
            return quality, "; ".join(filter(None, [reason, losses]))
    return (Quality.NULL, losses) if losses else (Quality.GOOD, "")
