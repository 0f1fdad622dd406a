"""Fits that end early: what they say holds, and other windows do not notice."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from dqm.events import FloatArray
from dqm.nplm import KernelResult, KernelTest, LossName, Normalisation, Shape
from tests.nplm.test_kernel_test import toy_chamber

N_DATA = 100
RNG = np.random.default_rng(31)
REFERENCE = toy_chamber(400, RNG)
HEALTHY = toy_chamber(N_DATA, RNG)

LATE = np.array([100.0, 100.0, 100.0, 100.0, 0.0])


def stuck(feature: int, value: float) -> Callable[[FloatArray], FloatArray]:
    def change(x: FloatArray) -> FloatArray:
        return np.where(np.arange(x.shape[1]) == feature, value, x)

    return change


FAR: dict[str, Callable[[FloatArray], FloatArray]] = {
    "one feature stuck": stuck(1, 200.0),
    "all times late": lambda x: x + LATE,
    "all times in ms": lambda x: x * [1e-6, 1e-6, 1e-6, 1e-6, 1.0],
    "angles narrow": lambda x: x * [1.0, 1.0, 1.0, 1.0, 0.1] + [0.0, 0.0, 0.0, 0.0, 5.0],
    "one event repeated": lambda x: np.repeat(x[:1], len(x), 0),
    "half of it repeated": lambda x: np.where(np.arange(len(x))[:, None] < len(x) // 2, x[:1], x),
    "one feature permuted": lambda x: np.column_stack([x[:, :3], x[::-1, 3], x[:, 4]]),
    "a part beyond all": lambda x: np.where(np.arange(len(x))[:, None] < 25, x + 1e6, x),
}
SHIFT = Shape("shift", 0.1, lambda x: 0.01 * (x[:, 0] - 200.0))


def make_test(loss: LossName, *nuisances: Normalisation | Shape) -> KernelTest:
    return KernelTest(
        REFERENCE, n_expected=float(N_DATA), width=2.5, penalty=1e-6, centers=80, loss=loss,
        rng=np.random.default_rng(1), nuisances=nuisances,
    )  # fmt: skip


def same(one: KernelResult, other: KernelResult) -> bool:
    return (one.t, one.tau, one.delta, one.iterations) == (other.t, other.tau, other.delta, other.iterations)


@pytest.mark.parametrize("loss", ["likelihood", "logistic"])
@pytest.mark.parametrize("change", FAR.values(), ids=FAR)
def test_t_is_above_the_bound_and_the_bound_above_what_is_enough(
    loss: LossName, change: Callable[[FloatArray], FloatArray]
) -> None:
    test = make_test(loss)
    full = test.evaluate(change(HEALTHY))
    enough = 0.1 * full.t
    ended = test.stopping_above(enough).evaluate(change(HEALTHY))
    assert ended.is_lower_bound or same(ended, full)
    assert full.t >= ended.t > enough
    assert ended.tau == ended.t
    assert np.isfinite(ended.log_ratio_reference).all()
    assert not full.is_lower_bound


def test_far_windows_take_few_steps() -> None:
    test = make_test("likelihood")
    early = [test.stopping_above(200.0).evaluate(change(HEALTHY)) for change in FAR.values()]
    assert sum(result.is_lower_bound for result in early) >= 5
    assert max(result.iterations for result in early) <= 9
    assert test.evaluate(FAR["all times late"](HEALTHY)).iterations > 30


@pytest.mark.parametrize("loss", ["likelihood", "logistic"])
def test_windows_that_are_not_beyond_keep_every_bit(loss: LossName) -> None:
    test = make_test(loss)
    for window in (
        HEALTHY,
        HEALTHY + 0.02 * LATE,
        *(change(HEALTHY) for change in FAR.values()),
    ):
        full = test.evaluate(window)
        result = test.stopping_above(full.t).evaluate(window)
        assert not result.is_lower_bound
        assert same(result, full)


def test_a_usual_fault_beyond_it_converges_all_the_same() -> None:
    test = make_test("likelihood")
    fault = HEALTHY + 0.15 * LATE * (np.arange(5) == 0)
    full = test.evaluate(fault)
    assert same(test.stopping_above(0.5 * full.t).evaluate(fault), full)


@pytest.mark.parametrize("change", FAR.values(), ids=FAR)
def test_delta_is_exact_under_a_bound(change: Callable[[FloatArray], FloatArray]) -> None:
    test = make_test("likelihood", Normalisation("rate", 0.05), SHIFT)
    measured = {"rate": 0.01, "shift": 0.02}
    full = test.evaluate(change(HEALTHY), auxiliary=measured)
    ended = test.stopping_above(0.1 * full.t).evaluate(change(HEALTHY), auxiliary=measured)
    assert ended.delta == full.delta
    assert full.t >= ended.t > 0.1 * full.t
    assert ended.tau == pytest.approx(ended.t + ended.delta)
    assert ended.nuisances["rate"].reference == full.nuisances["rate"].reference
    assert math.isfinite(ended.nuisances["shift"].alternative.error)


@pytest.mark.parametrize("loss", ["likelihood", "logistic"])
def test_company_does_not_change_who_ends_early(loss: LossName) -> None:
    test = make_test(loss).stopping_above(200.0)
    windows = [HEALTHY, *(change(HEALTHY) for change in FAR.values()), HEALTHY[:50]]
    together = test.evaluate_many(windows)
    for window, result in zip(windows, together, strict=True):
        alone = test.evaluate(window)
        assert alone.is_lower_bound is result.is_lower_bound
        assert alone.t == pytest.approx(result.t, rel=2e-2 if alone.is_lower_bound else 1e-3)


def test_a_test_of_another_size_ends_nothing_early() -> None:
    test = make_test("likelihood").stopping_above(1.0).at(N_DATA * 1.1)
    assert test.evaluate(HEALTHY).converged
    assert not test.evaluate(FAR["angles narrow"](HEALTHY)).is_lower_bound
