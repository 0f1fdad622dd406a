"""One window, one decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dqm.alarm import QualityLimits, describe_p, describe_rate, grade, warn
from dqm.events import SMALLEST_P, NuisanceResult, Profiled, Quality, RateResult, TestResult, WindowCut

LIMITS = QualityLimits(medium_p=0.01, bad_p=0.001, min_events=50, medium_rate_p=0.003, bad_rate_p=0.001)


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


def rate_of(p: float, cut: WindowCut = WindowCut.TIME, live_seconds: float = 10.0) -> RateResult:
    return RateResult(cut, n_expected=487.5, uncertainty=0.02, live_seconds=live_seconds, p=p, z=-3.0)


@pytest.mark.parametrize(
    ("p", "quality", "reason"),
    [
        (1e-15, Quality.BAD, "30 events where 488 are expected (p < 1e-15); too few"),
        (0.0009, Quality.BAD, "30 events where 488 are expected (p = 0.0009); too few"),
        (0.002, Quality.MEDIUM, "30 events where 488 are expected (p = 0.002); too few"),
        (0.004, Quality.NULL, "too few"),
    ],
)
def test_a_window_whose_shape_is_not_known_is_judged_by_its_number(
    p: float, quality: Quality, reason: str
) -> None:
    result = TestResult(30, 487.5, reason="too few", rate=rate_of(p))
    assert grade(result, 0, LIMITS) == (quality, reason)


def test_the_number_of_a_small_window_is_said_once() -> None:
    small = "30 events, fewer than 50 (expected 488)"
    bad = TestResult(30, 487.5, reason=small, rate=rate_of(1e-15), is_too_small=True)
    assert grade(bad, 0, LIMITS) == (
        Quality.BAD,
        "30 events where 488 are expected (p < 1e-15), too few to test the shape",
    )
    assert grade(replace(bad, rate=rate_of(0.5)), 0, LIMITS) == (Quality.NULL, small)
    assert grade(replace(bad, reason="overload", is_too_small=False), 0, LIMITS)[1].endswith(
        "(p < 1e-15); overload"
    )


def test_shape_and_number_are_told_beside_each_other_and_the_worse_counts() -> None:
    medium, bad = 0.002, 1e-9
    quality, reason = grade(TestResult(30, 487.5, t=1.0, p=bad, rate=rate_of(medium)), 0, LIMITS)
    assert quality is Quality.BAD
    assert reason == (
        "30 events where 488 are expected (p = 0.002); differs from the reference: p = 1e-09 (below 0.001)"
    )
    assert grade(TestResult(30, 487.5, t=1.0, p=0.5, rate=rate_of(bad)), 0, LIMITS)[0] is Quality.BAD
    assert grade(TestResult(30, 487.5, t=1.0, p=0.5, rate=rate_of(0.5)), 0, LIMITS) == (Quality.GOOD, "")


def test_a_number_decides_nothing_where_it_has_no_share_of_the_budget() -> None:
    limits = QualityLimits(medium_p=0.003, bad_p=0.001, min_events=50)
    assert grade(TestResult(30, 487.5, t=1.0, p=0.5, rate=rate_of(1e-15)), 0, limits)[0] is Quality.GOOD


def test_windows_cut_by_count_are_described_by_their_time() -> None:
    text = describe_rate(500, RateResult(WindowCut.COUNT, 4875.0, 0.02, live_seconds=100.0, p=1e-9, z=-6.0))
    assert text == "500 events took 100 s where 10.3 s are expected"


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
