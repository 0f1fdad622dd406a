"""Thresholds from rates, against published numbers, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import special, stats

from dqm.alarm import ample_toys, smallest_supported_p
from dqm.alarm.budget import (
    LARGEST_P,
    correlated_onset_rate,
    drift_limit,
    onset_rate,
    run_length,
    shared_onset_rate,
    solve_threshold,
)
from dqm.errors import InputError

PAIRS = [(1, 1), (2, 2), (2, 3), (3, 5), (4, 4), (1, 4)]


def markov_onset_rate(p: float, k: int, n: int) -> float:
    """Sum over all sequences of n + 1 outcomes in which "k of the last n" has just become true."""
    rate = 0.0
    for bits in itertools.product((0, 1), repeat=n + 1):
        if sum(bits[:-1]) < k <= sum(bits[1:]):
            rate += p ** sum(bits) * (1 - p) ** (n + 1 - sum(bits))
    return rate


@pytest.mark.parametrize(("k", "n"), PAIRS)
@pytest.mark.parametrize("p", [1e-6, 0.01, 0.3])
def test_the_rate_of_onsets_is_the_sum_over_all_sequences(p: float, k: int, n: int) -> None:
    assert onset_rate(p, k, n) == pytest.approx(markov_onset_rate(p, k, n), rel=1e-9)


@pytest.mark.parametrize(("k", "n"), PAIRS)
@pytest.mark.parametrize("rate", [1e-12, 1e-8, 1e-6])
def test_the_threshold_gives_the_rate(rate: float, k: int, n: int) -> None:
    p = solve_threshold(rate, lambda p: onset_rate(p, k, n))
    assert onset_rate(p, k, n) == pytest.approx(rate, rel=1e-6)


def test_a_generous_budget_is_not_used_up_by_windows_that_are_no_evidence() -> None:
    assert solve_threshold(0.1, lambda p: onset_rate(p, 2, 3)) == LARGEST_P


def test_a_budget_beyond_all_p_values_is_refused() -> None:
    with pytest.raises(InputError, match=r"p-values below 1e-15.*raise \[alarm\] k and n"):
        solve_threshold(1e-16, lambda p: onset_rate(p, 1, 1))


@pytest.mark.parametrize(("limit", "published"), [(4.0, 335.4), (5.0, 930.9)])
def test_run_lengths_are_those_of_the_tables(limit: float, published: float) -> None:
    """Twice the two-sided 167.7 and 465.4 that textbooks quote for a sum with reference 0.5."""
    assert run_length(limit, largest_z=50.0) == pytest.approx(published, rel=5e-3)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_run_lengths_are_those_of_a_simulation(correlation: float) -> None:
    rng = np.random.default_rng(5)
    limit, largest_z, lengths, n_windows = 3.2, 3.0, [], 0
    z, sums = rng.standard_normal(8000), np.zeros(8000)
    while len(sums):
        n_windows += 1
        z = correlation * z + math.sqrt(1 - correlation**2) * rng.standard_normal(len(z))
        sums = np.maximum(0.0, sums + np.clip(z, -largest_z, largest_z) - 0.5)
        lengths += [n_windows] * int((sums > limit).sum())
        z, sums = z[sums <= limit], sums[sums <= limit]
    error = np.std(lengths) / math.sqrt(len(lengths))
    expected = run_length(limit, 0.5, largest_z, correlation)
    assert abs(np.mean(lengths) - expected) < 4 * error + 0.01 * expected


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 4)])
def test_correlated_windows_become_k_of_n_as_often_as_in_a_simulation(
    correlation: float, k: int, n: int
) -> None:
    rng = np.random.default_rng(8)
    p, n_chains, n_windows = 0.05, 4000, 250
    z, recent, n_onsets = rng.standard_normal(n_chains), np.zeros((n, n_chains), bool), 0
    for number in range(n_windows + n):
        z = correlation * z + math.sqrt(1 - correlation**2) * rng.standard_normal(n_chains)
        following = np.vstack([recent[1:], z > -special.ndtri(p)])
        if number >= n:
            n_onsets += int(((recent.sum(0) < k) & (following.sum(0) >= k)).sum())
        recent = following
    expected = correlated_onset_rate(p, k, n, correlation) * n_chains * n_windows
    assert abs(n_onsets - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize(("share", "p", "k", "n"), [(0.16, 0.05, 2, 3), (0.8, 0.05, 2, 3), (0.5, 0.02, 1, 1)])
def test_windows_with_a_deviation_in_common_become_k_of_n_as_often_as_in_a_simulation(
    share: float, p: float, k: int, n: int
) -> None:
    rng = np.random.default_rng(4)
    n_runs, n_windows = 20_000, 100
    z = np.sqrt(share) * rng.normal(size=(n_runs, 1)) + np.sqrt(1.0 - share) * rng.normal(
        size=(n_runs, n_windows)
    )
    counts = np.abs(z) > stats.norm.isf(0.5 * p)
    sums = np.lib.stride_tricks.sliding_window_view(counts, n, axis=1).sum(axis=-1) >= k
    onsets = (~sums[:, :-1] & sums[:, 1:]).mean()
    assert shared_onset_rate(p, k, n, share) == pytest.approx(onsets, rel=0.05)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 5)])
def test_with_nothing_in_common_windows_are_independent(k: int, n: int) -> None:
    assert shared_onset_rate(0.01, k, n, 0.0) == onset_rate(0.01, k, n)
    assert shared_onset_rate(0.01, k, n, 1e-6) == pytest.approx(onset_rate(0.01, k, n), rel=1e-3)


@pytest.mark.parametrize(("k", "n"), PAIRS)
def test_without_correlation_both_rates_are_the_same(k: int, n: int) -> None:
    for p in (1e-12, 1e-4, 0.04):
        assert correlated_onset_rate(p, k, n, 0.0) == pytest.approx(onset_rate(p, k, n), rel=1e-6)


@pytest.mark.parametrize("windows", [200.0, 1e4, 1e8])
def test_the_limit_gives_the_run_length(windows: float) -> None:
    assert run_length(drift_limit(windows)) == pytest.approx(windows, rel=1e-3)


def test_no_limit_is_within_the_reach_of_a_single_window() -> None:
    assert drift_limit(2.0, reference_z=0.5, largest_z=3.0) == 2.5


def test_a_drift_budget_beyond_the_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="too rare to be computed"):
        drift_limit(1e300, length=lambda limit: 100.0 * limit)


def test_a_table_supports_thresholds_with_ten_toys_beyond() -> None:
    assert smallest_supported_p(999) == pytest.approx(0.01)


def test_an_ample_table_has_a_hundred_toys_beyond_the_threshold() -> None:
    assert [ample_toys(p) for p in (0.01, 0.0014, 0.05)] == [10_000, 72_000, 2000]
