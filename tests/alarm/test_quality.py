"""One window, one decision."""

from __future__ import annotations

import pytest

from dqm.alarm import QualityLimits, describe_p, grade, warn
from dqm.events import SMALLEST_P, NuisanceResult, Profiled, Quality, TestResult

LIMITS = QualityLimits(medium_p=0.01, bad_p=0.001, min_events=50)


@pytest.mark.parametrize(
    ("p", "quality"),
    [(1.0, "Good"), (0.01, "Good"), (0.0099, "Medium"), (0.001, "Medium"), (0.00099, "Bad"), (1e-15, "Bad")],
)
def test_thresholds(p: float, quality: str) -> None:
    graded, reason = grade(TestResult(500, 500.0, t=1.0, p=p), 0, LIMITS)
    assert graded == quality
    assert bool(reason) == (quality != "Good")


def test_no_smaller_p_is_claimed_than_is_quoted() -> None:
    _, reason = grade(TestResult(500, 500.0, t=1.0, p=SMALLEST_P), 0, LIMITS)
    assert reason == "differs from the reference: p < 1e-15 (below 0.001)"
    assert describe_p(2e-15) == "p = 2e-15"


def test_no_p_is_not_known() -> None:
    assert grade(TestResult(500, 500.0, reason="no null table"), 0, LIMITS) == (Quality.NULL, "no null table")


def test_few_events_are_not_known_whatever_p_says() -> None:
    quality, reason = grade(TestResult(49, 500.0, t=1.0, p=1e-9), 0, LIMITS)
    assert quality is Quality.NULL
    assert reason == "49 events, fewer than 50 (expected 500)"


def test_a_lossy_window_is_never_good_but_may_be_bad() -> None:
    assert grade(TestResult(500, 500.0, t=1.0, p=0.5), 2, LIMITS)[0] is Quality.NULL
    quality, reason = grade(TestResult(500, 500.0, t=1.0, p=1e-6), 2, LIMITS)
    assert quality is Quality.BAD
    assert "2 windows lost" in reason


def result_with(pull: float | None, measured: float | None = 0.001) -> TestResult:
    fit = Profiled(0.0062, 0.001, pull)
    return TestResult(500, 500.0, t=1.0, p=0.5, nuisances={"gas": NuisanceResult(measured, fit, fit)})


def test_a_parameter_far_from_its_measurement_is_a_warning_and_no_bad_quality() -> None:
    words = "gas is 3.2 sigma {} what its measurement says: fitted 0.0062, measured 0.001"
    assert warn(result_with(3.2), LIMITS) == {"gas": words.format("above")}
    assert warn(result_with(-3.2), LIMITS) == {"gas": words.format("below")}
    assert grade(result_with(-3.2), 0, LIMITS) == (Quality.GOOD, "")


def test_a_parameter_near_its_measurement_or_without_one_is_none() -> None:
    assert warn(result_with(2.9), LIMITS) == {}
    assert warn(result_with(None, None), LIMITS) == {}
