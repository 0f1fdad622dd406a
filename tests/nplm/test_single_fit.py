"""The fit of a lone window against that of the same window in company, and of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dqm.events import FloatArray
from dqm.nplm import KernelTest, LossName
from dqm.nplm.fit import Nodes
from dqm.nplm.hessian import Hessian
from dqm.nplm.problem import FitProblem, evaluate, gradient
from dqm.nplm.samples import Sample
from dqm.nplm.single_problem import SingleObjective
from tests.nplm.test_kernel_test import toy_chamber

LOSSES: tuple[LossName, ...] = ("likelihood", "logistic")
N_DATA = 100
RNG = np.random.default_rng(41)
REFERENCE = toy_chamber(400, RNG)
HEALTHY = toy_chamber(N_DATA, RNG)
LATE = np.array([1.0, 0.0, 0.0, 0.0, 0.0])
WINDOWS = {
    "healthy": HEALTHY,
    "late by 8 ns": HEALTHY + 8.0 * LATE,
    "late by 40 ns": HEALTHY + 40.0 * LATE,
    "half": HEALTHY[:50],
    "one event": HEALTHY[:1],
    "narrow": HEALTHY * 0.9,
}


def make_test(loss: LossName, penalty: float = 1e-6) -> KernelTest:
    return KernelTest(
        REFERENCE, n_expected=float(N_DATA), width=2.5, penalty=penalty, centers=80, loss=loss,
        weights=np.random.default_rng(2).uniform(0.5, 1.5, len(REFERENCE)), rng=np.random.default_rng(1),
    )  # fmt: skip


def problem_of(test: KernelTest, x: FloatArray) -> tuple[FitProblem, Nodes]:
    problem, _ = test._problem([Sample(x)], torch.zeros(1, 0, dtype=torch.float64))
    return problem, test._full_nodes


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_a_lone_window_has_the_result_that_it_has_in_company(loss: LossName, window: FloatArray) -> None:
    test = make_test(loss)
    alone, together = test.evaluate(window), test.evaluate_many([window, HEALTHY])[0]
    assert alone.converged
    assert together.converged
    assert alone.t == pytest.approx(together.t, rel=2e-4, abs=2e-4)
    scale = np.abs(together.log_ratio_reference).max()
    assert np.abs(alone.log_ratio_reference - together.log_ratio_reference).max() < 0.02 * scale


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lone_window_has_the_same_bits_each_time(loss: LossName) -> None:
    test = make_test(loss)
    first = test.evaluate(HEALTHY)
    test.evaluate_many([HEALTHY + 8.0 * LATE, HEALTHY, HEALTHY[:30]])
    again, (single,) = test.evaluate(HEALTHY), test.evaluate_many([HEALTHY])
    assert first.t == again.t == single.t
    assert np.array_equal(first.log_ratio_reference, again.log_ratio_reference)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("on_nodes", [False, True])
def test_objective_gradient_and_hessian_are_those_of_tensors(loss: LossName, on_nodes: bool) -> None:
    problem, nodes = problem_of(make_test(loss), HEALTHY + 8.0 * LATE)
    events = nodes.events if on_nodes else problem.reference
    problem = problem.on(events)
    a = np.random.default_rng(3).normal(scale=0.3, size=len(problem.second_moment))
    objective = SingleObjective(problem, events)
    mine = objective.at(a)
    tensors = evaluate(problem, torch.from_numpy(a)[None], torch.zeros(1, 0, dtype=torch.float64))
    assert mine.objective == pytest.approx(float(tensors.objective), rel=1e-6)
    assert mine.statistic == pytest.approx(float(tensors.statistic), rel=1e-6)
    expected = gradient(problem, tensors)[0].numpy()
    assert objective.gradient(mine) == pytest.approx(expected, rel=1e-4, abs=1e-4 * np.abs(expected).max())
    m = nodes.hessian.m
    factor = np.tril(objective.leading_factor(mine, m))
    expected = Hessian.at(problem, tensors, m).factor[0].numpy()
    assert factor @ factor.T == pytest.approx(expected @ expected.T, abs=1e-5 * np.abs(expected).max() ** 2)


def test_a_hessian_that_is_not_positive_definite_within_rounding_is_raised() -> None:
    problem, nodes = problem_of(make_test("likelihood"), HEALTHY)
    objective = SingleObjective(problem, nodes.events)
    objective.ridge = -1e-4
    m = nodes.hessian.m
    factor = np.tril(objective.leading_factor(objective.at(np.full(len(problem.second_moment), 0.0)), m))
    assert np.isfinite(factor).all()
    assert np.abs(np.diag(factor)).min() > 0.0


def test_without_leading_functions_the_hessian_is_a_diagonal() -> None:
    test = make_test("likelihood", penalty=10.0)
    assert test._full_nodes.hessian.m == 0
    assert test.evaluate(HEALTHY).t == pytest.approx(test.evaluate_many([HEALTHY, HEALTHY])[0].t, rel=2e-4)
