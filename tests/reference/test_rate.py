"""What is expected of a window's number of events, and where nobody says it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.events import Measurement, Origin, Window, WindowCut
from dqm.nplm import count_p_value, duration_p_value
from dqm.reference import NuisanceEntry, RateTest
from dqm.reference.rate import UNMEASURED_UNCERTAINTY

RATE = NuisanceEntry(name="rate", kind="normalisation", sigma=0.05)


def window_of(n: int, **fields: object) -> Window:
    given: dict[str, object] = {"live_seconds": 10.0, "n_expected": 487.5, "end": 100.0}
    return Window(
        "a", 1, 0, "physics", Origin.LIVE, WindowCut.TIME, ("x",), np.zeros((n, 1)), **(given | fields)
    )  # type: ignore[arg-type]


def by_count(n: int, live_seconds: float | None) -> Window:
    window = window_of(n, n_expected=None, live_seconds=live_seconds)
    fields = {name: getattr(window, name) for name in Window.__dataclass_fields__}
    return Window(**(fields | {"cut": WindowCut.COUNT}))


def test_a_window_cut_by_time_is_tested_against_the_number_that_it_says() -> None:
    found = RateTest(uncertainty=0.02).evaluate(window_of(390))
    assert found is not None
    assert (found.cut, found.n_expected, found.uncertainty) == (WindowCut.TIME, 487.5, 0.02)
    assert found.p == count_p_value(390, 487.5, 0.02)[0]
    assert -4.2 < found.z < -3.8
    more = RateTest(uncertainty=0.02).evaluate(window_of(585))
    assert more is not None
    assert more.z > 3.5


def test_a_window_cut_by_count_is_tested_by_its_time_if_the_rate_is_known() -> None:
    slow = RateTest(hz=48.75, uncertainty=0.02).evaluate(by_count(500, 100.0))
    assert slow is not None
    assert (slow.cut, slow.n_expected, slow.p) == (WindowCut.COUNT, 4875.0, 1e-15)
    assert slow.z < -7
    usual = RateTest(hz=48.75, uncertainty=0.02).evaluate(by_count(500, 10.2))
    assert usual is not None
    assert usual.p == duration_p_value(500, 48.75 * 10.2, 0.02)[0] > 0.1
    for unknown in (
        RateTest().evaluate(by_count(500, 100.0)),
        RateTest(hz=48.75).evaluate(by_count(500, None)),
    ):
        assert unknown is None


@pytest.mark.parametrize("changes", [{"n_expected": None}, {"n_expected": 0.0, "live_seconds": 0.0}])
def test_nothing_is_expected_of_a_detector_that_was_not_live(changes: dict[str, object]) -> None:
    assert RateTest().evaluate(window_of(0, **changes)) is None


def test_the_nuisance_parameter_of_the_rate_moves_the_expectation() -> None:
    reading = Measurement("rate", math.log(1.2), 0.05, 95.0)
    found = RateTest(uncertainty=0.02, normalisation=RATE).evaluate(window_of(585, auxiliary=(reading,)))
    assert found is not None
    assert found.n_expected == pytest.approx(585.0)
    assert found.uncertainty == 0.05
    assert found.p > 0.9


def test_without_its_measurement_the_rate_is_uncertain_and_a_dead_chamber_still_seen() -> None:
    test = RateTest(normalisation=RATE)
    few, none = test.evaluate(window_of(390)), test.evaluate(window_of(0))
    assert few is not None
    assert none is not None
    assert few.uncertainty == UNMEASURED_UNCERTAINTY
    assert few.p > 0.1
    assert none.p < 1e-10


def test_a_free_rate_is_not_tested() -> None:
    free = RateTest(normalisation=RATE.model_copy(update={"sigma": None}))
    assert not free.tests(WindowCut.TIME)
    assert free.evaluate(window_of(0)) is None


@pytest.mark.parametrize("value", [1e6, -1e6, 700.0, -800.0, 1e308])
@pytest.mark.parametrize("n", [0, 480])
def test_no_measurement_that_a_sender_makes_up_stops_the_test(value: float, n: int) -> None:
    reading = Measurement("rate", value, 0.05, 95.0)
    found = RateTest(normalisation=RATE).evaluate(window_of(n, auxiliary=(reading,)))
    assert found is not None
    assert (found.n_expected, found.uncertainty) == (487.5, UNMEASURED_UNCERTAINTY), "taken as missing"


@given(
    n=st.integers(0, 50),
    expected=st.floats(0.0, 1e12),
    live=st.floats(0.0, 1e11),
    uncertainty=st.floats(0.0, 1.0),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_the_wire_lets_through_has_a_p_value_or_none(
    n: int, expected: float, live: float, uncertainty: float, value: float | None
) -> None:
    readings = () if value is None else (Measurement("rate", value, 0.05, 95.0),)
    for normalisation in (None, RATE):
        test = RateTest(hz=1e12, uncertainty=uncertainty, normalisation=normalisation)
        by_time = window_of(n, n_expected=expected, live_seconds=live, auxiliary=readings)
        for found in (test.evaluate(by_time), test.evaluate(by_count(n, live))):
            assert found is None or (0.0 < found.p <= 1.0 and math.isfinite(found.z))
