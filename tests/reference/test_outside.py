"""Events beyond the range of the reference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dqm.events import FloatArray, PMethod, TestResult
from dqm.reference import Evaluator, StoredBundle, build_bundle
from dqm.reference.evaluator import _join
from dqm.reference.outside import SHARE, Outside, OutsideTest


def test_p_is_that_of_counting_orders() -> None:
    """Two of three events above a reference of four: 3/7 2/6 of the orders, on each of two sides."""
    found = OutsideTest(np.arange(1.0, 5.0)[:, None], ("a",)).evaluate(np.array([[1.0], [8.0], [9.0]]))
    assert found.p == pytest.approx(2 * (3 / 7) * (2 / 6))
    assert (found.feature, found.is_above, found.edge, found.n_outside) == ("a", True, 4.0, 2)
    assert str(found) == "2 events have a above 4, where the reference has none (p = 0.29)"


def test_no_event_outside_is_never_surprising() -> None:
    assert OutsideTest(np.array([[-1.0, -1.0], [1.0, 1.0]]), ("a", "b")).evaluate(np.zeros((50, 2))).p == 1.0


def test_healthy_windows_are_seldom_below_any_level() -> None:
    rng = np.random.default_rng(1)
    p = [
        OutsideTest(rng.exponential(size=(500, 2)), ("a", "b")).evaluate(rng.exponential(size=(100, 2))).p
        for _ in range(3000)
    ]
    for level in (0.1, 0.01, 0.001):
        assert np.mean(np.array(p) < level) < 1.5 * level + 2 / 3000


@pytest.mark.slow
def test_events_beyond_the_reference_decide_where_the_shape_does_not() -> None:
    """A clock of 16 ticks that is one tick late, to which a wide kernel is nearly blind."""
    rng = np.random.default_rng(5)

    def ticks(n: int, late: int) -> FloatArray:
        return np.column_stack([rng.normal(size=n), rng.integers(0, 16, n) + late]).astype(float)

    bundle = build_bundle(
        ticks(4000, 0), window=200, features=["a", "b"], width=4.5, penalty=1e-3, centers=80
    )
    bundle.calibrate(200)
    healthy, late = (bundle.evaluate(ticks(200, shift)) for shift in (0, 1))
    assert healthy.p_method is PMethod.EMPIRICAL
    assert late.p_method is PMethod.OUTSIDE
    assert late.p == late.p_low == late.p_high
    assert late.p is not None
    assert late.p < 1e-3
    assert late.z is not None
    assert late.z > 3
    assert "events have b above 15, where the reference has none" in late.remarks[-1]
    assert late.explain().text.startswith(
        late.remarks[-1].removeprefix("p is that of the range: ").split(" (")[0] + "; departs mostly in b ("
    )
    assert "seen by" not in late.explain().text


def test_the_smaller_p_is_taken_and_its_share_is_small() -> None:
    result = TestResult(60, 60.0, t=1.0, p=0.3, p_low=0.25, p_high=0.35, p_method=PMethod.EMPIRICAL, z=0.5)
    few, many = (Outside("b", True, 15.0, k, p) for k, p in ((1, SHARE * 0.3), (4, 1e-6)))
    assert _join(result, few) is result
    assert _join(result, None) is result
    joined = _join(result, many)
    assert joined.p == pytest.approx(1e-6 / SHARE)
    assert joined.p_method is PMethod.OUTSIDE


def test_z_is_finite_below_all_toys(calibrated: StoredBundle) -> None:
    evaluator = Evaluator(calibrated)
    (scale,) = evaluator._scales
    lowest = scale.table.t_range[0]
    p = scale.table.p_value(lowest - 1e-6)
    assert p.p == 1.0
    assert math.isfinite(p.z)
    assert replace(p, z=0.0).z > p.z
