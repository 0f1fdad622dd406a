"""Healthy windows through the whole engine: the budget is kept. The full table is made by tests/studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dqm.alarm import Cause
from tests.studies.false_alarms import Scenario, count_false_alarms, count_onsets, significances


@pytest.mark.parametrize("correlation", [0.0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_a_shift_has_one_false_alarm_as_the_budget_says(correlation: float) -> None:
    n_shifts = 16
    found = count_false_alarms(Scenario("healthy", correlation, correlation), 4, n_shifts, [1])
    # fewer than 1 a shift: the off delay joins neighbours, and an alarm must end before the next begins
    low, high = stats.poisson.ppf([1e-3, 1 - 1e-3], [0.7 * n_shifts, 1.0 * n_shifts])
    assert low <= found.total() <= high
    assert found[Cause.DIFFERS] > 2
    assert found[Cause.DRIFT] > 2
    assert found[Cause.SILENT] == found[Cause.NUISANCE] == 0


def test_correlation_that_the_budget_does_not_know_of_breaks_it() -> None:
    assert count_false_alarms(Scenario("healthy", 0.5), 4, 4, [2]).total() > 4 * 4


def test_sequences_of_windows_are_counted_as_the_engine_counts_them() -> None:
    n_streams, n_shifts, seed = 4, 8, [3]
    scenario = Scenario("healthy", 0.3)  # beyond its budget, so that alarms come again while others last
    rng, n_windows = np.random.default_rng(seed), 480 * n_shifts
    p, z = np.stack([significances(scenario, n_windows, rng) for _ in range(n_streams)], axis=-1)
    found = count_false_alarms(scenario, n_streams, n_shifts, seed)
    assert min(found.values()) > 8
    assert count_onsets(p, z, n_streams) == found
