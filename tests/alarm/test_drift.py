"""Since when a slow deterioration is under way, as its alarm says it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dqm.alarm.budget import LARGEST_Z, REFERENCE_Z
from dqm.alarm.drift import MOST_STEPS, Drift

LIMIT = 9.0


def run_through(z: np.ndarray, per_run: int) -> Drift:
    """Add windows until it drifts."""
    drift = Drift()
    for number, value in enumerate(z.tolist()):
        window = (1 + number // per_run, number % per_run)
        drift.add(value, limit=LIMIT, reference_z=REFERENCE_Z, largest_z=LARGEST_Z, window=window)
        if drift.is_drifting:
            break
    return drift


def test_thirty_runs_with_a_fault_that_grows_from_run_16_name_that_run() -> None:
    rng = np.random.default_rng(11)
    grown = np.maximum(0.0, np.arange(30 * 12) - 15 * 12) * 0.05
    drift = run_through(rng.standard_normal(30 * 12) + grown, per_run=12)
    assert drift.is_drifting
    assert re.fullmatch(
        r"since run 16, between windows \d+ and \d+"
        r"|since about run 1[567], between window \d+ of run 1[56] and window \d+ of run 1[678]",
        drift.describe_since(),
    )


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_the_interval_of_the_alarm_holds_the_truth(shift: float) -> None:
    rng = np.random.default_rng(12)
    hits = []
    for _ in range(200):
        z = rng.standard_normal(200)
        z[100:] += shift
        drift = run_through(z, per_run=1000)
        if drift.is_drifting and drift.windows and drift.since is not None and drift.since[1] > 60:
            low, high = drift.steps[0][1], drift.until[1] if drift.until else 200
            hits.append(low <= 100 <= high)
    assert len(hits) > 150
    assert np.mean(hits) > 0.9


def test_a_step_of_the_descent_is_kept_only_while_a_change_may_have_come_after_it() -> None:
    drift = run_through(np.linspace(0.4, -3.0, 1000), per_run=1000)
    assert 0 < len(drift.steps) <= MOST_STEPS
    assert drift.steps[-1] == (1, 999, 0.0)
    assert drift.steps[0][1] > 990


def test_what_an_earlier_version_stored_says_no_interval() -> None:
    assert Drift(sum=3.0, windows=4, since=(16, 3)).describe_since() == "since run 16, at window 3"
    assert Drift(sum=3.0, windows=4).describe_since() == ""
