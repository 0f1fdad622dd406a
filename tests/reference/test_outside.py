"""Events beyond the range of the reference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dqm.events import Origin, PMethod, Window, WindowCut
from dqm.reference import Evaluator, StoredBundle
from dqm.reference.outside import SHARE, count_outside
from tests.reference.conftest import healthy_events


def test_p_is_that_of_counting_orders() -> None:
    """Two of three events above a reference of four: 3/7 2/6 of the orders, on each of two sides."""
    found = count_outside(np.array([[1.0], [8.0], [9.0]]), np.arange(1.0, 5.0)[:, None], ("a",))
    assert found.p == pytest.approx(2 * (3 / 7) * (2 / 6))
    assert (found.feature, found.is_above, found.edge, found.n_outside) == ("a", True, 4.0, 2)
    assert str(found) == "2 events have a above 4, where the reference has none (p = 0.3)"


def test_no_event_outside_is_never_surprising() -> None:
    assert count_outside(np.zeros((50, 2)), np.array([[-1.0, -1.0], [1.0, 1.0]]), ("a", "b")).p == 1.0


def test_healthy_windows_are_seldom_below_any_level() -> None:
    rng = np.random.default_rng(1)
    p = [
        count_outside(rng.exponential(size=(100, 2)), rng.exponential(size=(500, 2)), ("a", "b")).p
        for _ in range(3000)
    ]
    for level in (0.1, 0.01, 0.001):
        assert np.mean(np.array(p) < level) < 1.5 * level + 2 / 3000


def window(x: np.ndarray) -> Window:
    return Window("s", 1, 0, "physics", Origin.LIVE, WindowCut.COUNT, ("a", "b"), x)


def test_events_beyond_the_reference_decide_where_the_shape_does_not(calibrated: StoredBundle) -> None:
    evaluator = Evaluator(calibrated)
    x = healthy_events(60, 41)
    before = evaluator.evaluate(window(x))
    assert before.p is not None
    assert before.p > 0.05
    x[:4, 0] = calibrated.reference[:, 0].max() + 0.01  # too few and too near for the shape
    found = evaluator.evaluate(window(x))
    assert found.p is not None
    assert found.p_method is PMethod.OUTSIDE
    assert found.p == found.p_low == found.p_high < 0.1
    assert found.p == pytest.approx(count_outside(x, calibrated.reference, ("a", "b")).p / SHARE)
    assert "p is that of the range: 4 events have a above" in found.remarks[-1]
    assert found.find_explanation() is not None


def test_z_is_finite_below_all_toys(calibrated: StoredBundle) -> None:
    evaluator = Evaluator(calibrated)
    (scale,) = evaluator._scales
    lowest = scale.table.t_range[0]
    p = scale.table.p_value(lowest - 1e-6)
    assert p.p == 1.0
    assert math.isfinite(p.z)
    assert replace(p, z=0.0).z > p.z
