"""How much farther later windows are from the mean of a run than its own, against windows that come later."""

from __future__ import annotations

import numpy as np
import pytest

from dqm.events import FloatArray
from dqm.nplm.channels.wander import LARGEST_FACTOR, LEAST_FACTOR, wander_factor

N, MEAN, SIGMA = 200, 400.0, 0.05


def wandering(n_windows: int, rho: float, seed: int, sigma: float = SIGMA) -> FloatArray:
    """Hits of channels that each wander by themselves."""
    rng = np.random.default_rng(seed)
    state, rows = rng.standard_normal(N), []
    for _ in range(n_windows):
        rows.append(rng.poisson(MEAN * np.exp(sigma * state)))
        state = rho * state + np.sqrt(1.0 - rho**2) * rng.standard_normal(N)
    return np.array(rows, dtype=np.float64)


def factor_of(run: FloatArray) -> float:
    mean = run.mean(axis=0)
    dispersion = np.maximum(1e-8, (run.var(axis=0, ddof=1) - mean) / mean**2)
    common = np.full(N, dispersion.mean())
    return wander_factor(run, np.broadcast_to(mean, run.shape), common)


@pytest.mark.parametrize(("rho", "n_windows"), [(0.95, 60), (0.9, 60), (0.97, 120)])
def test_later_windows_scatter_as_it_says_or_less(rho: float, n_windows: int) -> None:
    said, seen = [], []
    for seed in range(8):
        hits = wandering(n_windows + 480, rho, seed)
        run, later = hits[:n_windows], hits[n_windows:]
        mean = run.mean(axis=0)
        within = float(((run.var(axis=0, ddof=1) - mean) / mean**2).mean())
        seen.append(float((((later - mean) ** 2).mean(axis=0) - mean).mean()) / MEAN**2 / within)
        said.append(factor_of(run))
    assert np.mean(said) > 0.95 * np.mean(seen)
    assert np.mean(said) < 1.6 * np.mean(seen)


def test_what_is_independent_from_window_to_window_does_not_wander() -> None:
    assert factor_of(wandering(60, 0.0, 1)) == LEAST_FACTOR
    assert factor_of(wandering(60, 0.0, 1, sigma=0.0)) == LEAST_FACTOR


def test_what_goes_one_way_counts_as_much_as_a_run_can_tell() -> None:
    tilt = np.linspace(-1.0, 1.0, 60)[:, None] * np.random.default_rng(2).normal(0.0, 0.1, N)
    run = np.random.default_rng(3).poisson(MEAN * np.exp(tilt)).astype(np.float64)
    assert 3.0 < factor_of(run) <= LARGEST_FACTOR


def test_a_restless_channel_and_a_short_run_say_nothing_of_the_others() -> None:
    run = wandering(60, 0.0, 1)
    run[:30, 7] *= 5.0
    mean = run.mean(axis=0)
    dispersion = np.full(N, 0.0025)
    dispersion[7] = 0.5
    assert wander_factor(run, np.broadcast_to(mean, run.shape), dispersion) == LEAST_FACTOR
    assert factor_of(wandering(19, 0.95, 1)) == LEAST_FACTOR
