"""From a test result to a quality and to warnings: the decision on a single window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from dqm.errors import format_count
from dqm.events import (
    SMALLEST_P,
    ChannelSummary,
    NanResult,
    Quality,
    RateResult,
    TestResult,
    Verdict,
    WindowCut,
    write_p,
)

__all__ = [
    "ANOMALOUS",
    "BEST_TO_WORST",
    "COMPARISON_LIMITS",
    "QualityLimits",
    "choose_worst",
    "departure_p",
    "describe_channels",
    "describe_nan",
    "describe_number",
    "describe_p",
    "describe_rate",
    "describe_too_few",
    "grade",
    "warn",
    "worst",
]

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
        Of the shape: a window is ``Medium`` below the first and ``Bad`` below the second;
        ``0 < bad_p < medium_p < 1``.
    min_events : int
        The shape of windows with fewer events is not tested.
    largest_pull : float
        A nuisance parameter further from its measurement is worth a warning, standard deviations, > 0.
    medium_rate_p, bad_rate_p : float
        The same of the number of events; 0: it decides nothing.
    """

    medium_p: float
    bad_p: float
    min_events: int
    largest_pull: float = 3.0
    medium_rate_p: float = 0.0
    bad_rate_p: float = 0.0


COMPARISON_LIMITS = QualityLimits(medium_p=0.01, bad_p=0.001, min_events=1)
"""What p-values mean where windows are compared by hand: there is no shift, so no budget."""


def grade(result: TestResult, n_lost: int, limits: QualityLimits) -> tuple[Quality, str]:
    """Decide on one window, by its shape and by its number of events.

    Parameters
    ----------
    result : TestResult
        Outcome of its tests.
    n_lost : int
        Windows lost just before it.
    limits : QualityLimits
        Thresholds.

    Returns
    -------
    quality : Quality
        The worse of shape and number. ``Null`` if the shape is not known and the number is healthy; a healthy
        p-value does not make a lossy window ``Good``.
    reason : str
        Why, for the shift crew; empty for ``Good``.
    """
    shape, number = _grade_shape(result, limits), _grade_number(result, limits)
    n_tests = _count_tests(result)
    quality = worst([shape, number])
    reasons = []
    untested = result.reason if result.p is None else ""
    if number in ANOMALOUS and result.rate is not None:
        text = f"{describe_rate(result.n_data, result.rate)} ({describe_p(result.rate.p)})"
        if result.is_too_small:
            text = f"{text}, too few to test the shape"
            untested = ""
        reasons.append(text)
    limit = (limits.bad_p if shape is Quality.BAD else limits.medium_p) / n_tests
    if result.p is not None and result.p < limit:
        reasons.append(f"differs from the reference: {describe_p(result.p)} (below {limit:.2g})")
        reasons += describe_channels(result.channels)
    if result.nan is not None and result.nan.p < limit:
        reasons.append(f"{describe_nan(result.nan)} ({describe_p(result.nan.p)}, below {limit:.2g})")
    if untested:
        reasons.append(untested)
    if n_lost and result.p is not None:
        reasons.append(f"{format_count(n_lost, 'window')} lost before this one")
        quality = Quality.NULL if quality is Quality.GOOD else quality
    return quality, "; ".join(reasons)


def describe_channels(channels: ChannelSummary | None) -> list[str]:
    """Count the channels that depart: ``1 channel is dead``, ``2 channels are noisy``."""
    if channels is None:
        return []
    found = {"dead": channels.n_dead, "low": channels.n_low, "noisy": channels.n_noisy}
    return [
        f"{format_count(n, 'channel')} {'is' if n == 1 else 'are'} {state}" for state, n in found.items() if n
    ]


def describe_rate(n_data: int, rate: RateResult) -> str:
    """Write numbers of events in words: ``30 events where 488 are expected``.

    Parameters
    ----------
    n_data : int
        Events in the window.
    rate : RateResult
        What is expected.
    """
    if rate.cut is WindowCut.TIME or rate.live_seconds is None:
        return describe_number(n_data, rate.n_expected)
    expected_seconds = rate.live_seconds * n_data / rate.n_expected
    seconds = f"{rate.live_seconds:.3g} s where {expected_seconds:.3g} s are expected"
    return f"{format_count(n_data, 'event')} took {seconds}"


def describe_number(n_events: int, n_expected: float) -> str:
    """Write a number of events in a fixed time in words: ``30 events where 488 are expected``."""
    expected = f"{n_expected:.0f}" if n_expected >= 10.0 else f"{n_expected:.2g}"
    return f"{format_count(n_events, 'event')} where {expected} are expected"


def describe_too_few(n_events: int, min_events: int, n_expected: float | None = None) -> str:
    """Say why the shape of a small window is not tested: ``12 events, fewer than 50 (expected 60)``."""
    expected = "" if n_expected is None else f" (expected {n_expected:.0f})"
    return f"{format_count(n_events, 'event')}, fewer than {min_events}{expected}"


def departure_p(result: TestResult) -> float | None:
    """Put the tests of the shape and of the share of NaN together, for limits that are meant for one test.

    Parameters
    ----------
    result : TestResult
        Outcome of a window's tests.

    Returns
    -------
    float or None
        The smaller p-value times the number of tests, at most 1 (Bonferroni); None if none is known.
    """
    known = [p for p in (result.p, None if result.nan is None else result.nan.p) if p is not None]
    return min(1.0, min(known) * _count_tests(result)) if known else None


def describe_nan(nan: NanResult) -> str:
    """Write the share of events with NaN in words: ``NaN in 2.4 % of t_2, 0.01 % in the reference``."""
    in_reference = f"{100.0 * nan.expected_share:.2g} % in the reference"
    return f"NaN in {100.0 * nan.share:.2g} % of {nan.feature}, {in_reference}"


def _count_tests(result: TestResult) -> int:
    return 1 if result.nan is None else 2


def _grade_shape(result: TestResult, limits: QualityLimits) -> Quality:
    p = departure_p(result)
    quality = Quality.NULL if p is None else _quality(p, medium_p=limits.medium_p, bad_p=limits.bad_p)
    return Quality.NULL if result.p is None and quality is Quality.GOOD else quality


def _grade_number(result: TestResult, limits: QualityLimits) -> Quality:
    if result.rate is None:
        return Quality.GOOD
    return _quality(result.rate.p, medium_p=limits.medium_rate_p, bad_p=limits.bad_rate_p)


def _quality(p: float, *, medium_p: float, bad_p: float) -> Quality:
    if p < bad_p:
        return Quality.BAD
    return Quality.MEDIUM if p < medium_p else Quality.GOOD


def worst(qualities: Iterable[Quality]) -> Quality:
    """Give the worst of some qualities; Null if there is none."""
    return max(qualities, key=BEST_TO_WORST.index, default=Quality.NULL)


def _badness(verdict: Verdict) -> tuple[float, float]:
    """Give the sort key, the worst first: by p, and by t where p is the smallest that is quoted."""
    return verdict.result.p or 0.0, -(verdict.result.t or 0.0)


def choose_worst(verdicts: Iterable[Verdict], most: int) -> list[Verdict]:
    """Choose at most `most` anomalous windows: the worst of each stream, then the next of each, ..."""
    places: Counter[str] = Counter()
    ranked = []
    for verdict in sorted((v for v in verdicts if v.quality in ANOMALOUS), key=_badness):
        ranked.append((places[verdict.window.stream], *_badness(verdict), verdict))
        places[verdict.window.stream] += 1
    return [verdict for *_, verdict in sorted(ranked, key=lambda entry: entry[:-1])[:most]]


def describe_p(p: float) -> str:
    """Write a p-value in words: ``p = 0.0033``, or ``p < 1e-15`` where none smaller is quoted."""
    return f"p {'= ' if p > SMALLEST_P else ''}{write_p(p)}"


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
