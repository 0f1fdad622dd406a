"""From a test result to a quality and to warnings: the decision on a single window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dqm.errors import format_count
from dqm.events import SMALLEST_P, Quality, TestResult

__all__ = ["ANOMALOUS", "BEST_TO_WORST", "QualityLimits", "describe_p", "grade", "warn", "worst"]

ANOMALOUS = frozenset({Quality.MEDIUM, Quality.BAD})
"""Qualities of windows that depart from the reference: they are explained, and their events are kept."""

BEST_TO_WORST = (Quality.GOOD, Quality.NULL, Quality.MEDIUM, Quality.BAD)
"""Not known is worse than good, since a fault may hide there; a sign of a fault is worse."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What p-values mean.

    Parameters
    ----------
    medium_p, bad_p : float
        A window is ``Medium`` below the first and ``Bad`` below the second; ``0 < bad_p < medium_p < 1``.
    min_events : int
        Windows with fewer events are ``Null``.
    largest_pull : float
        A nuisance parameter further from its measurement is worth a warning, standard deviations, > 0.
    """

    medium_p: float
    bad_p: float
    min_events: int
    largest_pull: float = 3.0


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
        events = format_count(result.n_data, "event")
        return Quality.NULL, f"{events}, fewer than {limits.min_events} (expected {result.n_expected:.0f})"
    if result.p is None:
        return Quality.NULL, result.reason
    losses = f"{format_count(n_lost, 'window')} lost before this one" if n_lost else ""
    for quality, limit in [(Quality.BAD, limits.bad_p), (Quality.MEDIUM, limits.medium_p)]:
        if result.p < limit:
            reason = f"differs from the reference: {describe_p(result.p)} (below {limit:.2g})"
            return quality, "; ".join(filter(None, [reason, losses]))
    return (Quality.NULL, losses) if losses else (Quality.GOOD, "")


def worst(qualities: Iterable[Quality]) -> Quality:
    """Give the worst of some qualities; Null if there is none."""
    return max(qualities, key=BEST_TO_WORST.index, default=Quality.NULL)


def describe_p(p: float) -> str:
    """Write a p-value in words: ``p = 0.0033``, or ``p < 1e-15`` where none smaller is quoted."""
    return f"p = {p:.2g}" if p > SMALLEST_P else f"p < {SMALLEST_P:g}"


def warn(result: TestResult, limits: QualityLimits) -> dict[str, str]:
    """Find the nuisance parameters that disagree with their measurement.

    The pull is that of the fit without anomaly: a fault that imitates a parameter pulls it away from what
    slow control says, while t may stay healthy.

    Parameters
    ----------
    result : TestResult
        Outcome of a test.
    limits : QualityLimits
        With the largest pull.

    Returns
    -------
    dict of str to str
        The disagreement in words, by parameter.
    """
    warnings = {}
    for name, nuisance in result.nuisances.items():
        fitted = nuisance.reference
        if fitted.pull is None or nuisance.measured is None or abs(fitted.pull) <= limits.largest_pull:
            continue
        side = "above" if fitted.pull > 0 else "below"
        warnings[name] = (
            f"{name} is {abs(fitted.pull):.1f} sigma {side} what its measurement says: "
            f"fitted {fitted.value:.3g}, measured {nuisance.measured:.3g}"
        )
    return warnings
